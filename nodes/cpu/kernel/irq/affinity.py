"""Which CPUs an interrupt may go to, and which one it goes to: kernel/irq/manage.c, proc.c.

The boot CPU holds the masks, as it holds the vector space. ``affinity`` is what was asked for,
``pending`` what was asked for last and waits for the next interrupt, ``target`` where messages go.
How a line gets from one CPU to another is ``migration``'s; here stands what the boot CPU does of
it. A device without interrupt remapping never moves in process context, so every change waits.

Behaviours: ``affinity_shown`` (2.6.18 shows the old mask until the move), ``affinity_write`` (3.10
says success whatever came of it), ``affinity_empty_set``, ``affinity_default``, ``affinity_busy``
(a change that finds the last move's cleanup outstanding: until 4.14 it is lost, later it waits).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from errno import EBUSY, EINVAL, EIO
from typing import TYPE_CHECKING, Any

from nodes.cpu.kernel.irq.cpumask import parse_list, parse_mask
from nodes.cpu.kernel.irq.desc import IRQD_NO_BALANCING, IRQD_PER_CPU
from nodes.cpu.kernel.irq.migration import (
    CANCEL,
    CANCELLED,
    FREED,
    INSTALL,
    MOVED,
    PREPARE,
    UNINSTALL,
    tell,
)
from nodes.cpu.kernel.irq.vector import cpu_mask
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.smp import remote_function

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


@dataclass
class Move:
    """One that is under way. ``made``: the device knows, the old slot is yet to be freed."""

    serial: int
    mask: int
    target: int
    cleanup: bool
    made: bool = False


@dataclass
class IrqAffinity:
    """The affinity of one irq; masks have a bit for each CPU."""

    affinity: int
    hint: int = 0
    target: int = 0
    pending: int | None = None
    chosen: bool = False  # IRQD_AFFINITY_SET: somebody wrote it
    node: int = -1
    move: Move | None = None

    def shown(self, *, pending_counts: bool) -> int:
        """What smp_affinity says."""
        return self.pending if pending_counts and self.pending is not None else self.affinity


@dataclass
class Affinities:
    """Of all irqs; on the boot CPU."""

    default: int = 0  # irq_default_affinity
    irqs: dict[int, IrqAffinity] = field(default_factory=dict)
    serial: int = 0  # of the last move

    def rows(self, cpu: Cpu) -> dict[int, dict[str, Any]]:
        """For /proc/irq."""
        counts = cpu.params.affinity_shown == "pending"
        found = {}
        for irq, state in sorted(self.irqs.items()):
            desc = cpu.irq.desc.get(irq)
            if desc is not None:
                found[irq] = {
                    "affinity": packed(state.shown(pending_counts=counts)),
                    "effective": packed(1 << state.target),
                    "hint": packed(state.hint),
                    "node": state.node,
                    "target": state.target,
                    "actions": [action.name for action in desc.actions],
                }
        return found


def packed(mask: int) -> bytes:
    """A mask as a snapshot carries it: 32 bytes, the lowest CPU first."""
    return mask.to_bytes(32, "little")


def all_cpus(cpu: Cpu) -> int:
    """cpu_possible_mask as a freshly made irq has it: CPU_MASK_ALL where masks are NR_CPUS wide."""
    return (1 << cpumask_bits(cpu)) - 1


def cpumask_bits(cpu: Cpu) -> int:
    """Bits of a CPU mask as it is printed: NR_CPUS or nr_cpu_ids."""
    return cpu.params.cpumask_bits or cpu.machine.cpus


def online_mask(cpu: Cpu) -> int:
    """Where lines may go: not to a CPU that is on its way offline."""
    return cpu_mask(number for number in cpu.online_cpus if number != cpu.hotplug.dying)


def nr_irqs(cpu: Cpu) -> int:
    """How many irq numbers there may be, as arch_probe_nr_irqs finds with 24 pins."""
    params, cpus = cpu.params, cpu.machine.cpus
    return min(256 * cpus, params.nr_irqs_base + params.nr_irqs_per_cpu * cpus)


# ---------------------------------------------------------------- new and gone


def setup_affinity(cpu: Cpu, irq: int, mask: int | None, *, hint: int = 0) -> IrqAffinity:
    """irq_setup_affinity and irq_set_affinity_hint for an irq that gets its first handler; ``mask``
    None: the default. What somebody chose before stays while one of those CPUs is online."""
    if mask is None:
        everybody = cpu.params.affinity_default == "all"
        mask = all_cpus(cpu) if everybody else cpu.affinity.default
    old = cpu.affinity.irqs.get(irq)
    kept = old is not None and old.chosen and bool(old.affinity & online_mask(cpu))
    if old is not None and kept:
        mask = old.affinity
    state = cpu.affinity.irqs[irq] = IrqAffinity(mask, hint, chosen=kept)
    return state


def release_irq(cpu: Cpu, irq: int) -> None:
    """The last handler went: vectors are free, a move that was under way is nobody's."""
    cpu.vectors.release(irq)
    state = cpu.affinity.irqs.get(irq)
    if state is not None:
        state.move, state.pending = None, None


def forget_affinity(cpu: Cpu, irq: int) -> None:
    """The irq itself is gone."""
    cpu.affinity.irqs.pop(irq, None)


# ---------------------------------------------------------------- setting


