"""May this person pass this door now? One table, read from the top; the first row that holds is the refusal.

The rows that ask whether the decision is good enough repeat what the host was told in ``needs``: a door does not rely
on anybody else having looked. Rows about the person ask the gallery as it is now, not as it was when the face was seen.
A new row can only make a door refuse more.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from facesvc.events.plugin import Person
from facesvc.events.records import SeenEvent
from facesvc_door.schedule import Standing, standing
from facesvc_door.settings import Door, DoorSettings, Permission


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Somebody before a door. ``expire_time``: the delivery's. ``inside``: in the door's area, as far as is known."""

    event: SeenEvent
    settings: DoorSettings
    door: Door
    now: datetime
    expire_time: datetime | None
    locked_down: bool
    person: Person | None
    inside: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a door stays closed: ``reason`` for programs, ``words`` for people."""

    reason: str
    words: str


@dataclass(frozen=True, slots=True)
class Rule:
    """``holds``: whether it is a refusal."""

    reason: str
    words: str
    holds: Callable[[Question], bool]


def expired(question: Question) -> bool:
    """Whether the decision is worth nothing any more: at its expiry already."""
    ends = [question.event.decision.expire_time]
    ends += [question.expire_time] if question.expire_time is not None else []
    return question.now >= min(ends)


def too_old(question: Question) -> bool:
    """Whether the picture is."""
    return question.now - question.event.decision.capture_time > timedelta(seconds=question.settings.max_age_s)


def _from_future(question: Question) -> bool:
    decision, latest = question.event.decision, question.now + timedelta(seconds=question.settings.max_ahead_s)
    return max(decision.capture_time, decision.decision_time, question.event.event_time) > latest


def _not_live(question: Question) -> bool:
    liveness = question.event.decision.liveness
    return question.settings.liveness and (liveness is None or not liveness.score >= liveness.threshold)


def _somebody_else(question: Question) -> bool:
    person, event = question.person, question.event
    return person is None or (person.collection_id, person.subject_id) != (event.collection_id, event.about)


def _mine(question: Question) -> list[Permission]:
    """The permissions that name the person."""
    person = question.person
    if person is None:
        return []
    groups = {group.strip() for group in person.metadata.get(question.settings.group_key, "").split(",")}
    return [
        permission
        for permission in question.door.permissions
        if person.subject_id in permission.subjects or groups.intersection(permission.groups)
    ]


def _hours(question: Question) -> Standing:
    """How the moment stands to the best of the person's permissions."""
    settings = question.settings
    local = question.now.astimezone(settings.zone(question.door))
    found = {
        standing(
            settings.windows(permission.schedule), local, frozenset() if permission.on_holidays else settings.holidays
        )
        for permission in _mine(question)
    }
    return next((one for one in Standing if one in found), Standing.OUTSIDE)


def _passed_back(question: Question) -> bool:
    return question.door.direction == "in" and question.door.anti_passback_reset_hours > 0 and question.inside


RULES = (
    Rule("LOCKED_DOWN", "all doors are closed until somebody releases them", lambda one: one.locked_down),
    Rule(
        "NOT_A_MATCH",
        "the decision names nobody",
        lambda one: one.event.decision.outcome != "MATCH" or not one.event.about,
    ),
    Rule(
        "WRONG_POLICY",
        "the decision is one of another policy than the doors'",
        lambda one: one.event.decision.policy != one.settings.policy,
    ),
    Rule(
        "RATE_TOO_HIGH",
        "the decision was made at a false-match rate that is too high for a door",
        # "not <=": a rate that is no number does not pass either.
        lambda one: not 0 <= one.event.decision.false_match_rate <= one.settings.max_false_match_rate,
    ),
    Rule("NOT_LIVE", "the face did not pass as a living one", _not_live),
    Rule("FROM_THE_FUTURE", "the decision is dated later than now: a clock is wrong", _from_future),
    Rule("EXPIRED", "the decision has expired", expired),
    Rule("TOO_OLD", "the picture was taken too long ago", too_old),
    Rule(
        "WRONG_COLLECTION",
        "the person belongs to another gallery than the door",
        lambda one: one.event.collection_id != one.door.collection,
    ),
    Rule("NOT_ENROLLED", "the person is not enrolled, or not any more", lambda one: one.person is None),
    Rule("SOMEBODY_ELSE", "the gallery gave another person than the decision names", _somebody_else),
    Rule(
        "NOT_RECOGNISABLE",
        "the person is disabled, or their consent has run out",
        lambda one: one.person is None or not one.person.recognisable,
    ),
    Rule(
        "NO_PERMISSION", "no permission for this door names the person or a group of theirs", lambda one: not _mine(one)
    ),
    Rule(
        "HOLIDAY",
        "today is a holiday, and the permission does not count then",
        lambda one: _hours(one) is Standing.HOLIDAY,
    ),
    Rule("OUTSIDE_HOURS", "the permission does not count at this hour", lambda one: _hours(one) is not Standing.INSIDE),
    Rule("PASSED_BACK", "the person is inside already and has not left by an exit", _passed_back),
)


def judge(question: Question) -> Refusal | None:
    """Why the door stays closed; None: it may open."""
    for rule in RULES:
        if rule.holds(question):
            return Refusal(rule.reason, rule.words)
    return None
