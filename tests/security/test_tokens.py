"""Tokens over both databases: what is kept, what is found, and what ends."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from facesvc.database import Database
from facesvc.database.opening import open_database
from facesvc.errors import AlreadyExistsError, InputError, NotFoundError
from facesvc.security import tokens as module
from facesvc.security.principals import Principal, Scope
from facesvc.security.roles import Role
from facesvc.security.tokens import Tokens

NOW = datetime(2026, 3, 2, 8, 30, 15, 123457, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEY = bytes(range(32))
DOOR = Scope(camera_ids=frozenset({"door-1", "door-2"}), collection_ids=frozenset({"staff"}), names=True)


class Clock:
    """A time of day that a test turns."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(database: Database, clock: Clock) -> Tokens:
    return Tokens(database, KEY, clock)


@pytest.fixture
def offline(clock: Clock, tmp_path: Path) -> Iterator[Tokens]:
    """Where the database makes no difference."""
    with closing(open_database(tmp_path / "gallery.db")) as opened:
        yield Tokens(opened, KEY, clock)


def test_who_shows_a_token_is_known_by_it(tokens: Tokens) -> None:
    token, text = tokens.create("door.main@lobby", Role.DOOR, DOOR, NOW + HOUR)
    assert tokens.find(text) == token
    assert (token.create_time, token.expire_time) == (NOW, NOW + HOUR)
    assert token.principal == Principal(name="door.main@lobby", role=Role.DOOR, scope=DOOR, token_id=token.token_id)
    assert tokens.is_live(token.token_id)
    assert tokens.list_tokens() == [token]


@pytest.mark.parametrize(
    "change",
    [
        "role = 'admin'",
        "name = 'somebody'",
        """scope = '{"camera_ids": [], "collection_ids": [], "names": true}'""",
        "expire_time = NULL",
        "create_time = create_time - 1",
    ],
)
def test_what_is_changed_in_the_database_makes_a_token_worthless(
    database: Database, tokens: Tokens, change: str
) -> None:
    _, text = tokens.create("gate", Role.DOOR, DOOR, NOW + HOUR)
    database.execute(f"UPDATE tokens SET {change}")
    tokens.refresh()
    assert len(tokens.list_tokens()) == 1
    assert tokens.find(text) is None


def test_a_row_that_cannot_be_read_opens_nothing_and_stops_nobody(
    database: Database, clock: Clock, tokens: Tokens
) -> None:
    _, text = tokens.create("gate", Role.DOOR)
    _, other = tokens.create("wall", Role.DASHBOARD)
    database.execute("UPDATE tokens SET role = 'operator' WHERE name = 'gate'")
    again = Tokens(database, KEY, clock)
    assert again.find(text) is None
    assert again.find(other) is not None
    again.revoke("wall")
    assert again.find(other) is None


def test_a_token_is_worth_nothing_under_another_key(database: Database, clock: Clock, tokens: Tokens) -> None:
    _, text = tokens.create("gate", Role.DOOR)
    assert Tokens(database, bytes(32), clock).find(text) is None


def test_another_opening_of_the_database_knows_the_same(database: Database, clock: Clock, tokens: Tokens) -> None:
    made = [tokens.create("a", Role.CAMERA, DOOR, NOW + HOUR), tokens.create("b", Role.ADMIN)]
    again = Tokens(database, KEY, clock)
    assert [again.find(text) for _, text in made] == [token for token, _ in made]
    assert sorted(again.list_tokens(), key=lambda token: token.name) == [token for token, _ in made]


def test_what_another_box_did_is_learnt_by_refreshing(database: Database, clock: Clock, tokens: Tokens) -> None:
    other = Tokens(database, KEY, clock)
    token, text = other.create("camera", Role.CAMERA)
    assert tokens.find(text) is None
    tokens.refresh()
    assert tokens.find(text) == token
    other.revoke("camera")
    tokens.refresh()
    assert tokens.find(text) is None
    assert not tokens.is_live(token.token_id)


def test_a_token_of_another_box_is_revoked_and_its_name_taken_without_a_refresh(
    database: Database, clock: Clock, tokens: Tokens
) -> None:
    other = Tokens(database, KEY, clock)
    token, _ = other.create("camera", Role.CAMERA)
    with pytest.raises(AlreadyExistsError, match="camera"):
        tokens.create("camera", Role.DOOR)
    assert tokens.revoke("camera") == token
    tokens.create("camera", Role.DOOR)


def test_a_revoked_token_is_worthless_and_its_name_free(tokens: Tokens) -> None:
    first, text = tokens.create("door", Role.DOOR)
    assert tokens.revoke("door") == first
    assert tokens.find(text) is None
    assert not tokens.is_live(first.token_id)
    with pytest.raises(NotFoundError, match="no token 'door'"):
        tokens.revoke("door")
    second, _ = tokens.create("door", Role.DOOR)
    assert tokens.find(text) is None
    assert tokens.list_tokens() == [second]


