"""The committed code of ``facesvc/v1`` is what its proto files give."""

from pathlib import Path

from generate import ROOT, generate


def test_generated_code_is_up_to_date(tmp_path: Path) -> None:
    fresh = tmp_path / "facesvc" / "v1"
    generate(fresh)
    committed = ROOT / "facesvc" / "v1"
    files = {path.name for path in fresh.iterdir()}
    assert files == {path.name for path in committed.iterdir() if path.is_file()}, "run `make proto`"
    stale = [name for name in sorted(files) if (fresh / name).read_bytes() != (committed / name).read_bytes()]
    assert not stale, "run `make proto`"
