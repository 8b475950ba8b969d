"""The load-bearing walls that a machine can check: who imports whom, and that nodes do no IO."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("cpu", "apic", "nic", "lan")
#: Modules that mean IO, clocks, chance or threads; nodes get all that from their runtime.
FORBIDDEN_IN_NODES = {
    "asyncio", "datetime", "multiprocessing", "os", "pathlib", "secrets", "select", "socket",
    "subprocess", "sys", "threading", "time", "zmq", "psutil", "rich", "click", "pydantic",
}  # fmt: skip
FORBIDDEN_CALLS = {"print", "open", "input", "id", "hash", "set", "frozenset"}


def _files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", _files("bus"), ids=_name)
def test_bus_imports_neither_nodes_nor_orchestrator(path: Path) -> None:
    assert [m for m in _imports(path) if m.split(".")[0] in ("nodes", "orchestrator")] == []


@pytest.mark.parametrize("path", _files("nodes"), ids=_name)
def test_nodes_do_not_import_the_orchestrator_or_another_room(path: Path) -> None:
    inside = path.relative_to(ROOT / "nodes").parts[0]
    for module in _imports(path):
        parts = module.split(".")
        assert parts[0] != "orchestrator", module
        if parts[0] == "nodes" and inside in ROOMS and len(parts) > 1:
            assert parts[1] == inside or parts[1] not in ROOMS, module


@pytest.mark.parametrize("room", ["captures", "ledger", "machines"])
def test_what_verbs_work_on_knows_no_verb(room: str) -> None:
    """A machine, its captures and its books are there for verbs, scenarios, labs and screens."""
    above = {f"orchestrator.{name}" for name in ("dashboards", "labs", "scenarios", "verbs")}
    for path in _files(f"orchestrator/{room}"):
        for module in _imports(path):
            assert ".".join(module.split(".")[:2]) not in above, _name(path)


@pytest.mark.parametrize("path", _files("nodes"), ids=_name)
def test_nodes_do_no_io(path: Path) -> None:
    assert [m for m in _imports(path) if m.split(".")[0] in FORBIDDEN_IN_NODES] == []
    allowed_random = {"random"}  # for the type of the generator that the runtime hands over
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            target = node.func.value
            if isinstance(target, ast.Name) and target.id in allowed_random:
                pytest.fail(f"{_name(path)}:{node.lineno} draws from the module random")


@pytest.mark.parametrize("path", [*_files("bus"), *_files("nodes")], ids=_name)
def test_nothing_depends_on_hash_order_or_identity(path: Path) -> None:
    runtimes = ("process.py", "links.py", "identity.py", "simulation.py")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in ("print", "open", "input") and path.name in runtimes:
                continue
            assert node.func.id not in FORBIDDEN_CALLS - {"frozenset"}, f"line {node.lineno}"
        if isinstance(node, (ast.For, ast.comprehension)):
            assert not isinstance(node.iter, (ast.Set, ast.SetComp)), "iterates over a set"


def test_nothing_names_the_place_where_it_was_made() -> None:
    for folder in ("bus", "nodes", "orchestrator", "configs", "docs", "benchmarks", "tools"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".md", ".toml", "") and path.is_file():
                text = path.read_text(errors="replace")
                assert "/work/" not in text, _name(path)
                assert "../shared" not in text, _name(path)


def test_a_name_on_the_bus_is_written_in_one_place() -> None:
    from bus.messages import GUEST  # noqa: PLC0415
    from nodes.machine import UPLINK  # noqa: PLC0415

    text = {path: path.read_text() for room in ("bus", "nodes") for path in _files(room)}
    for name in (GUEST, UPLINK):
        assert len([path for path, source in text.items() if f'= "{name}"' in source]) == 1, name
