"""Which database a setting names."""

import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest

from facesvc.database.opening import open_database
from facesvc.database.postgres import PostgresDatabase
from facesvc.database.sqlite import SqliteDatabase
from facesvc.errors import ConfigError


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "the gallery %41.db"
    for place in (path, f"sqlite://{quote(str(path))}"):
        with closing(open_database(place)) as database:
            assert isinstance(database, SqliteDatabase)
            assert (database.path, database.shared) == (path, False)


def test_a_server(postgres_url: str) -> None:
    for place in (postgres_url, postgres_url.replace("postgresql://", "postgres://")):
        with closing(open_database(place)) as database:
            assert isinstance(database, PostgresDatabase)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("mysql://ada:hush@db/faces", "store.url is 'mysql'; it begins with sqlite:/// (and an absolute path)"),
        ("sqlite://relative/hush.db", "store.url is 'sqlite'; it begins with"),
        ("/var/hush.db", "store.url is 'a path'; it begins with"),
        ("", "store.url is 'a path'"),
    ],
)
def test_anything_else_is_refused(place: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        open_database(place)
    assert words in refused.value.message
    assert "hush" not in refused.value.message


def test_without_the_driver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("facesvc.database.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"install facesvc\[postgres\]"):
        open_database("postgresql://db/faces")
