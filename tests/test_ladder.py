"""The imports form a ladder: a room imports only from the rooms below it, and each driver has one importer."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "facesvc"

# Who may import whom, as the design has it; a room may always import itself and facesvc/__init__.py.
MAY_IMPORT = {
    "errors": set(),
    "v1": set(),
    "config": {"errors"},
    "database": {"errors"},
    "models": {"errors"},
    "vision": {"errors"},
    "gallery": {"errors", "database"},
    "security": {"errors", "database"},
    "stream": {"errors", "vision", "gallery"},
    "events": {"errors", "database"},
    "delivery": {"errors", "database", "events"},
    "backup": {"errors", "database", "gallery", "events"},
    "engine": {"errors", "config", "models", "vision"},
    "api": {
        "errors",
        "config",
        "engine",
        "models",
        "vision",
        "gallery",
        "stream",
        "events",
        "delivery",
        "security",
        "backup",
        "v1",
    },
    "app": {
        "errors",
        "config",
        "database",
        "models",
        "vision",
        "gallery",
        "stream",
        "events",
        "delivery",
        "security",
        "backup",
        "engine",
        "api",
    },
    "client": {"v1"},
    "cli": {
        "errors",
        "config",
        "database",
        "models",
        "vision",
        "gallery",
        "events",
        "delivery",
        "security",
        "backup",
        "client",
        "engine",
        "app",
        "v1",
    },
    "__main__": {"cli"},
}
# Who alone may import a package.
ONLY_IMPORTERS = {
    "onnxruntime": {"models/runtime.py", "models/quantizer_program.py"},
    "faiss": {"gallery/index"},
    "sqlite3": {"database/sqlite.py"},
    "psycopg": {"database/postgres"},
    "cryptography": {"gallery/crypto.py", "security/authority.py"},
    "grpc": {"api", "client"},
    "insightface": {"models/insightface_program.py"},
    "httpx": {"models/download.py", "security/jwks.py"},
    "jwt": {"security/jwks.py", "security/oidc.py"},
}
NEVER_IMPORTED = {"tensorflow", "torch", "dlib", "mtcnn", "face_recognition_models"}

SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if "v1" not in path.relative_to(PACKAGE).parts)


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_from_below(path: Path) -> None:
    own = room(path)
    if own == "__init__":
        assert not {name for name in imports(path) if name.startswith("facesvc")}
        return
    used = {name.split(".")[1] for name in imports(path) if name.startswith("facesvc.")} & MAY_IMPORT.keys()
    assert used - {own} <= MAY_IMPORT[own]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_driver_has_one_importer(path: Path) -> None:
    place = str(path.relative_to(PACKAGE))
    used = {name.split(".")[0] for name in imports(path)}
    assert not used & NEVER_IMPORTED
    for package in used & ONLY_IMPORTERS.keys():
        assert any(place == owner or place.startswith(f"{owner}/") for owner in ONLY_IMPORTERS[package])


def test_every_room_is_on_the_ladder() -> None:
    assert {room(path) for path in SOURCES} - {"__init__"} <= MAY_IMPORT.keys()
