"""Commands without a server, and the steps of the check."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from facesvc_graph.checks import steps
from facesvc_graph.cli import app
from facesvc_graph.scripted import Failure
from graph_making import ANA, BEN, World
from typer.testing import CliRunner

from facesvc.errors import ConfigError
from facesvc.events.plugin import Step


async def run(world: World, *arguments: str, plugins: dict | None = None, **changes: object) -> Any:
    given = SimpleNamespace(plugins={"graph": world.raw(**changes)} if plugins is None else plugins)
    return await asyncio.to_thread(CliRunner().invoke, app, arguments, obj=given)


async def check(world: World, user: str = "", **changes: object) -> list[Step]:
    return [step async for step in steps(world.settings(**changes), world.box.now, user)]


async def test_a_check_tells_every_step(world: World) -> None:
    result = await run(world, "check", "--json", set_presence=True)
    assert result.exit_code == 0
    told = json.loads(result.output)
    assert told["ok"] is True
    assert {one["name"]: one["ok"] for one in told["steps"]} == {
        "settings": True,
        "token": True,
        "permission: profile": True,
        "permission: presence": True,
        "permission: calendar": True,
        "permission: set presence": True,
        "user": True,
        "user: presence": True,
        "user: calendar": True,
        "user: photo": True,
    }


async def test_a_check_prints_a_table(world: World) -> None:
    world.graph.people[BEN].mailbox = False
    result = await run(world, "check", "--user", "ben@contoso.example")
    assert result.exit_code == 0
    assert "permission: calendar" in result.output
    assert "MailboxNotEnabled" in result.output.replace("\n", "")  # which is only to know


async def test_missing_permissions_are_named_all_at_once(world: World) -> None:
    world.graph.roles = frozenset({"User.Read.All"})
    found = await check(world)
    assert [step.ok for step in found] == [True, True, True, False]
    assert found[-1].detail.startswith("Presence.Read.All, Calendars.Read missing: grant it in Entra")
    result = await run(world, "check")
    assert result.exit_code == 1
    assert "failed" in result.output


async def test_a_check_ends_with_the_first_step_that_fails(world: World) -> None:
    (world.folder / "secret2").write_text("x")
    (world.folder / "secret2").chmod(0o644)
    assert [step.name for step in await check(world, client_secret_file=str(world.folder / "secret2"))] == ["settings"]
    world.graph.outage = True
    [_, token] = await check(world)
    assert token.ok is False
    assert "cannot be reached" in token.detail
    world.graph.mend()
    assert (await check(world, "nobody@contoso.example"))[-1].detail.startswith("Microsoft Graph knows nobody")
    world.graph.fail("calendarView", Failure(403, code="ErrorAccessDenied"))
    last = (await check(world))[-1]
    assert (last.name, last.ok) == ("user: calendar", False)
    world.graph.people.clear()
    assert "no users" in (await check(world))[-1].detail


async def test_a_token_that_does_not_say_its_permissions_is_no_failure(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facesvc_graph.checks.roles_of", lambda token: None)
    assert [step.ok for step in await check(world)] == [True, True, None, True, True, True, True]


async def test_a_cloud_without_presence_needs_no_permission_for_it(world: World) -> None:
    world.graph.roles = frozenset({"User.Read.All", "Calendars.ReadBasic"})
    found = await check(world, cloud="china", calendar="free_busy", photos="off")
    assert [step.name for step in found if step.ok is None] == ["presence"]
    assert all(step.ok is not False for step in found)


@pytest.mark.parametrize("subject", [ANA, "ana@contoso.example", "ana.lima@contoso.example"])
async def test_a_user_is_looked_up_by_id_upn_or_mail(world: World, subject: str) -> None:
    result = await run(world, "lookup", subject, "--json")
    assert result.exit_code == 0
    told = json.loads(result.output)
    assert told["id"] == ANA
    assert told["summary"] == "Available"
    assert told["values"]["name"] == "Ana Lima"
    assert told["problems"] == {}
    assert set(told) == {"id", "user_principal_name", "mail", "summary", "values", "fetch_time", "problems"}


async def test_a_lookup_prints_a_table(world: World) -> None:
    result = await run(world, "lookup", ANA)
    assert result.exit_code == 0
    assert "Ana Lima" in result.output
    assert "bytes" in result.output


async def test_a_lookup_fails_where_there_is_nobody_or_something_is_missing(world: World) -> None:
    result = await run(world, "lookup", "nobody@contoso.example", "--json")
    assert result.exit_code == 1
    assert "error" in json.loads(result.output)
    world.graph.people[BEN].mailbox = False
    result = await run(world, "lookup", BEN)  # who has neither photo nor mailbox, which is an answer
    assert "MailboxNotEnabled" in result.output.replace("\n", "")
    assert result.exit_code == 0
    world.graph.roles -= {"Calendars.Read"}
    result = await run(world, "lookup", ANA)
    assert result.exit_code == 1
    assert "Calendars.Read" in result.output


async def test_settings_that_cannot_be_used_are_named_without_their_values(world: World) -> None:
    for plugins, told in (({}, "no [plugins.graph]"), ({"graph": {"client_secret": "hunter2"}}, "tenant_id")):
        result = await run(world, "check", plugins=plugins)
        assert isinstance(result.exception, ConfigError)  # facesvc makes it one line and status 2
        assert told in str(result.exception)
        assert "hunter2" not in str(result.exception)
