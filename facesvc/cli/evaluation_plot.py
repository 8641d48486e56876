"""A picture of an evaluation: the trade between false and true matches, and the similarities behind it.

Needs matplotlib, an extra of facesvc that is imported only here and only when a picture is asked for.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from facesvc.cli.evaluation import NOT_COMPARED, Evaluation, Scores
from facesvc.errors import DependencyError, InputError
from facesvc.models.calibration import supports
from facesvc.vision.scores import Floats, OperatingPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".svg", ".pdf")
# Okabe and Ito's colours, which all kinds of colour vision tell apart.
_BLUE, _ORANGE, _GREEN, _GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
_BINS = 60


class _Curve(NamedTuple):
    """How a curve is drawn; ``labels_at`` is where its labels stand from their points, in points of type."""

    label: str
    colour: str
    labels_at: tuple[int, int]


_PAIRS = _Curve("pairs, one photo each", _BLUE, (0, 8))
_PROBES = _Curve("probes against the gallery", _GREEN, (22, -13))


def check_plottable(path: Path) -> None:
    """Raises ``DependencyError`` or ``InputError`` for a picture that could not be written when its time comes."""
    if find_spec("matplotlib") is None:
        raise DependencyError("--plot needs matplotlib, which is not installed: pip install 'facesvc[plot]'")
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"--plot writes {', '.join(FORMATS)}, not {path.suffix or path.name!r}", field="plot")
    if not path.parent.is_dir():
        raise InputError(f"the folder of --plot {path} does not exist", field="plot")


def draw(evaluation: Evaluation, title: str, path: Path) -> None:
    """Draws ``evaluation`` into the file ``path``, of the format that its suffix says. Raises ``DependencyError``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - an extra; half a second to import
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(12, 5.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    identified = evaluation.identification
    panels: Any = figure.subplot_mosaic("RV;RI" if identified else "RV", width_ratios=(1.1, 1))
    figure.suptitle(title, fontsize=13, fontweight="bold")
    verified = evaluation.verification
    _curve(panels["R"], _PAIRS, verified.scores, verified.points)
    _histogram(panels["V"], "Pairs", verified.scores, verified.points)
    if identified:
        _curve(panels["R"], _PROBES, identified.scores, identified.points)
        _histogram(panels["I"], "Probes against the gallery", identified.scores, identified.points)
    _label_curves(panels["R"])
    try:
        figure.savefig(path)
    except OSError as error:
        raise DependencyError(f"{path} cannot be written: {error.strerror}") from error


def roc(scores: Scores) -> tuple[Floats, Floats]:
    """False- and true-match rates, (N,) float32 each, where one, two, ... impostors match; points lie on this curve."""
    refused = np.sort(scores.impostor)[::-1][1:]
    false = np.arange(1, len(refused) + 1) / len(scores.impostor)
    true = 1 - np.searchsorted(np.sort(scores.genuine), refused, side="right") / len(scores.genuine)
    return false.astype(np.float32), true.astype(np.float32)


def _curve(axes: "Axes", curve: _Curve, scores: Scores, points: tuple[OperatingPoint, ...]) -> None:
    false, true = roc(scores)
    axes.step(false, true * 100, where="post", color=curve.colour, linewidth=2, label=curve.label)
    for point in _measured(points, scores):
        axes.plot(point.fmr, point.tmr * 100, "o", color=curve.colour, markersize=6)
        axes.annotate(
            f"{point.tmr:.1%}",
            (point.fmr, point.tmr * 100),
            curve.labels_at,
            textcoords="offset points",
            ha="center",
            color=curve.colour,
        )


def _measured(points: tuple[OperatingPoint, ...], scores: Scores) -> list[OperatingPoint]:
    """Those that there are enough impostors for."""
    return [point for point in points if supports(len(scores.impostor), point.fmr)]


def _label_curves(axes: "Axes") -> None:
    axes.set_xscale("log")
    axes.set_xlim(right=1)
    axes.set_ylim(top=103)
    axes.set_xlabel("false-match rate (strangers taken for one person)")
    axes.set_ylabel("true-match rate (%)")
    axes.set_title("Receiver operating characteristic")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(loc="lower right", frameon=False)


def _histogram(axes: "Axes", title: str, scores: Scores, points: tuple[OperatingPoint, ...]) -> None:
    compared = scores.genuine[scores.genuine > NOT_COMPARED]
    everything = np.concatenate([compared, scores.impostor])
    bins = np.linspace(float(np.quantile(everything, 0.0005)), float(everything.max()), _BINS).tolist()
    for values, label, colour in (
        (scores.impostor, f"two people ({len(scores.impostor):,})", _ORANGE),
        (compared, f"one person ({len(compared):,})", _BLUE),
    ):
        axes.hist(values, bins, density=True, alpha=0.6, color=colour, label=label)
    top = axes.get_ylim()[1] * 1.25
    for point in _measured(points, scores):
        axes.axvline(point.similarity, color=_GREY, linewidth=1, linestyle="--")
        axes.text(
            point.similarity, top, f"{point.fmr:.0e} ", rotation=90, va="top", ha="right", color=_GREY, fontsize=9
        )
    axes.set_ylim(top=top)
    axes.set_title(title)
    axes.set_xlabel("similarity; dashed: threshold at each false-match rate")
    axes.set_ylabel("density")
    axes.legend(loc="upper left", frameon=False)
