"""What the tests of attendance share: a box with people, a folder and a key for exports."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from attendance_making import ANA, BEN, Make, clock, new_key, turn, visit
from facesvc_attendance import AttendancePlugin, Settings

from facesvc.delivery.kit import MemoryBox


@pytest.fixture
def box() -> MemoryBox:
    """With Ana and Ben in it."""
    return MemoryBox(name="attendance", people={(one.collection_id, one.subject_id): one for one in (ANA, BEN)})


@pytest.fixture
async def make(box: MemoryBox) -> AsyncIterator[Make]:
    """Plugins that are stopped at the end; their loop goes round only when ``sleep`` returns."""
    made: list[AttendancePlugin] = []

    async def never(_: float) -> None:
        await asyncio.Event().wait()

    def making(*, sleep: Any = never, **settings: Any) -> AttendancePlugin:
        given = {"time_zone": "Europe/Berlin", "minimum_break_minutes": 0, **settings}
        made.append(AttendancePlugin(Settings.model_validate(given), box, sleep=sleep))
        return made[-1]

    yield making
    for one in made:
        await one.stop()


@pytest.fixture
def exports(tmp_path: Path) -> dict[str, Any]:
    """Settings with exports on."""
    return {"export_folder": str(tmp_path / "exports"), "signing_key": new_key(tmp_path / "attendance.key")}


@pytest.fixture
async def exporting(make: Make, box: MemoryBox, exports: dict[str, Any]) -> AttendancePlugin:
    """Since 2 March, a Monday, and three days later, with three files."""
    plugin = make(**exports)
    clock(box, "2026-03-02T07:00")
    await turn(plugin)
    await visit(plugin, "2026-03-02T08:00", "2026-03-02T17:00")
    await visit(plugin, "2026-03-03T08:00", "2026-03-03T17:00")
    await visit(plugin, "2026-03-03T09:00", "2026-03-03T10:00", BEN)
    clock(box, "2026-03-06T00:00")
    await turn(plugin)
    return plugin


@pytest.fixture
def folder(exports: dict[str, Any]) -> Path:
    return Path(exports["export_folder"])
