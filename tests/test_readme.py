"""The README's commands do what it says, run as they stand there but for the port."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from facesvc.cli import commands
from facesvc.models.description import read_toml

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
ADDRESS = "127.0.0.1:50051"
BUF = ROOT / ".venv" / "buf" / "node_modules" / ".bin"


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, pictures: Path, guest_png: bytes, group_jpeg: bytes) -> Path:
    """The folder that a reader stands in, with people/ and door.jpg."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "people").mkdir()
    (folder / "people" / "Jane Doe.png").write_bytes(guest_png)
    (folder / "door.jpg").write_bytes(group_jpeg)
    return folder


@pytest.fixture(scope="module")
def environment(desk: Path, address: str, pack_cache: Path) -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), str(BUF), os.environ["PATH"]])
    # Nobody's settings but those that the README makes; and TLS, as it says.
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("FACESVC_", "XDG_"))}
    return {
        **ours,
        "HOME": str(desk),
        "PATH": path,
        "FACESVC_SERVER__LISTEN": address,
        "FACESVC_GALLERY__PATH": str(desk / "gallery" / "gallery.db"),
        "FACESVC_MODELS__CACHE_DIR": str(pack_cache),
    }


@pytest.fixture(scope="module")
def server(desk: Path, environment: dict[str, str]) -> Iterator[None]:
    """``facesvc serve &``, as the README has it."""
    assert blocks("sh")[0] == "facesvc init\nfacesvc serve &\n"
    subprocess.run(["facesvc", "init"], cwd=desk, env=environment, stdout=subprocess.PIPE, check=True)
    with subprocess.Popen(
        ["facesvc", "serve"], cwd=desk, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "serving" in process.stdout.readline()
        yield
        process.send_signal(signal.SIGTERM)


def run(text: str, desk: Path, environment: dict[str, str], address: str) -> str:
    text = text.replace(ADDRESS, address)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], cwd=desk, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def enrol_somebody(desk: Path, environment: dict[str, str], address: str) -> None:
    """As the reader has by now, also where a test runs alone."""
    if not (desk / "annotated.png").exists():
        run(blocks("sh")[1], desk, environment, address)


@pytest.mark.usefixtures("server")
def test_enrol_list_recognise(desk: Path, environment: dict[str, str], address: str) -> None:
    _, enrol, recognise, *_ = blocks("sh")
    assert "Jane Doe" in run(enrol, desk, environment, address)
    again = run(enrol, desk, environment, address)
    assert "DUPLICATE_IMAGE" in again
    run(recognise, desk, environment, address)
    assert (desk / "annotated.png").stat().st_size > 0


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_who_is_there(desk: Path, environment: dict[str, str], address: str) -> None:
    shown = run(blocks("sh")[3], desk, environment, address)
    assert "subject_id" in shown
    assert "full service" in shown


@pytest.mark.usefixtures("no_logs")
def test_the_camera_commands_exist() -> None:
    lines = [line for block in blocks("console") for line in block.splitlines() if line.startswith("facesvc camera")]
    assert len(lines) == 2
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(commands.app, ["camera", "--help"]).stdout
    options = {word for line in lines for word in shlex.split(line) if word.startswith("--")}
    assert options <= set(re.findall(r"--[a-z-]+", shown))


@pytest.mark.usefixtures("server")
def test_python(desk: Path, environment: dict[str, str], address: str) -> None:
    enrol_somebody(desk, environment, address)
    (python,) = blocks("python")
    (desk / "door.py").write_text(python.replace(ADDRESS, address))
    assert run("python door.py", desk, environment, address).count("unknown") == 6


@pytest.mark.usefixtures("server")
@pytest.mark.skipif(
    shutil.which("buf", path=BUF) is None, reason="buf is not installed: `make check` does where npm is"
)
def test_buf_curl(desk: Path, environment: dict[str, str], address: str) -> None:
    listed = run(blocks("sh")[7], desk, environment, address)
    assert "facesvc.v1.RecognitionService/Recognize" in listed
    assert '"name": "presence"' in listed


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_what_is_kept_of_people(desk: Path, environment: dict[str, str], address: str) -> None:
    enrol_somebody(desk, environment, address)
    said = run(blocks("sh")[4], desk, environment, address)
    assert "the receipt is as it was signed" in said
    assert (desk / "jane.zip").stat().st_size > 0


@pytest.mark.usefixtures("server")
def test_who_gets_in(desk: Path, environment: dict[str, str], address: str) -> None:
    said = run(blocks("sh")[5], desk, environment, address)
    assert "fsv_" in said
    assert said.count("door-1") >= 1


def test_what_a_match_sets_off(desk: Path, environment: dict[str, str], address: str) -> None:
    assert "webhook" in run(blocks("sh")[6], desk, environment, address)


def test_the_pack_toml(tmp_path: Path) -> None:
    (toml,) = blocks("toml")
    (tmp_path / "pack.toml").write_text(toml)
    assert read_toml(tmp_path).name == "lobby"


@pytest.mark.usefixtures("no_logs")
def test_the_models_commands_exist() -> None:
    lines = [line for block in blocks("console") for line in block.splitlines() if line.startswith("facesvc models")]
    assert len(lines) == 6
    for line in lines:
        command, *arguments = shlex.split(line, comments=True)[2:]
        shown = CliRunner(env={"COLUMNS": "200"}).invoke(commands.app, ["models", command, "--help"])
        assert shown.exit_code == 0, line
        assert all(argument in shown.stdout for argument in arguments if argument.startswith("--")), line


def test_every_target_it_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z-]+)", README)) <= targets