def irq_set_affinity(cpu: Cpu, irq: int, mask: int) -> Context:
    """On the boot CPU: want ``irq`` on a CPU of ``mask``; it moves at its next interrupt. 0, or a
    negative errno."""
    state = cpu.affinity.irqs.get(irq)
    desc = cpu.irq.desc.get(irq)
    if state is None or desc is None:
        return -EINVAL
    if desc.chip.irq_set_affinity is None:
        return -EINVAL
    state.chosen = True
    state.pending = mask
    move = state.move
    if move is None:
        yield from begin_move(cpu, irq, state, online_mask(cpu))
    elif move.made:
        if cpu.params.affinity_busy == "dropped":
            state.pending = None  # EBUSY, of which nobody is told
    elif mask >> move.target & 1:
        move.mask = mask
    else:
        yield from tell(cpu, state.target, [CANCEL, irq, move.serial])
    return 0


def begin_move(cpu: Cpu, irq: int, state: IrqAffinity, online: int) -> Context:
    """Reserve a slot for what is pending, on a CPU of ``online``, and tell both CPUs."""
    mask = state.pending
    assert mask is not None
    try:
        cpu.vectors.assign(irq, mask, online)
    except OSError as error:
        if error.errno != EBUSY or cpu.params.affinity_busy == "dropped":
            state.pending = None
        return
    cfg = cpu.vectors.cfg[irq]
    target, old = cfg.target(mask, online), state.target
    cpu.affinity.serial += 1
    cleanup = cfg.move_in_progress
    move = state.move = Move(cpu.affinity.serial, mask, target, cleanup)
    if target != old:
        cleanup_on = old + 1 if cleanup else 0
        yield from tell(cpu, target, [INSTALL, irq, move.serial, cfg.vector, cleanup_on])
    yield from tell(cpu, old, [PREPARE, irq, move.serial, target, cfg.vector, cleanup])


def _of_move(cpu: Cpu, record: list[int]) -> tuple[IrqAffinity, Move] | None:
    """What a record to the boot CPU is about; None if that is over."""
    state = cpu.affinity.irqs.get(record[1])
    move = state.move if state is not None else None
    if state is None or move is None or move.serial != record[2]:
        return None
    cpu.tables_changed = True
    return state, move


def _ended(cpu: Cpu, irq: int, state: IrqAffinity) -> Context:
    """A move is over; one that was asked for meanwhile begins."""
    state.move = None
    if state.pending is not None:
        yield from begin_move(cpu, irq, state, online_mask(cpu))


@remote_function(MOVED)
def _moved(cpu: Cpu, _source: int, record: list[int]) -> Context:
    """The device sends to the new CPU, which has the line's state."""
    found = _of_move(cpu, record)
    if found is None:
        return
    state, move = found
    irq = record[1]
    state.affinity, state.target, move.made = move.mask, move.target, True
    if state.pending == move.mask:
        state.pending = None
    desc = cpu.irq.desc.get(irq)
    if desc is not None and desc.incoming is None and move.target != cpu.number:
        desc.target = move.target
    if not move.cleanup:
        yield from _ended(cpu, irq, state)


@remote_function(FREED)
def _freed(cpu: Cpu, _source: int, record: list[int]) -> Context:
    """The old slot is free."""
    found = _of_move(cpu, record)
    if found is not None:
        cpu.vectors.complete_move(record[1])
        yield from _ended(cpu, record[1], found[0])


@remote_function(CANCELLED)
def _cancelled(cpu: Cpu, _source: int, record: list[int]) -> Context:
    """The device never learned of the move: give the new slot back."""
    found = _of_move(cpu, record)
    if found is None:
        return
    state, move = found
    if move.cleanup:
        cpu.vectors.abandon_move(record[1])
    if move.target != state.target:
        yield from tell(cpu, move.target, [UNINSTALL, *record[1:3], move.cleanup])
    yield from _ended(cpu, record[1], state)


# ---------------------------------------------------------------- what is written to /proc

Parse = Callable[[str, int], int]


def write_smp_affinity(cpu: Cpu, irq: int, text: str, parse: Parse = parse_mask) -> Context:
    """A write to /proc/irq/N/smp_affinity: 0, or a negative errno as the era gives it."""
    desc = cpu.irq.desc.get(irq)
    if desc is None or irq not in cpu.affinity.irqs:
        return -EIO
    if desc.chip.irq_set_affinity is None or desc.state & (IRQD_PER_CPU | IRQD_NO_BALANCING):
        return -EIO
    try:
        mask = parse(text, cpumask_bits(cpu))
    except OSError as error:
        return -(error.errno or EINVAL)
    if not mask & online_mask(cpu):
        # an empty set asks for the architecture's default: 2.6.18's x86 has none, 3.10 takes the
        # general one unless somebody chose before
        if cpu.params.affinity_empty_set == "refused":
            return -EINVAL
        if cpu.affinity.irqs[irq].chosen:
            return 0
        mask = cpu.affinity.default
    result: int = yield from irq_set_affinity(cpu, irq, mask)
    return 0 if cpu.params.affinity_write == "result-ignored" else result


def write_smp_affinity_list(cpu: Cpu, irq: int, text: str) -> Context:
    """The same for smp_affinity_list."""
    return write_smp_affinity(cpu, irq, text, parse_list)


def write_default_smp_affinity(cpu: Cpu, text: str) -> Context:
    """What irqs get that are requested from now on; it must hold an online CPU."""
    yield
    try:
        mask = parse_mask(text, cpumask_bits(cpu))
    except OSError as error:
        return -(error.errno or EINVAL)
    if not mask & online_mask(cpu):
        return -EINVAL
    cpu.affinity.default = mask
    return 0
