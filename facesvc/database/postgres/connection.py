"""Connections to a PostgreSQL server: how they are made, whether they still are, and what their errors mean."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Format
from psycopg.types.bool import BoolBinaryLoader, BoolDumper
from psycopg.types.numeric import Int8Dumper, NumericBinaryLoader
from psycopg.types.string import StrDumper

from facesvc.database import Row
from facesvc.errors import ConfigError, DependencyError

Connection = psycopg.Connection[Row]

# What the URL says goes before these. A server that fell silent is given up after about ten seconds.
_DEFAULTS = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "facesvc",
}
_NOTHING_CHANGED = "recognition goes on with what is known, and nothing was changed"
_OUTCOME_UNKNOWN = "whether the last change was kept is not known: look before you repeat it"
_AWAY = "GALLERY_AWAY"

# https://www.postgresql.org/docs/current/errcodes-appendix.html: what happened, and what to do about it.
_CAUSES = {
    "25006": ("GALLERY_READ_ONLY", "it is read-only; let store.url name the primary server"),
    "40001": ("GALLERY_BUSY", "others changed the same; nothing was changed, try again"),
    "40P01": ("GALLERY_BUSY", "others changed the same; nothing was changed, try again"),
    "42501": ("GALLERY_UNREADABLE", "its user may not do that; make that user the owner of the database"),
    "53100": ("DISK_FULL", "the disk of its server is full; nothing was changed, free some space and try again"),
    "53300": (_AWAY, f"it has no connection left; {_NOTHING_CHANGED}; raise its max_connections"),
    "55P03": ("GALLERY_BUSY", "others hold it; nothing was changed, try again"),
    "57014": (_AWAY, f"it took too long; {_NOTHING_CHANGED}"),
    "58030": ("DISK_FAILED", "the disk of its server failed; look into the server's log"),
    "XX001": ("GALLERY_DAMAGED", "it is damaged; restore the last backup"),
    "XX002": ("GALLERY_DAMAGED", "an index of it is damaged; let its administrator run REINDEX DATABASE"),
}
# A server that refuses a connection gives no code, only words.
_REFUSED = re.compile(r"password|pg_hba\.conf|does not exist|not permitted|permission denied|certificate|SSL")

# A box that fell silent in the middle of a change is waited for by the others no longer than a minute.
_SESSION = """
    SELECT set_config('statement_timeout', %s, false),
           set_config('idle_in_transaction_session_timeout', '60s', false),
           CASE WHEN current_setting('synchronous_commit') <> 'remote_apply'
                THEN set_config('synchronous_commit', 'on', false) END
