"""Events to an MQTT 5 broker as they happen, and to Home Assistant who is present.

An event is never retained, has an expiry, and is sent once more only if the broker did not acknowledge it: neither a
broker nor a Home Assistant that restarts sees an old one again, and opens no door by it. What the broker keeps is that
this box is there (``status``), and which entities Home Assistant is to have. Who is present is said anew at every
connect, and whenever Home Assistant says that it is back.

Reading order, which is the import order: ``settings``, ``topics`` (ids as parts of topics), ``discovery`` (what Home
Assistant is told to have), ``client`` (one connection), ``house`` (what Home
Assistant has, and in which state that is), ``plugin``, ``checking`` (whether the settings work).
"""

from datetime import timedelta

from facesvc.events.outside import KINDS
from facesvc.events.plugin import Manifest, Role
from facesvc_mqtt.checking import CheckedMqtt
from facesvc_mqtt.settings import MqttSettings

PLUGIN = Manifest(
    name="mqtt",
    summary="Events to an MQTT 5 broker, presence to Home Assistant",
    role=Role.ACTS,
    settings=MqttSettings,
    make=CheckedMqtt,
    kinds=frozenset(KINDS),
    lifetime=timedelta(minutes=5),  # whoever listens to a broker takes a message for what happens now
    heeds_expiry=True,
)

__all__ = ["PLUGIN", "MqttSettings"]
