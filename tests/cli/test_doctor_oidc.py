"""``facesvc doctor`` on the identity provider: one that answers, and several that do not."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio
from security.provider import AUDIENCE, DISCOVERY, KEYS, Provider, answer, providing, public

from facesvc.cli.doctor import CHECKS
from facesvc.cli.doctor_oidc import identity_provider
from facesvc.cli.findings import Finding, Level
from facesvc.config import OidcSettings, Settings


@pytest_asyncio.fixture
async def provider(tmp_path: Path) -> AsyncIterator[Provider]:
    async with providing(tmp_path) as one:
        yield one


async def looked(provider: Provider, **changes: Any) -> Finding:
    roles: Any = {"admins": "admin"}
    values = {"issuer": provider.issuer, "audience": AUDIENCE, "ca_file": provider.ca_file, "roles": roles, **changes}
    settings = Settings().model_copy(update={"oidc": OidcSettings(**values)})
    return await asyncio.to_thread(identity_provider, settings)


def test_none_is_well() -> None:
    assert identity_provider(Settings()).level is Level.OK
    assert CHECKS["identity provider"] is identity_provider


async def test_one_that_answers(provider: Provider) -> None:
    found = f"{provider.issuer} publishes 3 keys, for ES256, EdDSA, PS256, RS256"
    assert await looked(provider) == Finding(Level.OK, found)


async def test_others(provider: Provider, tmp_path: Path) -> None:
    finding = await looked(provider, issuer=provider.issuer + "/")
    assert (finding.level, "is of the issuer" in finding.found) == (Level.ERROR, True)
    finding = await looked(provider, ca_file=None)
    assert (finding.level, "CERTIFICATE_VERIFY_FAILED" in finding.found) == (Level.ERROR, True)
    assert "oidc.ca_file" in finding.advice
    finding = await looked(provider, ca_file=tmp_path / "absent.pem")
    assert (finding.level, "absent.pem cannot be used" in finding.found) == (Level.ERROR, True)
    provider.keys = [public("rsa", use="enc")]
    finding = await looked(provider)
    assert (finding.level, "has no key" in finding.found) == (Level.ERROR, True)
    for path in (KEYS, DISCOVERY):
        provider.answers[path] = answer(b"", 404)
        finding = await looked(provider)
        assert (finding.level, f"{path} answers with the status 404" in finding.found) == (Level.ERROR, True)
