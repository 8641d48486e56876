"""Boxes that share one PostgreSQL database."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import psycopg
import pytest
from databases import PostgresServer

from facesvc.database.postgres import PostgresDatabase


@pytest.fixture
def new_box(postgres_url: str) -> Iterator[Callable[..., PostgresDatabase]]:
    """Opens the same database once more."""
    with ExitStack() as opened:

        def new(**settings: Any) -> PostgresDatabase:
            return opened.enter_context(closing(PostgresDatabase(postgres_url, **settings)))

        yield new


@pytest.fixture
def box(new_box: Callable[..., PostgresDatabase]) -> PostgresDatabase:
    """One with a counter at 0 and a table of its own."""
    database = new_box()
    database.execute("CREATE TABLE changes (singleton INTEGER PRIMARY KEY, change INTEGER NOT NULL)")
    database.execute("INSERT INTO changes VALUES (1, 0)")
    return database


@pytest.fixture
def other(box: PostgresDatabase, new_box: Callable[..., PostgresDatabase]) -> PostgresDatabase:
    """Another box with the same database."""
    return new_box()


@pytest.fixture
def administrator(postgres_server: PostgresServer, postgres_url: str) -> Iterator[psycopg.Connection]:
    """A plain connection to the same database, with all rights."""
    with closing(postgres_server.connect(postgres_url)) as connection:
        yield connection


@pytest.fixture
def hang_up(administrator: psycopg.Connection) -> Callable[[], None]:
    """Ends every other connection to the database, and waits until they are gone."""

    def hang_up() -> None:
        administrator.execute("""
            SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()
        """)

    return hang_up
