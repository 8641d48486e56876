"""Opens galleries in files, each with a master key beside it unless the test brings one."""

from datetime import datetime
from pathlib import Path

from facesvc.database.sqlite import SqliteDatabase
from facesvc.gallery import EmbeddingContract, Gallery
from facesvc.gallery.masterkey import KeyFile
from facesvc.gallery.store import Store


def key_beside(path: Path) -> KeyFile:
    return KeyFile(path.parent.parent / "key" / "master.key")


def open_store(path: Path, contract: EmbeddingContract, now: datetime, key: KeyFile | None = None) -> Store:
    database = SqliteDatabase(path, busy_timeout_s=0.1)
    try:
        return Store.open(database, contract, now, [key or key_beside(path)])
    except BaseException:
        database.close()
        raise


def open_gallery(path: Path, contract: EmbeddingContract, now: datetime, key: KeyFile | None = None) -> Gallery:
    database = SqliteDatabase(path, busy_timeout_s=0.1)
    try:
        return Gallery.open(database, contract, now, [key or key_beside(path)])
    except BaseException:
        database.close()
        raise
