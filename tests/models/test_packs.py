"""A manifest may hold anything: what is amiss is named, and nothing outside of the folder is ever looked at."""

import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facesvc.errors import WeightsError
from facesvc.models.chunks import CHUNK_BYTES
from facesvc.models.packs import MANIFEST, Pack, dump_manifest, load_manifest, verify
from facesvc.models.parts import Acceptance, stored

Change = Callable[[dict[str, Any]], object]


def written(folder: Path, content: bytes) -> Path:
    (folder / MANIFEST).write_bytes(content)
    return folder


def test_what_is_written_is_read(pack: Pack) -> None:
    assert load_manifest(pack.folder) == pack
    assert json.loads(dump_manifest(pack))["format"] == 2
    assert pack.path("pnet.onnx") == pack.folder / "pnet.onnx"


def test_acceptances_are_kept(pack: Pack, tmp_path: Path) -> None:
    accepted = replace(
        pack, folder=tmp_path, acceptances=(Acceptance("research", "0" * 64, "2026-05-04T12:30:00+00:00"),)
    )
    assert load_manifest(written(tmp_path, dump_manifest(accepted))) == accepted


def test_a_file_has_a_hash_for_each_of_its_chunks() -> None:
    content = bytes(CHUNK_BYTES) + b"x"
    file = stored("a.onnx", content)
    assert file.chunks == (sha256(bytes(CHUNK_BYTES)).hexdigest(), sha256(b"x").hexdigest())
    assert (file.size_bytes, file.sha256) == (CHUNK_BYTES + 1, sha256(content).hexdigest())
    assert stored("empty", b"").chunks == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format=1), "format 1 is not the one"),
        (lambda m: m.update(format=3), "format 3 is not the one"),
        (lambda m: m.update(format=True), "'format' in the manifest is of type bool, not int"),
        (lambda m: m.pop("contract_id"), "'contract_id' in the manifest is missing"),
        (lambda m: m.update(contract_id=""), "'contract_id' in the manifest is empty"),
        (lambda m: m.update(contract_id="../a"), "'../a' is not a plain name"),
        (lambda m: m.update(contract_id="a" * 65), "'a{65}' is not a plain name"),
        (lambda m: m.update(name="../default"), "'../default' is not a plain name"),
        (lambda m: m.update(dimension=-128), "'dimension' in the manifest is negative"),
        (lambda m: m.update(dimension=0), "a dimension of 0"),
        (lambda m: m.update(files={}), "'files' in the manifest is of type dict, not list"),
        (lambda m: m.update(files=["pnet.onnx"]), r"files\[0\] is not an object"),
        (lambda m: m["files"][0].update(name="../../etc/passwd"), "'../../etc/passwd' is not a plain file name"),
        (lambda m: m["files"][0].update(name="/etc/passwd"), "'/etc/passwd' is not a plain file name"),
        (lambda m: m["files"][0].update(name=".."), "'..' is not a plain file name"),
        (lambda m: m["files"][0].update(name="a\0b"), "is not a plain file name"),
        (lambda m: m["files"][0].update(name="pnet.onnx\n"), "is not a plain file name"),
        (lambda m: m["files"][0].update(sha256="0" * 63), "is not a SHA-256"),
        (lambda m: m["files"][0].pop("chunks"), "'chunks' in .* is missing"),
        (lambda m: m["files"][0].update(chunks=[1]), "'chunks' in .* holds something else than strings"),
        (lambda m: m["files"][0].update(chunks=["0" * 63]), "is not a SHA-256"),
        (lambda m: m["files"][0]["chunks"].append("0" * 64), "pnet.onnx has 2 chunks, not 1"),
        (lambda m: m["files"][0].update(size_bytes=1 << 60), "pnet.onnx has 1 chunks, not [0-9]+"),
        (lambda m: m.pop("acceptances"), "'acceptances' in the manifest is missing"),
        (
            lambda m: m["acceptances"].append({"licence": "x", "time": "y"}),
            r"'text_sha256' in acceptances\[0\] is missing",
        ),
        (
            lambda m: m["acceptances"].append({"licence": "x", "text_sha256": "0", "time": "y"}),
            "'0' is not a SHA-256",
        ),
        (lambda m: m["files"].pop(0), "pnet.onnx is not among the files"),
        (lambda m: m["sources"][3].pop("licence"), r"'licence' in sources\[3\] is missing"),
        (lambda m: m["detector"].update(family="haar"), "there is no detector family 'haar'"),
        (lambda m: m["detector"]["files"].pop("onet"), "a detector of mtcnn has the files pnet, rnet, onet"),
        (lambda m: m["detector"]["files"].update(onet=3), "'onet' in files is of type int, not str"),
        (lambda m: m["detector"].update(family="yunet"), "a detector of yunet has the files detector"),
        (lambda m: m["detector"].pop("colour_order"), "'colour_order' in detector is missing"),
        (lambda m: m["detector"].update(colour_order="rgb"), "there is no colour order 'rgb'"),
        (lambda m: m["detector"].update(std=0), "a std of 0"),
        (lambda m: m["embedder"].update(std=float("nan")), "'std' in embedder holds nan"),
        (lambda m: m["embedder"].update(std=10**400), "'std' in embedder holds 10+, which is not a finite number"),
        (lambda m: m["embedder"].update(mean=[1, 2]), "'mean' in embedder is not a list of 3 numbers"),
        (lambda m: m["embedder"].update(mean=[1, 2, "3"]), "'mean' in embedder holds 3, which is not"),
        (lambda m: m["embedder"].update(side=150.0), "'side' in embedder is of type float, not int"),
        (lambda m: m["embedder"].update(side=1 << 40), "a chip of 1099511627776 pixels"),
        (lambda m: m["embedder"].update(colour_order="GBR"), "there is no colour order 'GBR'"),
        (lambda m: m["embedder"]["template"].pop(), "a template of 4 points"),
        (lambda m: m["embedder"]["template"].append(3), "'template' in embedder is not a list of 2 numbers"),
        (lambda m: m["embedder"]["template"][0].__setitem__(0, 151), "the template reaches beyond the chip"),
        (lambda m: m["calibration"]["points"].reverse(), "is not stricter than"),
    ],
)
def test_what_is_amiss_is_named(change: Change, message: str, pack: Pack, tmp_path: Path) -> None:
    manifest = json.loads(dump_manifest(pack))
    change(manifest)
    folder = written(tmp_path, json.dumps(manifest).encode())
    with pytest.raises(WeightsError, match=message) as refusal:
        load_manifest(folder)
    assert str(tmp_path / MANIFEST) in refusal.value.message
    assert "facesvc models build" in refusal.value.message
    assert verify(folder) == [refusal.value.message]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Expecting value"),
        (b"[]", "the manifest is not an object"),
        (b"null", "the manifest is not an object"),
        (b"\xff\xfe\xfd", "codec can't decode"),
        (b'{"format": 1' + b"0" * 5000 + b"}", "4300 digits"),
        (b"[" * 500_000, "nested too deeply"),
        (b'{"name": "' + b"x" * (1 << 20) + b'"}', "more than 1048576 bytes"),
    ],
    ids=["empty", "list", "null", "no text", "long number", "deep", "large"],
)
def test_what_is_no_manifest_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=message):
        load_manifest(written(tmp_path, content))


