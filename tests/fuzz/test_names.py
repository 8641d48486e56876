"""Names that nobody should have: whatever shows, writes or sends them does no harm with them."""

import csv
import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import structlog
from cli.running import Facesvc, Result, serving, settings_for
from events.making import arrived, at, left, seen, stay

from facesvc.app import load_service
from facesvc.cli import attendance, backup, commands, console
from facesvc.client import CallError, Client
from facesvc.errors import InputError
from facesvc.events.records import ArrivedEvent, Stay
from facesvc.gallery import Subject
from facesvc.v1 import enrollment_pb2

# What the gallery takes: strange, and somebody may be called so.
TAKEN = {
    "formula": "=cmd|' /C calc'!A0",
    "formula behind a blank": " \u3000+1+1",
    "formula behind nothing": "\u200b\ufeff@SUM(A1)",
    "wide formula": "\uff1d1+1",
    "markup": "[red]bold[/nobody] :smile: [link=http://x]y[/link]",
    "turned around": "Ann \u202eevil\u2066 b",
    "no width": "A\u200bn\u2060n\u00ad\U000e0041",
    "folder": "../../../etc/passwd",
    "web page": "<script>alert(1)</script>",
    "quotes": 'a","b\';--',
    "emoji": "\N{FAMILY}\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "long": "\N{FOX FACE}" * 120,
    "combining": "Z" + "\u0336\u0300" * 60,
}
# What it refuses; events of another box, error texts and names of files may have it all the same.
REFUSED = {
    "terminal": "\x1b[2J\x1b[31mred\x1b]0;title\x07",
    "another line": "Ann\nERROR all is lost\r\nBen",
    "the same line": "Ann\rBen\x08\x08",
    "the end": "Ann\0Ben",
    "eight bits": "\x9b31m\x85x",
    "paragraph": "a\u2028b\u2029c",
    "tab": "\t=1+1",
}
NAMES = TAKEN | REFUSED
_JOINERS = "\u200c\u200d"


def assert_harmless(text: str) -> None:
    """Nothing in it steers a terminal or hides from whoever reads it, and its lines are ours."""
    for one in text.replace("\n", ""):
        assert unicodedata.category(one) not in {"Cc", "Cs", "Zl", "Zp"}, ascii(text)
        assert one in _JOINERS or unicodedata.category(one) != "Cf", ascii(text)
    assert "ERROR all is lost" not in [line.strip() for line in text.splitlines()]


