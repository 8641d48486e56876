"""A policy's rate becomes the pack's threshold, or the policy is refused with the cause; no bar is ever lowered."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from facesvc.api.policies import Basis, Policies
from facesvc.config import PolicySettings, Settings
from facesvc.errors import NotFoundError, PreconditionError
from facesvc.models.calibration import Calibration, OperatingPoint, bounds

CALIBRATION = Calibration(
    points=(OperatingPoint(1e-2, 0.80, 0.99), OperatingPoint(1e-3, 0.90, 0.95), OperatingPoint(1e-4, 0.95, 0.60)),
    impostor_pairs=100_000,
    genuine_pairs=1_000,
    source="test",
)


def policies(liveness_threshold: float | None = None, **settings: object) -> Policies:
    wanted = {"presence": PolicySettings(**settings)}  # type: ignore[arg-type]
    return Policies(wanted, CALIBRATION, "test-pack", liveness_threshold)


def test_a_rate_becomes_the_packs_threshold() -> None:
    policy = policies(false_match_rate=1e-3).get("presence")
    assert (policy.threshold, policy.false_match_rate) == (CALIBRATION.similarity_at(1e-3), 1e-3)


def test_no_name_means_presence_and_an_unknown_one_is_not_found() -> None:
    assert policies().get("").name == "presence"
    with pytest.raises(NotFoundError, match="choose presence"):
        policies().get("lobby")


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({"false_match_rate": 1e-4}, "recognises 60% of genuine"),
        ({"false_match_rate": 1e-3, "minimum_true_match_rate": 0.96}, "recognises 95% of genuine"),
        ({"false_match_rate": 1e-6}, "was not measured"),
        ({"liveness_required": True}, "liveness"),
    ],
)
def test_what_the_pack_cannot_honour_is_refused_with_its_cause(settings: dict[str, object], cause: str) -> None:
    with pytest.raises(PreconditionError, match=cause) as refused:
        policies(**settings).get("presence")
    assert refused.value.reason == "POLICY_UNAVAILABLE"


def test_every_cause_is_told_at_once() -> None:
    with pytest.raises(PreconditionError) as refused:
        policies(liveness_required=True, false_match_rate=1e-4).get("presence")
    assert refused.value.message.count(";") == 1
    assert "liveness.pack" in refused.value.message
    assert "recognises 60%" in refused.value.message


def test_a_liveness_model_brings_its_threshold() -> None:
    policy = policies(liveness_threshold=0.7, liveness_required=True).get("presence")
    assert (policy.liveness_required, policy.liveness_threshold) == (True, 0.7)
    assert not policies(liveness_threshold=0.7).get("presence").liveness_required


def test_several_views_may_have_to_agree_in_a_stream_but_not_in_a_picture() -> None:
    several = policies(matches=2, frames=3)
    policy = several.get("presence")
    assert (policy.matches, policy.frames) == (2, 3)
    with pytest.raises(PreconditionError, match="2 of 3 frames: open a stream") as refused:
        several.get_for_picture("presence")
    assert refused.value.reason == "POLICY_NEEDS_STREAM"


def test_one_picture_is_one_view_however_many_a_stream_looks_at() -> None:
    of_one = policies(matches=1, frames=5)
    assert of_one.get("presence").frames == 5
    assert of_one.get_for_picture("").frames == 1
    with pytest.raises(NotFoundError):
        of_one.get_for_picture("lobby")
    with pytest.raises(PreconditionError) as refused:
        policies(liveness_required=True).get_for_picture("presence")
    assert refused.value.reason == "POLICY_UNAVAILABLE"


def test_a_bar_that_is_just_reached_is_honoured() -> None:
    assert policies(false_match_rate=1e-3, minimum_true_match_rate=0.95).get("presence")


def test_a_rate_beyond_the_table_is_offered_and_honoured_only_on_request() -> None:
    with pytest.raises(PreconditionError, match=r"was not measured .*, or let the policy extrapolate"):
        policies(false_match_rate=1e-5).get("presence")
    extrapolated = policies(false_match_rate=1e-5, extrapolate=True, minimum_true_match_rate=0.2)
    assert extrapolated.get("presence").threshold == pytest.approx(1.0)
    assert extrapolated.true_match_rate("presence") == pytest.approx(0.25)
    assert extrapolated.basis("presence") == Basis("test", 100_000, bounds(10, 100_000)[1], extrapolated=True)


def test_an_extrapolated_rate_has_the_same_bar() -> None:
    with pytest.raises(PreconditionError, match="recognises 25% of genuine"):
        policies(false_match_rate=1e-5, extrapolate=True).get("presence")


def test_a_rate_more_tolerant_than_the_table_is_offered_nothing() -> None:
    with pytest.raises(PreconditionError, match=r"was not measured [^,]*: [^,]*, test\)$"):
        policies(false_match_rate=0.1).get("presence")


@pytest.mark.parametrize("extrapolate", [False, True])
def test_what_a_measured_threshold_rests_on(*, extrapolate: bool) -> None:
    basis = policies(false_match_rate=1e-3, extrapolate=extrapolate).basis("presence")
    assert basis == Basis("test", 100_000, bounds(100, 100_000)[1], extrapolated=False)


def test_an_unmeasured_rate_rests_on_nothing() -> None:
    assert policies(false_match_rate=1e-6).basis("presence") == Basis("test", 100_000, 0.0, extrapolated=False)


def test_a_pack_that_was_never_measured_is_not_extrapolated() -> None:
    never = Policies({"presence": PolicySettings(extrapolate=True)}, Calibration((), 0, 0, "never measured"), "new")
    assert never.basis("presence") == Basis("", 0, 0.0, extrapolated=False)
    assert never.true_match_rate("presence") == 0
    with pytest.raises(PreconditionError, match="no calibration"):
        never.get("presence")


async def test_a_client_is_told_what_thresholds_rest_on(
    start: Callable[..., Awaitable[Any]], settings: Settings
) -> None:
    beyond = {
        "deep": PolicySettings(false_match_rate=1e-7, extrapolate=True),
        "refused": PolicySettings(false_match_rate=1e-7),
    }
    running = await start(settings.model_copy(update={"policies": {"presence": PolicySettings(), **beyond}}))
    told = {policy.name: policy for policy in (await running.client.server_info()).policies}
    calibration = running.service.engine.pack.calibration
    for policy in told.values():
        assert policy.calibration_source == calibration.source
        assert policy.impostor_pairs == calibration.impostor_pairs
    assert [name for name, policy in told.items() if policy.extrapolated] == ["deep"]
    presence, deep, refused = (told[name].false_match_rate_upper_bound for name in ("presence", "deep", "refused"))
    assert presence == pytest.approx(calibration.false_match_bounds_at(1e-3)[1])
    assert deep == pytest.approx(calibration.false_match_bounds_at(1e-7, extrapolate=True)[1])
    assert refused == 0
