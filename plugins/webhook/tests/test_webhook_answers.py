"""What an answer means."""

from datetime import UTC, datetime, timedelta

import pytest
from facesvc_webhook.answers import MAX_RETRY_AFTER, Answer, judge
from hypothesis import given
from hypothesis import strategies as st

from facesvc.events.plugin import TryLaterError, UndeliverableError

NOW = datetime(2026, 3, 2, 8, 30, tzinfo=UTC)


def judged(status: int, retry_after: str = "") -> None:
    judge(Answer(status, retry_after), "rooms.example", NOW)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_it_was_taken(status: int) -> None:
    judged(status)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_it_may_work_later(status: int) -> None:
    with pytest.raises(TryLaterError, match=f"rooms.example answered {status}") as caught:
        judged(status)
    assert caught.value.after is None


@pytest.mark.parametrize(
    "status", [300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 409, 410, 413, 415, 422]
)
def test_it_never_will(status: int) -> None:
    with pytest.raises(UndeliverableError, match=f"rooms.example answered {status}: [a-z]"):
        judged(status)


def test_gone_says_what_to_do() -> None:
    with pytest.raises(UndeliverableError, match="no events any more"):
        judged(410)


def test_redirects_are_said_not_to_be_followed() -> None:
    with pytest.raises(UndeliverableError, match="redirects are not followed; set url"):
        judged(308)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("30", 30),
        ("86400", 3600),
        ("9999999999", 3600),
        ("Mon, 02 Mar 2026 08:32:00 GMT", 120),
        ("Monday, 02-Mar-26 08:32:00 GMT", 120),
        ("Mon, 02 Mar 2026 08:32:00 -0000", 120),
        ("Mon, 02 Mar 2026 09:32:00 +0100", 120),
        ("Mon, 02 Mar 2026 08:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
    ],
)
def test_retry_after_is_heeded_within_an_hour(value: str, seconds: int) -> None:
    with pytest.raises(TryLaterError) as caught:
        judged(503, value)
    assert caught.value.after == timedelta(seconds=seconds)


@pytest.mark.parametrize("value", ["", "-1", "1.5", "soon", "1e9", "٣", "Mon, 99 Mar 2026 08:00:00 GMT", "99999999999"])
def test_what_cannot_be_read_is_passed_over(value: str) -> None:
    with pytest.raises(TryLaterError) as caught:
        judged(503, value)
    assert caught.value.after is None


@given(
    st.text()
    | st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ \d+:\d+:\d+ \S+", alphabet=st.characters(codec="ascii"))
)
def test_no_header_does_harm(value: str) -> None:
    with pytest.raises(TryLaterError) as caught:
        judged(429, value)
    assert caught.value.after is None or timedelta() <= caught.value.after <= MAX_RETRY_AFTER
