"""The verbs ``regs`` and ``ring``: what stands in a NIC, and in its descriptor rings.

Looking changes nothing: a register that a read would clear keeps its value, and a ring is read
where it lies, in RAM. A NIC that is dead or frozen answers from its last page, and it is said.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence

from nodes.nic.page import NIC_SCHEMA
from nodes.nic.registers import address_of
from orchestrator.errors import OK, BottomhalfError, plural, words
from orchestrator.session import Session, Steps, Wait
from orchestrator.verbs import parse, usage
from orchestrator.verbs.process import death
from orchestrator.verbs.targets import resolve
from orchestrator.views import registers, rings

_AROUND = 4
_BAR = 64


def _nic(session: Session, verb: str, word: str) -> str:
    """The one NIC that a word means."""
    machine = session.machine
    nodes = resolve(machine, [word])
    nics = machine.settings.nic_names
    if len(nodes) > 1:
        raise BottomhalfError(f"{verb} shows one NIC at a time", f"NICs are {words(nics)}")
    if nodes[0] not in nics:
        raise BottomhalfError(f"{verb}: {nodes[0]} is no NIC", f"NICs are {words(nics)}")
    return nodes[0]


def _gone(session: Session, nic: str) -> str:
    """Why a NIC cannot answer, or nothing."""
    state = session.machine.state(nic)
    if not state.alive:
        return f"{nic} is dead ({death(session.machine, state)})"
    return f"{nic} is frozen" if state.frozen else ""


# ---------------------------------------------------------------- regs


def regs(session: Session, argv: Sequence[str]) -> Steps:
    """Registers by name, decoded."""
    given = parse("regs", argv, ("--json",))
    session.json |= "--json" in given.flags
    if not given.words:
        raise BottomhalfError("regs of which NIC?", usage("regs"))
    nic = _nic(session, "regs", given.words[0])
    names = given.words[1:]
    for word in names:
        registers.matching(word, {})  # a slip gets its message before anything is asked
    why = _gone(session, nic)
    known = None if why else (yield from _ask(session, nic))
    if known is None:
        why = why or f"{nic} does not answer"
        session.err(f"bottomhalf: {why}; these registers stand in its last page\n")
        known = registers.of_page(session.machine.ram.page(nic, NIC_SCHEMA))
        found = _of_page(names, known)
    else:
        found = _wanted(names, known)
    if session.json:
        session.out(json.dumps([value.as_json() for value in found]) + "\n")
    elif names:
        session.out("".join(_whole(value) for value in found))
    else:
        session.out("".join(_line(*run) for run in _runs(found)))
    return OK


def _ask(session: Session, nic: str) -> Generator[Wait, None, dict[str, int] | None]:
    request = yield from session.answer(session.machine.ask(nic, "registers"))
    if request.failed or not request.ok:
        return None
    known: dict[str, int] = request.value
    return known


def _wanted(names: Sequence[str], known: dict[str, int]) -> list[registers.Value]:
    """Those named, in the order asked for; without names all that differ from their reset value."""
    if not names:
        return [registers.value_of(address_of(name), known) for name in known]
    offsets = [offset for word in names for offset in registers.matching(word, known)]
    return [registers.value_of(offset, known) for offset in dict.fromkeys(offsets)]


def _of_page(names: Sequence[str], known: dict[str, int]) -> list[registers.Value]:
    found = {address_of(name): value for name, value in known.items()}
    if not names:
        return [registers.at(offset, value) for offset, value in found.items()]
    offsets = [offset for word in names for offset in registers.matching(word, known)]
    there = [offset for offset in dict.fromkeys(offsets) if offset in found]
    if not there:
        raise BottomhalfError(
            f"regs: {words(names)} did not die in its page",
            f"there are {words(dict.fromkeys(name.partition('[')[0] for name in known))}",
            code=1,
        )
    return [registers.at(offset, found[offset]) for offset in there]


def _head(value: registers.Value, name: str = "") -> str:
    return f"{name or value.name:<14} {value.offset:05x}  {value.value:#010x}"


def _runs(found: Sequence[registers.Value]) -> list[tuple[registers.Value, registers.Value]]:
    """First and last of neighbours in an array that hold the same."""
    runs: list[tuple[registers.Value, registers.Value]] = []
    for value in found:
        if runs and value.value == runs[-1][0].value and _follows(runs[-1][1], value):
            runs[-1] = (runs[-1][0], value)
        else:
            runs.append((value, value))
    return runs


def _follows(before: registers.Value, value: registers.Value) -> bool:
    name, _, number = before.name.rstrip("]").partition("[")
    return bool(number) and value.name == f"{name}[{int(number) + 1}]"


def _line(value: registers.Value, last: registers.Value) -> str:
    """One register, or a run of alike ones; the fields that are set behind it."""
    name = value.name
    if last is not value:
        name = f"{name.rstrip(']')}..{last.name.partition('[')[2]}"
    fields = value.fields(every=False)
    shown = " ".join(f"{field}={text or _number(n)}" for field, _, n, text in fields)
    whole = len(fields) == 1 and fields[0][1] == "31:0"
    return f"{_head(value, name)}  {value.section:<9}  {'' if whole else shown}".rstrip() + "\n"


def _whole(value: registers.Value) -> str:
    """One register with all its fields."""
    lines = [f"{_head(value)}  {value.section:<9}  {value.doc} ({value.access})".rstrip() + "\n"]
    for name, bits, number, text in value.fields():
        lines.append(f"{bits:>20}  {name:<18} {_number(number)}{f'  {text}' if text else ''}\n")
    return "".join(lines)


def _number(value: int) -> str:
    return str(value) if value < 10 else f"{value:#x}"


# ---------------------------------------------------------------- ring


def ring(session: Session, argv: Sequence[str]) -> Steps:
    """A ring as a bar, and its descriptors around head and tail."""
    given = parse("ring", argv, ("--json", "--all"))
    session.json |= "--json" in given.flags
    if len(given.words) != 3 or given.words[1] not in (rings.RX, rings.TX):
        raise BottomhalfError("ring: a NIC, rx or tx, and a queue", usage("ring"))
    nic, way, queue = _nic(session, "ring", given.words[0]), given.words[1], given.words[2]
    if session.machine.settings.guest:
        raise BottomhalfError(
            f"ring: the rings of {nic} lie in the guest's memory",
            f"bottomhalf {session.on}regs {nic} shows base, length, head and tail",
        )
    why = _gone(session, nic)
    advanced = True
    if way == rings.RX and not why:
        known = yield from _ask(session, nic)
        if known is not None and queue.isdecimal():
            advanced = bool(known.get(f"SRRCTL[{queue}]", 0x0200_0000) >> 25 & 7)
    try:
        found = rings.read(session.machine.ram, nic, way, int(queue), advanced)
    except ValueError:
        raise BottomhalfError(f"ring: no queue `{queue}`", "queues are 0 to 15") from None
    if why:
        session.err(f"bottomhalf: {why}; the ring as it was left\n")
    indices = list(range(found.size)) if "--all" in given.flags else found.near(_AROUND)
    if session.json:
        session.out(json.dumps({"nic_name": nic} | found.as_json(indices)) + "\n")
    else:
        session.out(_picture(nic, found, indices))
    return OK


def _picture(nic: str, found: rings.Ring, indices: list[int]) -> str:
    head = f"{nic} {found.way} queue {found.queue}"
    if not found.size:
        return f"{head} is off\n"
    lines = [
        f"{head}: base {found.base:#x}, {found.size} descriptors, head {found.head}, "
        f"tail {found.tail}",
        f"[{found.bar(_BAR)}]",
        f"{found.hardware} the NIC's, {found.size - found.hardware} the driver's, "
        f"{plural(found.packets, 'packet')} so far",
        "H head  T tail  # the NIC's  D done (DD set)  . the driver's",
        "",
        "index   owner   DD EOP RS  length  kind     buffer",
    ]
    before = None
    for index in indices:
        if before is not None and index != before + 1:
            lines.append("  ...")
        lines.append(_row(found, found.descriptors[index]))
        before = index
    return "\n".join(lines) + "\n"


def _row(found: rings.Ring, d: rings.Descriptor) -> str:
    marks = ("H" if d.entry == found.head else " ") + ("T" if d.entry == found.tail else " ")
    address = "-" if d.address is None else f"{d.address:#x}"
    flags = f"{'DD' if d.dd else '--'} {'EOP' if d.eop else '---'} {'RS' if d.rs else '--'}"
    return f"{d.entry:>4} {marks}  {d.owner:<6}  {flags}  {d.length:>6}  {d.kind:<8} {address}"
