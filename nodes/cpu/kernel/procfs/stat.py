"""/proc/stat (fs/proc/stat.c; kernel-core reference section 9.3).

Times are in USER_HZ, a hundredth of a second. The line ``intr`` begins with the sum of all
interrupts: of devices, and (not in 2.6.18) of the architecture's own, TLB and the rows that no
total has ever counted left out. Nothing here waits for disks, so procs_blocked stays 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bus.ram import Page
from nodes.cpu.page import ARCH_IRQS

NS_PER_USER_TICK = 10_000_000
#: Rows that arch_irq_stat_cpu adds up, and arch_irq_stat's one.
_COUNTED = (
    "NMI", "LOC", "SPU", "PMI", "IWI", "RTR", "RES", "CAL", "TRM", "THR", "MCE", "MCP", "ERR",
)  # fmt: skip
_COLUMNS = {"2.6.18": 8, "3.10": 10, "6.1": 10}
_IDLE = 3


def _ticks(page: Page, uptime_ns: int) -> list[int]:
    times = list(page.run("cpustat"))
    since = page["idle_since_ns"]
    if since:
        times[_IDLE] += max(0, uptime_ns + 1 - since)
    return times


def _row(name: str, times: list[int], columns: int) -> str:
    ticks = [ns // NS_PER_USER_TICK for ns in times] + [0] * (columns - len(times))
    return f"{name} " + " ".join(str(tick) for tick in ticks)


def render_stat(boot: Mapping[str, Any], pages: Mapping[str, Page]) -> str:
    """The whole file."""
    era, online = boot["proc_format"], boot["online"]
    columns = _COLUMNS[era]
    times = {name: _ticks(page, boot["uptime_ns"]) for name, page in pages.items()}
    total = [sum(column) for column in zip(*times.values(), strict=True)]
    lines = [_row("cpu ", total, columns)]
    lines += [_row(f"cpu{number}", times[f"cpu{number}"], columns) for number in online]
    lines.append(_intr(boot, pages))
    lines.append(f"ctxt {sum(page['ctxt'] for page in pages.values())}")
    lines.append(f"btime {boot.get('btime', 0)}")
    lines.append(f"processes {sum(page['forks'] for page in pages.values())}")
    running = sum(pages[f"cpu{number}"]["nr_running"] for number in online)
    lines += [f"procs_running {running}", "procs_blocked 0"]
    if era != "2.6.18":
        counts = [
            sum(row) for row in zip(*(p.run("softirqs") for p in pages.values()), strict=True)
        ]
        lines.append(f"softirq {sum(counts)} " + " ".join(str(count) for count in counts))
    return "\n".join(lines) + "\n"


def _intr(boot: Mapping[str, Any], pages: Mapping[str, Page]) -> str:
    runs = [page.run("irqs") for page in pages.values()]
    counts = [sum(run[irq] for run in runs) for irq in range(min(len(runs[0]), boot["nr_irqs"]))]
    counts += [0] * (boot["nr_irqs"] - len(counts))
    total = sum(counts)
    if boot["proc_format"] != "2.6.18":
        rows = [ARCH_IRQS.index(label) for label in _COUNTED]
        total += sum(page.run("arch_irqs")[row] for page in pages.values() for row in rows)
    return f"intr {total} " + " ".join(str(count) for count in counts)
