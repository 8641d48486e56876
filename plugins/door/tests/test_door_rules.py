"""May this person pass this door now: every row of the table."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import nan
from typing import Any

import pytest
from door_making import ANA, BEN, CYD, OFFICE, door, settings
from facesvc_door.rules import RULES, Question, judge
from facesvc_door.settings import DoorSettings
from hypothesis import given
from hypothesis import strategies as st

from facesvc.delivery.kit import NOW, person, seen
from facesvc.events.plugin import Person
from facesvc.events.records import LivenessScore


def question(
    one: Person = ANA,
    given: DoorSettings | None = None,
    *,
    now: datetime = NOW,
    made: datetime | None = None,
    decision: dict[str, Any] | None = None,
    **changes: Any,
) -> Question:
    """Ana before the front door, just seen; ``made``: when, ``decision``: what is otherwise in it."""
    chosen = given or settings()
    base = Question(
        event=seen(one, made or now, **(decision or {})),
        settings=chosen,
        door=chosen.doors["front"],
        now=now,
        expire_time=None,
        locked_down=False,
        person=one,
        inside=False,
    )
    return replace(base, **changes)


def reason(asked: Question) -> str:
    refusal = judge(asked)
    return "" if refusal is None else refusal.reason


def of_schedule(schedule: str = "office", **changes: Any) -> DoorSettings:
    permission = {"groups": ["staff"], "schedule": schedule, "on_holidays": changes.pop("on_holidays", False)}
    return settings(doors={"front": door(permissions=[permission])}, schedules={"office": [OFFICE]}, **changes)


GUARDED = settings(doors={"front": door(anti_passback_reset_hours=8)})

TABLE = [
    ("", question()),
    ("LOCKED_DOWN", question(locked_down=True)),
    *[
        ("NOT_A_MATCH", question(decision={"outcome": one}))
        for one in ("AMBIGUOUS", "UNKNOWN", "SPOOF", "LOW_QUALITY", "")
    ],
    ("NOT_A_MATCH", question(decision={"subject": None})),
    ("WRONG_POLICY", question(decision={"policy": "presence"})),
    ("WRONG_POLICY", question(decision={"policy": ""})),
    ("", question(decision={"false_match_rate": 1e-6})),
    ("RATE_TOO_HIGH", question(decision={"false_match_rate": 1.0000001e-5})),
    ("RATE_TOO_HIGH", question(decision={"false_match_rate": nan})),
    ("RATE_TOO_HIGH", question(decision={"false_match_rate": -1.0})),
    ("NOT_LIVE", question(decision={"liveness": None})),
    ("", question(decision={"liveness": LivenessScore(score=0.5, frames_looked_at=1, threshold=0.5)})),
    ("NOT_LIVE", question(decision={"liveness": LivenessScore(score=0.4999, frames_looked_at=9, threshold=0.5)})),
    ("NOT_LIVE", question(decision={"liveness": LivenessScore(score=nan, frames_looked_at=9, threshold=0.5)})),
    ("", question(given=settings(liveness=False), decision={"liveness": None})),
    ("", question(made=NOW + timedelta(seconds=0.5))),
    ("FROM_THE_FUTURE", question(made=NOW + timedelta(seconds=0.500001))),
    ("FROM_THE_FUTURE", question(decision={"decision_time": NOW + timedelta(days=1)})),
    ("", question(made=NOW - timedelta(seconds=1.999999))),
    ("EXPIRED", question(made=NOW - timedelta(seconds=2))),
    ("EXPIRED", question(expire_time=NOW)),
    ("", question(expire_time=NOW + timedelta(microseconds=1))),
    ("", question(decision={"capture_time": NOW - timedelta(seconds=2)})),
    ("TOO_OLD", question(decision={"capture_time": NOW - timedelta(seconds=2.000001)})),
    ("WRONG_COLLECTION", question(person("ana", collection_id="other", metadata=ANA.metadata))),
    ("NOT_ENROLLED", question(person=None)),
    ("SOMEBODY_ELSE", question(person=person("ann", metadata=ANA.metadata))),
    ("NOT_RECOGNISABLE", question(person=replace(ANA, recognisable=False))),
    ("NO_PERMISSION", question(BEN)),
    ("NO_PERMISSION", question(CYD)),
    ("NO_PERMISSION", question(given=settings(doors={"front": door(permissions=[])}))),
    ("", question(CYD, settings(doors={"front": door(permissions=[{"subjects": ["cyd"], "schedule": "always"}])}))),
    ("", question(person("eve", metadata={"team": "staff"}), settings(group_key="team"))),
    ("", question(given=of_schedule())),
    ("OUTSIDE_HOURS", question(given=of_schedule(time_zone="America/New_York"))),  # 03:30 there
    ("", question(given=of_schedule(time_zone="America/New_York"), now=datetime(2026, 3, 2, 12, 0, tzinfo=UTC))),
    ("OUTSIDE_HOURS", question(given=of_schedule(), now=datetime(2026, 3, 1, 8, 30, tzinfo=UTC))),  # a Sunday
    ("HOLIDAY", question(given=of_schedule(holidays=["2026-03-02"]))),
    ("HOLIDAY", question(given=settings(holidays=["2026-03-02"]))),  # "always" too
    ("", question(given=of_schedule(holidays=["2026-03-02"], on_holidays=True))),
    ("OUTSIDE_HOURS", question(given=of_schedule(holidays=["2026-03-02"]), now=datetime(2026, 3, 2, 22, tzinfo=UTC))),
    ("PASSED_BACK", question(given=GUARDED, inside=True)),
    ("", question(given=GUARDED)),
    ("", question(inside=True)),  # no anti-passback is set
]


@pytest.mark.parametrize(("expected", "asked"), TABLE)
def test_every_row(expected: str, asked: Question) -> None:
    assert reason(asked) == expected


def test_every_rule_has_its_row() -> None:
    assert {rule.reason for rule in RULES} == {expected for expected, _ in TABLE if expected}
    assert all(rule.words and rule.reason == rule.reason.upper() for rule in RULES)


def test_one_permission_that_fits_is_enough() -> None:
    permissions = [{"groups": ["staff"], "schedule": "night"}, {"groups": ["lab"], "schedule": "office"}]
    night = {"days": ["mon"], "start": "22:00", "end": "06:00"}
    given = settings(doors={"front": door(permissions=permissions)}, schedules={"office": [OFFICE], "night": [night]})
    assert not reason(question(given=given))
    assert not reason(question(given=given, now=datetime(2026, 3, 3, 5, 59, tzinfo=UTC)))
    assert reason(question(given=given, now=datetime(2026, 3, 3, 6, 0, tzinfo=UTC))) == "OUTSIDE_HOURS"


def test_a_door_has_the_time_of_its_place() -> None:
    permissions = [{"groups": ["staff"], "schedule": "office"}]
    front = door(permissions=permissions, time_zone="America/New_York")
    given = settings(doors={"front": front}, schedules={"office": [OFFICE]}, time_zone="Europe/Berlin")
    assert reason(question(given=given)) == "OUTSIDE_HOURS"


def test_an_exit_lets_out_whoever_is_inside() -> None:
    given = settings(doors={"front": door(direction="out", area="lab", anti_passback_reset_hours=8)})
    assert not reason(question(given=given, inside=True))


def test_an_empty_group_is_nobodys() -> None:
    assert reason(question(person("eve", metadata={"group": ", ,"}))) == "NO_PERMISSION"


@given(
    made=st.timedeltas(timedelta(seconds=-10), timedelta(seconds=10)),
    life=st.timedeltas(timedelta(0), timedelta(seconds=10)),
    most=st.floats(0.1, 10),
    ahead=st.floats(0, 5),
)
def test_nothing_late_and_nothing_from_the_future_passes(
    made: timedelta, life: timedelta, most: float, ahead: float
) -> None:
    asked = question(
        given=settings(max_age_s=most, max_ahead_s=ahead),
        made=NOW + made,
        decision={"expire_time": NOW + made + life},
    )
    late = made + life <= timedelta(0) or -made > timedelta(seconds=most)
    assert (judge(asked) is None) == (not late and made <= timedelta(seconds=ahead))


@given(st.sampled_from([asked for expected, asked in TABLE if expected]), st.booleans(), st.booleans())
def test_a_refusal_stays_one_whatever_else_is_wrong(asked: Question, locked_down: bool, inside: bool) -> None:  # noqa: FBT001 - hypothesis passes them
    assert (
        judge(replace(asked, locked_down=locked_down or asked.locked_down, inside=inside or asked.inside)) is not None
    )