@pytest.fixture(scope="module")
def server(pack_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with all these people, some of whom another box has told of."""
    settings = settings_for(tmp_path_factory.mktemp("names"), pack_cache)
    settings = settings.model_copy(update={"events": settings.events.model_copy(update={"retention_days": 3660})})
    service = load_service(settings)
    events: list[ArrivedEvent] = []
    stays: list[Stay] = []
    for number, name in enumerate(NAMES.values()):
        person = f"p{number}"
        shown = name if name in TAKEN.values() else person
        subject = Subject(
            collection_id="c", subject_id=person, display_name=shown, external_ids={"card": shown},
            metadata={"team": shown}, create_time=at(0), update_time=at(0),
        )  # fmt: skip
        service.gallery.create_subject(subject)
        events.append(replace(arrived(at(number), person), display_name=name, camera_id=name[:60], zone=name[:60]))
        stays.append(stay(at(number), at(3600), person, display_name=name))
    service.journal.append([*events, left(at(9 * 3600), "p0"), seen(at(86400), "p1")], stays)
    service.workers.close()
    service.gallery.close()
    with serving(settings) as address:
        yield address


@pytest.fixture
def facesvc(server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], no_logs: None) -> Facesvc:
    """The command line in this process."""
    monkeypatch.setenv("FACESVC_SERVER__LISTEN", server)

    def run(*arguments: object) -> Result:
        with pytest.raises(SystemExit) as end:
            console.run(commands.app, [str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(end.value.code if isinstance(end.value.code, int) else 0, captured.out, captured.err)

    return run


@pytest.mark.parametrize("width", [200, 40])
@pytest.mark.parametrize(
    "command",
    [
        ("subjects", "list", "--collection", "c"),
        ("subjects", "show", "p0", "--collection", "c"),
        ("subjects", "show", "p5", "--collection", "c"),
        ("events", "--collection", "c"),
        ("attendance", "--from", "2026-03-01", "--to", "2026-03-09", "--collection", "c", "--time-zone", "UTC"),
        ("presence", "--collection", "c"),
        ("gallery", "check", "--collection", "c"),
        ("statistics",),
        ("audit", "list"),
    ],
)
def test_tables_and_lines(
    facesvc: Facesvc, command: tuple[str, ...], width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console.out, "width", width)
    result = facesvc(*command)
    assert result.status in {0, 1}, result.err
    assert_harmless(result.out + result.err)


def test_markup_stays_as_it_is(facesvc: Facesvc) -> None:
    assert TAKEN["markup"] in facesvc("subjects", "show", "p4", "--collection", "c").out


@pytest.mark.parametrize("name", REFUSED.values(), ids=REFUSED)
def test_the_gallery_refuses_what_cannot_be_printed(server: str, name: str) -> None:
    with Client(server) as client:
        for subject in (
            enrollment_pb2.Subject(subject_id="x", display_name=name),
            enrollment_pb2.Subject(subject_id=name, display_name="x"),
            enrollment_pb2.Subject(subject_id="x", display_name="x", metadata={"team": name}),
            enrollment_pb2.Subject(subject_id="x", display_name="x", collection_id=name),
        ):
            with pytest.raises(CallError) as refused:
                client.create_subject(subject)
            assert refused.value.reason == "INVALID_INPUT"
            assert_harmless(str(refused.value))


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_errors_that_repeat_a_name(facesvc: Facesvc, tmp_path: Path, name: str) -> None:
    argument = name.replace("\0", "")
    strange = tmp_path / argument.replace("/", "_")[:60]
    strange.write_bytes(b"no picture")
    for command in (
        ("subjects", "show", f"x{argument}"),
        ("events", "--collection", f"/{argument}"),
        ("enroll", strange),
        ("encodings", "import", strange),
        ("receipts", "verify", strange),
        ("recognize", strange),
        ("plugins", "call", f"x{argument}", argument or "x"),
    ):
        result = facesvc(*command)
        assert result.status, command
        assert_harmless(result.out + result.err)


def test_a_folder_of_strange_people(facesvc: Facesvc, tmp_path: Path) -> None:
    for name in NAMES.values():
        folder = tmp_path / "people" / name.replace("/", "_").replace("\0", "")[:60]
        folder.mkdir(parents=True)
        (folder / f"{folder.name}.jpg").write_bytes(b"no picture")
    result = facesvc("enroll", tmp_path / "people", "--collection", "e")
    assert result.status
    assert_harmless(result.out + result.err)


def looks_like_a_formula(cell: str) -> bool:
    """As the most careless of spreadsheets sees it."""
    visible = "".join(one for one in cell if not one.isspace() and unicodedata.category(one) not in {"Cc", "Cf"})
    return unicodedata.normalize("NFKC", visible)[:1] in set("=+-@")


def test_no_cell_of_a_csv_is_a_formula(facesvc: Facesvc) -> None:
    days = ("--from", "2026-03-01", "--to", "2026-03-09", "--collection", "c", "--time-zone", "UTC")
    rows = list(csv.reader(io.StringIO(facesvc("attendance", *days, "--csv").out, newline="")))
    assert len(rows) >= 1 + len(NAMES)
    assert {len(row) for row in rows} == {7}
    assert not [cell for row in rows[1:] for cell in row if looks_like_a_formula(cell)]


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_in_a_csv_can_be_had_back(name: str) -> None:
    assert attendance.safe(name) in {name, f"'{name}"}
    assert not looks_like_a_formula(attendance.safe(name))


def test_json_is_as_it_was_said(facesvc: Facesvc) -> None:
    found = json.loads(facesvc("subjects", "list", "--collection", "c", "--json").out)
    assert {one["display_name"] for one in found} >= set(TAKEN.values())
    written = facesvc("events", "--collection", "c", "--json").out
    assert {json.loads(line)["display_name"] for line in written.splitlines()} >= set(NAMES.values())
    assert_harmless(written)


def test_a_backup_with_a_strange_name_and_problem(capsys: pytest.CaptureFixture[str]) -> None:
    for name in NAMES.values():
        one = backup.Backup(
            name=name, create_time=at(0), subject_count=0, size_bytes=0, new_bytes=0, problem=f"[/{name}]"
        )
        backup._print([one], as_json=False)
        assert_harmless(capsys.readouterr().out)


def test_lines_of_the_log_on_a_terminal() -> None:
    for name in NAMES.values():
        entry = {"event": f"refused: {name}", "level": "error", "camera_id": name, "exception": f"Traceback\n{name}"}
        first, renderer = commands._written(to_terminal=True)
        assert isinstance(renderer, structlog.dev.ConsoleRenderer)
        line = renderer(None, "error", first(None, "error", dict(entry)))  # type: ignore[arg-type]  # not of a stream
        # The renderer's own colours, and no other of these sequences.
        assert_harmless(re.sub(r"\x1b\[[0-9]{1,2}m", "", str(line)).replace(" all is lost", ""))


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_calendars_have_no_lines_of_somebodys(name: str) -> None:
    pytest.importorskip("facesvc_attendance")
    from attendance_making import days
    from attendance_making import stay as booked
    from facesvc_attendance.calendars import as_ical
    from facesvc_attendance.people import Card
    from icalendar import Calendar

    found = days(booked(at(0), at(3600), zone=name[:100]))
    text = as_ical(found, {found[0].about: Card(name, name)}, at(7200) + timedelta())
    assert len(Calendar.from_ical(text).walk("VEVENT")) == 1
    assert [line for line in text.split("\r\n") if "\n" in line or "\r" in line] == []
    assert all(line[:1] == " " or re.match(r"[A-Z-]+[:;]", line) for line in text.split("\r\n") if line)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_exports_have_no_formulas(name: str) -> None:
    tables = pytest.importorskip("facesvc_attendance.tables")
    cell = tables.safe(name)
    assert not looks_like_a_formula(cell)
    assert "\n" not in cell
    assert "\r" not in cell


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_topics_and_labels(name: str) -> None:
    topics = pytest.importorskip("facesvc_mqtt.topics")
    made: Callable[[str], str] = topics.slug
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,53}", made(name))
    assert topics.label(name, "somebody").isprintable()
    nats = pytest.importorskip("facesvc_nats.messages")
    assert re.fullmatch(r"[A-Za-z0-9_-]+", nats.token(name))


def test_what_is_printed_of_anything_is_one_line() -> None:
    for name in NAMES.values():
        shown = console.printable(name)
        assert_harmless(shown)
        assert "\n" not in shown
    assert console.printable(TAKEN["emoji"]) == TAKEN["emoji"]
    with pytest.raises(InputError):
        raise InputError(console.printable(REFUSED["terminal"]))
