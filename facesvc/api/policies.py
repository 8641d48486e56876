"""The policies of the settings, translated into thresholds of the pack in use; what it cannot honour is refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from facesvc.config import PolicySettings
from facesvc.errors import NotFoundError, PreconditionError
from facesvc.models.calibration import Calibration
from facesvc.stream.policy import Policy

DEFAULT_POLICY = "presence"


@dataclass(frozen=True, slots=True)
class Basis:
    """What a threshold rests on: ``source`` is the measurement, empty for a pack that was never measured.

    ``upper_bound`` is what the real false-match rate is at most, with 95 % confidence; nought where that is not known.
    """

    source: str
    impostor_pairs: int
    upper_bound: float
    extrapolated: bool


@dataclass(frozen=True, slots=True)
class Policies:
    """All policies by name, over one calibration. Nothing here ever lowers a bar."""

    settings: Mapping[str, PolicySettings]
    calibration: Calibration
    pack: str
    liveness_threshold: float | None = None
    """The score from which on a face passes as a living one; None where no liveness model is loaded."""

    def get(self, name: str) -> Policy:
        """The policy ``name`` (empty: presence). Raises ``NotFoundError``, or ``PreconditionError`` with the cause."""
        name = name or DEFAULT_POLICY
        if name not in self.settings:
            known = ", ".join(sorted(self.settings))
            raise NotFoundError(f"there is no policy {name[:64]!a}: choose {known}", field="policy")
        settings = self.settings[name]
        if causes := self._obstacles(settings):
            message = f"policy {name} cannot be honoured with pack {self.pack}: {'; '.join(causes)}"
            raise PreconditionError(message, reason="POLICY_UNAVAILABLE")
        return Policy(
            name,
            settings.false_match_rate,
            self.calibration.similarity_at(settings.false_match_rate, extrapolate=settings.extrapolate),
            settings.margin,
            settings.minimum_quality,
            timedelta(seconds=settings.decision_lifetime_seconds),
            settings.matches,
            settings.frames,
            settings.liveness_required,
            self.liveness_threshold or 0.0,
        )

    def get_for_picture(self, name: str) -> Policy:
        """As ``get``, for a single picture; ``PreconditionError`` too where the policy wants several to agree."""
        policy = self.get(name)
        if policy.matches > 1:
            message = (
                f"policy {policy.name} decides by {policy.matches} of {policy.frames} frames: open a stream, or choose"
                " a policy that decides by one"
            )
            raise PreconditionError(message, reason="POLICY_NEEDS_STREAM")
        return policy.of_one_picture

    def true_match_rate(self, name: str) -> float:
        """The share of genuine comparisons that reach the threshold; nought where that is not known."""
        settings = self.settings[name]
        try:
            return self.calibration.tmr_at(settings.false_match_rate, extrapolate=settings.extrapolate)
        except PreconditionError:
            return 0.0

    def basis(self, name: str) -> Basis:
        """What the threshold of a policy rests on, whether the policy can be honoured or not."""
        calibration, settings = self.calibration, self.settings[name]
        rate, extrapolate = settings.false_match_rate, settings.extrapolate
        try:
            upper_bound = calibration.false_match_bounds_at(rate, extrapolate=extrapolate)[1]
        except PreconditionError:
            upper_bound = 0.0
        source = calibration.source if calibration.points else ""
        return Basis(source, calibration.impostor_pairs, upper_bound, extrapolate and calibration.extrapolates(rate))

    def _obstacles(self, settings: PolicySettings) -> list[str]:
        obstacles = []
        if settings.liveness_required and self.liveness_threshold is None:
            obstacles.append("it requires liveness, and no liveness model is loaded (see liveness.pack)")
        try:
            rate = self.calibration.tmr_at(settings.false_match_rate, extrapolate=settings.extrapolate)
        except PreconditionError as error:
            offer = self.calibration.extrapolates(settings.false_match_rate) and ", or let the policy extrapolate"
            return [*obstacles, f"{error.message}{offer or ''}"]
        if rate < settings.minimum_true_match_rate:
            obstacles.append(
                f"at a false-match rate of {settings.false_match_rate:g} pack {self.pack} recognises {rate:.0%} of"
                f" genuine comparisons, less than the {settings.minimum_true_match_rate:.0%} it asks for"
            )
        return obstacles
