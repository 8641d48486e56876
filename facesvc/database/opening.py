"""Which database a setting names."""

from pathlib import Path
from urllib.parse import unquote

from facesvc.database import Database
from facesvc.database.sqlite import SqliteDatabase
from facesvc.errors import ConfigError

_POSTGRES = ("postgresql://", "postgres://")
_SQLITE = "sqlite:///"


def open_database(place: str | Path) -> Database:
    """The database at a path, ``sqlite:///absolute/path`` or ``postgresql://user:password@host:port/name``.

    Raises ``ConfigError`` for anything else, and ``DependencyError`` where the database cannot be opened.
    """
    if isinstance(place, Path):
        return SqliteDatabase(place)
    if place.startswith(_SQLITE):
        return SqliteDatabase(Path(unquote("/" + place.removeprefix(_SQLITE))))
    if not place.startswith(_POSTGRES):
        kind = place.partition("://")[0] if "://" in place else "a path"  # the rest may hold a password
        raise ConfigError(f"store.url is {kind!a}; it begins with sqlite:/// (and an absolute path) or postgresql://")
    try:
        from facesvc.database.postgres import PostgresDatabase  # noqa: PLC0415  # psycopg is optional
    except ImportError as error:
        message = f"store.url names PostgreSQL, but its driver cannot be loaded ({error}); install facesvc[postgres]"
        raise ConfigError(message) from error
    return PostgresDatabase(place)
