"""``facesvc models migrate``: the server's models change, and the command says who is left out."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cli.running import Facesvc, serving, settings_for

from facesvc.client import Client, sample
from facesvc.models.library import Library
from facesvc.models.packs import contract_of
from facesvc.v1 import enrollment_pb2


@pytest.fixture
def own(pack_cache: Path, tmp_path: Path, faces: dict[str, Path]) -> Iterator[str]:
    """A server of the test's own with two packs, which knows Ana with a crop; its address."""
    shutil.copytree(pack_cache, tmp_path / "packs")
    library = Library(tmp_path / "packs")
    default = library.open("default")
    embedder = replace(default.embedder, template=tuple((x + 0.1, y) for x, y in default.embedder.template))
    contract_id = contract_of(default.detector, embedder, default.files, default.dimension)
    other = replace(default, name="other", embedder=embedder, contract_id=contract_id)
    library.install(other, [(file.name, default.path(file.name).read_bytes()) for file in default.files])
    settings = settings_for(tmp_path, library.folder)
    enrollment = settings.enrollment.model_copy(update={"keep_crops": True})
    with serving(settings.model_copy(update={"enrollment": enrollment})) as address, Client(address) as client:
        client.create_subject(enrollment_pb2.Subject(subject_id="ana", display_name="Ana"))
        [verdict] = client.enroll([sample("ana", faces["Ana"].read_bytes())])
        assert verdict.verdict == enrollment_pb2.ENROLLMENT_VERDICT_ENROLLED
        yield address


def test_there_and_back(facesvc: Facesvc, own: str) -> None:
    there = facesvc("models", "migrate", "other", "--server", own)
    assert there.status == 0
    assert "other is in use: 1 samples under " in there.out
    assert "100.0% of 1 crops find their own person first" in there.out
    out = facesvc("models", "migrate", "--rollback", "--server", own, "--json").out
    back = json.loads(out[out.index("{") :])  # the server in this process logs before it
    assert (back["stage"], back["model_pack"]["name"]) == ("MIGRATION_STAGE_SWITCHED", "default")


def test_a_pack_that_is_not_there(facesvc: Facesvc, server: str) -> None:
    result = facesvc("models", "migrate", "nobody", "--server", server)
    assert result.status == 2
    assert "there is no model pack" in result.err


@pytest.mark.parametrize("arguments", [(), ("other", "--rollback")])
def test_one_of_name_and_rollback(facesvc: Facesvc, server: str, arguments: tuple[str, ...]) -> None:
    result = facesvc("models", "migrate", *arguments)
    assert result.status == 2
    assert "name the pack to change to, or say --rollback" in result.err
