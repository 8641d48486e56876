"""The same client against what others wrote: an identity provider, and a server made of an OpenAPI document."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import trustme
from facesvc_graph import GraphPlugin, calendar
from facesvc_graph.auth import Tokens, roles_of
from facesvc_graph.client import Client
from facesvc_graph.look import photo_part
from facesvc_graph.memory import Known
from facesvc_graph.people import look_up, profile_part
from facesvc_graph.presence import presences_part
from facesvc_graph.replies import ForbiddenError, Part, Workload
from facesvc_graph.sessions import Sessions
from facesvc_graph.settings import GraphSettings
from graph_counterparts import identity, prism
from graph_making import ANA, write_certificates

from facesvc.delivery import kit
from facesvc.delivery.kit import MemoryBox
from facesvc.events.plugin import TryLaterError, UndeliverableError

ROLES = ["Presence.Read.All", "Calendars.Read"]
CLIENT_ID = "11111111-2222-3333-4444-555555555555"


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The settings that name the identity provider."""
    folder = tmp_path_factory.mktemp("identity")
    certificate, ca_file = write_certificates(folder)
    secret = folder / "secret"
    secret.touch(0o600)
    secret.write_text("anything")
    with identity(certificate, ROLES) as port:
        yield {
            "tenant_id": "contoso.example",
            "client_id": CLIENT_ID,
            "client_secret": f"file:{secret}",
            "authority": f"https://127.0.0.1:{port}/contoso.example",
            "ca_file": str(ca_file),
        }


@pytest.fixture(scope="module")
def graph(provider: dict[str, str]) -> Iterator[dict[str, str]]:
    """The settings that name prism, too."""
    with prism() as port:
        yield {**provider, "base_url": f"http://127.0.0.1:{port}"}


@pytest.fixture
async def client(graph: dict[str, str]) -> AsyncIterator[Client]:
    one = Client(GraphSettings.model_validate(graph), lambda: kit.NOW, chance=lambda: 0.5)
    yield one
    await one.close()


async def test_msal_takes_tokens_from_an_identity_provider(provider: dict[str, str], tmp_path: Path) -> None:
    leaf = trustme.CA().issue_cert("app.example", key_type=trustme.KeyType.RSA)
    path = tmp_path / "app.pem"
    path.touch(0o600)
    path.write_bytes(leaf.private_key_pem.bytes() + leaf.cert_chain_pems[0].bytes())
    by_certificate = {**provider, "client_secret": "", "certificate_file": path}
    for given in (provider, by_certificate):
        tokens = Tokens(GraphSettings.model_validate(given))
        token = await tokens.token()
        assert roles_of(token) == set(ROLES)
        assert await tokens.token() == token
        assert await tokens.renew(token) != ""
        await tokens.close()


async def test_every_request_is_one_that_the_document_allows(client: Client) -> None:
    parts = [
        presences_part([ANA]),
        profile_part(ANA),
        photo_part(ANA, "96x96"),
        calendar.view(ANA, kit.NOW),
        Part("GET", "/users?$select=id&$top=1", Workload.DIRECTORY, ""),
    ]
    for part in parts:
        [reply] = await client.send([part])
        assert reply.error is None, part.path
    [presence] = [(await client.send([presences_part([ANA])]))[0].value()["value"]]
    assert presence[0]["activity"] == "InACall"
    slots = calendar.view_of((await client.send([calendar.view(ANA, kit.NOW)]))[0]).slots
    assert [slot.subject for slot in slots] == ["Design review"]


async def test_a_schedule_and_a_session_are_as_the_document_says(client: Client) -> None:
    # What has a name in its address goes in a batch, whose parts prism does not look at; here it goes alone.
    part = replace(
        calendar._schedule_part("ana.lima@contoso.example", ["ana.lima@contoso.example"], kit.NOW), named=False
    )
    [reply] = await client.send([part])
    assert reply.error is None
    known = Known(("default", "ana"), (), ANA)
    sessions = Sessions(client, CLIENT_ID, 60, lambda: kit.NOW)
    assert await sessions.renew([known]) == []
    await sessions.clear(known)


async def test_what_the_document_forbids_is_refused_and_not_repeated(client: Client) -> None:
    for part in (
        presences_part([]),
        presences_part([ANA] * 2),
        presences_part([f"{ANA[:-3]}{number}" for number in range(100, 751)]),
        photo_part(ANA, "97x97"),
        Part("GET", f"/users/{ANA}/calendarView", Workload.OUTLOOK, ""),
    ):
        [reply] = await client.send([part])
        assert isinstance(reply.error, UndeliverableError), part


async def test_prism_wants_the_bearer_and_throttles_when_asked_to(client: Client, graph: dict[str, str]) -> None:
    async with httpx.AsyncClient() as bare:
        answer = await bare.post(f"{graph['base_url']}/v1.0/communications/getPresencesByUserId", json={"ids": [ANA]})
    assert answer.status_code == 401
    asked = presences_part([ANA])
    forbidden = Part("POST", asked.path, asked.workload, asked.permission, body=asked.body, prefer="code=403")
    [reply] = await client.send([forbidden])
    assert isinstance(reply.error, ForbiddenError)
    assert "Presence.Read.All" in reply.error.message
    throttled = Part("POST", asked.path, asked.workload, asked.permission, body=asked.body, prefer="code=429")
    [reply] = await client.send([throttled])
    assert isinstance(reply.error, TryLaterError)
    assert reply.error.after == timedelta(seconds=13)
    [held] = await client.send([asked])
    assert isinstance(held.error, TryLaterError)


async def test_an_arrival_is_told_from_end_to_end(graph: dict[str, str]) -> None:
    box = MemoryBox(name="graph")
    plugin = GraphPlugin(GraphSettings.model_validate(graph), box)
    await plugin.start()
    ana = kit.person(external_ids={"graph_user_id": ANA})
    facts = await plugin.handle(kit.delivery(kit.arrived(ana, box.now())))
    assert facts is not None
    assert facts.summary == "Busy · in a call · in 'Design review' until 15:00"
    assert facts.values["name"] == "Ana Lima"
    assert facts.values["work_location"] == "office"
    # A name is looked up in a batch, whose answer here is one of another order.
    profile = await look_up(plugin._running, ("upn", "ana@contoso.example"))
    assert profile.id == ANA
    await plugin.stop()
