"""One call closes all doors, until somebody releases them; also across a restart.

It holds from the moment of the call, in memory, and is written down after that. What is written counts too: several
boxes may share one gallery. Where it is not known - before the start, or while the database is away - it holds.
"""

from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue

from facesvc.events.plugin import Notes

_KEY = "lockdown"


@dataclass(slots=True)
class Lockdown:
    """``holds``: whether this box closes its doors, by what it knows without asking anybody."""

    notes: Notes
    holds: bool = True

    async def begin(self) -> None:
        """Read what holds since before the start. Raises what ``Notes`` raises; it holds then."""
        self.holds = await self.notes.get(_KEY) is not None

    async def asked(self) -> bool:
        """Whether it holds, by what is written too."""
        return self.holds or await self.notes.get(_KEY) is not None

    async def kept(self) -> JsonValue:
        """Who closed the doors, when and why; None where nobody did."""
        return await self.notes.get(_KEY)

    async def write(self, by: str, reason: str, now: datetime) -> bool:
        """Write it down; whether it was new. The first one's words stay."""
        return await self.notes.put_new(_KEY, {"time": now.isoformat(), "by": by, "reason": reason})

    async def release(self) -> bool:
        """Open to everybody's permissions again; whether it held. What is written goes first."""
        held = await self.notes.delete(_KEY)
        held, self.holds = held or self.holds, False
        return held
