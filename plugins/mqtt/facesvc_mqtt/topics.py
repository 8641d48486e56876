"""Ids as parts of topics: an id may be any text, while ``/``, ``+`` and ``#`` have a meaning there."""

import json
import re
from dataclasses import dataclass
from hashlib import sha256

from facesvc.events.plugin import About
from facesvc.events.records import Event

MAX_SLUG = 40
_HASH = 12
# What looks as if we had made it is made anew, so that no id can be chosen to be taken for another.
_AS_IT_IS = re.compile(rf"(?!.*-[0-9a-f]{{{_HASH}}}\Z)[A-Za-z0-9_-]{{1,{MAX_SLUG}}}\Z")
_OTHER = re.compile(r"[^A-Za-z0-9_-]")


def slug(text: str) -> str:
    """Letters, digits, ``_`` and ``-``, at most 53: the text itself where it is so, else as ``joined`` makes it."""
    return text if _AS_IT_IS.match(text) else joined(text)


def joined(*texts: str) -> str:
    """Texts as one slug, always the same, and that of no others."""
    hashed = sha256(json.dumps(texts).encode()).hexdigest()[:_HASH]
    return f"{_OTHER.sub('_', '_'.join(texts)[:MAX_SLUG])}-{hashed}"


def label(text: str, otherwise: str) -> str:
    """Text to be shown to people: at most 100 characters, none that cannot be printed."""
    return "".join(one for one in text[:100] if one.isprintable()).strip() or otherwise


@dataclass(frozen=True, slots=True)
class Topics:
    """Where everything goes; the README has the table."""

    prefix: str
    discovery_prefix: str

    @property
    def node(self) -> str:
        """This box, among all that make entities in Home Assistant."""
        return slug(self.prefix)

    @property
    def status(self) -> str:
        """Whether this box is there: ``online`` or ``offline``."""
        return f"{self.prefix}/status"

    @property
    def check(self) -> str:
        """For the check of the settings alone."""
        return f"{self.prefix}/check"

    @property
    def birth(self) -> str:
        """Where Home Assistant says that it is back."""
        return f"{self.discovery_prefix}/status"

    @property
    def configs(self) -> str:
        """All that this box told Home Assistant to have, as a filter."""
        return self.config("+", "+")

    def config(self, component: str, object_id: str) -> str:
        """Where Home Assistant is told to have something."""
        return f"{self.discovery_prefix}/{component}/{self.node}/{object_id}/config"

    def camera(self, camera_id: str) -> str:
        """Where the events of a camera go."""
        return f"{self.prefix}/camera/{slug(camera_id)}/event"

    def person(self, about: About) -> str:
        """Where everything about somebody starts."""
        return f"{self.prefix}/person/{slug(about[0])}/{slug(about[1])}"

    def presence(self, about: About, zone: str) -> str:
        """Where it is said whether somebody is present in a zone: ``ON`` or ``OFF``."""
        return f"{self.person(about)}/zone/{slug(zone)}/presence"

    def event(self, event: Event) -> str:
        """Where an event goes: to its camera, or to the person it is about where it is of none."""
        if event.camera_id:
            return self.camera(event.camera_id)
        return f"{self.person((event.collection_id, event.about))}/event"
