"""/sys/devices/system/cpu/cpuN/online: taking a CPU out of use and back.

After drivers/base/cpu.c. To 3.10 its store function looks at the first character and asks
``cpu_down`` or ``cpu_up`` whatever the CPU's state is, so that a CPU that is online already is
-EINVAL; later it is the device's (drivers/base/core.c): any boolean, and nothing to do is success.
"""

from __future__ import annotations

from errno import EINVAL
from typing import TYPE_CHECKING

from nodes.cpu.kernel.cpuhotplug import cpu_down, cpu_up
from nodes.cpu.kernel.files import store
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.procfs.cpus import number_of

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


@store("/sys/devices/system/cpu/{cpu}/online")
def online_store(cpu: Cpu, groups: dict[str, str], text: str) -> Context:
    number = number_of(groups["cpu"])
    boolean = cpu.params.cpu_online_store == "boolean"
    wanted = kstrtobool(text) if boolean else {"0": False, "1": True}.get(text[:1])
    if wanted is None:
        return -EINVAL
    if boolean and wanted == (number in cpu.online_cpus):
        return 0
    error: int = yield from cpu_up(cpu, number) if wanted else cpu_down(cpu, number)
    return error


def kstrtobool(text: str) -> bool | None:
    """What the first letters of a text say: y, t, 1, on; n, f, 0, off; None: neither."""
    word = text[:2].lower()
    if word[:1] in ("y", "t", "1") or word == "on":
        return True
    if word[:1] in ("n", "f", "0") or word == "of":
        return False
    return None
