"""Each command is there, and loads no more than it needs."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from facesvc.cli import commands


@pytest.mark.usefixtures("no_logs")
@pytest.mark.parametrize("name", commands._PLACES)
def test_each_says_how_it_is_used(name: str) -> None:
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(commands.app, [name, "--help"])
    assert shown.exit_code == 0
    assert f"{name} [" in shown.stdout
    assert "--install-completion" not in shown.stdout


def test_a_small_command_does_not_wait_for_what_large_ones_need() -> None:
    program = """
import sys
from typer.testing import CliRunner
from facesvc.cli import commands
assert CliRunner().invoke(commands.app, ["token", "list", "--help"]).exit_code == 0
print(*({"scipy", "onnx", "onnxruntime", "faiss", "matplotlib", "msal"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
