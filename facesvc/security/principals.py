"""Whoever calls: known by a token, by a certificate, or because they are on this machine."""

from dataclasses import dataclass
from datetime import datetime

from facesvc.security.roles import Role

VOUCHED = "oidc:"
"""How the names of those begin for whom the identity provider vouches, and nobody else's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What of the box a principal may touch; an empty one of these does not limit.

    ``camera_ids``: the cameras that it streams, or whose decisions it reads. ``collection_ids``: the galleries.
    ``names``: whether a camera is told who somebody is.
    """

    camera_ids: frozenset[str] = frozenset()
    collection_ids: frozenset[str] = frozenset()
    names: bool = False

    def has_camera(self, camera_id: str) -> bool:
        """Whether a camera is within it."""
        return not self.camera_ids or camera_id in self.camera_ids

    def has_collection(self, collection_id: str) -> bool:
        """Whether a gallery is."""
        return not self.collection_ids or collection_id in self.collection_ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Somebody who calls. ``name`` stands in the audit log; ``token_id`` is empty where it is not known by a token.

    ``expire_time``: until when their certificate is good, or the identity provider vouches for them; a token's own end
    is looked up by its id.
    """

    name: str
    role: Role
    scope: Scope = Scope()
    token_id: str = ""
    expire_time: datetime | None = None

    @property
    def who(self) -> str:
        """The same for as long as they are the same, also with a renewed certificate or JWT."""
        return f"{self.role.value} {self.name} {self.token_id}"
