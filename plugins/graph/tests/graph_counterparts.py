"""Counterparts that others wrote, from npm: an identity provider and a server made of an OpenAPI document."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def npm_command(name: str, package: str) -> Path:
    """A command of an npm package; where it is not there, the test is skipped with the reason."""
    places = [os.environ.get("FACESVC_NPM_BIN", ""), str(HERE.parents[2] / ".venv" / "npm" / "node_modules" / ".bin")]
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(one for one in places if one))
    if found is None or shutil.which("node") is None:
        pytest.skip(f"{name} is not there: npm install {package}, and FACESVC_NPM_BIN=…/node_modules/.bin")
    return Path(found)


@contextmanager
def started(*command: str | Path) -> Iterator["subprocess.Popen[str]"]:
    """A process, ended at the end."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def identity(certificate: Path, roles: list[str]) -> Iterator[int]:
    """oauth2-mock-server over TLS; its port."""
    command = npm_command("oauth2-mock-server", "oauth2-mock-server").resolve()
    module = (command.parent / "index.mjs").as_uri()
    with started("node", HERE / "identity.mjs", module, certificate, certificate, *roles) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())


@contextmanager
def prism() -> Iterator[int]:
    """prism on the subset of Graph, refusing whatever breaks it; its port."""
    command = npm_command("prism", "@stoplight/prism-cli@5.14.2")
    with started(command, "mock", "--errors", "-h", "127.0.0.1", "-p", "0", HERE / "graph-subset.yaml") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "Prism is listening on" in line:
                yield int(line.rstrip().rpartition(":")[2])
                return
        raise AssertionError("prism did not start")
