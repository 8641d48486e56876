"""What was lost when a pack was made int8, and whether it may be used nevertheless."""

from dataclasses import dataclass

from facesvc.errors import PreconditionError
from facesvc.models.manifest import Fields

MOST_ACCURACY_LOST = 0.003
MOST_TRUE_MATCHES_LOST = 0.02
LEAST_MEAN_COSINE = 0.95
# Losses are differences of shares: 0.993 less 0.990 is a little more than 0.003.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Quantization:
    """The record of a pack made int8 with faces of so many ``images``, against the float pack that it was made from.

    The cosines are those of the vectors that both give for a face. Losses are shares, negative for a gain, None where
    nothing was measured: of LFW's accuracy, and of true matches at a false-match rate of 1e-4.
    """

    weight_bits: int
    images: int
    mean_cosine: float
    least_cosine: float
    speedup: float
    accuracy_loss: float | None
    tmr_loss: float | None

    def __post_init__(self) -> None:
        if self.weight_bits not in (7, 8) or self.images < 1 or self.speedup <= 0:
            raise ValueError(f"quantization: {self.weight_bits} bits, {self.images} images, {self.speedup} times")
        shares = (self.mean_cosine, self.least_cosine, self.accuracy_loss or 0.0, self.tmr_loss or 0.0)
        if not all(-1 - 1e-6 <= share <= 1 + 1e-6 for share in shares):
            raise ValueError("quantization: cosines and losses are from -1 to 1")

    def objections(self) -> list[str]:
        """Why such a pack should not be used, in words; empty for one that may."""
        measured = (
            ("points of accuracy", self.accuracy_loss, MOST_ACCURACY_LOST),
            ("points of true matches at a false-match rate of 1e-4", self.tmr_loss, MOST_TRUE_MATCHES_LOST),
        )
        found = [
            f"it loses {100 * loss:.2f} {what}, more than {100 * most:g}"
            for what, loss, most in measured
            if loss is not None and loss > most + _ROUNDING
        ]
        if self.accuracy_loss is None and self.mean_cosine < LEAST_MEAN_COSINE:
            found.append(
                f"its vectors have a mean cosine of {self.mean_cosine:.3f} with those of the float pack, less than"
                f" {LEAST_MEAN_COSINE:g}, and what that costs was not measured"
            )
        return found

    def check(self, name: str) -> None:
        """A ``PreconditionError`` (``QUANTIZATION_LOSES_TOO_MUCH``) for a pack that should not be used."""
        if objections := self.objections():
            raise PreconditionError(
                f"pack {name} was made int8 and {'; '.join(objections)}: use the float pack, or quantise that again:"
                " with --images of more people, with --weight-bits 8, or with --lfw to measure what is lost",
                reason="QUANTIZATION_LOSES_TOO_MUCH",
            )


def read_quantization(fields: Fields) -> Quantization:
    """The record that ``fields`` hold. Raises ``ValueError``."""
    return Quantization(
        fields.integer("weight_bits"),
        fields.integer("images"),
        fields.number("mean_cosine"),
        fields.number("least_cosine"),
        fields.number("speedup"),
        fields.number("accuracy_loss") if fields.has("accuracy_loss") else None,
        fields.number("tmr_loss") if fields.has("tmr_loss") else None,
    )
