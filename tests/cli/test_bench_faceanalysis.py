"""The comparison with the insightface package, on networks that learnt nothing and, where they are, on real ones."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from models import graphs

from facesvc.cli.bench_faceanalysis import SIZES, compare, float_pack_of
from facesvc.config import ModelSettings, Settings
from facesvc.engine import library
from facesvc.errors import InputError
from facesvc.models import intake


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An own library, without a pack."""
    return Settings(models=ModelSettings(cache_dir=tmp_path / "packs", pack="net"))


def install(folder: Path, settings: Settings) -> None:
    intake.draft(folder, "", library(settings), accepted=True, now=datetime.now(UTC)).install(library(settings))


def jpegs(count: int) -> list[bytes]:
    random = np.random.default_rng(1)
    coarse = [random.integers(0, 255, (12, 16, 3), np.uint8) for _ in range(count)]
    return [simplejpeg.encode_jpeg(np.ascontiguousarray(each.repeat(20, 0).repeat(20, 1))) for each in coarse]


@pytest.mark.slow
def test_both_run_on_the_same_pictures(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "net"
    folder.mkdir()
    (folder / "find.onnx").write_bytes(graphs.detector())
    (folder / "who.onnx").write_bytes(graphs.embedder())
    install(folder, settings)
    results = compare(settings, jpegs(3), rounds=2)
    assert [one.size for one in results] == list(SIZES)
    for one in results:
        assert one.frames == 3
        assert one.ours_ms > 0
        assert one.theirs_ms > 0
        assert one.ratio == one.ours_ms / one.theirs_ms
        assert 0 <= one.both_found <= one.ours_found


def test_a_pack_of_another_family(pack_cache: Path) -> None:
    settings = Settings(models=ModelSettings(cache_dir=pack_cache, pack="default"))
    with pytest.raises(InputError, match="FaceAnalysis cannot run the pack default"):
        float_pack_of(settings, library(settings).open("default"))


@pytest.mark.slow
def test_faces_that_both_find(settings: Settings, shared: Path, group_jpeg: bytes) -> None:
    install(shared / "models" / "insightface" / "edge_s", settings)
    own = settings.model_copy(update={"models": settings.models.model_copy(update={"pack": "edge_s"})})
    for one in compare(own, [group_jpeg], rounds=1):
        assert (one.ours_found, one.theirs_found, one.both_found) == (6, 6, 6)
