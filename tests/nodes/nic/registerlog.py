"""Reader of ``tests/data/ixgbe-register-log.txt``: what a real driver did to an 82599, as steps.

The log's header says how its lines are folded; here they are unfolded again, so that a player meets
single accesses in their order. Folded moves that have a meaning of their own (EEPROM word,
semaphore, MDIO read, I2C read) stay one step.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

LOG = Path(__file__).parents[2] / "data" / "ixgbe-register-log.txt"


class Access(NamedTuple):
    """A 32-bit access of BAR 0; ``value`` is what the driver got or wrote."""

    line: int
    write: bool
    offset: int
    value: int


class Move(NamedTuple):
    """Something of several accesses: ``kind`` eeprom, take, give, mdio or i2c; or ``bits``, whose
    value is how many accesses of I2CCTL the next or last i2c took."""

    line: int
    kind: str
    at: int
    value: int


class Note(NamedTuple):
    """A note of the log's server, at ``time_ns`` of the run, after ``accesses``."""

    line: int
    time_ns: int
    accesses: int
    text: str


Step = Access | Move | Note

_ACCESS = re.compile(r"\s*([RW]) ([0-9a-f]{5}) .*? (?:->|<-) ([0-9a-f]{8})(?:  x(\d+))?$")
_RANGE = re.compile(
    r"([RW]) ([0-9a-f]{5})\.\.[0-9a-f]{5} .* (?:->|<-) ([0-9a-f]{8})"
    r"  \((\d+) registers, step ([0-9a-f]+)\)$"
)
_LOOP = re.compile(r"  loop of (\d+) accesses, (\d+) times:$")
_NOTE = re.compile(r"# \[ *([\d.]+)s #(\d+)\] (.*)$")
_BITS = re.compile(r"     \.\. (\d+) accesses: I2CCTL")
_EEPROM = re.compile(r"  EEPROM word ([0-9a-f]{3}) -> ([0-9a-f]{4}) ")
_SEMAPHORE = re.compile(r"  semaphore (take|give): GSSR ([0-9a-f]{8}) -> ([0-9a-f]{8})$")
_MDIO = re.compile(r"  MDIO read [0-9a-f]{8}/([0-9a-f]{8}) -> ([0-9a-f]{8}) ")
_I2C = re.compile(r"I2C read a0h\[([0-9a-f]{2})\] -> ([0-9a-f]{2})$")
_AGAIN = re.compile(r"  \^ these (\d+) lines (\d+) times in all$")
_BLOCK = "  # statistics block S1:"
_AS_BLOCK = re.compile(r"  statistics read as in block S1, (\d+) lines, all zero$")
_MDIO_MORE = "  ... 157 more such triples"
#: Lines that only explain.
_SILENT = re.compile(r"#|  #|  \.\.\. 18018 more lines")


def _simple(number: int, line: str) -> list[Step]:
    """Steps of a line that stands for itself."""
    if found := _NOTE.match(line):
        note = Note(number, int(float(found[1]) * 1e9), int(found[2]), found[3])
        if i2c := _I2C.match(found[3]):
            return [note, Move(number, "i2c", int(i2c[1], 16), int(i2c[2], 16))]
        return [note]
    if found := _RANGE.match(line):
        first, value, count, step = (
            int(found[i], b) for i, b in ((2, 16), (3, 16), (4, 10), (5, 16))
        )
        return [Access(number, found[1] == "W", first + i * step, value) for i in range(count)]
    if found := _ACCESS.match(line):
        access = Access(number, found[1] == "W", int(found[2], 16), int(found[3], 16))
        return [access] * int(found[4] or 1)
    if found := _EEPROM.match(line):
        return [Move(number, "eeprom", int(found[1], 16), int(found[2], 16))]
    if found := _SEMAPHORE.match(line):
        before, after = int(found[2], 16), int(found[3], 16)
        return [Move(number, found[1], before ^ after, after)]
    if found := _MDIO.match(line):
        return [Move(number, "mdio", int(found[1], 16), int(found[2], 16))]
    if found := _BITS.match(line):
        return [Move(number, "bits", 0, int(found[1]))]
    if _SILENT.match(line):
        return []
    raise ValueError(f"line {number}: {line}")


def _loop(number: int, lines: list[str], times: int) -> Iterator[Step]:
    """First and last round are shown; between, addresses and values grow evenly."""
    ends = []
    for line in lines:
        first, _, last = line.partition("   ... ")
        ends.append([_simple(number, text.strip())[0] for text in (first, last)])
    for i in range(times):
        for first, last in ends:
            assert isinstance(first, Access)
            assert isinstance(last, Access)
            part = [
                a + (b - a) * i // (times - 1) for a, b in zip(first[2:], last[2:], strict=True)
            ]
            yield Access(number, first.write, *part)


def read(path: Path = LOG) -> list[Step]:
    """All steps of the log."""
    lines = path.read_text().splitlines()
    steps: list[Step] = []
    block: list[Step] = []
    by_line: list[list[Step]] = []
    at = 0
    while at < len(lines):
        line, number = lines[at], at + 1
        new: list[Step]
        if found := _LOOP.match(line):
            count = int(found[1])
            new = list(_loop(number, lines[at + 1 : at + 1 + count], int(found[2])))
            at += count
        elif found := _AGAIN.match(line):
            new = list(chain.from_iterable(by_line[-int(found[1]) :])) * (int(found[2]) - 1)
        elif found := _AS_BLOCK.match(line):
            new = list(block)
        elif line.startswith(_MDIO_MORE):
            new = list(_mdio_between(number))
        else:
            if line == _BLOCK:
                shown = range(at + 1, at + 28)
                block = list(chain.from_iterable(_simple(i + 1, lines[i]) for i in shown))
            new = _simple(number, line)
        by_line.append(new)
        steps += new
        at += 1
    return steps


def _mdio_between(number: int) -> Iterator[Step]:
    """Ports 0..31, devices 1..5; the log shows the first two and the last."""
    every = [(port, device) for port in range(32) for device in range(1, 6)]
    for port, device in every[2:-1]:
        yield Move(number, "take", 2, 2)
        yield Move(number, "mdio", 0x4C000008 | port << 21 | device << 16, 0)
        yield Move(number, "give", 2, 0)
