"""``[oidc]``: what a server would be open to is refused at the start, by name."""

from pathlib import Path

import pytest

from facesvc.config import load
from facesvc.errors import ConfigError

WHOLE = '[oidc]\nissuer = "https://idp.example/tenant"\naudience = "facesvc"\nroles = { admins = "admin" }\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "facesvc.toml"
    path.write_text(text)
    return path


def test_nobody_is_trusted_by_default() -> None:
    oidc = load().oidc
    assert oidc.issuer == ""
    assert not [algorithm for algorithm in oidc.algorithms if algorithm[:2] not in {"RS", "PS", "ES", "Ed"}]


def test_an_issuer_stays_as_it_is_written(tmp_path: Path) -> None:
    oidc = load(written(tmp_path, WHOLE.replace("/tenant", "/tenant/"))).oidc
    assert (oidc.issuer, oidc.audience, oidc.roles) == ("https://idp.example/tenant/", "facesvc", {"admins": "admin"})
    assert (oidc.leeway_seconds, oidc.max_age_seconds) == (30, 86_400)


@pytest.mark.parametrize(
    "issuer", ["http://localhost:8080", "http://127.0.0.1/realms/x", "http://[::1]:8080", "https://idp.example:8443"]
)
def test_addresses_that_are_trusted(tmp_path: Path, issuer: str) -> None:
    assert load(written(tmp_path, WHOLE.replace("https://idp.example/tenant", issuer))).oidc.issuer == issuer


@pytest.mark.parametrize(
    "address",
    [
        "http://idp.example",
        "http://localhost.example",
        "http://127.0.0.1.example",
        "ftp://idp.example",
        "idp.example",
        "https://",
        "https://user:password@idp.example",
        "https://idp.example?x=1",
        "https://idp.example#x",
        "https://[",
    ],
)
def test_addresses_that_are_not(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match=r"oidc\.issuer"):
        load(written(tmp_path, WHOLE.replace("https://idp.example/tenant", address)))
    with pytest.raises(ConfigError, match=r"oidc\.jwks_url"):
        load(written(tmp_path, f'{WHOLE}jwks_url = "{address}"\n'))


def test_without_an_audience_or_roles_there_is_no_issuer(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"oidc: .*audience is missing"):
        load(written(tmp_path, WHOLE.replace('audience = "facesvc"\n', "")))
    with pytest.raises(ConfigError, match=r"oidc: .*roles is empty"):
        load(written(tmp_path, WHOLE.replace('roles = { admins = "admin" }\n', "")))


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ('algorithms = ["HS256"]', "oidc.algorithms.0"),
        ('algorithms = ["RS256", "none"]', "oidc.algorithms.1"),
        ("algorithms = []", "oidc.algorithms"),
        ("leeway_seconds = 61", "oidc.leeway_seconds"),
        ("leeway_seconds = -1", "oidc.leeway_seconds"),
        ("max_age_seconds = 0", "oidc.max_age_seconds"),
        ('roles_claim = ""', "oidc.roles_claim"),
        ('name_claim = ""', "oidc.name_claim"),
        ('secret = "s"', "oidc.secret"),
    ],
)
def test_a_bad_value_is_named(tmp_path: Path, line: str, name: str) -> None:
    with pytest.raises(ConfigError, match=name.replace(".", r"\.")):
        load(written(tmp_path, f"{WHOLE}{line}\n"))


def test_a_role_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"oidc\.roles\.admins"):
        load(written(tmp_path, WHOLE.replace('"admin"', '"root"')))


def test_the_lines_of_the_roles_keep_their_order(tmp_path: Path) -> None:
    lines = [f'"{name}" = "auditor"' for name in ("z", "a", "m", "b")]
    oidc = load(written(tmp_path, WHOLE.replace("roles = { admins", f"roles = {{ {', '.join(lines)}, admins"))).oidc
    assert list(oidc.roles) == ["z", "a", "m", "b", "admins"]
