"""The order of the rooms: a module imports only from rooms below its own, and from its own."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from helpers import ROOT

PACKAGE = ROOT / "zarrs"
# From top to bottom; "" is the face, the modules of the package itself. What users import, which is
# the package's __init__.py, has names of the rooms above the face as well.
ROWS = (
    {"__main__"},
    {"cli"},
    {"__init__"},
    {"copying"},
    {"checking"},
    {""},
    {"storage"},
    {"execution"},
    {"sharding"},
    {"chunks"},
    {"codecs"},
    {"indexing", "arrays", "filesystem"},
    {"caching"},
    {"runtime"},
    {"_core"},
)
DEPTH = {room: depth for depth, row in enumerate(ROWS) for room in row}
CIMPORT = re.compile(r"^\s*from (zarrs[\w.]*) c?import (\([^)]*\)|[^\n(]*)", re.MULTILINE)
PLAIN = re.compile(r"^\s*c?import (zarrs[\w.]*)", re.MULTILINE)


def imports(file: Path) -> Iterator[str]:
    """Return the modules of ours that a file imports or cimports, as dotted names."""
    text = file.read_text(encoding="utf-8")
    if file.suffix in (".py", ".pyi"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
    else:
        yield from PLAIN.findall(text)
        for module, names in CIMPORT.findall(text):
            yield from (f"{module}.{name.strip()}" for name in names.strip("()").split(","))


def module_of(name: str) -> str | None:
    """Return the module that a dotted name is in, below the package; None: it is not ours."""
    parts = name.split(".")
    if parts[0] != "zarrs" or parts[1:2] in (["_clib"], []):
        return None
    path = PACKAGE.joinpath(*parts[1:3])
    found = parts[1:3] if any(path.parent.glob(f"{path.name}.p*")) else parts[1:2]
    return ".".join(found)


def room_of(module: str) -> str:
    """Return the room of a module."""
    first = module.partition(".")[0] or "__init__"
    return first if first in DEPTH else ""


def graph() -> dict[str, set[str]]:
    """Return for every module those that it imports."""
    found: dict[str, set[str]] = {}
    for file in sorted(PACKAGE.rglob("*.p*")):
        if file.suffix not in (".py", ".pyi", ".pyx", ".pxd") or "_clib" in file.parts:
            continue
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        module = ".".join(part for part in parts if part != "__init__")
        mine = found.setdefault(module, set())
        mine |= {other for name in imports(file) if (other := module_of(name))} - {module}
    return found


def test_imports_go_downwards() -> None:
    wrong = [
        f"{module} imports {other}"
        for module, others in graph().items()
        for other in sorted(others)
        if room_of(other) != room_of(module) and DEPTH[room_of(other)] <= DEPTH[room_of(module)]
    ]
    assert not wrong


def test_there_are_no_cycles() -> None:
    TopologicalSorter(graph()).prepare()  # or CycleError


def test_every_room_is_seen() -> None:
    """So that the tests above do not pass on nothing."""
    modules = graph()
    assert {room_of(module) for module in modules} == set(DEPTH)
    assert "chunks._read" in modules["chunks._read_chunks"]
    assert "codecs._zstd" in modules["codecs._registry"]


def test_one_parallel_loop() -> None:
    files = [file for file in PACKAGE.rglob("*.pyx") if "prange(" in file.read_text("utf-8")]
    assert [file.relative_to(PACKAGE).as_posix() for file in files] == ["runtime/_loop.pyx"]
