"""Microsoft 365 for facesvc: presence in Teams, calendar, profile and photo of whoever is there.

Reading order: ``settings`` (and the clouds), ``text``, ``auth`` (tokens), ``replies`` and ``client`` (requests,
batches, throttling), ``zones`` and ``records`` (what Graph answers), ``calendar``, ``memory`` (what is known of each
person), ``people`` (who they are there), ``presence``, ``look`` (whatever else is due), ``sessions`` and ``photos``
(options), ``facts`` (what is told), ``poller``, ``lookup``, ``checks``, ``plugin``, ``cli``. ``scripted`` is a Graph
for tests and demonstrations.
"""

from types import MappingProxyType

from facesvc.events.plugin import Manifest, Role
from facesvc.events.records import ArrivedEvent, LeftEvent, SeenEvent
from facesvc_graph.plugin import GraphPlugin
from facesvc_graph.settings import GraphSettings

PLUGIN = Manifest(
    name="graph",
    summary="Microsoft 365: presence in Teams, calendar, profile and photo of whoever is there",
    role=Role.ENRICHES,
    settings=GraphSettings,
    make=GraphPlugin,
    kinds=frozenset({ArrivedEvent, SeenEvent, LeftEvent}),
    commands=MappingProxyType(
        {
            "lookup": "What Microsoft 365 says of a user: user=OBJECT_ID_OR_ADDRESS",
            "status": "Rounds, people in memory, requests, and what went wrong last",
            "enrol-photo": "Enrol the profile photo of somebody who gave their consent: collection_id=ID subject_id=ID",
        }
    ),
)

__all__ = ["PLUGIN", "GraphPlugin", "GraphSettings"]
