"""A box that is killed: events happen on it, and a plugin writes each into a file. Run as a program."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

from facesvc.delivery.kit import person, seen
from facesvc.delivery.rig import Rig
from facesvc.events.plugin import Box, Delivery, Manifest, PluginSettings, Role
from facesvc.events.records import SeenEvent

PEOPLE = 5


class Writer:
    """Acts on the world outside: a line for each event, which is there whatever happens to this process."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    async def start(self) -> None:
        """Nothing to do."""

    async def handle(self, delivery: Delivery) -> None:
        os.write(self._file, f"{delivery.event.event_id} {delivery.attempt}\n".encode())
        await asyncio.sleep(0.0005)  # so that some are always under way

    async def stop(self) -> None:
        os.close(self._file)


def manifest(folder: Path, *, at_most_once: bool) -> Manifest[PluginSettings]:
    make: Callable[[PluginSettings, Box], Writer] = lambda _settings, _box: Writer(folder / "effects")  # noqa: E731 - short
    return Manifest(
        name="writer",
        summary="Writes.",
        role=Role.ACTS,
        settings=PluginSettings,
        make=make,
        kinds=frozenset({SeenEvent}),
        at_most_once=at_most_once,
    )


async def run(folder: Path, *, at_most_once: bool, batches: int) -> None:
    """Let events happen in batches, each of which is told of when it is on the disk; then until all is settled."""
    rig = Rig(folder, manifest(folder, at_most_once=at_most_once), {})
    await rig.start()
    for _ in range(batches):
        rig.append(*(seen(person(f"p{number}"), rig.clock()) for number in range(PEOPLE)))
        sys.stdout.write("appended\n")
        sys.stdout.flush()
        await asyncio.sleep(0)
    await rig.settled()
    await rig.close()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), at_most_once=sys.argv[2] == "once", batches=int(sys.argv[3])))
