"""``PluginService``, and what plugins ask of the server."""

import asyncio
import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import grpc
from google.protobuf.json_format import Parse

from facesvc.api import audit, convert, paging
from facesvc.api.audit import actor_of
from facesvc.api.service import Lobby, Service
from facesvc.delivery.outbox import Entry, State
from facesvc.delivery.runner import Condition, Runner
from facesvc.errors import InputError
from facesvc.events.plugin import Role
from facesvc.gallery.records import check_text
from facesvc.v1 import plugins_pb2, plugins_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
_MAX_REPLAYED = 1000
_MAX_ARGUMENTS = 50
_MAX_ARGUMENT = 10_000
_MAX_NAME = 100

_CONDITIONS = {
    condition: plugins_pb2.PluginCondition.Value(f"PLUGIN_CONDITION_{condition.name}") for condition in Condition
}
_STATES = {
    plugins_pb2.DEAD_LETTER_STATE_UNSPECIFIED: State.DEAD,
    plugins_pb2.DEAD_LETTER_STATE_DEAD: State.DEAD,
    plugins_pb2.DEAD_LETTER_STATE_EXPIRED: State.EXPIRED,
    plugins_pb2.DEAD_LETTER_STATE_UNCERTAIN: State.UNCERTAIN,
}


class PluginServicer(plugins_pb2_grpc.PluginServiceServicer):
    """The plugins of the server."""

    def __init__(self, lobby: Lobby) -> None:
        self._lobby = lobby

    async def ListPlugins(  # noqa: N802 - gRPC's name
        self, request: plugins_pb2.ListPluginsRequest, context: Context
    ) -> plugins_pb2.ListPluginsResponse:
        """How they are."""
        found = await asyncio.to_thread(statuses, self._lobby.service)
        return plugins_pb2.ListPluginsResponse(plugins=found)

    async def ListDeadLetters(  # noqa: N802 - gRPC's name
        self, request: plugins_pb2.ListDeadLettersRequest, context: Context
    ) -> plugins_pb2.ListDeadLettersResponse:
        """What was set aside."""
        service = self._lobby.service
        size, key = paging.size_of(request), paging.key_after(request, (int,))
        state = _STATES.get(request.state)
        if state is None:
            raise InputError("there is no such state", field="state")
        after = int(key[0]) if key else 0
        found = await asyncio.to_thread(service.plugins.set_aside, request.plugin, state, size + 1, after)
        page = found[:size]
        return plugins_pb2.ListDeadLettersResponse(
            dead_letters=[_dead_letter(one) for one in page],
            next_page_token=paging.token_after(request, page[-1].sequence) if len(found) > size else "",
        )

    async def ReplayDeadLetters(  # noqa: N802 - gRPC's name
        self, request: plugins_pb2.ReplayDeadLettersRequest, context: Context
    ) -> plugins_pb2.ReplayDeadLettersResponse:
        """Deliver them again."""
        service, numbers = self._lobby.service, list(request.numbers)
        if len(numbers) > _MAX_REPLAYED:
            raise InputError(f"name up to {_MAX_REPLAYED} numbers, not {len(numbers)}", field="numbers")
        count = await audit.noted(
            service,
            actor_of(context),
            lambda: service.plugins.replay(request.plugin, numbers, service.now()),
            lambda count: [audit.Note("ReplayDeadLetters", detail=f"{count} events of plugin {request.plugin}")],
        )
        return plugins_pb2.ReplayDeadLettersResponse(replayed_count=count)

    async def CallPlugin(  # noqa: N802 - gRPC's name
        self, request: plugins_pb2.CallPluginRequest, context: Context
    ) -> plugins_pb2.CallPluginResponse:
        """Ask a plugin."""
        service, arguments = self._lobby.service, dict(request.arguments)
        if len(arguments) > _MAX_ARGUMENTS:
            raise InputError(f"{len(arguments)} arguments are more than {_MAX_ARGUMENTS}", field="arguments")
        for name, value in arguments.items():
            check_text(name, "arguments", _MAX_NAME)
            check_text(value, f"arguments[{name}]", _MAX_ARGUMENT)
        result = await audit.noted(
            service,
            actor_of(context),
            lambda: service.plugins.call(request.plugin, request.command, arguments),
            lambda _: [audit.Note("CallPlugin", detail=f"{request.command} of plugin {request.plugin}")],
        )
        response = plugins_pb2.CallPluginResponse()
        Parse(json.dumps(result), response.result)
        return response


def statuses(service: Service) -> list[plugins_pb2.PluginStatus]:
    """How each plugin is. Blocks."""
    return [_status(runner) for runner in service.plugins.runners]


def _status(runner: Runner) -> plugins_pb2.PluginStatus:
    manifest, standing, counts = runner.enlisted.manifest, runner.standing(), runner.outbox.counts()
    tally, latencies = standing.tally, sorted(standing.latencies_s)
    status = plugins_pb2.PluginStatus(
        name=runner.name,
        version=runner.enlisted.version,
        summary=manifest.summary,
        enriches=manifest.role is Role.ENRICHES,
        condition=_CONDITIONS[standing.condition],
        problem=convert.shortened(standing.problem),
        delivered=tally.delivered,
        failures=tally.failures,
        waiting=standing.waiting,
        dead=counts.get(State.DEAD, 0),
        expired=counts.get(State.EXPIRED, 0),
        uncertain=counts.get(State.UNCERTAIN, 0),
        missed=tally.missed,
        last_error=convert.shortened(tally.last_error),
        last_error_time=convert.timestamp(tally.last_error_time) if tally.last_error_time else None,
        commands=manifest.commands,
    )
    if latencies:
        status.median_latency.CopyFrom(convert.duration(_share(latencies, 0.5)))
        status.p99_latency.CopyFrom(convert.duration(_share(latencies, 0.99)))
    return status


def _share(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def _dead_letter(entry: Entry) -> plugins_pb2.DeadLetter:
    return plugins_pb2.DeadLetter(
        number=entry.sequence,
        event_id=entry.event_id,
        collection_id=entry.collection_id,
        subject_id=entry.subject_id,
        state=plugins_pb2.DeadLetterState.Value(f"DEAD_LETTER_STATE_{entry.state.name}"),
        attempts=entry.attempts,
        first_time=convert.timestamp(entry.first_time),
        update_time=convert.timestamp(entry.update_time),
        error=entry.error,
    )


async def forget_old(service: Service, now: datetime) -> None:
    """Upkeep: what plugins keep, and what was set aside, goes when its time is over."""
    retention = timedelta(days=service.settings.events.retention_days)
    await asyncio.to_thread(service.plugins.forget_old, now, retention)
