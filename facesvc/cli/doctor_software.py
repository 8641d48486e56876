"""Checks of the software: Python, onnxruntime, OpenCV, the pack. They look, and change nothing."""

import os
import sys
from importlib import metadata

import facesvc
from facesvc.cli.findings import Finding, Level
from facesvc.config import Settings
from facesvc.engine import library
from facesvc.errors import DependencyError, NotFoundError, WeightsError
from facesvc.models import default_pack, packs
from facesvc.models.runtime import CPU, Network, available_providers, runtime_version, wanted_providers

OPENCV_BUILDS = ("opencv-python-headless", "opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")
"""Distributions that each bring the module cv2; the first is the one to keep."""

_PYTHONS = ((3, 11), (3, 13))


def python(_: Settings) -> Finding:
    """An interpreter that facesvc is tested with."""
    name = sys.implementation.name
    found = f"{name} {'.'.join(map(str, sys.version_info[:3]))}, facesvc {facesvc.__version__}"
    if name == "cpython" and _PYTHONS[0] <= sys.version_info[:2] <= _PYTHONS[1]:
        return Finding(Level.OK, found)
    return Finding(Level.WARNING, found, "use CPython 3.11, 3.12 or 3.13: facesvc is tested with no other")


def providers(settings: Settings) -> Finding:
    """What onnxruntime was asked to run the pack's networks on, and what it really does."""
    chosen = settings.models
    name = library(settings).active(chosen.pack)
    folder = chosen.cache_dir / name
    asked_for = wanted_providers(chosen.providers)
    start = f"onnxruntime {runtime_version()}, asked for {', '.join(asked_for)}"
    if packs.verify(folder):
        there = ", ".join(available_providers())
        return Finding(Level.WARNING, f"{start}; there are {there}", f"{_cure(name)}, then look again")
    try:
        pack = packs.load_manifest(folder)
        networks = [
            Network.load(pack.path(file), providers=chosen.providers, strict=chosen.strict_providers)
            for file in (*pack.detector.files.values(), pack.embedder.file)
        ]
    except DependencyError as error:
        advice = "set models.providers to what is there, or models.strict_providers to false"
        return Finding(Level.ERROR, f"{start}: {error.message}", advice)
    except NotFoundError as error:
        return Finding(Level.WARNING, start, error.message)
    used = dict.fromkeys(provider for network in networks for provider in network.providers)
    found = f"{start}, in use {', '.join(used)}"
    # The CPU is there for what an accelerator leaves; that none is left is nothing to warn of.
    if missing := [one for one in asked_for if one not in used and one != CPU]:
        advice = f"install the onnxruntime that brings {', '.join(missing)}, or take it out of models.providers"
        return Finding(Level.WARNING, found, advice)
    return Finding(Level.OK, found)


def telemetry(_: Settings) -> Finding:
    """The telemetry of onnxruntime is off."""
    if os.environ.get("ORT_DISABLE_TELEMETRY") == "1":
        return Finding(Level.OK, "onnxruntime's is off")
    return Finding(Level.ERROR, "onnxruntime's is on", "set ORT_DISABLE_TELEMETRY=1 for every process that imports it")


def opencv(_: Settings) -> Finding:
    """One build of OpenCV. Several overwrite each other's cv2, and removing any of them breaks it."""
    builds = {name: version for name in OPENCV_BUILDS if (version := _version(name))}
    found = ", ".join(f"{name} {version}" for name, version in builds.items())
    keep = OPENCV_BUILDS[0]
    if len(builds) == 1:
        return Finding(Level.OK, found)
    if not builds:
        return Finding(Level.WARNING, "its cv2 comes from no package that is known", f"pip install {keep}")
    # All have to go, because removing the others takes files away from the one that stays.
    advice = f"pip uninstall --yes {' '.join(builds)} && pip install {keep}"
    return Finding(Level.ERROR, f"{len(builds)} builds of the same module: {found}", advice)


def pack(settings: Settings) -> Finding:
    """Every file of the active pack is as its manifest says."""
    packs_here = library(settings)
    name = packs_here.active(settings.models.pack)
    try:
        folder = packs_here.path(name)
        if name == default_pack.NAME and not folder.exists():
            advice = "`facesvc models build`, or leave it to the first use"
            return Finding(Level.WARNING, f"{name} is not built yet", advice)
        if problems := packs.verify(folder):
            return Finding(Level.ERROR, f"{name} is damaged: {'; '.join(problems)}", _cure(name))
        packs_here.peek(name)
    except NotFoundError as error:
        where = "models.pack" if settings.models.pack else "`facesvc models use`"
        return Finding(Level.ERROR, error.message, f"{_cure(name)}, or choose another one with {where}")
    except WeightsError as error:
        return Finding(Level.ERROR, f"{name} cannot be used", error.message)
    return Finding(Level.OK, f"{name} is whole, in {folder}")


def _cure(name: str) -> str:
    """How a pack is put in place again."""
    if name == default_pack.NAME:
        return "`facesvc models build`"
    return f"`facesvc models pull {name}` or `facesvc models add`"


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
