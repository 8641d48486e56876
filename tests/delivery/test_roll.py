"""Which plugins are installed and wanted, and what is said of those that cannot be used."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from delivery.recorder import World, manifest_of
from pydantic import field_validator

from facesvc.delivery.pace import Pace
from facesvc.delivery.roll import Enlisted, Installed, enlist, enlist_one, installed
from facesvc.errors import ConfigError
from facesvc.events.plugin import Needs, PluginSettings
from facesvc.events.secrets import Secret

GOOD = """
from facesvc.events.plugin import Manifest, Needs, PluginSettings, Role
from facesvc.events.records import SeenEvent

class Settings(PluginSettings):
    policy: str = ""

PLUGIN = Manifest(
    name="{name}", summary="Says hello.", role=Role.ACTS, settings=Settings, make=lambda settings, box: None,
    kinds=frozenset({{SeenEvent}}), needs=lambda settings: Needs(policy=settings.policy), api_version={version},
)
"""
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a distribution onto the path: a module, and the entry point that names it."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def put(name: str, source: str = "", *, entry: str = "", module: str = "", version: int = 1) -> None:
        module = module or f"facesvc_{name.replace('-', '_')}"
        (tmp_path / f"{module}.py").write_text(source or GOOD.format(name=name, version=version))
        folder = tmp_path / f"{module}-1.2.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: facesvc-{name}\nVersion: 1.2\n")
        (folder / "entry_points.txt").write_text(f"[facesvc.plugins]\n{entry or name} = {module}:PLUGIN\n")
        monkeypatch.delitem(sys.modules, module, raising=False)

    return put


def found(name: str) -> Installed:
    return next(one for one in installed() if one.name == name)


def test_what_is_installed_is_found(install: Install) -> None:
    install("roll-one")
    one = found("roll-one")
    assert (one.version, one.problem) == ("1.2", "")
    assert one.manifest is not None
    assert one.manifest.name == "roll-one"
    names = [one.name for one in installed()]
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import there_is_no_such_module", "cannot be loaded: ModuleNotFoundError"),
        ("raise SystemExit(3)", "cannot be loaded: SystemExit"),
        ("syntax error", "cannot be loaded: SyntaxError"),
        ("", "AttributeError"),
        ("PLUGIN = 3", "is no Manifest of that name"),
        (GOOD.format(name="Roll Two", version=1), "is no Manifest of that name"),
        (GOOD.format(name="other", version=1), "is no Manifest of that name"),
        (GOOD.format(name="roll-two", version=2), "made for version 2 of the plugin interface, this facesvc has 1"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_reason_and_stops_only_who_wants_it(
    install: Install, source: str, words: str
) -> None:
    install("roll-two", source or "# nothing")
    one = found("roll-two")
    assert one.manifest is None
    assert words in one.problem
    assert "roll-two" in one.problem
    assert enlist({}, []) == []
    with pytest.raises(ConfigError, match="roll-two"):
        enlist({"roll-two": {}}, [])


def test_a_plugin_that_is_not_there(install: Install) -> None:
    install("roll-one")
    with pytest.raises(ConfigError, match=r"plugins\.hello: there is no such plugin: install facesvc-hello"):
        enlist({"hello": {}, "roll-one": {}}, [])


def test_one_that_is_switched_off_is_not_even_looked_at(install: Install) -> None:
    install("roll-one")
    tables: dict[str, dict[str, Any]] = {"hello": {"enabled": False}, "other": {"enabled": "FALSE"}}
    assert enlist(tables, []) == []
    [one] = enlist({**tables, "roll-one": {"enabled": "true"}}, [])
    assert (one.manifest.name, one.version) == ("roll-one", "1.2")
    with pytest.raises(ConfigError, match=r"plugins\.hello\.enabled: 'maybe' is neither true nor false"):
        enlist({"hello": {"enabled": "maybe"}}, [])


def test_a_policy_that_the_settings_do_not_have(install: Install) -> None:
    install("roll-one")
    [one] = enlist({"roll-one": {"policy": "access"}}, ["presence", "access"])
    assert one.wants.needs == Needs(policy="access")
    with pytest.raises(ConfigError, match="it needs the policy access, which the settings do not have"):
        enlist({"roll-one": {"policy": "access"}}, ["presence"])


def test_a_manifest_that_cannot_say_what_it_needs() -> None:
    def needs(_: PluginSettings) -> Needs:
        raise KeyError("hunter2")

    with pytest.raises(ConfigError, match="plugin recorder cannot say what it needs by its settings: KeyError"):
        enlist_one(manifest_of(World(), needs=needs), {})


class SecretSettings(PluginSettings):
    secret: Secret = ""
    port: int = 1
    hosts: Mapping[str, int] = {}

    @field_validator("port")
    @classmethod
    def odd(cls, value: int) -> int:
        if value == 2:
            raise RuntimeError("hunter2")
        return value


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"secret": "hunter2"}, "plugins.recorder.secret"),
        ({"port": "hunter2"}, "plugins.recorder.port: Input should be a valid integer"),
        ({"port": 2}, "plugins.recorder: RuntimeError"),
        ({"password": "hunter2"}, "plugins.recorder.password: Extra inputs are not permitted"),
        ({"hosts": {"a": "hunter2"}}, "plugins.recorder.hosts.a"),
        ({"delivery": {"attempts": "hunter2"}}, "plugins.recorder.delivery.attempts"),
        ({"delivery": "hunter2"}, "plugins.recorder.delivery"),
        ({"delivery": {"concurrency": 65}}, "less than or equal to 64"),
    ],
)
def test_settings_that_cannot_be_used_are_named_and_never_printed(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        enlist_one(manifest_of(World(), settings=SecretSettings), table)
    assert words in refused.value.message
    error: BaseException | None = refused.value
    while error is not None:  # as a traceback would show it
        assert "hunter2" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        enlist_one(manifest_of(World(), settings=SecretSettings), {"port": "x", "other": 1})
    assert "plugins.recorder.port" in refused.value.message
    assert "plugins.recorder.other" in refused.value.message


def test_how_it_is_treated() -> None:
    def one(**delivery: Any) -> Enlisted:
        return enlist_one(manifest_of(World()), {"greeting": "hi", "delivery": delivery})

    assert one().pace == Pace()
    pace = one(timeout_seconds=1, concurrency="2", attempts=3, give_up_hours=0.5).pace
    assert (pace.timeout_s, pace.concurrency, pace.attempts, pace.give_up_after.total_seconds()) == (1, 2, 3, 1800)
    assert one().settings.model_dump() == {"greeting": "hi", "policy": ""}