def test_no_folder_and_no_manifest_are_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        (problem,) = verify(folder)
        assert "manifest.json is missing" in problem


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=5,
)
# The folder is the same for all examples: each writes its manifest over the one before.
many = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@many
@given(data=st.data(), value=json_values)
def test_any_value_in_any_place(data: st.DataObject, value: object, pack: Pack, tmp_path: Path) -> None:
    manifest = json.loads(dump_manifest(pack))
    place: Any = manifest
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = value
    folder = written(tmp_path, json.dumps(manifest).encode())
    try:
        found = load_manifest(folder)
    except WeightsError:
        return
    assert all(found.path(file.name).parent == folder for file in found.files)


def test_files_that_are_missing_cut_or_changed_are_named(pack: Pack, tmp_path: Path) -> None:
    written(tmp_path, dump_manifest(pack))
    (tmp_path / "pnet.onnx").write_bytes(pack.path("pnet.onnx").read_bytes()[:-1])
    (tmp_path / "rnet.onnx").write_bytes(bytes(pack.path("rnet.onnx").stat().st_size))
    (tmp_path / "onet.onnx").symlink_to(pack.path("onet.onnx"))
    size = pack.path("pnet.onnx").stat().st_size
    assert verify(tmp_path) == [
        f"pnet.onnx has {size - 1} bytes instead of {size}",
        "rnet.onnx has another SHA-256 than the manifest says",
        "embedder.onnx cannot be read: No such file or directory",
    ]