"""


class Server:
    """One database of a PostgreSQL server.

    ``statement_timeout_s`` bounds each statement. Raises ``ConfigError`` for a URL that cannot be read.
    """

    def __init__(self, url: str, connect_timeout_s: int, statement_timeout_s: float) -> None:
        given = _read(url)
        self.where = f"the gallery {_in_words(given)}"
        self._settings: dict[str, Any] = {
            **_DEFAULTS,
            "connect_timeout": connect_timeout_s,
            **given,
            "client_encoding": "utf8",
        }
        self._statement_timeout = f"{round(1000 * statement_timeout_s)}ms"

    def connect(self) -> Connection:
        """A new connection, in which every statement is a transaction of its own unless one is begun."""
        try:
            connection: Connection = psycopg.connect(**self._settings, autocommit=True)
        except psycopg.OperationalError as error:
            if _REFUSED.search(str(error)):
                message = f"{self.where} refuses us; check user, password and database in store.url"
                raise self._error("GALLERY_UNREADABLE", message, error) from error
            raise self._away(error) from error
        try:
            with self.translated():
                self._begin_session(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _begin_session(self, connection: Connection) -> None:
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            message = f"{self.where} is encoded in {encoding}; make one with ENCODING 'UTF8'"
            raise DependencyError(message, reason="GALLERY_UNREADABLE")
        connection.adapters.register_dumper(int, Int8Dumper)
        connection.adapters.register_dumper(str, StrDumper)
        connection.adapters.register_dumper(bool, _TruthDumper)
        connection.adapters.register_loader("bool", _TruthLoader)
        connection.adapters.register_loader("numeric", _NumberLoader)
        connection.execute(_SESSION, (self._statement_timeout,))

    @contextmanager
    def translated(self, *, changing: bool = False) -> Iterator[None]:
        """PostgreSQL's complaints about the server as ``DependencyError``; those about our SQL stay what they are.

        With ``changing``, the loss of the connection leaves unknown whether the change was kept.
        """
        try:
            yield
        except psycopg.Error as error:
            if (error.sqlstate or "") in _CAUSES:
                reason, words = _CAUSES[error.sqlstate or ""]
                raise self._error(reason, f"{self.where}: {words}", error) from error
            if isinstance(error, psycopg.OperationalError):
                raise self._away(error, outcome=_OUTCOME_UNKNOWN if changing else _NOTHING_CHANGED) from error
            raise

    def _away(self, error: psycopg.Error, outcome: str = _NOTHING_CHANGED) -> DependencyError:
        message = f"{self.where} does not answer; {outcome}; start it, or check store.url"
        return self._error(_AWAY, message, error)

    @staticmethod
    def _error(reason: str, message: str, error: psycopg.Error) -> DependencyError:
        words = " ".join((error.diag.message_primary or str(error)).split())
        return DependencyError(f"{message} (PostgreSQL: {words})", reason=reason)


def is_alive(connection: Connection) -> bool:
    """Whether the other end has not hung up on an idle connection; does not wait.

    What has arrived is read twice: after a server's farewell comes the end.
    """
    try:
        for _ in range(2):
            connection.pgconn.consume_input()
    except psycopg.OperationalError:
        return False
    return not connection.closed


def _read(url: str) -> dict[str, Any]:
    """The parts of a URL. The message quotes none of it: where it is wrong, any part of it may be the password."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        parts = {"port": "unreadable"}
    ports = str(parts.get("port", ""))
    if re.fullmatch(r"[\d,]*", ports) is None or any("@" in str(parts.get(name, "")) for name in ("host", "dbname")):
        raise ConfigError(
            "store.url is not one that PostgreSQL reads; it looks like postgresql://user:password@host:5432/database,"
            " and a user or password with one of @ : / ? # % in it has it written as %40 %3A %2F %3F %23 %25"
        )
    return parts


def _in_words(parts: dict[str, Any]) -> str:
    """Host, port and database as a URL."""
    hosts = str(parts.get("host", "localhost")).split(",")
    ports = str(parts.get("port", "5432")).split(",")
    ports *= len(hosts) // len(ports)  # one port is that of all hosts
    places = ",".join(f"{host}:{port}" for host, port in zip(hosts, ports, strict=False))
    return f"postgresql://{places}/{parts.get('dbname') or parts.get('user') or ''}"


class _TruthDumper(BoolDumper):
    """True and False as the 1 and 0 of our tables."""

    oid = Int8Dumper.oid

    def dump(self, obj: bool) -> Buffer | None:  # noqa: FBT001  # the signature is psycopg's
        return b"1" if obj else b"0"


class _TruthLoader(BoolBinaryLoader):
    """The result of a comparison as 1 or 0, as SQLite has it."""

    def load(self, data: Buffer) -> bool:
        return int(super().load(data))  # type: ignore[return-value]  # psycopg gives what this gives


class _NumberLoader(NumericBinaryLoader):
    """Sums of integers, which PostgreSQL makes wider than 64 bits, as integers; averages as floats."""

    format = Format.BINARY

    def load(self, data: Buffer) -> Any:
        value = super().load(data)
        return int(value) if value.as_tuple().exponent == 0 else float(value)
