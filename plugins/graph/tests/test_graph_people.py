"""Who somebody is in Graph: by id, UPN or mail, looked up once."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from facesvc_graph.memory import Memory
from facesvc_graph.people import People, key_of
from facesvc_graph.scripted import Failure
from facesvc_graph.scripted_people import ScriptedUser
from graph_making import ANA, World, user_id

from facesvc.events.plugin import TryLaterError, UndeliverableError

ABOUT = ("default", "ana")


@pytest.fixture
async def people(world: World) -> AsyncIterator[People]:
    client = world.client()
    world.person()
    yield People(client, world.box, Memory(), addresses=False)
    await client.close()


def test_the_first_external_id_that_fits_counts() -> None:
    assert key_of({"mail": "m", "upn": "u", "graph_user_id": "g"}) == ("id", "g")
    assert key_of({"email": "m", "user_principal_name": " u "}) == ("upn", "u")
    assert key_of({"email": "m", "upn": "  "}) == ("mail", "m")
    assert key_of({"badge": "7"}) == ()


async def test_an_id_needs_no_request(world: World, people: People) -> None:
    known = await people.known(ABOUT, {"graph_user_id": ANA.upper()})
    assert known is not None
    assert known.user_id == ANA
    assert not world.graph.calls
    assert await people.known(ABOUT, {"graph_user_id": ANA.upper()}) is known


@pytest.mark.parametrize("ids", [{"upn": "ANA@contoso.example"}, {"mail": "ana.lima@contoso.example"}])
async def test_a_name_is_looked_up_once_and_remembered_beyond_a_restart(
    world: World, people: People, ids: dict[str, str]
) -> None:
    for _ in range(3):
        known = await people.known(ABOUT, ids)
        assert known is not None
        assert known.user_id == ANA
    client = world.client()
    after_restart = People(client, world.box, Memory(), addresses=False)
    again = await after_restart.known(ABOUT, ids)
    assert again is not None
    assert again.user_id == ANA
    assert world.graph.calls["user"] + world.graph.calls["users"] == 1
    notes = await world.box.notes.list()
    assert [note.about for note in notes] == [ABOUT]
    changed = await after_restart.known(ABOUT, {"upn": "ben@contoso.example"})  # somebody mended it
    assert changed is not None
    assert changed.user_id == user_id(2)
    await client.close()


async def test_addresses_with_every_sign_are_found(world: World, people: People) -> None:
    odd = ScriptedUser(user_id(7), "Odd", "x_y#EXT#@contoso.example", "o'neil+a&b=c%@contoso.example")
    world.graph.add(odd)
    for number, ids in enumerate(({"upn": odd.upn}, {"mail": odd.mail or ""})):
        about = ("default", f"odd-{number}")
        known = await people.known(about, ids)
        assert known is not None
        assert known.user_id == odd.id


async def test_two_users_of_one_address_are_nobody(world: World, people: People) -> None:
    world.graph.add(replace(world.graph.people[ANA], id=user_id(8), upn="other@contoso.example"))
    with pytest.raises(UndeliverableError, match=r"set external_ids\.graph_user_id"):
        await people.known(ABOUT, {"mail": "ana.lima@contoso.example"})


async def test_an_id_that_is_none_is_refused(world: World, people: People) -> None:
    with pytest.raises(UndeliverableError, match="GUID"):
        await people.known(ABOUT, {"graph_user_id": "../me"})
    assert not world.graph.calls


async def test_a_failure_is_no_proof_that_there_is_nobody(world: World, people: People) -> None:
    world.graph.fail("user", Failure(500))
    with pytest.raises(TryLaterError):
        await people.known(ABOUT, {"upn": "ana@contoso.example"})
    assert await people.known(ABOUT, {"upn": "ana@contoso.example"}) is not None


async def test_who_is_missing_is_looked_for_again_when_the_id_changes(world: World, people: People) -> None:
    assert await people.known(ABOUT, {"upn": "anna@contoso.example"}) is None
    assert await people.known(ABOUT, {"upn": "anna@contoso.example"}) is None
    assert world.graph.calls["user"] == 1
    assert await people.known(ABOUT, {"upn": "ana@contoso.example"}) is not None
