"""TLS, passwords and rights, against a real broker; and what the check says about each."""

import asyncio
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from facesvc_mqtt.checking import CheckedMqtt
from facesvc_mqtt.client import Client, RefusedError
from facesvc_mqtt.settings import MqttSettings
from mqtt_broker import Broker, binary, brokers, free_port, listening
from mqtt_making import ANA, settings
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from facesvc.delivery.kit import NOW, MemoryBox, delivery, seen
from facesvc.errors import ConfigError
from facesvc.events.plugin import TryLaterError

PASSWORD = "correct horse battery staple"
RIGHTS = [  # as in the README
    "topic write facesvc/#",
    "topic write homeassistant/+/facesvc/#",
    "topic read homeassistant/status",
    "topic read homeassistant/+/facesvc/+/config",
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A certificate authority, a broker's and a client's certificates, and another authority that nobody trusts."""
    folder = tmp_path_factory.mktemp("tls")
    authority, other = trustme.CA(), trustme.CA()
    paths = {name: folder / f"{name}.pem" for name in ("ca", "other", "broker", "broker_key", "client", "client_key")}
    authority.cert_pem.write_to_path(paths["ca"])
    other.cert_pem.write_to_path(paths["other"])
    for name, issued in (
        ("broker", authority.issue_cert("127.0.0.1")),
        ("client", authority.issue_cert("facesvc", common_name="facesvc")),
    ):
        issued.cert_chain_pems[0].write_to_path(paths[name])
        issued.private_key_pem.write_to_path(paths[f"{name}_key"])
        paths[f"{name}_key"].chmod(0o600)
    return paths


@pytest.fixture
async def tls_broker(files: dict[str, Path]) -> AsyncIterator[Broker]:
    lines = [f"cafile {files['ca']}", f"certfile {files['broker']}", f"keyfile {files['broker_key']}"]
    async with brokers(*lines, "require_certificate true", "use_identity_as_username true") as one:
        yield one


@pytest.fixture
def guarded() -> Iterator[Callable[..., Any]]:
    """A broker that knows one user, whose rights are the arguments."""
    tool = shutil.which("mosquitto_passwd")
    binary()
    assert tool is not None
    with tempfile.TemporaryDirectory() as folder:
        passwords, rights = Path(folder) / "passwords", Path(folder) / "rights"
        subprocess.run([tool, "-b", "-c", passwords, "facesvc", PASSWORD], check=True, capture_output=True)

        def started(*lines: str) -> Any:
            everything = "user root-of-tests\ntopic readwrite #\n"
            rights.write_text(everything + "user facesvc\n" + "\n".join(lines) + "\n")
            return brokers(f"password_file {passwords}", f"acl_file {rights}")

        yield started


def tls(port: int, files: dict[str, Path], **changes: Any) -> MqttSettings:
    values = {"ca_file": files["ca"], "certificate_file": files["client"], "key_file": files["client_key"]}
    return MqttSettings.model_validate({"host": "127.0.0.1", "port": port, **values, **changes})


async def steps(one: MqttSettings) -> list[tuple[str, bool | None, str]]:
    return [(step.name, step.ok, step.detail) async for step in CheckedMqtt(one, MemoryBox()).check()]


async def test_tls_with_a_client_certificate(tls_broker: Broker, files: dict[str, Path]) -> None:
    plugin = CheckedMqtt(tls(tls_broker.port, files), MemoryBox())
    await plugin.start()
    await plugin.handle(delivery(seen(ANA, NOW)))
    await plugin.stop()
    found = await steps(tls(tls_broker.port, files))
    assert [name for name, _, _ in found] == [
        "settings",
        "connect",
        "authenticate",
        "publish",
        "publish",
        "subscribe",
        "subscribe",
    ]
    assert all(ok for _, ok, _ in found)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ca_file": "other"}, "certificate verify failed"),
        ({"certificate_file": None, "key_file": None}, "does it want a certificate_file"),
        ({"host": "localhost"}, "certificate verify failed: Hostname mismatch"),
    ],
)
async def test_without_trust_there_is_no_connection(
    tls_broker: Broker, files: dict[str, Path], changes: dict[str, Any], words: str
) -> None:
    named = {name: files.get(value, value) if isinstance(value, str) else value for name, value in changes.items()}
    one = tls(tls_broker.port, files, **named)
    with pytest.raises(TryLaterError, match=words):
        await CheckedMqtt(one, MemoryBox()).start()
    name, ok, detail = (await steps(one))[-1]
    assert (name, ok) == ("connect", False)
    assert words in detail


async def test_tls_towards_a_port_without_is_said(files: dict[str, Path]) -> None:
    async with brokers() as plain:
        with pytest.raises(TryLaterError, match=r"cannot be reached|closed the connection"):
            await CheckedMqtt(tls(plain.port, files), MemoryBox()).start()


def test_files_that_cannot_be_used_are_named(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ca_file .*no-such"):
        tls(1, files, ca_file=tmp_path / "no-such").tls_context()
    with pytest.raises(ConfigError, match=r"certificate_file .* and its key .* cannot be used"):
        tls(1, files, key_file=files["broker_key"]).tls_context()
    loose = tmp_path / "loose.pem"
    loose.write_bytes(files["client_key"].read_bytes())
    loose.chmod(0o644)
    with pytest.raises(ConfigError, match="others may read"):
        tls(1, files, key_file=loose).tls_context()
    context = tls(1, files).tls_context()
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


async def test_a_password_is_told_and_never_shown(guarded: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_PASSWORD", PASSWORD)
    monkeypatch.setenv("MQTT_WRONG", "wrong")
    async with guarded(*RIGHTS) as broker:
        right = settings(broker.port, user="facesvc", password="env:MQTT_PASSWORD")
        assert [(name, ok) for name, ok, _ in await steps(right)][2:] == [
            ("authenticate", True),
            ("publish", True),
            ("publish", True),
            ("subscribe", True),
            ("subscribe", True),
        ]
        wrong = settings(broker.port, user="facesvc", password="env:MQTT_WRONG")
        name, ok, detail = (await steps(wrong))[-1]
        assert (name, ok) == ("authenticate", False)
        assert "not authorized" in detail
        plugin = CheckedMqtt(wrong, MemoryBox())
        with pytest.raises(RefusedError, match="not authorized"):
            await plugin.start()
        assert PASSWORD not in repr(right) + repr(plugin) + str(vars(plugin))
    name, ok, detail = (await steps(settings(broker.port, user="u", password="env:NOT_SET")))[-1]
    assert (name, ok) == ("settings", False)
    assert "NOT_SET" in detail


@pytest.mark.parametrize(
    ("rights", "step", "words"),
    [
        ([], "publish", "allow the user to write to facesvc/#"),
        (RIGHTS[:1], "publish", "allow the user to write to homeassistant/#"),
        (RIGHTS[1:], "publish", "allow the user to write to facesvc/#"),
    ],
)
async def test_a_message_that_the_broker_refuses_is_not_taken_for_delivered(
    guarded: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, rights: list[str], step: str, words: str
) -> None:
    monkeypatch.setenv("MQTT_PASSWORD", PASSWORD)
    async with guarded(*rights) as broker:
        one = settings(broker.port, user="facesvc", password="env:MQTT_PASSWORD")
        name, ok, detail = (await steps(one))[-1]
        assert (name, ok) == (step, False)
        assert words in detail
        plugin = CheckedMqtt(one, MemoryBox())
        with pytest.raises(TryLaterError, match="allow the user"):
            await started_and_told(plugin)
        await plugin.stop()


async def started_and_told(plugin: CheckedMqtt) -> None:
    """Of the two the second alone needs what belongs to Home Assistant."""
    await plugin.start()
    await plugin.handle(delivery(seen(ANA, NOW)))


async def test_the_check_leaves_nothing_and_harms_no_plugin_at_work() -> None:
    async with brokers() as broker, listening(broker.port) as ear:
        plugin = CheckedMqtt(settings(broker.port), MemoryBox())
        await plugin.start()
        assert all(ok for _, ok, _ in await steps(settings(broker.port)))
        await plugin.handle(delivery(seen(ANA, NOW)))
        assert len(await ear.events()) == 1
        await plugin.stop()
        async with listening(broker.port) as later:
            kept = [one.topic.value for one in await later.all()]
        assert not any("check" in one for one in kept)


async def test_a_subscription_that_is_refused_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(*_: object, **__: object) -> list[ReasonCode]:
        return [ReasonCode(PacketTypes.SUBACK, "Not authorized")]

    async with brokers() as broker:
        monkeypatch.setattr(Client, "subscribe", refused)  # mosquitto takes any, and then hands nothing on
        name, ok, detail = (await steps(settings(broker.port)))[-1]
        assert (name, ok) == ("subscribe", False)
        assert "allow the user to read it" in detail
        with pytest.raises(TryLaterError, match="refuses a subscription"):
            await CheckedMqtt(settings(broker.port), MemoryBox()).start()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"", "timed out"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "cannot be reached"),
        (b"\x20\x03\x00\x88\x00", "refuses the connection: server unavailable"),
        (b"\x20\xff\xff\xff\xff\xff", "cannot be reached"),
    ],
)
async def test_a_server_that_is_silent_or_talks_nonsense(said: bytes, words: str) -> None:
    over = asyncio.Event()

    async def nonsense(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await over.wait()
        writer.close()

    listening = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    plugin = CheckedMqtt(settings(listening.sockets[0].getsockname()[1], timeout_s=0.5), MemoryBox())
    with pytest.raises((TryLaterError, RefusedError), match=words):
        await plugin.start()
    if mine := [one for one in asyncio.all_tasks() if "_misc_loop" in repr(one)]:
        _, pending = await asyncio.wait(mine, timeout=10)
        assert not pending  # nothing looks after a connection that is given up
    over.set()
    listening.close()
    await listening.wait_closed()


async def test_nobody_there() -> None:
    name, ok, detail = (await steps(settings(free_port(), timeout_s=1)))[-1]
    assert (name, ok) == ("connect", False)
    assert "refused" in detail
