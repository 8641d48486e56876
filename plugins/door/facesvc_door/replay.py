"""Nothing opens a door twice: what was seen is remembered before the relay is touched, and across restarts.

Both the event and its decision count as seen: neither an event that is delivered again nor a second event about the
same decision passes. What is kept holds no person, so erasing somebody does not open the way for what they left behind.
Decisions live for seconds; that they are remembered for hours is for clocks that are set back.
"""

from datetime import datetime, timedelta

from facesvc.events.plugin import Notes

KEEP = timedelta(hours=6)


async def claim(notes: Notes, event_id: str, decision_id: str, now: datetime) -> bool:
    """Whether neither was seen before; from now on both are. Raises what ``Notes`` raises: then nobody knows."""
    new_event = await notes.put_new(f"seen/event/{event_id}", True, expire_time=now + KEEP)  # noqa: FBT003 - a JSON value
    new_decision = await notes.put_new(f"seen/decision/{decision_id}", True, expire_time=now + KEEP)  # noqa: FBT003 - a JSON value
    return new_event and new_decision
