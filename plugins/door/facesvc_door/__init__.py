"""Access control: a door opens for somebody whom the policy ``access`` has just recognised and who may pass it now.

It fails closed. Any doubt, error or timeout is no pulse; a relay that was switched on is switched off; an event or a
decision that was seen opens nothing a second time, also after a restart. Every opening and every refusal is in the
audit log with its reason, without names.

Reading order, which is the import order: ``drivers`` (relays: HTTP, Modbus TCP, GPIO, OSDP, log), ``schedule`` (hours
of a week), ``settings``, ``rules`` (may this person pass this door now), ``replay`` (nothing twice), ``gate`` (one
relay, on for a while), ``alarms`` (doors held open or forced), ``lockdown``, ``passing`` (from an event to an open
door), ``arguments`` and ``commands`` (what can be asked), ``plugin`` (all doors together).
"""

from datetime import timedelta

from facesvc.events.plugin import Manifest, Needs, Role
from facesvc.events.records import SeenEvent
from facesvc_door.commands import HELP
from facesvc_door.plugin import DoorPlugin
from facesvc_door.settings import DoorSettings


def needs(settings: DoorSettings) -> Needs:
    """Only decisions that are fit for a door."""
    return Needs(policy=settings.policy, max_false_match_rate=settings.max_false_match_rate, liveness=settings.liveness)


PLUGIN = Manifest(
    name="door",
    summary="opens doors for people with a permission, and for nobody else",
    role=Role.ACTS,
    settings=DoorSettings,
    make=DoorPlugin,
    kinds=frozenset({SeenEvent}),
    needs=needs,
    lifetime=timedelta(seconds=10),
    heeds_expiry=True,
    at_most_once=True,
    commands=HELP,
)

__all__ = ["PLUGIN", "DoorPlugin", "DoorSettings"]
