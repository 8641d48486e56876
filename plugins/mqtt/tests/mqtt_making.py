"""Who and what the tests of MQTT are about."""

from collections.abc import Awaitable, Callable
from typing import Any

from facesvc_mqtt.checking import CheckedMqtt
from facesvc_mqtt.settings import MqttSettings

from facesvc.delivery.kit import person

ANA = person("ana", display_name="Ana Lima", metadata={"mqtt": "true"})
Make = Callable[..., Awaitable[CheckedMqtt]]


def settings(port: int, **changes: Any) -> MqttSettings:
    """Without TLS."""
    pauses = {"reconnect_min_s": 0.05, "reconnect_max_s": changes.get("reconnect_min_s", 0.2)}
    return MqttSettings.model_validate({"host": "127.0.0.1", "port": port, "tls": False, **pauses, **changes})
