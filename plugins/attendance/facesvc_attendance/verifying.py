"""Whether exported files are as they were written: signature, hash of the CSV, and the chain of manifests."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from facesvc.errors import NotFoundError
from facesvc_attendance.folder import Folder
from facesvc_attendance.manifest import Manifest, is_signed, key_id, sha256

MAX_PROBLEMS = 100


@dataclass(slots=True)
class Finding:
    """What a verification found; all is well where there are no problems. ``remarks`` are only to know."""

    files: int = 0
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    manifests: dict[str, tuple[Manifest, str]] = field(default_factory=dict)
    """By their stem, with the hash of their bytes; those that are signed."""
    complete: bool = True
    """Whether all files were looked at."""


def verify_one(folder: Folder, stem: str, keys: Sequence[Ed25519PublicKey]) -> Finding:
    """One exported file, and that the manifest before is the one it names, where that is there."""
    finding = Finding()
    _look(folder, stem, keys, finding)
    manifest = finding.manifests.get(stem)
    if manifest is not None and manifest[0].previous:
        previous = f"{manifest[0].previous}.json"
        try:
            if sha256(folder.read(previous)) != manifest[0].previous_sha256:
                finding.problems.append(f"{previous} is not the one that was written before {stem}.json")
        except NotFoundError:
            finding.remarks.append(f"{previous}, written before, is not there to compare")
    return finding


def verify_all(folder: Folder, keys: Sequence[Ed25519PublicKey]) -> Finding:
    """All exported files of a folder, and that none between them is missing."""
    finding = Finding()
    for stem in folder.stems():
        if len(finding.problems) >= MAX_PROBLEMS:
            finding.complete = False
            finding.remarks.append("there are more problems: not all files were looked at")
            return finding
        _look(folder, stem, keys, finding)
    chain = sorted(finding.manifests.values(), key=lambda one: one[0].sequence)
    for (before, digest), (after, _) in pairwise(chain):
        if (after.sequence, after.previous, after.previous_sha256) != (before.sequence + 1, before.stem, digest):
            message = f"{after.stem}.json was not written next after {before.stem}.json: something between is missing"
            finding.problems.append(message)
    if chain and chain[0][0].sequence > 1:
        finding.remarks.append(f"what was written before {chain[0][0].stem}.json is not there")
    return finding


def _look(folder: Folder, stem: str, keys: Sequence[Ed25519PublicKey], finding: Finding) -> None:
    """At one manifest, its signature and its CSV."""
    finding.files += 1
    try:
        content, signature = folder.read(f"{stem}.json"), folder.read(f"{stem}.sig")
        if not any(is_signed(content, signature, key) for key in keys):
            names = ", ".join(map(key_id, keys))
            finding.problems.append(f"{stem}.json was changed, or signed with none of the keys {names}")
            return
        manifest = Manifest.parse(content)
        if manifest.stem != stem:
            finding.problems.append(f"{stem}.json was renamed: it is {manifest.stem}.json")
            return
        finding.manifests[stem] = (manifest, sha256(content))
        if sha256(folder.read(f"{stem}.csv")) != manifest.csv_sha256:
            finding.problems.append(f"{stem}.csv was changed")
    except NotFoundError as error:
        finding.problems.append(error.message)
    except ValueError as error:
        finding.problems.append(f"{stem}.json is no manifest of ours: {error}")
