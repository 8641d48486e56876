"""What a check of ``facesvc doctor`` says: how bad it is, what was found, and what to do about it."""

import enum
from collections.abc import Callable
from dataclasses import dataclass

from facesvc.config import Settings


class Level(enum.Enum):
    """How bad a finding is; the command fails for errors alone."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found; ``advice`` says what to do about it, and is empty where all is well."""

    level: Level
    found: str
    advice: str = ""

    def __post_init__(self) -> None:
        if (self.level is Level.OK) == bool(self.advice):
            raise ValueError(f"a finding that is {self.level.value} with the advice {self.advice!r}")


Check = Callable[[Settings], Finding]


def examine(check: Check, settings: Settings) -> Finding:
    """The finding of ``check``; an error where the check itself fails, so that the others are still heard."""
    try:
        return check(settings)
    except Exception as error:  # noqa: BLE001 - the box under examination may be broken in any way
        return Finding(
            Level.ERROR, f"could not be looked at: {error!r}", "please report this: doctor should cope with it"
        )
