"""What a step can expect, and what a lab's answer can ask: quantities by name.

=====================================  =============================================================
``gap <= 250ms``, ``lost == 0``        of the scenario's ping (``QUANTITIES``); ``rtt`` is the mean
                                       of the answered, ``rtt_max`` the slowest
``exit == 0``                          exit code of the step's command
``softirq_order.first == "HI"``        what a lab module reported: ``softirq_order: first=HI n=10``
``irqs(eth0-TxRx-0) >= 10``            a counter, as the difference over the phase, of all CPUs;
                                       ``softirqs(NET_RX,cpu0)`` of one CPU (``COUNTERS``)
``all_ones(eth0) == 6``                reads that found nobody; writes that vanished: ``vanished``
``ksoftirqd_wakeups() == 0``           any counter of a CPU's page (``ctxt(cpu1)``)
``seen(softirq_entry) > 0``            trace records of that kind (labs only)
``where(irq_handler_entry) == "cpu1"`` CPUs that recorded it, in order (labs only)
``event(irq_handler_entry,b) == 0x21`` field of the first such record (labs only)
``began(EVENT) < 300``                  us after the phase's start of the first such record, or of a
                                       step of CPU hot-plug: ``began(take_cpu_down)`` (labs only)
``most(napi_poll,a,cpu1) < 9``         greatest value of a field, of all CPUs or one (labs only)
``preempt(softirq_entry) == 0x100``    preempt_count at the first such record (labs only)
``reads(EEPROM,eth1) > 100``           register accesses: ``reads``, ``writes``, ms ``spent`` until
                                       the next, name of the ``first``; of a group of registers
                                       (``views.accesses``) and a NIC, or all (labs only)
``param.hz == 250``                    a behaviour of the era
``dmesg has "text"``                   the kernel log of the phase; ``dmesg lacks "text"``
=====================================  =============================================================

``@2`` behind a quantity means the phase of step 2 (``storm.share@2 > storm.share@1``), 0 what was
before the first step. Without it: the phase of the step that expects it.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from bus.ram import Schema
from nodes.cpu.kernel.params import Params
from nodes.cpu.page import ARCH_IRQS, CPU_SCHEMA
from nodes.cpu.trace import CPUHP_WAYS, TRACEPOINTS
from orchestrator.configuration.tomlfile import duration_ns
from orchestrator.errors import did_you_mean, words
from orchestrator.views.accesses import GROUPS

Value = int | float | str

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
#: What can be expected of a phase by a word alone, and its unit.
QUANTITIES = {
    "gap": "ms",
    "lost": "",
    "loss": "%",
    "sent": "",
    "received": "",
    "active": "NIC",
    "exit": "",
    "rtt": "ms",
    "rtt_max": "ms",
}
#: These need the scenario's ping.
OF_PING = ("gap", "lost", "loss", "sent", "received", "rtt", "rtt_max")
#: Counters with an item: how many words of the page, by what they are called.
COUNTERS = {"irqs": "irqs", "softirqs": "softirqs", "raised": "softirqs_raised"}
#: Counters of CPUs with a NIC for their item.
NIC_COUNTERS = {"all_ones": "mmio_all_ones", "vanished": "mmio_lost"}
_NIC = re.compile(r"^eth\d+$")
#: Quantities that come from the flight recorders.
RECORDED = ("seen", "where", "event", "most", "preempt", "began")
#: The same of register accesses.
ACCESSED = ("reads", "writes", "spent", "first")
EXAMPLES = "gap <= 250ms · lost == 0 · loss < 5% · active == eth1"
LAB_EXAMPLES = 'irqs(eth0-TxRx-0) >= 1 · softirq_order.first == "HI" · dmesg has "text"'

#: A name, a dotted name or a call, and the step whose phase is meant.
_QUANTITY = r"[a-z]\w*(?:\.\w+|\([^()]*\))?(?:@\d+)?"
_COMPARE = re.compile(
    rf"^\s*({_QUANTITY})\s*(<=|>=|==|!=|<|>)\s*(\"[^\"]*\"|'[^']*'|{_QUANTITY}|\S+)\s*$"
)
_LOG = re.compile(r"^\s*(dmesg(?:@\d+)?)\s+(has|lacks)\s+(\"[^\"]*\"|'[^']*')\s*$")
_PARTS = re.compile(r"^([a-z]\w*)(?:\.(\w+)|\(([^()]*)\))?(?:@(\d+))?$")
_NUMBER = re.compile(r"^(-?\d+(?:\.\d+)?|0x[0-9a-fA-F]+)%?$")


class Reference(str):
    """A limit that is itself a quantity."""


class Quantity(NamedTuple):
    """``irqs(eth0,cpu1)@2`` taken apart."""

    name: str
    key: str = ""  # behind a dot
    arguments: tuple[str, ...] | None = None  # in brackets
    step: int | None = None


class Expectation(NamedTuple):
    """``gap <= 250ms``."""

    quantity: str
    relation: str
    limit: Value
    text: str

    def holds(self, value: Value | None, limit: Value | None = None) -> bool:
        """Does a measured value fulfil it? Nothing measured never does."""
        limit = self.limit if limit is None else limit
        if value is None:
            return False
        if self.relation in ("has", "lacks"):
            return (str(limit) in str(value)) == (self.relation == "has")
        if isinstance(value, str) != isinstance(limit, str):
            value, limit = str(value), str(limit)
        return bool(OPERATORS[self.relation](value, limit))

    def failure(self, value: Value | None, limit: Value | None = None) -> str:
        """``gap 2104 ms, expected <= 250``."""
        if self.relation in ("has", "lacks"):
            return f'the kernel log {"lacks" if self.relation == "has" else "has"} "{self.limit}"'
        if self.quantity.startswith(("preempt(", "event(")) and isinstance(value, int):
            limit = self.limit if limit is None else limit
            wanted = f"{int(limit):#x}" if isinstance(limit, (int, float)) else limit
            return f"{self.quantity} {value:#x}, expected {self.relation} {wanted}"
        unit = QUANTITIES.get(self.quantity, "")
        if value is None:
            seen = "without end" if self.quantity == "gap" else "none"
        else:
            seen = number(value) + (f" {unit}" if unit in ("ms", "%") else "")
        wanted = number(self.limit)
        if isinstance(self.limit, Reference) and limit is not None:
            wanted += f" (which is {number(limit)})"
        return f"{self.quantity} {seen}, expected {self.relation} {wanted}"


def number(value: Value) -> str:
    """A value as people read it."""
    return value if isinstance(value, str) else f"{value:.6g}"


def take_apart(text: str) -> Quantity | None:
    """The parts of a quantity; None if it is none."""
    match = _PARTS.match(text)
    if match is None:
        return None
    name, key, arguments, step = match.groups()
    listed = None
    if arguments is not None:
        listed = tuple(part.strip() for part in arguments.split(",") if part.strip())
    return Quantity(name, key or "", listed, int(step) if step else None)


def parse(text: str, *, params: Params, cpus: tuple[str, ...], nics: tuple[str, ...], ping: bool,
          steps: int) -> Expectation:  # fmt: skip
    """The expectation; ValueError(what, hint) says what is wrong with it."""
    match = _LOG.match(text) or _COMPARE.match(text)
    if match is None:
        raise ValueError(" is no comparison", f"{EXAMPLES} · {LAB_EXAMPLES}")
    left, relation, right = match.groups()
    quoted = right[0] in "\"'"
    check(left, params=params, cpus=cpus, ping=ping, steps=steps)
    if relation in ("has", "lacks"):
        return Expectation(left, relation, right[1:-1], text)
    name = left.partition("@")[0]
    if name == "active":
        if right.strip("\"'") not in nics:
            raise ValueError(f": no NIC `{right}`", words(nics))
        return Expectation(left, relation, right.strip("\"'"), text)
    if quoted:
        return Expectation(left, relation, right[1:-1], text)
    if name in QUANTITIES and "@" not in right:
        return Expectation(left, relation, _simple_limit(name, right), text)
    if (found := _NUMBER.match(right)) is not None:
        digits = found[1]
        plain = int(digits, 0) if digits.startswith("0x") else float(digits)
        return Expectation(left, relation, plain, text)
    if take_apart(right) is not None and ("." in right or "(" in right or "@" in right):
        check(right, params=params, cpus=cpus, ping=ping, steps=steps)
        return Expectation(left, relation, Reference(right), text)
    raise ValueError(f": {right} is no number", f'text stands in quotes: == "{right}"')


def _simple_limit(name: str, text: str) -> float:
    if QUANTITIES[name] == "ms":
        length_ns = duration_ns(text)
        if length_ns is not None:
            return length_ns / 1e6
    elif re.fullmatch(r"\d+(\.\d+)?%?", text) and (name == "loss" or text.isdecimal()):
        return float(text.rstrip("%"))
    raise ValueError(f": {text} is no {name}", EXAMPLES)


def check(text: str, *, params: Params, cpus: tuple[str, ...], ping: bool, steps: int) -> Quantity:
    """The quantity if there can be such a thing, else ValueError(what, hint)."""
    found = take_apart(text)
    if found is None:
        raise ValueError(f": `{text}` names nothing", LAB_EXAMPLES)
    name, key, arguments, step = found
    if step is not None and step > steps:
        raise ValueError(f": there is no step {step}", f"steps are 1 to {steps}")
    if key:
        if name == "param" and key not in Params._fields:
            raise ValueError(
                f": no behaviour `{key}`{did_you_mean(key, Params._fields)}", "bottomhalf era 6.1"
            )
        return found
    if arguments is None:
        if name == "dmesg":
            return found
        if name not in QUANTITIES:
            raise ValueError(
                f": nothing is called `{name}`{did_you_mean(name, QUANTITIES)}",
                f"{words(QUANTITIES)}, as in {EXAMPLES}",
            )
        if name in OF_PING and not ping:
            raise ValueError(f": `{name}` is about a ping, and none runs", 'ping = "gateway"')
        return found
    _check_call(name, [a for a in arguments if a not in cpus], params)
    return found


def _check_call(name: str, items: list[str], params: Params) -> None:
    if name in RECORDED:
        item = items[0] if items else ""
        if item not in TRACEPOINTS and name == "began":
            steps = hotplug_steps(params)
            if item not in steps:
                known = [*steps, *TRACEPOINTS]
                raise ValueError(
                    f": no trace event or step `{item}`{did_you_mean(item, known)}", words(known)
                )
        elif item not in TRACEPOINTS:
            raise ValueError(
                f": no trace event `{item}`{did_you_mean(item, TRACEPOINTS)}", words(TRACEPOINTS)
            )
        if name in ("event", "most") and (len(items) != 2 or items[1] not in ("a", "b")):
            raise ValueError(": a or b of an event?", f"{name}(irq_handler_entry,b)")
    elif name in ACCESSED:
        for item in items:
            if item not in GROUPS and not _NIC.match(item):
                raise ValueError(
                    f": no registers `{item}`{did_you_mean(item, GROUPS)}", words(GROUPS)
                )
    elif name in COUNTERS:
        if len(items) != 1:
            raise ValueError(f": {name} of what?", f"{name}(NAME) or {name}(NAME,cpu0)")
        if name != "irqs" and items[0] not in params.softirq_names:
            names = params.softirq_names
            raise ValueError(
                f": no softirq `{items[0]}`{did_you_mean(items[0], names)}", words(names)
            )
    elif name in NIC_COUNTERS:
        if len(items) != 1 or not _NIC.match(items[0]):
            raise ValueError(f": {name} of which NIC?", f"{name}(eth0) or {name}(eth0,cpu0)")
    elif items or name not in _single_words(CPU_SCHEMA):
        known = [*COUNTERS, *NIC_COUNTERS, *RECORDED, *ACCESSED, *_single_words(CPU_SCHEMA)]
        raise ValueError(f": nothing is called `{name}()`{did_you_mean(name, known)}", words(known))


def hotplug_steps(params: Params) -> dict[str, list[tuple[int, int]]]:
    """Steps of CPU hot-plug in this era by name: (way, index) as ``cpuhp_enter`` has them."""
    from nodes.cpu.kernel.cpuhp_states import DOWN, UP  # noqa: PLC0415  (all of the kernel)

    found: dict[str, list[tuple[int, int]]] = {}
    for way, table in ((CPUHP_WAYS.index("down"), DOWN), (CPUHP_WAYS.index("up"), UP)):
        for index, step in enumerate(table[params.cpu_hotplug]):
            found.setdefault(step.name, []).append((way, index))
    return found


def _single_words(schema: Schema) -> list[str]:
    return [field.name for field in schema.fields if field.words == 1]


def arch_irq(name: str) -> int | None:
    """Index of an architecture row of /proc/interrupts (LOC, RES, ...)."""
    return ARCH_IRQS.index(name) if name in ARCH_IRQS else None
