"""Who may be found, as masks: the same as asking everybody one by one."""

from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facesvc.errors import InputError
from facesvc.gallery import Consent, Gallery, Subject, SubjectFilter
from facesvc.gallery.admission import Admission
from facesvc.gallery.records import Audience

T0 = datetime.fromisoformat("2026-03-02T08:30:00+00:00")
SITES = ("oslo", "bergen", "oslo, bergen", "bergen,tromso", "")
FILTERS = (
    SubjectFilter("site", ("oslo",)),
    SubjectFilter("site", ("bergen", "tromso")),
    SubjectFilter("site", ("bergen,tromso",)),
    SubjectFilter("team", ("door",)),
)

people = st.builds(
    lambda site, team, days, enabled: {
        "metadata": ({"site": site} if site else {}) | ({"team": team} if team else {}),
        "consent": None if days is None else Consent("office", T0 - timedelta(days=9), T0 + timedelta(days=days)),
        "enabled": enabled,
    },
    st.sampled_from(SITES),
    st.sampled_from(("", "door", "lab")),
    st.one_of(st.none(), st.integers(-5, 5)),
    st.booleans(),
)
steps = st.lists(st.tuples(st.integers(0, 90), st.one_of(st.none(), people)), max_size=60)
audiences = st.builds(
    Audience,
    st.one_of(st.none(), st.integers(-6, 6).map(lambda days: T0 + timedelta(days=days))),
    st.lists(st.sampled_from(FILTERS), max_size=2).map(tuple),
)


@settings(max_examples=200)
@given(steps, audiences, st.one_of(st.none(), st.integers(0, 90)))
def test_a_mask_says_what_everybody_would_say(
    changes: list[tuple[int, dict[str, object] | None]], audience: Audience, but: int | None
) -> None:
    admission, held = Admission(), dict[int, Subject]()
    for owner, fields in changes:
        if fields is None:
            admission.drop(owner)
            held.pop(owner, None)
        else:
            plain = {"collection_id": "office", "display_name": "", "create_time": T0, "update_time": T0}
            held[owner] = Subject(subject_id=f"p{owner}", **(plain | fields))  # type: ignore[arg-type]  # a mixture
            admission.put(owner, held[owner])
        mask = admission.mask(audience, but if but in held else None)
        for one, subject in held.items():
            expected = audience.includes(subject) and one != but
            assert (mask is None or bool(mask[one])) == expected


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ((), ["ada", "bob", "cyd"]),
        ((SubjectFilter("site", ("oslo",)),), ["ada", "cyd"]),
        ((SubjectFilter("site", ("oslo",)), SubjectFilter("team", ("lab", "door"))), ["cyd"]),
        ((SubjectFilter("site", ("paris",)),), []),
    ],
)
def test_searches_and_lists_keep_to_their_filters(
    gallery: Gallery,
    enrol: Callable[..., object],
    now: datetime,
    filters: tuple[SubjectFilter, ...],
    expected: list[str],
) -> None:
    enrol("ada", (1, 0, 0, 0), metadata={"site": "oslo"})
    enrol("bob", (1, 0.1, 0, 0), metadata={"site": "bergen"})
    enrol("cyd", (1, 0.2, 0, 0), metadata={"site": "bergen, oslo", "team": "lab"})
    vector = np.array([[1, 0, 0, 0]], np.float32)
    [found] = gallery.search(gallery.contract.contract_id, "office", vector, 10, now, filters)
    assert [one.subject_id for one in found] == expected
    assert [one.subject_id for one in gallery.list_subjects("office", 10, filters=filters)[0]] == expected


@pytest.mark.parametrize(
    ("key", "values"), [("", ("a",)), ("Site", ("a",)), ("site", ()), ("site", ("a",) * 33), ("site", ("a\n",))]
)
def test_a_filter_that_cannot_be_is_refused(key: str, values: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as refused:
        SubjectFilter(key, values)
    assert refused.value.field.startswith("filters")
