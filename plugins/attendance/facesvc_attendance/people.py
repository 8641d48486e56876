"""Who people are, at the moment somebody asks: bookings hold no names."""

from collections.abc import Iterable
from dataclasses import dataclass

from facesvc.events.plugin import About, Box

EMPLOYEE_NO = "employee_no"
"""The external id that goes into files, for the payroll."""


@dataclass(frozen=True, slots=True)
class Card:
    """What a file says of a person."""

    display_name: str
    employee_no: str


async def cards(box: Box, whom: Iterable[About]) -> dict[About, Card]:
    """Of those who are enrolled; who was erased a moment ago is not among them."""
    found = {about: await box.person(about) for about in set(whom)}
    return {
        about: Card(person.display_name, person.external_ids.get(EMPLOYEE_NO, ""))
        for about, person in found.items()
        if person is not None
    }
