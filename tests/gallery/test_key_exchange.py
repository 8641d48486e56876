"""Another master key in the file: everything stays readable, whatever fails; the old key opens nothing any more."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest

from facesvc.config import GallerySettings
from facesvc.database import Database
from facesvc.database.opening import open_database
from facesvc.errors import DependencyError, PreconditionError
from facesvc.gallery import EmbeddingContract, Subject
from facesvc.gallery import rotation as rotating
from facesvc.gallery.masterkey import KeyFile, sources
from facesvc.gallery.rotation import Rotation
from facesvc.gallery.store import Store

MakeSubject = Callable[..., Subject]


@dataclass
class Others:
    """Backups, made up."""

    calls: list[str] = field(default_factory=list)
    failure: Exception | None = None

    def learn(self, key: bytes) -> None:
        self.calls.append("learn")

    def rewrap(self) -> None:
        self.calls.append("rewrap")
        if self.failure is not None:
            raise self.failure

    def forget_former(self) -> None:
        self.calls.append("forget")


@pytest.fixture
def settings(path: Path) -> GallerySettings:
    return GallerySettings(path=path, key_file=path.parent / "keys" / "gallery.key")


def opened(database: Database, settings: GallerySettings, contract: EmbeddingContract, now: datetime) -> Store:
    return Store.open(database, contract, now, sources(settings))


def started(
    path: Path, settings: GallerySettings, contract: EmbeddingContract, now: datetime
) -> tuple[Store, Rotation]:
    """As at a start of the server."""
    database = open_database(path)
    try:
        store = opened(database, settings, contract, now)
    except BaseException:
        database.close()
        raise
    return store, Rotation(database, store.keyring, settings, None)


def finish(rotation: Rotation, now: datetime) -> int:
    count = 0
    while done := rotation.step(now):
        count += done
    return count


def rotate(rotation: Rotation, now: datetime) -> None:
    rotation.begin(now)
    finish(rotation, now)


def names(store: Store) -> list[str]:
    return [subject.display_name for subject in store.subjects()]


def test_the_file_is_exchanged_and_everything_stays_readable(
    path: Path,
    settings: GallerySettings,
    contract: EmbeddingContract,
    now: datetime,
    make_subject: MakeSubject,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rotating, "_BATCH", 2)
    store, rotation = started(path, settings, contract, now)
    for number in range(5):
        store.create_subject(make_subject(f"p{number}"))
    old = settings.key_path.read_bytes()
    assert not rotation.is_pending
    rotation.begin(now)
    assert rotation.is_pending
    assert rotation.step(now) == 2
    store.create_subject(make_subject("p5"))  # meanwhile
    store.erase_subject("office", "p4", now)
    assert names(store) == ["P0", "P1", "P2", "P3", "P5"]
    assert 2 <= finish(rotation, now) <= 4  # and the key of nobody
    assert not rotation.is_pending
    assert names(store) == ["P0", "P1", "P2", "P3", "P5"]
    store.close()
    new = settings.key_path.read_bytes()
    assert new != old
    assert [file.name for file in settings.key_path.parent.iterdir()] == ["gallery.key"]
    with closing(started(path, settings, contract, now)[0]) as again:
        assert names(again) == ["P0", "P1", "P2", "P3", "P5"]
        again.create_subject(make_subject("p6"))
    settings.key_path.write_bytes(old)
    with pytest.raises(DependencyError) as refused:
        started(path, settings, contract, now)
    assert refused.value.reason == "KEY_WRONG"


def test_one_more_exchange_is_another_key(
    path: Path, settings: GallerySettings, contract: EmbeddingContract, now: datetime, make_subject: MakeSubject
) -> None:
    store, rotation = started(path, settings, contract, now)
    store.create_subject(make_subject())
    keys = [settings.key_path.read_bytes()]
    for _ in range(3):
        rotation.begin(now)
        rotation.begin(now)  # a second caller continues it
        assert finish(rotation, now) == 2
        assert finish(rotation, now) == 0
        keys.append(settings.key_path.read_bytes())
    assert len(set(keys)) == 4
    assert names(store) == ["Ada"]
    store.close()


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("step", ["make", "register", "rewrap", "others", "exchange"])
def test_what_fails_on_the_way_can_be_done_again_at_once_or_after_a_restart(
    path: Path,
    settings: GallerySettings,
    contract: EmbeddingContract,
    now: datetime,
    make_subject: MakeSubject,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    *,
    restart: bool,
) -> None:
    store, rotation = started(path, settings, contract, now)
    store.create_subject(make_subject())
    old, others = settings.key_path.read_bytes(), Others()
    rotation._others = others

    def fail(*_: object) -> None:
        raise DependencyError("the disk is full")

    failing: dict[str, tuple[object, str]] = {
        "make": (KeyFile, "make"),
        "register": (store.keyring, "_register"),
        "rewrap": (store.keyring, "rewrap"),
        "others": (others, "rewrap"),
        "exchange": (KeyFile, "exchange"),
    }
    with monkeypatch.context() as patched:
        patched.setattr(*failing[step], fail)
        with pytest.raises(DependencyError, match="the disk is full"):
            rotate(rotation, now)
    assert settings.key_path.read_bytes() == old
    assert names(store) == ["Ada"]
    if restart:
        store.close()
        store, rotation = started(path, settings, contract, now)
        assert names(store) == ["Ada"]
        assert rotation.is_pending == (step != "make")
    rotate(rotation, now)
    assert names(store) == ["Ada"]
    assert settings.key_path.read_bytes() != old
    store.close()
    with closing(started(path, settings, contract, now)[0]) as again:
        assert names(again) == ["Ada"]


def test_the_key_is_not_exchanged_while_something_needs_the_old_one(
    path: Path, settings: GallerySettings, contract: EmbeddingContract, now: datetime, make_subject: MakeSubject
) -> None:
    store, rotation = started(path, settings, contract, now)
    store.create_subject(make_subject())
    old = settings.key_path.read_bytes()
    KeyFile(settings.key_path).next.make()  # and nothing is wrapped by it
    with pytest.raises(DependencyError) as refused:
        rotation.step(now)
    assert refused.value.reason == "KEY_WRONG"
    assert settings.key_path.read_bytes() == old
    assert names(store) == ["Ada"]
    store.close()


def test_backups_are_told_before_and_after(
    path: Path, settings: GallerySettings, contract: EmbeddingContract, now: datetime
) -> None:
    database, others = open_database(path), Others()
    with closing(opened(database, settings, contract, now)) as store:
        rotate(Rotation(database, store.keyring, settings, others), now)
    assert others.calls == ["learn", "rewrap", "forget"]


def test_a_key_from_elsewhere_is_exchanged_by_the_settings(
    database_url: str,
    tmp_path: Path,
    contract: EmbeddingContract,
    now: datetime,
    make_subject: MakeSubject,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OLD", "0" * 64)
    monkeypatch.setenv("NEW", "1" * 64)
    with closing(open_database(database_url)) as database:
        settings = GallerySettings(path=tmp_path / "gallery.db", key="env:OLD")
        store = opened(database, settings, contract, now)
        store.create_subject(make_subject())
        said = "the master key is the variable OLD of the environment, which is not ours to change: set gallery"
        with pytest.raises(PreconditionError, match=said) as refused:
            Rotation(database, store.keyring, settings, None).begin(now)
        assert refused.value.reason == "KEY_NOT_OURS"
        settings = GallerySettings(path=tmp_path / "gallery.db", key="env:NEW", previous_key="env:OLD")
        store, others = opened(database, settings, contract, now), Others()
        rotation = Rotation(database, store.keyring, settings, others)
        assert rotation.is_pending
        assert names(store) == ["Ada"]
        assert finish(rotation, now) == 2
        assert not rotation.is_pending
        assert others.calls == ["rewrap", "forget"]
        settings = GallerySettings(path=tmp_path / "gallery.db", key="env:NEW")
        assert names(opened(database, settings, contract, now)) == ["Ada"]
        assert not Rotation(database, store.keyring, settings, None).is_pending


def test_boxes_that_share_a_gallery_are_not_locked_out(
    postgres_url: str, tmp_path: Path, contract: EmbeddingContract, now: datetime
) -> None:
    settings = GallerySettings(path=tmp_path / "gallery.db")
    with closing(open_database(postgres_url)) as database:
        store = opened(database, settings, contract, now)
        with pytest.raises(PreconditionError, match="several boxes share the gallery and its master key") as refused:
            Rotation(database, store.keyring, settings, None).begin(now)
        assert refused.value.reason == "KEY_NOT_OURS"
    assert list(tmp_path.iterdir()) == [settings.key_path]
