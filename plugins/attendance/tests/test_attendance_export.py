"""The daily export: when it is written, by what name, and what becomes of it after crashes and corrections."""

import asyncio
import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from attendance_making import FIRST, Make, ask, clock, contents, modes, new_key, turn, verify, visit
from facesvc_attendance.plugin import AttendancePlugin

from facesvc.delivery.kit import MemoryBox
from facesvc.errors import ConfigError, InputError, PreconditionError


async def test_off_unless_a_folder_is_set(make: Make, tmp_path: Path) -> None:
    plugin = make()
    await plugin.start()
    for command, arguments in (("export", {"day": "2026-02-27"}), ("verify", {})):
        with pytest.raises(PreconditionError, match="exports are off"):
            await ask(plugin, command, arguments)
    assert contents(tmp_path) == {}


async def test_each_day_is_written_when_it_is_finished_from_the_first_on(
    make: Make, box: MemoryBox, exports: dict[str, Any], folder: Path
) -> None:
    plugin = make(**exports)
    clock(box, "2026-03-02T07:00")
    assert await turn(plugin) == []
    await visit(plugin, "2026-03-02T08:00", "2026-03-02T17:00")
    clock(box, "2026-03-03T23:59")
    assert await turn(plugin) == []
    clock(box, "2026-03-04T00:00")
    assert await turn(plugin) == [FIRST]
    assert await turn(plugin) == []
    (row,) = csv.DictReader(io.StringIO((folder / f"{FIRST}.csv").read_text()))
    assert (row["subject_id"], row["employee_no"], row["present_seconds"]) == ("ana", "0042", str(9 * 3600))
    assert box.audited == [("ExportAttendance", f"{FIRST}: 1 rows", ("", ""))]
    # The box was off for a while, and nobody came.
    clock(box, "2026-03-08T12:00")
    assert await turn(plugin) == [f"attendance-2026-03-0{day}" for day in (3, 4, 5, 6)]
    assert (await verify(plugin))["files"] == 5


async def test_files_are_for_their_owner_alone_and_nothing_else_is_left(
    exporting: AttendancePlugin, folder: Path
) -> None:
    assert modes(folder.parent) == {0o700, 0o600}  # the key's is the other
    assert set(contents(folder)) == {
        f"attendance-2026-03-0{day}.{kind}" for day in (2, 3, 4) for kind in ("csv", "json", "sig")
    }
    assert modes(folder) == {0o600}


async def test_a_day_that_was_corrected_is_written_anew_as_a_revision(
    exporting: AttendancePlugin, folder: Path
) -> None:
    before = (folder / f"{FIRST}.csv").read_bytes()
    answer = await ask(exporting, "export", {"day": "2026-03-02"})
    assert answer == {"file": f"{FIRST}.csv", "rows": 1, "sequence": 1, "new": False}
    given = {"subject": "ana", "day": "2026-03-02", "by": "hr", "reason": "forgot", "kind": "last-out"}
    await ask(exporting, "correct", {**given, "end": "2026-03-02T18:00"})
    for new in (True, False):
        answer = await ask(exporting, "export", {"day": "2026-03-02"})
        assert answer == {"file": f"{FIRST}.r2.csv", "rows": 1, "sequence": 4, "new": new}
    assert (folder / f"{FIRST}.csv").read_bytes() == before
    manifest = json.loads((folder / f"{FIRST}.r2.json").read_bytes())
    assert (manifest["revision"], manifest["previous"]) == (2, "attendance-2026-03-04")
    assert (await verify(exporting))["ok"]


async def test_after_a_crash_between_file_and_note_the_file_is_taken_over(
    exporting: AttendancePlugin, box: MemoryBox, folder: Path, make: Make, exports: dict[str, Any]
) -> None:
    head = await box.notes.get("export/head")
    clock(box, "2026-03-07T00:00")
    assert await turn(exporting) == ["attendance-2026-03-05"]
    await box.notes.put("export/head", head)
    written = (folder / "attendance-2026-03-05.json").read_bytes()
    clock(box, "2026-03-08T00:00")
    assert await turn(make(**exports)) == ["attendance-2026-03-05", "attendance-2026-03-06"]
    assert (folder / "attendance-2026-03-05.json").read_bytes() == written
    assert (await verify(exporting))["ok"]


async def test_an_old_database_does_not_write_over_what_is_there(
    exporting: AttendancePlugin, box: MemoryBox, folder: Path
) -> None:
    await box.notes.put("export/head", {"sequence": 0, "stem": "", "sha256": "", "next_day": "2026-03-02"})
    written = contents(folder)
    await visit(exporting, "2026-03-04T08:00", "2026-03-04T09:00")  # came late
    await turn(exporting)
    assert written.items() <= contents(folder).items()
    assert (folder / "attendance-2026-03-04.r2.csv").exists()
    assert (await verify(exporting))["ok"]


