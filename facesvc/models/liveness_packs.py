"""A pack of kind ``liveness``: networks that tell a living face from a picture of one.

It lies among the others and has a manifest as they have, with ``"kind": "liveness"``. It makes no vectors, so it has no
embedding contract and no calibration, and it is named in the setting ``[liveness] pack`` instead of being chosen.
"""

from dataclasses import dataclass
from pathlib import Path

from facesvc.models import manifest, parts
from facesvc.models.parts import PLAIN_NAME, Acceptance, Source, StoredFile, check

KIND = "liveness"
FAMILIES = ("minifasnet", "insightface")
"""``minifasnet``: a network or more, each with the scale that it wants the box of the face grown by.
``insightface``: the liveness add-on of insightface 2.1, one network that is shown an aligned face."""


@dataclass(frozen=True, slots=True)
class LivenessNetwork:
    """A network, and what its family says of how a face is cut out for it: ``scale`` is how much the box is grown."""

    file: str
    scale: float | None = None


@dataclass(frozen=True, slots=True)
class LivenessPack:
    """Everything about a pack of kind liveness that lies in ``folder``; its score is the mean over its networks."""

    name: str
    folder: Path
    family: str
    networks: tuple[LivenessNetwork, ...]
    sources: tuple[Source, ...]
    files: tuple[StoredFile, ...]
    acceptances: tuple[Acceptance, ...] = ()

    def __post_init__(self) -> None:
        check(PLAIN_NAME.fullmatch(self.name), f"{self.name!r} is not a plain name")
        check(self.family in FAMILIES, f"there is no liveness family {self.family!r}")
        check(self.networks, "a liveness pack without a network")
        if self.family == "insightface":
            check(len(self.networks) == 1, "the insightface family has one network")
            check(self.networks[0].scale is None, "the insightface family has no scale: its faces are aligned")
        else:
            scaled = all(one.scale is not None and 1 <= one.scale <= 10 for one in self.networks)
            check(scaled, f"each network of {self.family} needs a scale from 1 to 10")
        missing = {one.file for one in self.networks} - {file.name for file in self.files}
        check(not missing, f"{', '.join(sorted(missing))} is not among the files")

    @property
    def licences(self) -> tuple[str, ...]:
        """As ``Pack.licences``."""
        return parts.licences(self.sources)

    def path(self, name: str) -> Path:
        """Where a file of the pack lies."""
        return self.folder / name


def read(folder: Path, fields: manifest.Fields) -> LivenessPack:
    """The pack that a manifest of this kind describes. Raises ``ValueError``."""
    return LivenessPack(
        name=fields.text("name"),
        folder=folder,
        family=fields.text("family"),
        networks=tuple(
            LivenessNetwork(one.text("file"), one.number("scale") if one.has("scale") else None)
            for one in fields.objects("networks")
        ),
        sources=parts.read_sources(fields),
        files=parts.read_files(fields),
        acceptances=parts.read_acceptances(fields),
    )
