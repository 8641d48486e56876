"""What a relay is, whatever it is wired to, and what its settings share."""

from typing import Protocol

from pydantic import BaseModel, ConfigDict

from facesvc.errors import DependencyError


class Table(BaseModel):
    """A table of the settings. What was wrong in it is not repeated: it may be a secret in the wrong place."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


class RelayError(DependencyError):
    """A relay, or the input beside it, did not do what it was told to, or not for certain."""

    reason = "RELAY_FAILED"


class Driver(Protocol):
    """A relay that opens one door, and maybe an input that says whether the door stands open.

    Any exception means that nobody knows what the relay does now: the caller switches it off. ``gate`` bounds the time
    of each call, so a driver may be cancelled at any place.
    """

    @property
    def has_input(self) -> bool:
        """Whether ``is_open`` can be asked."""
        ...

    async def on(self, seconds: float, reference: str) -> None:
        """Switch on; where the relay has a timer of its own, it is to go off by itself after ``seconds``.

        ``reference`` names the event, for relays that take note of it.
        """
        ...

    async def off(self) -> None:
        """Switch off; returns when the relay has said that it is."""
        ...

    async def is_open(self) -> bool | None:
        """Whether the door stands open; None while that is not known yet."""
        ...

    async def check(self) -> str:
        """Find out whether it can be reached, without switching anything; what was found, in words."""
        ...

    async def close(self) -> None:
        """Let go of it; the relay stays as it is."""
        ...
