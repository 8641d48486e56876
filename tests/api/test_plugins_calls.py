"""What can be asked of a plugin over gRPC: its commands, their bounds, and whose fault it is when one fails."""

import asyncio
import threading
from typing import Any

import grpc
import pytest
from api.plugged import Plug, audited, plug, refused, script, settings, settled, status, until
from api.scripted_plugin import Script

from facesvc.errors import ExhaustedError
from facesvc.events.plugin import TryLaterError, UndeliverableError
from facesvc.v1 import enrollment_pb2, plugins_pb2, plugins_pb2_grpc

__all__ = ["plug", "script", "settings"]  # fixtures


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("ListDeadLetters", plugins_pb2.ListDeadLettersRequest(plugin="scripted", page_size=1001), "page_size"),
        ("ListDeadLetters", plugins_pb2.ListDeadLettersRequest(plugin="scripted", page_token="x"), "page_token"),
        ("ListDeadLetters", plugins_pb2.ListDeadLettersRequest(plugin="scripted", state=77), "state"),  # type: ignore[arg-type]  # that is the point
        ("ReplayDeadLetters", plugins_pb2.ReplayDeadLettersRequest(plugin="scripted", numbers=range(1001)), "numbers"),
        (
            "CallPlugin",
            plugins_pb2.CallPluginRequest(
                plugin="scripted", command="echo", arguments={str(number): "" for number in range(51)}
            ),
            "arguments",
        ),
        (
            "CallPlugin",
            plugins_pb2.CallPluginRequest(plugin="scripted", command="echo", arguments={"x" * 101: ""}),
            "arguments",
        ),
        (
            "CallPlugin",
            plugins_pb2.CallPluginRequest(plugin="scripted", command="echo", arguments={"x": "y" * 10_001}),
            "x has 10001 characters",
        ),
        (
            "CallPlugin",
            plugins_pb2.CallPluginRequest(plugin="scripted", command="echo", arguments={"wrong": "1"}),
            "no such door",
        ),
    ],
)
async def test_what_makes_no_sense_is_refused(plug: Plug, method: str, request_: Any, field: str) -> None:
    running = await plug()
    await settled(running)
    async with running.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await getattr(plugins_pb2_grpc.PluginServiceStub(channel), method)(request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    details = dict(caught.value.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    assert field.encode() in details
    assert audited(running, method) == []


@pytest.mark.parametrize(
    "answer",
    [None, True, 3, 0.5, "a\ntext", ["a", {"b": [None]}], {"id,name": {"deep": [1, 2]}}],
)
async def test_a_plugin_answers_with_any_json(plug: Plug, script: Script, answer: Any) -> None:
    running = await plug()
    await settled(running)
    script.answer = answer
    result = await running.client.call_plugin("scripted", "answer")
    assert value_of(result) == answer
    assert audited(running, "CallPlugin") == ["answer of plugin scripted"]


def value_of(value: Any) -> Any:
    """A ``google.protobuf.Value`` as Python has it."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {key: value_of(one) for key, one in value.struct_value.fields.items()}
    if kind == "list_value":
        return [value_of(one) for one in value.list_value.values]
    return None if kind == "null_value" else getattr(value, kind)


async def test_arguments_reach_the_plugin_as_they_are(plug: Plug) -> None:
    running = await plug()
    await settled(running)
    given = {"reason": "line one\nline two", "door": "é", "empty": ""}
    assert value_of(await running.client.call_plugin("scripted", "echo", given)) == given


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ValueError("secret words"), grpc.StatusCode.INTERNAL, "the server failed"),
        (NotImplementedError(), grpc.StatusCode.INTERNAL, "the server failed"),
        (TryLaterError("the relay is away"), grpc.StatusCode.UNAVAILABLE, "the relay is away"),
        (UndeliverableError("it has no such door"), grpc.StatusCode.FAILED_PRECONDITION, "it has no such door"),
        (ExhaustedError("too many doors"), grpc.StatusCode.RESOURCE_EXHAUSTED, "too many doors"),
    ],
)
async def test_what_a_plugin_raises_is_told_by_whose_fault_it_is(
    plug: Plug, script: Script, error: Exception, code: grpc.StatusCode, words: str
) -> None:
    running = await plug()
    await settled(running)
    script.error = error
    failed = await refused(running.client.call_plugin("scripted", "echo"))
    assert failed.code is code
    assert words in str(failed)
    assert "Traceback" not in str(failed)
    assert "secret" not in str(failed)
    assert audited(running, "CallPlugin") == ["echo of plugin scripted; it failed"]


async def test_an_answer_that_is_no_json_is_the_plugins_fault(plug: Plug, script: Script) -> None:
    running = await plug()
    await settled(running)
    for script.answer in (float("nan"), object(), {"a": {1, 2}}):
        failed = await refused(running.client.call_plugin("scripted", "answer"))
        assert failed.code is grpc.StatusCode.INTERNAL


async def test_a_command_that_it_does_not_have_is_refused_with_those_it_has(plug: Plug) -> None:
    running = await plug()
    await settled(running)
    failed = await refused(running.client.call_plugin("scripted", "explode"))
    assert failed.code is grpc.StatusCode.FAILED_PRECONDITION
    assert "it has answer, echo, hang" in str(failed)
    assert audited(running, "CallPlugin") == []


async def test_calls_that_hang_are_bounded_and_keep_nobody_else_waiting(
    plug: Plug, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facesvc.api.plugins._MAX_CALLS", 12)
    running = await plug()
    await settled(running)
    hanging = [asyncio.ensure_future(running.client.call_plugin("scripted", "hang")) for _ in range(12)]
    await until(lambda: sum(one.name == "call-scripted" for one in threading.enumerate()) == 12)
    failed = await refused(running.client.call_plugin("scripted", "hang"))
    assert failed.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await status(running)).condition == plugins_pb2.PLUGIN_CONDITION_RUNNING
    await running.client.create_subject(enrollment_pb2.Subject(subject_id="jane"))
    for one in hanging:
        one.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)
