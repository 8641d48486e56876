"""Exports that were changed, moved, renamed or replaced are found out."""

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from attendance_making import FIRST, Make, ask, clock, contents, new_key, turn, verify
from facesvc_attendance.manifest import public_text, read_key
from facesvc_attendance.plugin import AttendancePlugin

from facesvc.delivery.kit import MemoryBox
from facesvc.errors import DependencyError


async def test_all_is_well(exporting: AttendancePlugin) -> None:
    assert await verify(exporting) == {"ok": True, "files": 3, "problems": [], "remarks": []}
    for kind in ("", ".csv", ".json", ".sig"):
        assert await verify(exporting, f"attendance-2026-03-03{kind}") == {
            "ok": True,
            "files": 1,
            "problems": [],
            "remarks": [],
        }


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


async def test_a_change_of_anything_is_found(exporting: AttendancePlugin, folder: Path) -> None:
    name = "attendance-2026-03-03"
    saved = folder.with_name("saved")
    shutil.copytree(folder, saved)

    async def problems(file: str = "") -> list[str]:
        answer = await verify(exporting, file)
        assert answer["ok"] is not bool(answer["problems"])
        shutil.rmtree(folder)
        shutil.copytree(saved, folder)
        found: list[str] = answer["problems"]
        return found

    edit(folder / f"{name}.csv", "17:00", "18:00")
    assert await problems(name) == [f"{name}.csv was changed"]
    edit(folder / f"{name}.json", '"rows": 2', '"rows": 3')
    (problem,) = await problems(name)
    assert problem.startswith(f"{name}.json was changed, or signed with none of the keys ")
    (folder / f"{name}.sig").write_bytes(b"")
    assert "was changed, or signed with none" in (await problems(name))[0]
    (folder / f"{name}.csv").unlink()
    assert "there is no attendance-2026-03-03.csv" in (await problems(name))[0]
    (folder / f"{name}.csv").unlink()
    (folder / f"{name}.csv").symlink_to(saved / f"{name}.csv")
    with pytest.raises(DependencyError, match="cannot be read"):
        await problems(name)
    await asyncio.to_thread(shutil.rmtree, folder)
    await asyncio.to_thread(shutil.copytree, saved, folder)
    for kind in ("csv", "json", "sig"):
        shutil.copy(folder / f"{FIRST}.{kind}", folder / f"{name}.{kind}")
    assert await problems(name) == [f"{name}.json was renamed: it is {FIRST}.json"]


async def test_a_day_that_is_missing_is_found(exporting: AttendancePlugin, folder: Path) -> None:
    for kind in ("csv", "json", "sig"):
        (folder / f"attendance-2026-03-03.{kind}").unlink()
    assert (await verify(exporting))["problems"] == [
        f"attendance-2026-03-04.json was not written next after {FIRST}.json: something between is missing"
    ]
    assert (await verify(exporting, "attendance-2026-03-04"))["remarks"] == [
        "attendance-2026-03-03.json, written before, is not there to compare"
    ]
    (folder / "attendance-2026-03-04.json").unlink()
    assert (await verify(exporting))["problems"] == [
        "attendance-2026-03-04.json, the last that was written, is missing or another"
    ]


async def test_old_files_may_be_moved_away(exporting: AttendancePlugin, folder: Path) -> None:
    (folder / f"{FIRST}.json").unlink()
    answer = await verify(exporting)
    assert (answer["ok"], answer["remarks"]) == (
        True,
        ["what was written before attendance-2026-03-03.json is not there"],
    )


def sign(folder: Path, key: str, stem: str, content: bytes) -> None:
    """What somebody does who has the key."""
    (folder / f"{stem}.json").write_bytes(content)
    (folder / f"{stem}.sig").write_bytes(read_key(key).sign(content))


async def test_another_manifest_is_found_though_it_is_signed(
    exporting: AttendancePlugin, exports: dict[str, Any], folder: Path
) -> None:
    changed = contents(folder)[f"{FIRST}.json"].replace(b'"rows": 1', b'"rows": 2')
    sign(folder, exports["signing_key"], FIRST, changed)
    assert (await verify(exporting))["problems"] == [
        f"attendance-2026-03-03.json was not written next after {FIRST}.json: something between is missing"
    ]
    assert (await verify(exporting, "attendance-2026-03-03"))["problems"] == [
        f"{FIRST}.json is not the one that was written before attendance-2026-03-03.json"
    ]


async def test_signed_rubbish_is_no_manifest(
    exporting: AttendancePlugin, exports: dict[str, Any], folder: Path
) -> None:
    for content in (b"[]", b"{", b'{"format": "facesvc-attendance/2"}'):
        sign(folder, exports["signing_key"], FIRST, content)
        (problem,) = (await verify(exporting, FIRST))["problems"]
        assert problem.startswith(f"{FIRST}.json is no manifest of ours: ")


async def test_after_a_change_of_keys_files_of_the_former_one_hold_if_it_is_named(
    exporting: AttendancePlugin, box: MemoryBox, make: Make, exports: dict[str, Any], tmp_path: Path
) -> None:
    former = await ask(exporting, "public-key", {})
    changed = {**exports, "signing_key": new_key(tmp_path / "new.key")}
    answer = await verify(make(**changed))
    assert len(answer["problems"]) == 4
    renewed = make(**changed, former_public_keys=[former["base64"]])
    clock(box, "2026-03-07T00:00")
    assert await turn(renewed) == ["attendance-2026-03-05"]
    assert (await verify(renewed))["ok"]
    assert json.loads((Path(exports["export_folder"]) / f"{FIRST}.json").read_bytes())["key_id"] == former["key_id"]


async def test_openssl_verifies_an_export(exporting: AttendancePlugin, folder: Path, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here (Debian: openssl)")
    key = await ask(exporting, "public-key", {})
    public = tmp_path / "attendance.pub"
    public.write_text(key["pem"])
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(public), "-rawin"]
    files = ["-in", str(folder / f"{FIRST}.json"), "-sigfile", str(folder / f"{FIRST}.sig")]

    def verified() -> int:
        return subprocess.run([*command, *files], capture_output=True, check=False).returncode

    made = tmp_path / "made.key"
    genpkey = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(made)]
    await asyncio.to_thread(subprocess.run, genpkey, check=True, umask=0o077)
    assert len(public_text(read_key(f"file:{made}").public_key())) == 60
    assert await asyncio.to_thread(verified) == 0
    edit(folder / f"{FIRST}.json", '"rows": 1', '"rows": 2')
    assert await asyncio.to_thread(verified) != 0
