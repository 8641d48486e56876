"""Nothing of ours runs data, starts a shell, or trusts whoever answers; and what we install is pinned by its hashes.

ruff forbids most of this too, line by line, and lets a comment allow it; here nothing is allowed but what is named.
Models of the catalogue: ``models/test_catalog.py``. What a box runs: ``test_sbom.py``.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = [ROOT / "facesvc", *sorted(ROOT.glob("plugins/*/facesvc_*")), ROOT / "deploy"]
SOURCES = [path for folder in FOLDERS for path in sorted(folder.rglob("*.py"))]
LOCKS = [ROOT / name for name in ("requirements.lock", "requirements-plugins.lock", "requirements-dev.lock")]
PROJECTS = [ROOT / "pyproject.toml", *sorted(ROOT.glob("plugins/*/pyproject.toml"))]

MODULES = {"joblib", "marshal", "shelve", "dill", "cloudpickle", "_pickle", "xmlrpc", "telnetlib", "ftplib"}
"""Never imported: they run what they read, or speak in the clear."""
NAMES = {
    *("eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec", "builtins.compile"),
    *("pickle.load", "pickle.loads", "pickle._load", "pickle._loads", "pickle.Unpickler", "pickle._Unpickler"),
    *("os.system", "os.popen", "pty.spawn", "asyncio.create_subprocess_shell"),
    *("subprocess.getoutput", "subprocess.getstatusoutput"),
    *("tempfile.mktemp", "yaml.load", "yaml.unsafe_load", "yaml.full_load"),
    *("ssl.CERT_NONE", "ssl.CERT_OPTIONAL", "ssl._create_unverified_context", "ssl._create_stdlib_context"),
}
"""Never named, by whatever alias."""
READERS = {"facesvc/models/mtcnn.py": {"pickle._Unpickler"}}
"""Who may: it knows a few opcodes and float32 arrays, and ``find_class`` imports nothing (``test_weight_readers``)."""
KEYWORDS = {"shell": False, "verify": True, "allow_pickle": False, "check_hostname": True}
"""Arguments and attributes that, where their value is written down, have this one. ``verify`` may be a context."""
# A name of a machine behind http:// that is not this machine; capitals stand for one in a message.
HTTP = re.compile(r"http://(?!(localhost|127\.0\.0\.1|\[::1\]|HOST)([:/]|\Z))[^/\s]|http://\Z")


def problems(source: str, place: str) -> list[str]:
    tree = ast.parse(source)
    names = aliases(tree)
    said = documentation(tree)
    allowed = READERS.get(place, set())
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=imported):
                found += [one.name for one in imported if one.name.split(".")[0] in MODULES]
            case ast.ImportFrom(module=str(module)):
                found += [module] if module.split(".")[0] in MODULES else []
                found += [name for one in node.names if (name := f"{module}.{one.name}") in NAMES - allowed]
            case ast.Name() | ast.Attribute() if (name := dotted(node, names)) in NAMES - allowed:
                found.append(name)
            case ast.Call(func=function, args=[first, *_]) if dotted(function, names).startswith("subprocess."):
                found += ["a command as text"] if is_text(first) else []
            case ast.Constant(value=str(text)) if node not in said and HTTP.search(text):
                found.append(text)
        found += written_down(node)
    return found


def written_down(node: ast.AST) -> list[str]:
    """Arguments and attributes whose value is plain to see, and not the one that it has to be."""
    pairs: list[tuple[str, ast.expr]] = []
    match node:
        case ast.keyword(arg=str(name), value=value):
            pairs = [(name, value)]
        case ast.Assign(targets=targets, value=value):
            pairs = [(target.attr, value) for target in targets if isinstance(target, ast.Attribute)]
    return [
        f"{name}={value.value!r}"
        for name, value in pairs
        if name in KEYWORDS and isinstance(value, ast.Constant) and value.value is not KEYWORDS[name]
    ]


def aliases(tree: ast.AST) -> dict[str, str]:
    """What the names that are imported stand for."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {one.asname: one.name for one in node.names if one.asname}
        elif isinstance(node, ast.ImportFrom):
            found |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    return found


def dotted(node: ast.AST, names: dict[str, str]) -> str:
    match node:
        case ast.Name(id=name):
            return names.get(name, name)
        case ast.Attribute(value=value, attr=name):
            return f"{dotted(value, names)}.{name}"
        case _:
            return ""


def is_text(node: ast.expr) -> bool:
    match node:
        case ast.Constant(value=str()) | ast.JoinedStr():
            return True
        case ast.BinOp(left=left, right=right):
            return is_text(left) or is_text(right)
        case _:
            return False


