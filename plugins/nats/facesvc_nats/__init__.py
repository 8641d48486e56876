"""Events of more than one site to NATS JetStream: a subject for each site, zone and kind, and each event once.

What the stream has acknowledged it keeps; what was not acknowledged is sent again, and where the stream had it already
it knows it by the event's id. Unlike MQTT this is a record of what happened: an event is sent however late, and says
itself until when acting on it is right.

Reading order, which is the import order: ``settings``, ``nkeys`` (to be known by a key), ``messages`` (an event as a
message), ``client`` (one connection), ``stream`` (where messages are kept),
``plugin``, ``checking`` (whether the settings work).
"""

from facesvc.events.outside import KINDS
from facesvc.events.plugin import Manifest, Role
from facesvc_nats.checking import CheckedNats
from facesvc_nats.settings import NatsSettings

PLUGIN = Manifest(
    name="nats",
    summary="Events of more than one site to NATS JetStream, each once",
    role=Role.ACTS,
    settings=NatsSettings,
    make=CheckedNats,
    kinds=frozenset(KINDS),
)

__all__ = ["PLUGIN", "NatsSettings"]
