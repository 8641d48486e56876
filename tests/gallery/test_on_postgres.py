"""The tests of the gallery once more, on the other database: PostgreSQL, which several boxes may share."""

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime

import pytest
from gallery.test_admission import test_searches_and_lists_keep_to_their_filters  # noqa: F401 - run here too
from gallery.test_gallery import *  # noqa: F403 - run here too
from gallery.test_store import *  # noqa: F403 - run here too

from facesvc.database import Database
from facesvc.database.opening import open_database
from facesvc.gallery import EmbeddingContract, Gallery
from facesvc.gallery.masterkey import KeyFile
from facesvc.gallery.store import Store

del test_opened_again_it_gives_the_same_answers  # noqa: F821 - it opens a file


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    with closing(open_database(postgres_url)) as opened:
        yield opened


@pytest.fixture
def gallery(database: Database, contract: EmbeddingContract, now: datetime, vault: KeyFile) -> Iterator[Gallery]:
    with closing(Gallery.open(database, contract, now, [vault])) as opened:
        yield opened


@pytest.fixture
def store(database: Database, contract: EmbeddingContract, now: datetime, vault: KeyFile) -> Iterator[Store]:
    with closing(Store.open(database, contract, now, [vault])) as opened:
        yield opened
