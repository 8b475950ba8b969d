"""The RCU CPU stall detector, after kernel/rcu/tree_stall.h.

Every CPU's tick looks whether the present grace period is older than ``rcu_cpu_stall_timeout``
seconds. A CPU that holds it up itself says so; else, two jiffies later, another one names those
that do; and again after three times the time-out. An idle CPU never holds up a grace period, so a
CPU that was killed while it was idle is not missed until somebody sends it something. 2.6.18 has no
detector (``rcu_name`` is empty): its callbacks wait for ever, in silence.

Left out: the backtraces that are asked of the stalled CPUs by NMI, and the irq_work and reschedule
IPIs that precede the report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel import words
from nodes.cpu.kernel.bug import dump_stack
from nodes.cpu.kernel.printk import KERN_ERR, printk
from nodes.cpu.page import CPU_SCHEMA

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

RCU_STALL_RAT_DELAY = 2
TIMEOUT_MIN_S, TIMEOUT_MAX_S = 3, 300

_GP_START = CPU_SCHEMA.index("rcu_gp_start")
_QSMASK = CPU_SCHEMA.index("rcu_qsmask")
_QS_SEQ = CPU_SCHEMA.index("rcu_qs_seq")


def till_stall_check(cpu: Cpu) -> int:
    """rcu_jiffiestill_stall_check."""
    seconds = min(max(cpu.params.rcu_cpu_stall_timeout, TIMEOUT_MIN_S), TIMEOUT_MAX_S)
    return seconds * cpu.params.hz


def record_gp_stall_check_time(cpu: Cpu) -> None:
    """A grace period begins."""
    cpu.ram.atomics.store(words.JIFFIES_STALL, cpu.jiffies() + till_stall_check(cpu))


def check_cpu_stall(cpu: Cpu, seq: int) -> None:
    """From the tick while grace period ``seq`` runs."""
    if not cpu.params.rcu_name:
        return
    atomics, now = cpu.ram.atomics, cpu.jiffies()
    due = atomics.load(words.JIFFIES_STALL)
    if now < due:
        return
    myself = bool(_holdouts(cpu, seq) >> cpu.number & 1)
    if not myself and now < due + RCU_STALL_RAT_DELAY:
        return
    again = now + 3 * till_stall_check(cpu) + 3
    if atomics.cmpxchg(words.JIFFIES_STALL, due, again) != due:
        return  # another CPU says it
    _print_stall(cpu, seq, now, myself)


def _holdouts(cpu: Cpu, seq: int) -> int:
    """Mask of the CPUs that the grace period still waits for."""
    mask: int = cpu.ram.page("cpu0", CPU_SCHEMA).words[_QSMASK]
    for number in cpu.online_cpus:
        if cpu.ram.page(f"cpu{number}", CPU_SCHEMA).words[_QS_SEQ] == seq:
            mask &= ~(1 << number)
    return mask


def _print_stall(cpu: Cpu, seq: int, now: int, myself: bool) -> None:
    name, boot = cpu.params.rcu_name, cpu.ram.page("cpu0", CPU_SCHEMA)
    elapsed = now - boot["rcu_gp_start"]
    mask = _holdouts(cpu, seq)
    stalled = [n for n in cpu.online_cpus if mask >> n & 1]
    if myself:
        stalled = [cpu.number]
    queued = sum(cpu.ram.page(f"cpu{n}", CPU_SCHEMA)["rcu_qlen"] for n in cpu.online_cpus)
    if cpu.params.log_format == "6.1":
        what = "self-detected stall on CPU" if myself else "detected stalls on CPUs/tasks:"
        _say(cpu, f"rcu: INFO: {name} {what}")
        for number in stalled:
            _say(cpu, f"rcu: \t{_info(cpu, number, seq, boot['rcu_n_fqs'], myself)}")
        who = "" if myself else f"detected by {cpu.number}, "
        comma = "" if myself else ","
        _say(
            cpu,
            f"\t({who}t={elapsed} jiffies{comma} g={seq}{comma} q={queued} "
            f"ncpus={len(cpu.online_cpus)})",
        )
    else:
        numbers = "".join(f" {number}" for number in stalled)
        completed, gpnum = seq >> 2, (seq >> 2) + 1
        if myself:
            text = (
                f"self-detected stall on CPU {{{numbers}}}  "
                f"(t={elapsed} jiffies g={gpnum} c={completed} q={queued})"
            )
        else:
            text = (
                f"detected stalls on CPUs/tasks: {{{numbers}}} (detected by {cpu.number}, "
                f"t={elapsed} jiffies, g={gpnum}, c={completed}, q={queued})"
            )
        _say(cpu, f"INFO: {name} {text}")
    if myself:
        dump_stack(cpu, KERN_ERR)


def _info(cpu: Cpu, number: int, seq: int, n_fqs: int, myself: bool) -> str:
    """print_cpu_stall_info of one CPU. The fourth mark says how its interrupts fare: ``.`` they
    work, ``0`` the one that RCU sent it was never taken."""
    page = cpu.ram.page(f"cpu{number}", CPU_SCHEMA)
    noticed = page["rcu_rdp_seq"]
    if noticed == seq:
        ticks = f"{page['rcu_ticks']} ticks this GP"
    else:
        ticks = f"{(seq - noticed) >> 2 or 1} GPs behind"
    nesting, nmi_nesting = (1, 0x4000000000000000) if page["current_pid"] else (0, 1)
    softirqs = page.run("softirqs")[cpu.params.softirq_names.index("RCU")]
    return (
        f"{number}-...{'.' if myself else '0'}: ({ticks}) "
        f"idle={page['rcu_dynticks'] & 0xFFFF:04x}/{nesting}/{nmi_nesting:#x} "
        f"softirq={page['rcu_softirq_snap']}/{softirqs} fqs={n_fqs}"
    )


def _say(cpu: Cpu, text: str) -> None:
    printk(cpu, text, KERN_ERR)
