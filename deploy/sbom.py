# noqa: INP001 - a program, and no module of a package
"""A program: what a box runs as a bill of materials, CycloneDX 1.6 in JSON: ``python deploy/sbom.py FILE``.

In it are facesvc and its plugins, every package of requirements-plugins.lock with the hashes that pip checks, what the
default pack is built from, and the packs of the catalogue. From the same tree and the same installed packages comes the
same file: it says no time, and its serial number is a hash of the rest. Licences are as installed packages state them.
"""

import hashlib
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from uuid import UUID

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from facesvc.models import catalog, default_pack
from facesvc.models.parts import Source

ROOT = Path(__file__).resolve().parent.parent
LOCK = "requirements-plugins.lock"
_LONGEST_NAME = 80  # characters; some packages put the whole text of their licence in place of its name


def bill() -> str:
    """The whole bill of materials."""
    own = _distribution(ROOT / "pyproject.toml", ComponentType.APPLICATION)
    plugins = [_distribution(path, ComponentType.LIBRARY) for path in sorted(ROOT.glob("plugins/*/pyproject.toml"))]
    packages = list(_packages((ROOT / LOCK).read_text()))
    models = [_default_pack(), *(_entry(entry) for entry in catalog.ENTRIES.values())]
    bom = Bom(components=[*plugins, *packages, *models], serial_number=UUID(int=0))
    bom.metadata.component = own
    bom.metadata.timestamp = None  # type: ignore[assignment]  # left out: the file says what it is made from, not when
    bom.register_dependency(own, [*_needed(ROOT / "pyproject.toml", packages), models[0]])
    for plugin, path in zip(plugins, sorted(ROOT.glob("plugins/*/pyproject.toml")), strict=True):
        bom.register_dependency(plugin, [own, *_needed(path, packages)])
    bom.serial_number = UUID(bytes=hashlib.sha256(_written(bom).encode()).digest()[:16], version=4)
    return _written(bom)


def _written(bom: Bom) -> str:
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def _project(path: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads(path.read_text())["project"]
    return project


def _distribution(path: Path, kind: ComponentType) -> Component:
    """The server itself, or one of its plugins."""
    project = _project(path)
    purl = PackageURL("pypi", name=project["name"], version=project["version"])
    return Component(
        type=kind,
        bom_ref=str(purl),
        name=project["name"],
        version=project["version"],
        description=project["description"],
        licenses=_licences(project["license"]),
        purl=purl,
    )


def _needed(path: Path, packages: Iterable[Component]) -> list[Component]:
    """What a distribution asks for by itself, in every locked version; facesvc with all its extras."""
    project = _project(path)
    extras = project.get("optional-dependencies", {})
    asked = [*project["dependencies"], *(line for lines in extras.values() for line in lines)]
    names = {canonicalize_name(Requirement(line).name) for line in asked}
    return [package for package in packages if package.name in names]


def _packages(lock: str) -> Iterator[Component]:
    for block in lock.replace("\\\n", " ").splitlines():
        words = block.split(" --hash=")
        requirement = Requirement(words[0])
        [pin] = requirement.specifier
        purl = PackageURL("pypi", name=requirement.name, version=pin.version)
        yield Component(
            bom_ref=str(purl),
            name=requirement.name,
            version=pin.version,
            hashes=[_sha256(word.strip().removeprefix("sha256:")) for word in words[1:]],  # of all its files
            licenses=_licences(_licence_of(requirement.name, pin.version)),
            purl=purl,
            properties=[Property(name="facesvc:for", value=str(requirement.marker))] if requirement.marker else [],
        )


def _licence_of(name: str, version: str) -> str:
    """As the package states it, where just that version is installed; else empty."""
    try:
        installed = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return ""
    if installed.version != version:
        return ""
    fields = installed.metadata
    for stated in (*fields.get_all("License-Expression", []), *fields.get_all("License", [])):
        if "\n" not in stated and len(stated) <= _LONGEST_NAME and stated != "UNKNOWN":
            return str(stated)
    classifiers = [line for line in fields.get_all("Classifier", []) if line.startswith("License ::")]
    return " or ".join(line.rpartition(" :: ")[2] for line in classifiers)


def _default_pack() -> Component:
    """The pack that is built on the box, out of files that packages bring."""
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"pack:{default_pack.NAME}",
        name=default_pack.NAME,
        version=default_pack.contract_id(),
        description="MTCNN and dlib's ResNet-29, converted to ONNX on the box, the embedder to int8",
        licenses=_licences(" AND ".join(sorted({source.licence for source in default_pack.SOURCES.values()}))),
        components=[
            *(_source(role, one, ComponentType.MACHINE_LEARNING_MODEL) for role, one in default_pack.WEIGHTS.items()),
            *(_source(role, one, ComponentType.DATA) for role, one in default_pack.PICTURES.items()),
        ],
    )


def _source(role: str, source: Source, kind: ComponentType) -> Component:
    return Component(
        type=kind,
        bom_ref=f"pack:{default_pack.NAME}/{role}",
        name=f"{source.package}/{source.file}",
        version=source.version,
        hashes=[_sha256(source.sha256)],
        licenses=_licences(source.licence),
    )


def _entry(entry: catalog.Entry) -> Component:
    """A pack that somebody may ask for; a box has it only then."""
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"pack:{entry.name}",
        name=entry.name,
        scope=ComponentScope.OPTIONAL,
        licenses=_licences(" AND ".join(sorted({remote.licence for remote in entry.remotes}))),
        components=[_remote(entry, remote) for remote in entry.remotes],
    )


def _remote(entry: catalog.Entry, remote: catalog.Remote) -> Component:
    unpinned = [Property(name="facesvc:sha256", value="none is published: pinned on a box when it is first fetched")]
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"pack:{entry.name}/{remote.name}",
        name=remote.name,
        version=remote.version,
        scope=ComponentScope.OPTIONAL,
        hashes=[_sha256(remote.sha256)] if remote.sha256 else [],
        licenses=_licences(remote.licence),
        external_references=[ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(remote.url()))],
        properties=[] if remote.sha256 else unpinned,
    )


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)


def _licences(stated: str) -> list[License]:
    return [LicenseFactory().make_from_string(stated)] if stated else []


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(bill())