@pytest.mark.parametrize("kind", ["csv", "sig", "json"])
async def test_a_file_that_was_changed_is_not_taken_for_ours_and_not_written_over(
    exporting: AttendancePlugin, folder: Path, kind: str
) -> None:
    (folder / f"{FIRST}.{kind}").write_bytes(b"0" * 64)
    answer = await ask(exporting, "export", {"day": "2026-03-02"})
    assert (answer["file"], answer["new"]) == (f"{FIRST}.r2.csv", True)
    assert contents(folder)[f"{FIRST}.{kind}"] == b"0" * 64
    assert not (await verify(exporting, FIRST))["ok"]
    assert (await verify(exporting, f"{FIRST}.r2"))["ok"]


async def test_days_that_are_not_kept_any_more_are_not_exported(
    exporting: AttendancePlugin, box: MemoryBox, make: Make, exports: dict[str, Any]
) -> None:
    clock(box, "2026-03-20T12:00")
    assert (await turn(make(**exports, retention_days=5)))[0] == "attendance-2026-03-16"


async def test_what_a_crash_left_half_written_is_no_export(exporting: AttendancePlugin, folder: Path) -> None:
    (folder / ".attendance-2026-03-02.r2.csv.part").write_text("half")
    (folder / "attendance-2026-03-02.r2.csv").write_text("no manifest yet")
    assert (await verify(exporting))["files"] == 3
    await visit(exporting, "2026-03-02T18:00", "2026-03-02T19:00")
    answer = await ask(exporting, "export", {"day": "2026-03-02"})
    assert answer["file"] == f"{FIRST}.r2.csv"
    assert (await verify(exporting))["ok"]


async def test_a_day_that_is_not_finished_or_not_kept_cannot_be_exported(exporting: AttendancePlugin) -> None:
    with pytest.raises(InputError, match=r"2026-03-05 is not finished before 2026-03-07T00:00\+01:00"):
        await ask(exporting, "export", {"day": "2026-03-05"})
    with pytest.raises(InputError, match="are not kept any more"):
        await ask(exporting, "export", {"day": "2025-03-05"})


async def test_without_a_key_it_does_not_start_and_no_secret_is_told(
    make: Make, exports: dict[str, Any], tmp_path: Path
) -> None:
    secret = tmp_path / "attendance.key"
    secret.write_text("-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n")
    plugin = make(**exports)
    with pytest.raises(ConfigError, match="is no Ed25519 key") as caught:
        await plugin.start()
    assert "hunter2" not in f"{caught.value!r}"
    with pytest.raises(InputError, match="is no Ed25519 public key"):
        make(**{**exports, "signing_key": new_key(secret)}, former_public_keys=["abc"])._exporter.keys()


async def test_the_loop_looks_again_and_again_also_after_a_failure(
    make: Make, box: MemoryBox, exports: dict[str, Any], folder: Path
) -> None:
    looked = asyncio.Queue[float]()
    go = asyncio.Semaphore(0)

    async def sleep(seconds: float) -> None:
        looked.put_nowait(seconds)
        await go.acquire()

    plugin = make(**exports, sleep=sleep)
    clock(box, "2026-03-02T07:00")
    await plugin.start()
    assert await looked.get() == 600
    await asyncio.to_thread(folder.rmdir)
    await asyncio.to_thread(folder.write_text, "no folder")
    clock(box, "2026-03-04T00:00")
    go.release()
    await looked.get()
    await asyncio.to_thread(folder.unlink)
    go.release()
    await looked.get()
    assert (folder / f"{FIRST}.json").exists()
    await plugin.stop()
    assert plugin._exporting is None


async def test_a_check_says_what_is_wrong_with_exports(
    make: Make, exporting: AttendancePlugin, exports: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    async def last(plugin: AttendancePlugin) -> Any:
        return [step async for step in plugin.check()][-1]

    step = await last(exporting)
    assert (step.name, step.ok) == ("exports", True)
    assert step.detail.startswith(f"3 in {folder}, as they were written; keys ")
    (folder / f"{FIRST}.csv").write_text("")
    assert (await last(exporting)).detail == f"{FIRST}.csv was changed"
    nowhere = make(**{**exports, "export_folder": str(tmp_path / "not" / "there")})
    assert "is no folder that the server may write to" in (await last(nowhere)).detail
    assert not (tmp_path / "not").exists()
    (tmp_path / "attendance.key").unlink()
    assert "cannot be read" in (await last(exporting)).detail
