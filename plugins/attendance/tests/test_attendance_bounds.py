"""Nothing grows without end: answers, folders and files that are too large are refused, with what to do."""

import os
from pathlib import Path
from typing import Any

import pytest
from attendance_making import ANA, BEN, FIRST, MARCH, Make, ask, clock, turn, verify, visit
from facesvc_attendance import AttendancePlugin, calendars, exporter, folder, ledger, plugin, verifying

from facesvc.delivery.kit import MemoryBox
from facesvc.errors import DependencyError, InputError


@pytest.mark.parametrize(
    ("where", "name", "command", "arguments"),
    [
        (ledger, "MAX_ROWS", "days", {}),
        (ledger, "MAX_ROWS", "days", {"format": "csv"}),
        (plugin, "MAX_ROWS", "bookings", {}),
        (calendars, "MAX_ENTRIES", "days", {"format": "ical"}),
    ],
)
async def test_too_long_an_answer(
    make: Make,
    box: MemoryBox,
    monkeypatch: pytest.MonkeyPatch,
    where: Any,
    name: str,
    command: str,
    arguments: dict[str, str],
) -> None:
    one = make()
    for who in (ANA, BEN):
        await visit(one, "2026-03-02T08:00", "2026-03-02T12:00", who)
    clock(box, "2026-03-03T12:00")
    monkeypatch.setattr(where, name, 4)
    await ask(one, command, {**MARCH, **arguments})
    monkeypatch.setattr(where, name, 1)
    with pytest.raises(InputError, match=r"more than 1.*: ask for fewer days"):
        await ask(one, command, {**MARCH, **arguments})


async def test_so_many_revisions_of_a_day(exporting: AttendancePlugin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "MAX_REVISION", 1)
    await visit(exporting, "2026-03-02T18:00", "2026-03-02T19:00")
    with pytest.raises(DependencyError, match=r"2026-03-02 has 1 revisions in .*: move them away"):
        await ask(exporting, "export", {"day": "2026-03-02"})


async def test_so_many_problems(exporting: AttendancePlugin, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for day in (2, 3, 4):
        (folder / f"attendance-2026-03-0{day}.csv").write_text("changed")
    assert len((await verify(exporting))["problems"]) == 3
    monkeypatch.setattr(verifying, "MAX_PROBLEMS", 2)
    answer = await verify(exporting)
    assert len(answer["problems"]) == 2
    assert answer["remarks"] == ["there are more problems: not all files were looked at"]


@pytest.mark.parametrize(
    ("name", "message"), [("MAX_BYTES", "has more than 0 MiB"), ("MAX_FILES", "more than 1 exports")]
)
async def test_files_and_folders_that_are_not_ours(
    exporting: AttendancePlugin, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.setattr(folder, name, 1)
    with pytest.raises(DependencyError, match=message):
        await verify(exporting)


async def test_a_pipe_in_the_folder_is_not_waited_for(exporting: AttendancePlugin, folder: Path) -> None:
    (folder / f"{FIRST}.csv").unlink()
    os.mkfifo(folder / f"{FIRST}.csv")
    assert (await verify(exporting, FIRST))["problems"] == [f"{FIRST}.csv is no plain file"]
    assert await turn(exporting) == []
