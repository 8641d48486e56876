"""Settings are validated once, by name; the environment wins over the file."""

from pathlib import Path

import pytest

from facesvc.config import Settings, load
from facesvc.errors import ConfigError


def written(folder: Path, text: str) -> Path:
    path = folder / "facesvc.toml"
    path.write_text(text)
    return path


def test_the_defaults_are_two_policies_and_loopback() -> None:
    settings = load()
    assert settings.server.listen.startswith("127.0.0.1:")
    assert set(settings.policies) == {"presence", "access"}
    assert settings.policies["access"].liveness_required
    assert settings.policies["access"].false_match_rate <= 1e-5
    assert settings.models.providers == "auto"
    assert settings.models.mode == "auto"


def test_the_defaults_keep_what_a_data_protection_officer_would_keep() -> None:
    settings = load()
    assert (settings.events.retention_days, settings.consent.grace_days) == (30, 30)
    assert settings.audit.retention_days == 3 * 365
    assert not settings.enrollment.keep_crops


def test_the_example_shows_the_defaults() -> None:
    example = load(Path(__file__).resolve().parent.parent / "deploy" / "facesvc.toml")
    assert example == load()


def test_the_file_overrides_the_defaults_and_the_environment_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, "[server]\nworkers = 3\n[limits]\nmax_faces = 5\n")
    monkeypatch.setenv("FACESVC_LIMITS__MAX_FACES", "7")
    settings = load(path)
    assert (settings.server.workers, settings.limits.max_faces) == (3, 7)


def test_a_policy_of_the_file_keeps_what_it_does_not_say(tmp_path: Path) -> None:
    path = written(tmp_path, "[policies.access]\nfalse_match_rate = 1e-6\n[policies.lobby]\nmargin = 0.02\n")
    policies = load(path).policies
    assert policies["access"].false_match_rate == 1e-6
    assert policies["access"].liveness_required
    assert policies["lobby"].margin == 0.02
    assert "presence" in policies


@pytest.mark.parametrize(
    ("text", "providers"),
    [
        ("auto", "auto"),
        ('["CUDAExecutionProvider", "CPUExecutionProvider"]', ("CUDAExecutionProvider", "CPUExecutionProvider")),
    ],
)
def test_providers_are_auto_or_a_list_also_in_the_environment(
    text: str, providers: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACESVC_MODELS__PROVIDERS", text)
    assert load().models.providers == providers


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("[server]\nworkers = -1\n", "server.workers"),
        ("[server]\nlisten = '127.0.0.1:99999'\n", "server.listen"),
        ("[server]\nlisten = 'nonsense'\n", "server.listen"),
        ("[limits]\nmax_faces = 'many'\n", "limits.max_faces"),
        ("[limits]\nmax_fases = 3\n", "limits.max_fases"),
        ("[policies.presence]\nfalse_match_rate = 0\n", "policies.presence.false_match_rate"),
        ("[models]\nproviders = 'CUDA'\n", "models.providers"),
        ("[models]\nproviders = []\n", "models.providers"),
        ("[models]\nmode = 'fast'\n", "models.mode"),
        ("[events]\npath = 'events.db'\n", "events.path"),
        ("[events]\nretention_days = 0\n", "events.retention_days"),
        ("[audit]\nretention_days = 0\n", "audit.retention_days"),
        ("[consent]\ngrace_days = -1\n", "consent.grace_days"),
        ("policies = 3\n", "policies"),
        ("nonsense = 1\n", "nonsense"),
    ],
)
def test_a_bad_value_is_named(tmp_path: Path, text: str, name: str) -> None:
    with pytest.raises(ConfigError, match=name.replace(".", r"\.")):
        load(written(tmp_path, text))


@pytest.mark.parametrize("policy", ["presence", "access", "lobby"])
def test_more_matches_than_frames_are_refused_by_name(policy: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"policies\.{policy}: .*matches may not exceed frames: of 5 views 6 can"):
        load(written(tmp_path, f"[policies.{policy}]\nmatches = 6\n"))
    allowed = load(written(tmp_path, f"[policies.{policy}]\nmatches = 6\nframes = 6\n")).policies[policy]
    assert (allowed.matches, allowed.frames) == (6, 6)


def test_a_file_that_is_missing_or_no_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent"):
        load(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="not TOML"):
        load(written(tmp_path, "[server"))


def test_settings_are_frozen() -> None:
    settings = load()
    with pytest.raises(ValueError, match="frozen"):
        settings.server = Settings().server
