"""The statements the project means to keep, which tests claim them, and which are given up for now.

``ids.toml`` lists all ids with a few words each; a test claims some with
``@pytest.mark.conformance("K3.4-1", ...)``; ``docs/limitations.md`` names in its last table those
that nothing keeps yet, each with the reason.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parents[1]
IDS = Path(__file__).with_name("ids.toml")
LIMITATIONS = TESTS.parent / "docs" / "limitations.md"
HEADING = "## Conformance"


class Claim(NamedTuple):
    """One id in one mark."""

    id: str
    where: str  # file:line


@cache
def says() -> dict[str, str]:
    """id -> what it states."""
    table: dict[str, str] = tomllib.loads(IDS.read_text())["says"]
    return table


@cache
def _rooms() -> dict[str, dict[str, str]]:
    table: dict[str, dict[str, str]] = tomllib.loads(IDS.read_text())["rooms"]
    return table


def room(statement: str) -> dict[str, str]:
    """Where a statement is kept and what brings it: the row of the longest key."""
    keys = [key for key in _rooms() if re.match(rf"{re.escape(key)}(?![0-9])", statement)]
    if statement[0] in _rooms():
        keys.append(statement[0])
    return _rooms()[max(keys, key=len)]


@cache
def claims() -> tuple[Claim, ...]:
    """Every id that a test claims, read from the sources."""
    return tuple(_claims())


def _claims() -> Iterator[Claim]:
    for path in sorted(TESTS.rglob("*.py")):
        text = path.read_text()
        if ".conformance(" not in text:
            continue
        tree = ast.parse(text, str(path))
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "conformance"
            ):
                where = f"{path.relative_to(TESTS.parent)}:{node.lineno}"
                for argument in node.args:
                    value = argument.value if isinstance(argument, ast.Constant) else None
                    yield Claim(str(value), where)


def limitations() -> dict[str, str]:
    """id -> why nothing keeps it yet, from the table in docs/limitations.md; a ``*`` stands for
    whatever follows. What the table names and nobody knows comes back too."""
    _, _, section = LIMITATIONS.read_text().partition(HEADING)
    found: dict[str, str] = {}
    for ids, why in re.findall(r"^\| ([AHKN][^|]*?) \| ([^|]*?) \|$", section, re.MULTILINE):
        for pattern in re.split(r",? +", ids):
            if pattern.endswith("*"):
                matching = [known for known in says() if known.startswith(pattern[:-1])]
                found |= dict.fromkeys(matching or [pattern], why)
            else:
                found[pattern] = why
    return found
