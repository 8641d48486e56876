"""The boxes that share a gallery: up to which change each has followed it."""

from datetime import datetime, timedelta

from facesvc.database import Database, to_microseconds

RETIRED_AFTER = timedelta(days=30)
"""A box that was not heard of for so long is no longer waited for."""

_SAY = """
    INSERT INTO boxes VALUES (?, ?, ?)
    ON CONFLICT (box_id) DO UPDATE SET change = excluded.change, seen_time = excluded.seen_time
"""


class Boxes:
    """Who follows. Every method may be called from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def say(self, box_id: str, change: int, now: datetime) -> None:
        """That a box has followed all changes up to that one."""
        with self._database.transaction():
            self._database.execute(_SAY, (box_id, change, to_microseconds(now)))
            self._database.execute("DELETE FROM boxes WHERE seen_time < ?", (to_microseconds(now - RETIRED_AFTER),))

    def behind(self, change: int) -> list[str]:
        """The boxes that have not said yet that they have followed that change."""
        sql = "SELECT box_id FROM boxes WHERE change < ? ORDER BY box_id"
        return [box_id for (box_id,) in self._database.select(sql, (change,))]

    def all(self) -> list[str]:
        """Every box."""
        return [box_id for (box_id,) in self._database.select("SELECT box_id FROM boxes ORDER BY box_id")]
