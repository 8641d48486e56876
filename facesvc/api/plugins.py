"""``PluginService``, and what plugins ask of the server."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import grpc
from google.protobuf.json_format import Parse, ParseError

from facesvc.api import audit, convert, paging
from facesvc.api.audit import actor_of
from facesvc.api.service import Lobby, Service
from facesvc.delivery.outbox import Entry, State
from facesvc.delivery.runner import Condition, Runner
from facesvc.errors import (
    DependencyError,
    ExhaustedError,
    FacesvcError,
    InputError,
    PreconditionError,
    UnavailableError,
)
from facesvc.events.plugin import Role, TryLaterError, UndeliverableError
from facesvc.gallery.records import check_text
from facesvc.v1 import plugins_pb2, plugins_pb2_grpc

R = TypeVar("R")

Context = grpc.aio.ServicerContext[Any, Any]
_MAX_REPLAYED = 1000
_MAX_ARGUMENTS = 50
_MAX_ARGUMENT = 10_000
_MAX_NAME = 100
_MAX_CALLS = 8  # of one plugin at a time
_PLUGIN_FAILED = "PLUGIN_FAILED"

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
        self._calls: Counter[str] = Counter()

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
            lambda count: [_replayed(request.plugin, count)] if count else [],
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
            if len(value) > _MAX_ARGUMENT:
                message = f"argument {name} has {len(value)} characters; {_MAX_ARGUMENT} is the most"
                raise InputError(message, field=f"arguments[{name}]")
        name, loop = service.plugins.runner(request.plugin).name, asyncio.get_running_loop()
        if self._calls[name] >= _MAX_CALLS:
            raise ExhaustedError(f"{self._calls[name]} calls of plugin {name} are under way: come again")
        self._calls[name] += 1
        future = _apart(partial(_ask, service, name, request.command, arguments, actor_of(context)), f"call-{name}")
        # The place belongs to the thread: a caller who leaves does not free it before the plugin has answered.
        future.add_done_callback(lambda _: self._ended(name, loop))
        return await asyncio.wrap_future(future)

    def _ended(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        with suppress(RuntimeError):  # the server has ended meanwhile
            loop.call_soon_threadsafe(self._calls.subtract, [name])


def _replayed(plugin: str, count: int) -> audit.Note:
    return audit.Note("ReplayDeadLetters", detail=f"{count} events of plugin {plugin}")


def _apart(work: Callable[[], R], name: str) -> Future[R]:
    """The result of ``work`` in a thread that nobody waits for at the end of the server: a plugin may block it."""
    future: Future[R] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where the result is waited for
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


def _ask(
    service: Service, plugin: str, command: str, arguments: dict[str, str], actor: str
) -> plugins_pb2.CallPluginResponse:
    """What a plugin answers; written into the audit log too where nobody knows whether it did something. Blocks."""
    note = partial(service.audit.note, "CallPlugin", "", "", actor=actor)
    detail = f"{command} of plugin {plugin}"
    try:
        result = service.plugins.call(plugin, command, arguments)
    except (InputError, PreconditionError):
        raise
    except Exception as error:
        note(f"{detail}; it failed")
        raise _told(error, plugin) from error
    note(detail)
    response = plugins_pb2.CallPluginResponse()
    try:
        Parse(json.dumps(result, allow_nan=False), response.result)
    except (TypeError, ValueError, ParseError) as error:
        raise RuntimeError(f"plugin {plugin} answers {command} with something that is no JSON") from error
    return response


def _told(error: Exception, plugin: str) -> Exception:
    """An error of a plugin as one of ours: what the plugin says of the other side is for the caller."""
    if isinstance(error, TryLaterError):
        return UnavailableError(error.message)
    if isinstance(error, UndeliverableError):
        return PreconditionError(error.message)
    ours = isinstance(error, FacesvcError) and error.reason != _PLUGIN_FAILED
    return error if ours else RuntimeError(f"plugin {plugin} failed: its log says more")


def statuses(service: Service) -> list[plugins_pb2.PluginStatus]:
    """How each plugin is; while the database is away without what is set aside in it. Blocks."""
    return [_status(runner) for runner in service.plugins.runners]


def _status(runner: Runner) -> plugins_pb2.PluginStatus:
    manifest, standing = runner.enlisted.manifest, runner.standing()
    tally, latencies = standing.tally, sorted(standing.latencies_s)
    counts, away = _set_aside(runner)
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
        last_error=convert.shortened(away or tally.last_error),
        last_error_time=convert.timestamp(tally.last_error_time) if tally.last_error_time else None,
        commands=manifest.commands,
    )
    if latencies:
        status.median_latency.CopyFrom(convert.duration(_share(latencies, 0.5)))
        status.p99_latency.CopyFrom(convert.duration(_share(latencies, 0.99)))
    return status


def _set_aside(runner: Runner) -> tuple[dict[State, int], str]:
    """How many events are in each state; and why that is not known."""
    try:
        return runner.outbox.counts(), ""
    except DependencyError:
        return {}, "the database does not answer: what is set aside in it is not counted"


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
