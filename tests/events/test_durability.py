"""What a watcher was given survives ``kill -9``, and who resumes misses nothing and gets nothing twice."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from events.making import opened

# Writes until it is killed. A second thread is the watcher: it prints the token and the id of each event it was given,
# and of each first the id of what was handed in before it was written.
WRITE = """
import sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from events.making import T0, opened, seen, stay

opening = opened(sys.argv[1], Path(sys.argv[2]))
journal = opening.__enter__()
place = journal.place(sys.argv[4]) if sys.argv[4] else journal.head

def watch(place):
    while True:
        for number, event in journal.read(place, 7):
            place = number
            print(journal.token(number), event.event_id, flush=True)

threading.Thread(target=watch, args=(place,), daemon=True).start()
for batch in range(1_000_000):
    journal.append([seen() for _ in range(batch % 4 + 1)], [stay()])
"""


def run_until_killed(url: str, key_path: Path, token: str, lines: int) -> list[tuple[str, str]]:
    """What the watcher of a writer was given that came up, went on after ``token`` and was killed: tokens and ids."""
    command = [sys.executable, "-c", WRITE, url, str(key_path), str(Path(__file__).resolve().parents[1]), token]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        read = [child.stdout.readline() for _ in range(lines)]
        child.send_signal(signal.SIGKILL)
        read += child.stdout.readlines()
    assert child.returncode == -signal.SIGKILL
    return [(token, event_id) for token, event_id in (line.split() for line in read if line.endswith("\n"))]


@pytest.mark.parametrize("database_url", ["sqlite", pytest.param("postgres", marks=pytest.mark.slow)], indirect=True)
def test_nothing_is_lost_or_twice_across_kills(database_url: str, key_path: Path) -> None:
    with opened(database_url, key_path):
        pass
    given: list[str] = []
    token = ""
    for _ in range(3):
        lines = run_until_killed(database_url, key_path, token, 60)
        given += [event_id for _, event_id in lines]
        token = lines[-1][0]
    with opened(database_url, key_path) as journal:
        kept = [event.event_id for _, event in journal.read(0, 1_000_000)]
        rest = [event.event_id for _, event in journal.read(journal.place(token), 1_000_000)]
    # What was given is what is kept, in order and each once; resumed once more, the rest follows.
    assert given + rest == kept
    assert len(given) >= 180
