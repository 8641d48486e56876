"""What a plugin learns of the server, and does in it, through its box."""

from api.pictures import grey
from api.plugged import Plug, plug, script, settings, settled
from api.scripted_plugin import Script
from api.test_events import meet, note, written
from api.test_recognition import enrol
from google.protobuf.timestamp_pb2 import Timestamp
from sightings import ENTRY, at, sighting

from facesvc.events.audit import Asked
from facesvc.v1 import enrollment_pb2

__all__ = ["plug", "script", "settings"]  # fixtures
JANE = ("default", "jane")


async def test_people_are_as_the_gallery_knows_them(plug: Plug, script: Script) -> None:
    running = await plug()
    await settled(running)
    consent = enrollment_pb2.Consent(purpose="doors", given_time=Timestamp(seconds=1))
    await enrol(running, "jane", external_ids={"card_number": "7"}, metadata={"team": "red"}, consent=consent)
    jane = await script.box.person(JANE)
    assert jane is not None
    assert (jane.display_name, jane.external_ids, jane.metadata) == ("Jane", {"card_number": "7"}, {"team": "red"})
    assert (jane.recognisable, jane.consent_purpose) == (True, "doors")
    await running.client.update_subject(enrollment_pb2.Subject(subject_id="jane", disabled=True), ["disabled"])
    jane = await script.box.person(JANE)
    assert jane is not None
    assert not jane.recognisable
    await running.client.erase_subject("jane")
    assert await script.box.person(JANE) is None


async def test_who_is_present_is_known(plug: Plug, script: Script) -> None:
    running = await plug()
    note(running, sighting("jane", ENTRY, seen_time=at(5)))
    await settled(running)
    await written(running)
    (stay,) = await script.box.present()
    assert (stay.subject_id, stay.zone, stay.arrive_time, stay.leave_time) == ("jane", "lobby", at(5), None)
    assert abs((script.box.now() - running.service.now()).total_seconds()) < 60


async def test_what_a_plugin_does_is_in_the_audit_log_under_its_name(plug: Plug, script: Script) -> None:
    running = await plug()
    await settled(running)
    meet(running, *JANE)
    await script.box.audit("OpenDoor", "door 7", JANE)
    (entry,) = running.service.audit.list_entries(Asked(action="OpenDoor"), 10)
    assert (entry.actor, entry.subject_id, entry.detail) == ("plugin scripted", "jane", "door 7")


async def test_a_plugin_enrols_a_picture_and_hears_the_verdict(plug: Plug, script: Script, guest_png: bytes) -> None:
    running = await plug()
    await settled(running)
    meet(running, *JANE)
    assert await script.box.enrol(JANE, guest_png, "a directory") == "ENROLLED"
    (sample,) = await running.client.list_samples("jane")
    assert sample.source == "a directory"
    (entry,) = running.service.audit.list_entries(Asked(action="EnrollSamples"), 10)
    assert entry.actor == "plugin scripted"
    assert await script.box.enrol(JANE, guest_png, "again") == "DUPLICATE_IMAGE"
    assert await script.box.enrol(JANE, b"no picture", "") == "UNDECODABLE"
    assert (await script.box.enrol(("default", "nobody"), guest_png, "")).startswith("NOT_FOUND: ")
    assert await script.box.enrol(JANE, grey(), "") == "FACE_NOT_FOUND"
