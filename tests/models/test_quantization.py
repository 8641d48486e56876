"""What may be lost when a pack is made int8, and that neither choosing nor loading gets past it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from facesvc import engine
from facesvc.config import ModelSettings, Settings
from facesvc.errors import PreconditionError, WeightsError
from facesvc.models.library import Library
from facesvc.models.packs import MANIFEST, Pack, load_manifest
from facesvc.models.quantization import Quantization

GOOD = Quantization(7, 12, 0.98, 0.95, 2.1, 0.001, 0.013)


@pytest.mark.parametrize(
    ("changes", "objection"),
    [
        ({}, None),
        ({"accuracy_loss": 0.993 - 0.990, "tmr_loss": 0.75 - 0.73}, None),
        ({"accuracy_loss": -0.01, "tmr_loss": -0.1}, None),
        ({"accuracy_loss": 0.0031}, "0.31 points of accuracy, more than 0.3"),
        ({"tmr_loss": 0.021}, "2.10 points of true matches at a false-match rate of 1e-4, more than 2"),
        # What was measured counts, not what the cosines say.
        ({"mean_cosine": 0.9}, None),
        ({"mean_cosine": 0.95, "accuracy_loss": None, "tmr_loss": None}, None),
        ({"mean_cosine": 0.949, "accuracy_loss": None, "tmr_loss": None}, "mean cosine of 0.949.* was not measured"),
    ],
)
def test_the_bars(changes: dict[str, Any], objection: str | None) -> None:
    record = replace(GOOD, **changes)
    if objection is None:
        record.check("small")
        return
    with pytest.raises(PreconditionError, match=rf"pack small was made int8 and .*{objection}.*--images") as caught:
        record.check("small")
    assert caught.value.reason == "QUANTIZATION_LOSES_TOO_MUCH"


@pytest.mark.parametrize(
    "changes", [{"weight_bits": 6}, {"images": 0}, {"speedup": 0}, {"mean_cosine": 1.1}, {"tmr_loss": 2.0}]
)
def test_a_record_that_cannot_be(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="quantization"):
        replace(GOOD, **changes)


@pytest.fixture
def library(pack: Pack, tmp_path: Path) -> Library:
    """A library with a copy of the default pack called ``small``, said to be made int8."""
    made = Library(tmp_path)
    install(made, pack, GOOD)
    return made


def install(library: Library, pack: Pack, quantization: Quantization | None) -> Pack:
    contents = [(file.name, pack.path(file.name).read_bytes()) for file in pack.files]
    return library.install(replace(pack, name="small", quantization=quantization), contents)


def test_the_record_is_kept(library: Library, pack: Pack) -> None:
    assert library.open("small").quantization == GOOD
    unmeasured = replace(GOOD, accuracy_loss=None, tmr_loss=None)
    assert install(library, pack, unmeasured).quantization == unmeasured
    assert install(library, pack, None).quantization is None


def test_a_manifest_from_before_has_none(library: Library) -> None:
    path = library.path("small") / MANIFEST
    fields = json.loads(path.read_text())
    del fields["quantization"]
    path.write_text(json.dumps(fields))
    assert load_manifest(path.parent).quantization is None
    fields["quantization"] = {"weight_bits": 7}
    path.write_text(json.dumps(fields))
    with pytest.raises(WeightsError, match="'images' in quantization is missing"):
        load_manifest(path.parent)


def test_a_pack_that_lost_too_much_is_neither_chosen_nor_loaded(library: Library, pack: Pack) -> None:
    settings = Settings(models=ModelSettings(cache_dir=library.folder, pack="small"))
    library.choose("small")
    assert engine.load_models(settings).pack.name == "small"
    install(library, pack, replace(GOOD, tmr_loss=0.03))
    with pytest.raises(PreconditionError, match=r"use the float pack"):
        library.choose("small")
    with pytest.raises(PreconditionError, match=r"3\.00 points of true matches"):
        engine.load_models(settings)
    library.choose("default")  # which was not even built there
    assert library.chosen() == "default"