def documentation(tree: ast.AST) -> set[ast.AST]:
    """The strings that stand alone."""
    return {
        node.value for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_data_is_run_and_nobody_trusted_unseen(path: Path) -> None:
    assert problems(path.read_text(), str(path.relative_to(ROOT))) == []


BAD = {
    "import pickle\npickle.load(file)": "pickle.load",
    "import pickle as p\nread = p.loads": "pickle.loads",
    "from pickle import loads": "pickle.loads",
    "import pickle\nclass R(pickle.Unpickler): pass": "pickle.Unpickler",
    "import joblib": "joblib",
    "from joblib.numpy_pickle import load": "joblib.numpy_pickle",
    "import marshal": "marshal",
    "def f():\n    return eval('1')": "eval",
    "exec(code)": "exec",
    "__import__(name)": "__import__",
    "import os\nos.system('ls')": "os.system",
    "from os import popen": "os.popen",
    "import subprocess\nsubprocess.run(['ls'], shell=True)": "shell=True",
    "import subprocess\nsubprocess.run('ls')": "a command as text",
    "import subprocess as s\ns.Popen(f'ls {x}')": "a command as text",
    "import subprocess\nsubprocess.check_output('ls ' + x)": "a command as text",
    "import numpy as np\nnp.load(f, allow_pickle=True)": "allow_pickle=True",
    "import httpx\nhttpx.get(u, verify=False)": "verify=False",
    "context.check_hostname = False": "check_hostname=False",
    "import ssl\ncontext.verify_mode = ssl.CERT_NONE": "ssl.CERT_NONE",
    "import yaml\nyaml.load(x)": "yaml.load",
    "import tempfile\ntempfile.mktemp()": "tempfile.mktemp",
    "url = 'http://models.example/x'": "http://models.example/x",
    "url = f'http://{host}/x'": "http://",
    "url = 'http://127.0.0.1.example/'": "http://127.0.0.1.example/",
    "url = 'http://localhost:8080/x'": "",
    "'''See http://models.example'''": "",
    "import pickle\npickle.dumps(x)": "",
    "import re\nre.compile('x')": "",
    "import subprocess, sys\nsubprocess.run([sys.executable, 'x'], shell=False)": "",
    "import httpx\nhttpx.get(u, verify=context)": "",
}


@pytest.mark.parametrize("source", BAD)
def test_each_of_these_would_be_found(source: str) -> None:
    expected = BAD[source]
    found = problems(source, "facesvc/any.py")
    assert found == ([expected] if expected else [])


def test_who_may_read_pickles_is_there_and_does() -> None:
    for place, names in READERS.items():
        assert set(problems((ROOT / place).read_text(), "facesvc/any.py")) == names


def pins(lock: Path) -> Iterator[tuple[str, frozenset[str]]]:
    """Each requirement with its hashes."""
    for line in lock.read_text().replace("\\\n", "").splitlines():
        requirement, *hashes = re.split(r"\s+--hash=", line)
        yield requirement, frozenset(one.strip() for one in hashes)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_requirement_is_pinned_by_its_hashes(lock: Path) -> None:
    found = list(pins(lock))
    assert len(found) > 50
    for requirement, hashes in found:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.+!-]*( ; .+)?", requirement)
        assert hashes
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_no_lock_says_where_to_fetch_from(lock: Path) -> None:
    text = lock.read_text()
    assert not re.search(r"://|@ |^\s*-(?!-hash=)|index|find-links|trusted-host", text, re.MULTILINE)


def test_what_is_tested_is_what_a_box_runs() -> None:
    box, plugins, tests = ({name.split(" ;")[0]: hashes for name, hashes in pins(lock)} for lock in LOCKS)
    assert box.items() <= plugins.items() <= tests.items()


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: path.parent.name)
def test_every_dependency_says_what_it_is_for(path: Path) -> None:
    text = path.read_text()
    project = tomllib.loads(text)["project"]
    asked = [*project["dependencies"], *chain(*project.get("optional-dependencies", {}).values())]
    assert asked
    for requirement in asked:
        assert re.search(rf'"{re.escape(requirement)}"[\],]* +# \S+', text), f"{requirement}: what for?"


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: path.parent.name)
def test_a_wheel_brings_neither_weights_nor_pictures(path: Path) -> None:
    """All that lies in the folder of a package goes into its wheel, and nothing else."""
    wheel = tomllib.loads(path.read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert list(wheel) == ["packages"]
    for package in wheel["packages"]:
        for file in (path.parent / package).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                assert file.suffix in {".py", ".pyi", ".typed", ".txt"}, file
                assert file.stat().st_size < 100_000, file
                file.read_text()
