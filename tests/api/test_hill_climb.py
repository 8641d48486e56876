"""Nobody climbs a hill to somebody's template: what 10,000 answers are worth, as they are, rounded, and in steps.

The vectors are random, so that the threshold of a false-match rate is known: similarities of two of them are normal
with a deviation of 1 / sqrt(dimension).
"""

from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from api.climbing import ATTACKERS, Ask, Floats, scatter, start_at, unit
from api.conftest import Vision
from api.guarded import guarding
from api.pictures import encoded

from facesvc.api.disclosure import BELOW, told
from facesvc.client import AsyncClient
from facesvc.config import Settings
from facesvc.security.principals import Principal
from facesvc.security.roles import Role
from facesvc.v1 import recognition_pb2

ENROLLER = told(Principal(name="desk", role=Role.ENROLLER))
ADMIN = told(Principal(name="boss", role=Role.ADMIN))


def threshold_at(rate: float, dimension: int) -> float:
    return NormalDist().inv_cdf(1 - rate) / float(np.sqrt(dimension))


def asking(role: Any, threshold: float) -> Ask:
    """What a role is told."""
    return lambda values: np.array([role.similarity(float(value), threshold) for value in values])


def grid(step: float) -> Ask:
    return lambda values: np.round(values / step) * step


def outcome(name: str, ask: Ask, dimension: int, begin: float = 0.0, seed: int = 1) -> float:
    """How like the target an attacker becomes that begins with this similarity."""
    randomness = np.random.default_rng(seed)
    target = unit(scatter(randomness, 1, dimension)[0])
    end: Floats = ATTACKERS[name](target, start_at(target, begin, randomness), ask, randomness)
    return float(end @ target)


@pytest.mark.parametrize("name", ATTACKERS)
def test_exact_answers_give_a_template_away(name: str) -> None:
    assert outcome(name, asking(ADMIN, threshold_at(1e-3, 128)), 128) > 0.95


@pytest.mark.parametrize("step", [0.05, 0.1])
def test_a_grid_does_not_help(step: float) -> None:
    assert outcome("regress", grid(step), 128) > 0.95


@pytest.mark.parametrize("name", ["climb", "feel"])
def test_steps_leave_no_hill(name: str) -> None:
    """At 1 in 1,000 whoever asks about 10,000 strangers is taken for somebody by chance; climbing adds nothing."""
    assert outcome(name, asking(ENROLLER, threshold_at(1e-3, 128)), 128) < 0.1


@pytest.mark.parametrize("name", ATTACKERS)
def test_steps_leave_nothing_at_all_where_chance_does_not_help(name: str) -> None:
    assert outcome(name, asking(ENROLLER, threshold_at(1e-6, 128)), 128) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("dimension", [128, 512])
@pytest.mark.parametrize("name", ATTACKERS)
def test_steps_leave_nothing_whoever_it_is(name: str, dimension: int) -> None:
    ask = asking(ENROLLER, threshold_at(1e-6, dimension))
    for seed in range(5):
        assert outcome(name, ask, dimension, seed=seed) < 0.1
        assert outcome(name, grid(0.01), dimension, seed=seed) > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("dimension", [128, 512])
@pytest.mark.parametrize("name", ["climb", "estimate", "feel"])
def test_who_has_passed_already_gains_less(name: str, dimension: int) -> None:
    """What remains: along the threshold one can feel one's way, if slowly; with a grid of 0.05 above it one climbs."""
    threshold = threshold_at(1e-3, dimension)
    begin = threshold + 0.003

    def coarse(values: Floats) -> Floats:
        return np.where(values < threshold, BELOW, np.maximum(threshold, np.floor(values / 0.05) * 0.05))

    ends = [outcome(name, ask, dimension, begin) for ask in (asking(ENROLLER, threshold), coarse)]
    assert ends[0] <= ends[1] + 0.02
    assert ends[0] < 0.8


class Shades(Vision):
    """A vision to whom the grey of a picture is a person: nearer greys are more alike."""

    def network(self, blob: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], ...]:
        angle = float(blob.mean()) * np.pi / 4
        vector = np.zeros((1, 128), np.float32)
        vector[0, :2] = np.cos(angle), np.sin(angle)
        return (vector,)


def shade(level: int) -> bytes:
    return encoded(np.full((160, 160, 3), level, np.uint8), "PNG")


async def compared(client: AsyncClient, level: int) -> recognition_pb2.ComparedFace:
    [face] = (await client.compare(shade(250), shade(level))).faces
    return face


async def test_through_the_server(settings: Settings, tmp_path: Path) -> None:
    """The administrator sees the slope, whoever may not export sees a cliff; both hear the same answer."""
    levels = range(10, 251, 30)
    async with guarding(settings, tmp_path / "guarded", Shades()) as guarded:
        admin, desk = (guarded.client(guarded.token(role.value, role)) for role in (Role.ADMIN, Role.ENROLLER))
        exact = [await compared(admin, level) for level in levels]
        rounded = [await compared(desk, level) for level in levels]
        threshold = (await desk.compare(shade(250), shade(10))).threshold
    slope = [face.similarity for face in exact]
    assert slope == sorted(set(slope))
    assert slope[-1] == pytest.approx(1)
    assert [face.same_person for face in exact] == [face.same_person for face in rounded]
    assert {face.same_person for face in exact} == {True, False}
    for face in rounded:
        assert face.similarity == (threshold if face.same_person else BELOW)
        assert face.distance == pytest.approx((2 - 2 * face.similarity) ** 0.5, abs=1e-6)


async def test_the_order_of_faces_tells_no_more(settings: Settings, tmp_path: Path) -> None:
    """Two faces below the threshold stay in the order of the picture, whichever is nearer."""
    async with guarding(settings, tmp_path / "guarded", Shades(faces=2)) as guarded:
        admin, desk = (guarded.client(guarded.token(role.value, role)) for role in (Role.ADMIN, Role.ENROLLER))
        brighter = np.linspace(0, 60, 160, dtype=np.uint8)[None, :, None]
        data = encoded(np.broadcast_to(brighter, (160, 160, 3)), "PNG")
        orders = []
        for client in (admin, desk):
            faces = (await client.compare(shade(250), data)).faces
            orders.append([face.face.box.left for face in faces])
            assert not any(face.same_person for face in faces)
        assert orders[0] == sorted(orders[0], reverse=True), "the second is nearer, and the administrator hears so"
        assert orders[1] == sorted(orders[1])