def test_a_token_is_over_at_its_time(tokens: Tokens, clock: Clock) -> None:
    token, text = tokens.create("visitor", Role.DASHBOARD, expire_time=NOW + HOUR)
    clock.now = NOW + HOUR - timedelta(microseconds=1)
    assert tokens.find(text) == token
    clock.now = NOW + HOUR
    assert tokens.find(text) is None
    assert not tokens.is_live(token.token_id)
    assert tokens.list_tokens() == [token]  # until it is revoked


def test_only_a_hash_is_kept(tokens: Tokens, database: Database) -> None:
    _, text = tokens.create("door", Role.DOOR)
    kept = repr(database.select("SELECT * FROM tokens"))
    secret = text.split("_", 2)[2]
    assert secret not in kept
    assert secret not in repr(tokens.list_tokens())


def test_two_tokens_have_nothing_in_common(offline: Tokens) -> None:
    texts = [offline.create(f"t{n}", Role.DOOR)[1] for n in range(20)]
    assert len({text[31:] for text in texts}) == 20
    assert all(len(text) == 4 + 26 + 1 + 43 for text in texts)


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda text: "",
        lambda text: text[:-1],
        lambda text: text + "A",
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text.lower(),
        lambda text: text[:31] + "A" * 43,
        lambda text: text[:31] + "é" * 43,
        lambda text: f"fsv_{'0' * 26}_{text[31:]}",
        lambda text: "x" * 1_000_000,
        lambda text: text[:10] + "\0" + text[11:],
    ],
)
def test_what_is_not_the_token_is_none(offline: Tokens, spoilt: Callable[[str], str]) -> None:
    _, text = offline.create("door", Role.DOOR)
    assert offline.find(spoilt(text)) is None
    assert offline.find(text) is not None


def test_the_secret_of_one_does_not_open_another(offline: Tokens) -> None:
    (_, first), (_, second) = offline.create("a", Role.ADMIN), offline.create("b", Role.CAMERA)
    assert offline.find(first[:31] + second[31:]) is None
    assert offline.find(second[:31] + first[31:]) is None


def test_which_token_somebody_says_they_have(offline: Tokens) -> None:
    token, text = offline.create("a", Role.ADMIN)
    assert offline.id_of(text[:31] + "A" * 43) == token.token_id
    assert offline.id_of(f"fsv_{'0' * 26}_{text[31:]}") == ""
    assert offline.id_of("nonsense") == ""


@pytest.mark.parametrize("name", ["", " ", "two words", ".hidden", "a\nb", "é", "x" * 129, "a/b", "=1+1"])
def test_a_name_stands_in_logs_and_tables(offline: Tokens, name: str) -> None:
    with pytest.raises(InputError, match="is no name of a token") as caught:
        offline.create(name, Role.DOOR)
    assert caught.value.field == "name"


def test_what_cannot_be_is_refused_in_words(offline: Tokens) -> None:
    with pytest.raises(InputError, match="over before it begins"):
        offline.create("door", Role.DOOR, expire_time=NOW)
    many = frozenset(f"c{n}" for n in range(module.MAX_SCOPED + 1))
    for scope in (Scope(camera_ids=many), Scope(collection_ids=many)):
        with pytest.raises(InputError, match="at most 1000"):
            offline.create("door", Role.DOOR, scope)
    assert offline.list_tokens() == []


def test_there_is_an_end_to_tokens(offline: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TOKENS", 2)
    offline.create("a", Role.DOOR)
    offline.create("b", Role.DOOR)
    with pytest.raises(InputError, match="2 tokens already"):
        offline.create("c", Role.DOOR)
    offline.revoke("a")
    offline.create("c", Role.DOOR)


def test_of_two_that_want_a_name_one_gets_it(database: Database, clock: Clock, tokens: Tokens) -> None:
    outcomes: list[str] = []
    together = threading.Barrier(2)

    def want(box: Tokens) -> None:
        together.wait(30)
        try:
            outcomes.append(box.create("door", Role.DOOR)[0].name)
        except AlreadyExistsError:
            outcomes.append("taken")

    threads = [threading.Thread(target=want, args=(box,)) for box in (tokens, Tokens(database, KEY, clock))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(outcomes) == ["door", "taken"]


def test_what_was_read_before_a_revocation_does_not_bring_the_token_back(
    offline: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list that is asked for at the same moment reads the tokens, and is held up while one is revoked."""
    _, text = offline.create("door", Role.DOOR)
    database = offline._database
    has_read, go_on, select = threading.Event(), threading.Event(), database.select

    def held_up(sql: str, parameters: object = ()) -> object:
        rows = select(sql, parameters)  # type: ignore[arg-type]  # handed through as it came
        if threading.current_thread() is lister and not has_read.is_set():
            has_read.set()
            assert go_on.wait(30)
        return rows

    monkeypatch.setattr(database, "select", held_up)
    lister = threading.Thread(target=offline.refresh)
    lister.start()
    assert has_read.wait(30)
    revoker = threading.Thread(target=offline.revoke, args=("door",))
    revoker.start()
    revoker.join(0.2)  # without the lock it is done by now; with it, it waits for the list
    go_on.set()
    lister.join(30)
    revoker.join(30)
    assert offline.find(text) is None
