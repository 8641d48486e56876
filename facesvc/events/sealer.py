"""Who seals what is written of people; ``gallery.keyring.Keyring`` does."""

from typing import Protocol


class Sealer(Protocol):
    """Seals with a key of each subject's own. Every method may be called from any thread."""

    def seal(self, collection_id: str, subject_id: str, plaintext: bytes, *name: str) -> bytes:
        """Something about somebody, bound to ``name``; empty ids: about nobody. ``NotFoundError``: no such subject."""
        ...

    def unseal(self, collection_id: str, subject_id: str, sealed: bytes, *name: str) -> bytes | None:
        """What was sealed; None where the key was destroyed. Raises ``DependencyError`` for what was changed."""
        ...

    def tag(self, purpose: str, data: bytes) -> bytes:
        """32 bytes that nobody can make without a key, the same for the same ``data`` (HMAC-SHA-256)."""
        ...
