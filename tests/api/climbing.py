"""Attackers who ask how alike faces are until they have somebody's template; all they have is unit vectors and answers.

Each is stronger than one with pictures: it gets whatever vector it wants. ``Ask`` takes similarities as they are,
(N,), to those that are told. An attacker returns the vector that it ends with, after ``CALLS`` questions.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Floats = np.ndarray[Any, Any]
Ask = Callable[[Floats], Floats]
Attacker = Callable[[Floats, Floats, Ask, np.random.Generator], Floats]

CALLS = 10_000


def unit(values: Floats) -> Floats:
    """Each vector with a length of 1."""
    return values / np.linalg.norm(values, axis=-1, keepdims=True)  # type: ignore[no-any-return]


def scatter(randomness: np.random.Generator, count: int, dimension: int) -> Floats:
    """Random directions: a length of about 1 each."""
    return randomness.standard_normal((count, dimension)) / np.sqrt(dimension)


def start_at(target: Floats, similarity: float, randomness: np.random.Generator) -> Floats:
    """A random vector exactly so like the target."""
    other = scatter(randomness, 1, len(target))[0]
    other = unit(other - (other @ target) * target)
    return similarity * target + np.sqrt(1 - similarity**2) * other  # type: ignore[no-any-return]


def climb(target: Floats, own: Floats, ask: Ask, randomness: np.random.Generator) -> Floats:
    """Keep whatever random step is told to be nearer; larger steps after a success, smaller ones after a failure."""
    best, step = ask(own[None] @ target)[0], 0.5
    for _ in range(CALLS):
        other = unit(own + step * scatter(randomness, 1, len(own))[0])
        told = ask(other[None] @ target)[0]
        if told > best:
            own, best, step = other, told, min(step * 1.1, 1.5)
        else:
            step = step * 0.99 if step > 0.02 else 0.5
    return own


def estimate(target: Floats, own: Floats, ask: Ask, randomness: np.random.Generator) -> Floats:
    """Natural evolution strategies: a gradient out of pairs of opposite steps, and a step along it."""
    pairs = 100
    for _ in range(CALLS // (2 * pairs)):
        steps = scatter(randomness, pairs, len(own))
        gain = ask(unit(own + steps) @ target) - ask(unit(own - steps) @ target)
        gradient = gain @ steps
        if np.any(gradient):
            own = unit(own + 0.3 * unit(gradient))
    return own


def regress(target: Floats, own: Floats, ask: Ask, randomness: np.random.Generator) -> Floats:
    """Ask about random faces and take their mean, each weighted with its answer: a grid does not hide from it."""
    asked = unit(scatter(randomness, CALLS, len(own)))
    told = ask(asked @ target)
    found = (told - told.mean()) @ asked
    return unit(found) if np.linalg.norm(found) > 1e-9 else own


def feel(target: Floats, own: Floats, ask: Ask, randomness: np.random.Generator) -> Floats:
    """Follow a boundary: look which steps of one length around are told to be better, and go that way, if it is."""
    around = 250
    for _ in range(CALLS // around):
        best, steps = ask(own[None] @ target)[0], scatter(randomness, around, len(own))
        steps = unit(steps - np.outer(steps @ own, own)) * randomness.uniform(0.2, 1.5)
        told = ask(unit(own + steps) @ target)
        way = (told - told.mean()) @ steps
        if np.linalg.norm(way) > 1e-9:
            tries = unit(own + np.outer((1, 0.5, 0.25, 0.1, 0.05), unit(way)))
            good = ask(tries @ target) >= best
            own = tries[int(np.argmax(good))] if good.any() else own
    return own


ATTACKERS: dict[str, Attacker] = {"climb": climb, "estimate": estimate, "regress": regress, "feel": feel}
