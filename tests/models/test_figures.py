"""The record of a measurement comes back as it was, and a file that is none is refused by name."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from facesvc.errors import InputError, WeightsError
from facesvc.models.figures import Figures, TrueMatches, dump, load
from facesvc.models.library import Library

FIGURES = Figures(
    accuracy=0.991,
    deviation=0.004,
    tar=0.97,
    rank_one=0.96,
    tmr=(TrueMatches(1e-3, 0.93), TrueMatches(1e-4, 0.73)),
    data_set="lfw",
    time="2026-01-02T03:04:05+00:00",
)


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    library = Library(tmp_path)
    assert library.figures("mtcnn-128-abc") is None
    library.record("mtcnn-128-abc", FIGURES)
    library.record("mtcnn-128-abc", replace(FIGURES, accuracy=0.5))
    assert library.figures("mtcnn-128-abc") == replace(FIGURES, accuracy=0.5)
    assert library.figures("mtcnn-128-abd") is None
    assert library.names() == ["default"]  # the folder of records is no pack


def test_rates_that_were_measured() -> None:
    assert (FIGURES.tmr_at(1e-4), FIGURES.tmr_at(1e-5)) == (0.73, None)


def test_no_pack_may_be_called_so(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        Library(tmp_path).path("figures")
    with pytest.raises(InputError):
        Library(tmp_path).figures("../figures")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.pop("accuracy"), "'accuracy' in the manifest is missing"),
        (lambda f: f.update(rank_one="0.9"), "'rank_one' in the manifest is of type str"),
        (lambda f: f.update(tar=1.5), "1.5 is no share"),
        (lambda f: f.update(accuracy=float("nan")), "not a finite number"),
        (lambda f: f.update(tmr=[[1e-3]]), "not a list of 2 numbers"),
        (lambda f: f.update(tmr=[[1e-3, -0.1]]), "-0.1 is no share"),
        (lambda f: f.update(data_set=""), "'data_set' in the manifest is empty"),
        (lambda f: f.update(time="yesterday"), "yesterday"),
        (lambda f: f.update(time="2026-01-02T03:04:05"), "has no offset"),
    ],
)
def test_a_record_that_is_none_is_named(change: Callable[[dict[str, Any]], Any], message: str, tmp_path: Path) -> None:
    fields = json.loads(dump(FIGURES))
    change(fields)
    path = tmp_path / "figures" / "x.json"
    path.parent.mkdir()
    path.write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=message):
        load(path)
    with pytest.raises(WeightsError, match="evaluate the pack again, or remove that file"):
        Library(tmp_path).figures("x")


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b"{" + b" " * (1 << 21) + b"}"])
def test_any_bytes_may_be_there(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "x.json").write_bytes(content)
    with pytest.raises(WeightsError):
        Library(tmp_path).figures("x")
