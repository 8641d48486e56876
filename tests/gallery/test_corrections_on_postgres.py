"""The tests of corrections once more on PostgreSQL; quicker ones show there what corrections are made of."""

import pytest
from gallery.test_corrections import *  # noqa: F403 - run here too
from gallery.test_on_postgres import database, gallery

__all__ = ["database", "gallery"]  # fixtures
pytestmark = pytest.mark.slow
