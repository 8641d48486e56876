"""Whatever bytes come: every reader ends with what it reads or an error of ours, soon, and in little memory."""

import pytest
from fuzz.exploring import explore, mutated
from fuzz.targets import TARGETS, seconds_of

# Pillow and zipfile warn of damage that they can live with; Python warns of strange escapes in pickles.
pytestmark = pytest.mark.filterwarnings("ignore")
READERS = [name for name in TARGETS if name != "server"]


@pytest.mark.parametrize("name", READERS)
def test_every_seed_is_taken(name: str) -> None:
    for seed in TARGETS[name].seeds():
        TARGETS[name](seed)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.timeout(90 + 5 * seconds_of(name))) for name in READERS]
)
def test_a_reader_takes_whatever_comes(name: str) -> None:
    assert explore(TARGETS[name], mutated(TARGETS[name].seeds()), seconds_of(name)) > 50
