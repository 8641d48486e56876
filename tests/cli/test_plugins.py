"""``facesvc plugins``: what is there and how it is, what was set aside, what a plugin answers."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import typer
from api.scripted_plugin import Script, Scripted, enlist, manifest_of
from cli.running import Facesvc, serving, settings_for
from rich.console import Console

from facesvc import app
from facesvc.cli import console, lazy, plugins_table
from facesvc.client import Client
from facesvc.delivery.kit import person, seen
from facesvc.delivery.roll import Installed
from facesvc.errors import ConfigError
from facesvc.events.plugin import Box, Needs, PluginSettings, Role, Step
from facesvc.v1 import enrollment_pb2, plugins_pb2

NOWHERE = "127.0.0.1:1"


@pytest.fixture(scope="module")
def script() -> Script:
    return Script()


@pytest.fixture(scope="module")
def server(pack_cache: Path, tmp_path_factory: pytest.TempPathFactory, script: Script) -> Iterator[str]:
    """The address of a server with a plugin that has delivered one event, and has three dead letters."""
    script.refused |= {"joe"}
    with pytest.MonkeyPatch.context() as patch:
        enlist(patch, manifest_of(script))
        services = []
        load = app.load_service

        def loaded(settings: Any) -> Any:
            services.append(load(settings))
            return services[-1]

        patch.setattr(app, "load_service", loaded)
        with (
            serving(settings_for(tmp_path_factory.mktemp("plugins"), pack_cache)) as address,
            Client(address) as client,
        ):
            for name in ("ann", "joe"):
                client.create_subject(enrollment_pb2.Subject(subject_id=name, display_name=name.title()))
            (service,) = services
            now = datetime.now(UTC)
            service.journal.append([seen(person(name), now) for name in ("joe", "joe", "ann", "joe")], [])
            service.plugins.notify()
            while len(list(client.list_dead_letters("scripted"))) < 3:
                pass  # each look takes its time
            yield address


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Installed]:
    """What is installed: nothing, but for what a test puts here."""
    found: list[Installed] = []
    monkeypatch.setattr("facesvc.cli.plugins.installed", lambda: found)
    return found


def bring(found: list[Installed], **changes: Any) -> None:
    """A plugin is installed."""
    manifest = manifest_of(Script(), **changes)
    found.append(Installed(manifest.name, "0.9", manifest))


class TestList:
    def test_the_servers_plugins_are_shown_with_what_they_have_done(
        self, facesvc: Facesvc, found: list[Installed]
    ) -> None:
        bring(found, name="spare", summary="Lies about.")
        found.append(Installed("torn", "3", None, "plugin torn cannot be loaded: ImportError: no module named torn"))
        result = facesvc("plugins", "list")
        assert (result.status, result.err) == (0, "")
        lines = [re.sub(r"[│┃\s]+", " ", line).strip() for line in result.out.splitlines()]
        assert any(re.fullmatch(r"scripted 1\.2\.3 running 1 0 3 dead \d+ ms", line) for line in lines)
        assert "spare 0.9 installed" in lines
        assert lines[-2:] == [
            "scripted: it is refused",
            "torn: plugin torn cannot be loaded: ImportError: no module named torn",
        ]

    @pytest.mark.parametrize("width", [80, 120])
    def test_it_fits_a_terminal(
        self, facesvc: Facesvc, found: list[Installed], monkeypatch: pytest.MonkeyPatch, width: int
    ) -> None:
        bring(found, name="attendance")
        monkeypatch.setattr(console.out, "width", width)
        table = [line for line in facesvc("plugins", "list").out.splitlines() if line[:1] in "│┃├┡┏└"]
        assert len(table) == 6  # nothing is folded
        assert max(map(len, table)) <= width

    def test_names_stay_whole_in_a_narrow_terminal(self) -> None:
        status = plugins_pb2.PluginStatus(name="attendance", version="0.1.0", dead=12, expired=345, uncertain=6)
        status.delivered = 123_456
        narrow = Console(width=80)
        with narrow.capture() as shown:
            narrow.print(plugins_table.counts([plugins_table.row_of("attendance", None, status, {})]))
        assert "attendance 0.1.0" in shown.get()

    def test_for_programs(self, facesvc: Facesvc, found: list[Installed], monkeypatch: pytest.MonkeyPatch) -> None:
        bring(found, name="spare", summary="Lies about.")
        monkeypatch.setenv("FACESVC_PLUGINS__SPARE__ENABLED", "false")
        monkeypatch.setenv("FACESVC_PLUGINS__LOST__URL", "x")
        lost, scripted, spare = facesvc("plugins", "list", "--json").json
        assert (scripted["name"], scripted["version"], scripted["state"]) == ("scripted", "1.2.3", "running")
        assert (scripted["delivered"], scripted["dead"], scripted["failures"], scripted["waiting"]) == (1, 3, 3, 0)
        assert (scripted["last_error"], scripted["commands"]["echo"]) == ("it is refused", "gives back")
        assert scripted["p99_latency_seconds"] >= 0
        assert (spare["state"], spare["summary"], spare["delivered"]) == ("switched off", "Lies about.", None)
        assert (lost["state"], lost["problem"]) == ("not at work", "it is not installed on this machine")
        assert lost.keys() == scripted.keys() == spare.keys()

    def test_without_a_server_it_is_what_is_installed_here(self, facesvc: Facesvc, found: list[Installed]) -> None:
        bring(found, name="spare", summary="Lies about.")
        result = facesvc("plugins", "list", "--server", NOWHERE)
        assert result.status == 0
        assert "the server does not answer" in result.err
        assert "Lies about." in result.out
        assert "Delivered" not in result.out

    def test_where_nothing_is_installed_it_says_how_to(self, facesvc: Facesvc, found: list[Installed]) -> None:
        result = facesvc("plugins", "list", "--server", NOWHERE)
        assert (result.status, result.out) == (0, "no plugin is installed: pip install facesvc-graph, say\n")
        assert facesvc("plugins", "list", "--server", NOWHERE, "--json").json == []


class Tried(Scripted):
    """Takes the steps that a test names."""

    def __init__(self, box: Box, steps: list[Step | Exception]) -> None:
        super().__init__(Script(), box, Role.ACTS)
        self._steps = steps

    async def check(self) -> AsyncIterator[Step]:
        for step in self._steps:
            await asyncio.sleep(0)
            if isinstance(step, Exception):
                raise step
            yield step


class Picky(PluginSettings):
    url: str


GOOD = Step(name="address", ok=True, detail="it answers")
KNOWN = Step(name="clock", ok=None, detail="2 s behind")
BAD = Step(name="login", ok=False, detail="refused: check the secret")


class TestTest:
    def put(self, found: list[Installed], *steps: Step | Exception, **changes: Any) -> None:
        bring(found, make=lambda _, box: Tried(box, list(steps)), **changes)

    def test_steps_are_told(self, facesvc: Facesvc, found: list[Installed]) -> None:
        self.put(found, GOOD, KNOWN)
        result = facesvc("plugins", "test", "scripted", "--json")
        assert (result.status, [step["ok"] for step in result.json]) == (0, [True, None])
        result = facesvc("plugins", "test", "scripted")
        assert (result.status, result.err) == (0, "")
        assert result.out.splitlines() == ["ok     address: it answers", "-      clock: 2 s behind", "scripted works"]

    def test_one_that_fails_shows_in_the_exit_status(self, facesvc: Facesvc, found: list[Installed]) -> None:
        self.put(found, GOOD, BAD)
        result = facesvc("plugins", "test", "scripted")
        assert (result.status, result.out) == (1, "ok     address: it answers\n")
        assert result.err == "FAILED login: refused: check the secret\n"
        result = facesvc("plugins", "test", "scripted", "--json")
        assert (result.status, result.json[1]) == (1, {"name": "login", "ok": False, "detail": BAD.detail})

    @pytest.mark.parametrize(
        ("error", "words"),
        [(KeyError("odd"), "KeyError: 'odd'"), (ConfigError("secret.txt is not there"), "secret.txt is not there")],
    )
    def test_what_a_plugin_did_not_foresee_is_a_step_that_failed(
        self, facesvc: Facesvc, found: list[Installed], error: Exception, words: str
    ) -> None:
        self.put(found, GOOD, error)
        result = facesvc("plugins", "test", "scripted")
        assert (result.status, result.err) == (1, f"FAILED check: {words}\n")

    def test_one_that_cannot_be_tried_has_its_settings_looked_at(
        self, facesvc: Facesvc, found: list[Installed], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bring(found, settings=Picky)
        result = facesvc("plugins", "test", "scripted")
        assert (result.status, "plugins.scripted.url: Field required" in result.err) == (2, True)
        monkeypatch.setenv("FACESVC_PLUGINS__SCRIPTED__URL", "http://127.0.0.1")
        result = facesvc("plugins", "test", "scripted")
        assert (result.status, result.out) == (0, "the settings of scripted are in order; it has nothing else to try\n")
        assert facesvc("plugins", "test", "scripted", "--json").json == []

    def test_one_that_needs_a_policy_that_is_not_there_is_told(self, facesvc: Facesvc, found: list[Installed]) -> None:
        bring(found, needs=lambda _: Needs(policy="vault"))
        result = facesvc("plugins", "test", "scripted")
        assert (result.status, "it needs the policy vault" in result.err) == (2, True)

    def test_one_that_is_not_there_or_torn_is_one_line(self, facesvc: Facesvc, found: list[Installed]) -> None:
        found.append(Installed("torn", "3", None, "plugin torn cannot be loaded: ImportError"))
        result = facesvc("plugins", "test", "scripted")
        assert (result.status, "there is no plugin 'scripted' on this machine" in result.err) == (2, True)
        result = facesvc("plugins", "test", "torn")
        assert (result.status, result.err) == (2, "facesvc: plugin torn cannot be loaded: ImportError\n")


class TestDeadLetters:
    def test_they_are_lines_in_words(self, facesvc: Facesvc) -> None:
        lines = facesvc("plugins", "dead-letters", "scripted").out.splitlines()
        assert len(lines) == 3
        for line in lines:
            assert re.fullmatch(r" +\d+  \d{4}-\d\d-\d\d .*  default/joe  1 try  it is refused", line)
        assert len(facesvc("plugins", "dead-letters", "scripted", "--limit", 2).out.splitlines()) == 2

    def test_they_are_lines_of_json_for_programs(self, facesvc: Facesvc) -> None:
        letters = facesvc("plugins", "dead-letters", "scripted", "--json").json_lines
        assert [one["number"] for one in letters] == [1, 2, 4]
        assert (letters[0]["state"], letters[0]["attempts"], letters[0]["subject_id"]) == ("dead", 1, "joe")
        assert facesvc("plugins", "dead-letters", "scripted", "--state", "expired", "--json").out == ""

    def test_where_there_are_none_it_says_so(self, facesvc: Facesvc) -> None:
        assert facesvc("plugins", "dead-letters", "scripted", "--state", "uncertain").out == "none\n"

    def test_of_a_plugin_that_is_not_at_work_there_are_none(self, facesvc: Facesvc) -> None:
        result = facesvc("plugins", "dead-letters", "nobody")
        assert (result.status, len(result.err.splitlines())) == (2, 1)
        assert facesvc("plugins", "dead-letters", "scripted", "--server", NOWHERE).status == 2


class TestReplay:
    def test_it_says_how_many(self, facesvc: Facesvc) -> None:
        assert facesvc("plugins", "replay", "scripted", 3, 999).out == "0 events are delivered again\n"
        assert facesvc("plugins", "replay", "scripted", 999, "--json").json == {"replayed": 0}
        assert facesvc("plugins", "replay", "nobody").status == 2
        # The server in this process logs what then happens.
        assert "1 event is delivered again\n" in facesvc("plugins", "replay", "scripted", 1).out


class TestCall:
    def test_arguments_go_there_and_the_answer_comes_back(self, facesvc: Facesvc) -> None:
        result = facesvc("plugins", "call", "scripted", "echo", "door=1", "why=a=b", "empty=")
        assert (result.status, result.json) == (0, {"door": "1", "why": "a=b", "empty": ""})

    def test_text_is_printed_as_it_is(self, facesvc: Facesvc, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
        script.answer = "day,name\r\n1,\x1b[31mAnn\r\n"
        assert facesvc("plugins", "call", "scripted", "answer").out == script.answer
        assert facesvc("plugins", "call", "scripted", "answer", "--json").json == script.answer
        monkeypatch.setattr(console.out, "_force_terminal", True)
        shown = facesvc("plugins", "call", "scripted", "answer").out
        assert "1,[31mAnn\n" in shown

    def test_numbers_stay_what_they_are(self, facesvc: Facesvc, script: Script) -> None:
        script.answer = {"count": 3, "share": 0.5, "nobody": None, "large": 1e300}
        answer = facesvc("plugins", "call", "scripted", "answer")
        assert answer.json == script.answer
        assert answer.out.startswith('{"count": 3, "large": 1e+300, "nobody": null, ')

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("scripted", "echo", "door"), "'door' is no argument: write KEY=VALUE"),
            (("scripted", "echo", "=1"), "'=1' is no argument"),
            (("scripted", "explode"), "it has answer, echo, hang"),
            (("scripted", "echo", "wrong=1"), "no such door"),
            (("nobody", "echo"), "nobody"),
        ],
    )
    def test_what_cannot_be_is_one_line(self, facesvc: Facesvc, arguments: tuple[str, ...], words: str) -> None:
        result = facesvc("plugins", "call", *arguments)
        assert (result.status, result.out, len(result.err.splitlines())) == (2, "", 1)
        assert words in result.err


class TestCommandsOfPlugins:
    @pytest.fixture
    def site(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A folder of distributions that is looked at before all others."""
        monkeypatch.syspath_prepend(tmp_path)
        return tmp_path

    def install(self, site: Path, **entries: str) -> None:
        info = site / "facesvc_spare-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: facesvc-spare\nVersion: 1\n")
        lines = "".join(f"{name.replace('_', '-')} = {value}\n" for name, value in entries.items())
        (info / "entry_points.txt").write_text(f"[facesvc.commands]\n{lines}")

    def run(self, *arguments: str) -> int:
        entries = entry_points(group="facesvc.commands")
        app = typer.Typer(cls=lazy.group({"keys": "keys:app"}, lambda: entries), callback=lambda: None)
        with pytest.raises(SystemExit) as left:
            console.run(app, list(arguments))
        return left.value.code if isinstance(left.value.code, int) else 0

    def test_they_are_mounted(self, site: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (site / "spare_plugin_commands.py").write_text(
            "import typer\napp = typer.Typer()\n@app.callback()\ndef all(): pass\n"
            "@app.command()\ndef greet(): print('hello')\n"
        )
        self.install(site, spare="spare_plugin_commands:app")
        assert self.run("spare", "greet") == 0
        assert capsys.readouterr().out == "hello\n"

    def test_one_that_cannot_be_loaded_is_told_and_the_rest_goes_on(
        self, site: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.install(site, spare="spare_plugin_that_is_not_there:app")
        assert self.run("keys", "--help") == 0
        assert capsys.readouterr().err == ""  # nobody has asked for it
        assert self.run("--help") == 0
        captured = capsys.readouterr()
        assert "The master key of the gallery" in captured.out
        assert "the commands of plugin spare cannot be loaded" in captured.err
        assert self.run("spare") == 2
