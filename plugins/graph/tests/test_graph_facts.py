"""The line for people, as a value."""

from datetime import timedelta

import pytest
from facesvc_graph.facts import facts_of
from facesvc_graph.memory import Known
from facesvc_graph.records import Calendar, Presence, Slot
from facesvc_graph.settings import GraphSettings

from facesvc.delivery.kit import NOW
from facesvc.events.plugin import NOBODY

SETTINGS = GraphSettings(tenant_id="t", client_id="c", client_secret="env:X", time_zone="Europe/Berlin")
HOUR = timedelta(hours=1)


def slot(begin: float, end: float, subject: str = "", status: str = "busy") -> Slot:
    return Slot(NOW + begin * HOUR, NOW + end * HOUR, status, subject)


def summary(presence: dict | None, *slots: Slot, age: float = 0) -> str:
    known = Known(NOBODY, (), "id")
    if presence is not None:
        known.presence.good(Presence.model_validate({"id": "a", **presence}), NOW - age * HOUR)
    known.calendar.good(Calendar(slots), NOW - age * HOUR)
    facts = facts_of(known, SETTINGS, NOW)
    assert facts is not None
    return facts.summary


def is_(availability: str, activity: str = "", **more: object) -> dict:
    return {"availability": availability, "activity": activity or availability, **more}


@pytest.mark.parametrize(
    ("presence", "slots", "expected"),
    [
        (is_("Available"), [], "Available"),
        (is_("Available"), [slot(-1, 5.5, "Design review")], "Available · in 'Design review' until 15:00"),
        (is_("Busy", "InAMeeting"), [slot(-1, 1, "Plan")], "Busy · in 'Plan' until 10:30"),
        (is_("Busy", "InAMeeting"), [], "Busy · in a meeting"),
        (is_("Busy", "InACall"), [slot(-1, 1, "Plan")], "Busy · in a call · in 'Plan' until 10:30"),
        (is_("DoNotDisturb", "Presenting"), [], "Do not disturb · presenting"),
        (is_("Available"), [slot(-1, 1)], "Available · busy until 10:30"),
        (is_("Away"), [slot(-1, 1, status="oof")], "Away · out of office until 10:30"),
        (is_("Away"), [slot(-1, 1, status="levitating")], "Away · busy until 10:30"),
        (is_("Away"), [slot(-1, 24, "Holiday", "oof")], "Away · in 'Holiday' until Tue 03 Mar 09:30"),
        (is_("Available"), [slot(0.5, 1, "Standup")], "Available · 'Standup' at 10:00"),
        (is_("Available"), [slot(0.5, 1)], "Available · busy at 10:00"),
        (is_("Available"), [slot(1.5, 2, "Standup")], "Available"),
        (is_("Available"), [slot(-1, 1, "Home", "workingelsewhere")], "Available"),
        (is_("Offline", outOfOfficeSettings={"isOutOfOffice": True}), [], "Offline · out of office"),
        (
            is_("Offline", "OutOfOffice", outOfOfficeSettings={"isOutOfOffice": True}),
            [],
            "Offline · out of office",
        ),
        (None, [], "Free"),
        (None, [slot(-1, 1, "Plan")], "in 'Plan' until 10:30"),
    ],
)
def test_the_line(presence: dict | None, slots: list[Slot], expected: str) -> None:
    assert summary(presence, *slots) == expected


def test_only_an_old_answer_tells_its_age() -> None:
    assert summary(is_("Available"), age=0.04) == "Available"
    assert summary(is_("Available"), age=0.1) == "Available · as of 09:24"
    assert summary(is_("Available"), age=11.5) == "Available · as of Sun 01 Mar 22:00"
    assert summary(None, age=0.2) == "Free"
    assert summary(None, age=0.5) == "Free · as of 09:00"


def test_nothing_is_told_of_somebody_of_whom_nothing_is_known() -> None:
    known = Known(NOBODY, (), "id")
    assert facts_of(known, SETTINGS, NOW) is None
    known.presence.good(Presence(id="a"), NOW - 13 * HOUR)
    assert facts_of(known, SETTINGS, NOW) is None
