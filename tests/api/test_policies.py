"""A policy's rate becomes the pack's threshold, or the policy is refused with the cause; no bar is ever lowered."""

import pytest

from facesvc.api.policies import Policies
from facesvc.config import PolicySettings
from facesvc.errors import NotFoundError, PreconditionError
from facesvc.models.calibration import Calibration, OperatingPoint

CALIBRATION = Calibration(
    points=(OperatingPoint(1e-2, 0.80, 0.99), OperatingPoint(1e-3, 0.90, 0.95), OperatingPoint(1e-4, 0.95, 0.60)),
    impostor_pairs=100_000,
    source="test",
)


def policies(**settings: object) -> Policies:
    return Policies({"presence": PolicySettings(**settings)}, CALIBRATION, "test-pack")  # type: ignore[arg-type]


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
        ({"matches": 2, "frames": 3}, "2 of 3 frames"),
    ],
)
def test_what_the_pack_cannot_honour_is_refused_with_its_cause(settings: dict[str, object], cause: str) -> None:
    with pytest.raises(PreconditionError, match=cause) as refused:
        policies(**settings).get("presence")
    assert refused.value.reason == "POLICY_UNAVAILABLE"


def test_every_cause_is_told_at_once() -> None:
    with pytest.raises(PreconditionError) as refused:
        policies(liveness_required=True, matches=3, frames=5, false_match_rate=1e-4).get("presence")
    assert refused.value.message.count(";") == 2


def test_a_bar_that_is_just_reached_is_honoured() -> None:
    assert policies(false_match_rate=1e-3, minimum_true_match_rate=0.95).get("presence")
