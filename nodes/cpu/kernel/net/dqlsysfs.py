"""Writing the byte limits of a queue, after bql_attribute of net/core/net-sysfs.c.

Each is one word of the ring's state, stored as it is: the next completion looks at it."""

from __future__ import annotations

from errno import EINVAL, ENOENT
from typing import TYPE_CHECKING

from nodes.cpu.kernel.files import kstrtoint, store
from nodes.cpu.kernel.net.dql import DQL_MAX_LIMIT, HOLD_TIME, LIMIT, MAX_LIMIT, MIN_LIMIT
from nodes.cpu.kernel.percpu import Context

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

_WORDS = {"limit": LIMIT, "limit_max": MAX_LIMIT, "limit_min": MIN_LIMIT, "hold_time": HOLD_TIME}
_FILE = "/sys/class/net/{port}/queues/tx-{txq}/byte_queue_limits/"


def _limit(name: str) -> None:
    @store(_FILE + name)
    def bql_set(cpu: Cpu, groups: dict[str, str], text: str) -> Context:
        """A number; of the three limits ``max`` is the largest there may be."""
        value = kstrtoint(text)
        if text.strip() == "max" and name != "hold_time":
            value = DQL_MAX_LIMIT
        if value is None or not 0 <= value <= DQL_MAX_LIMIT:
            return -EINVAL
        dev = cpu.net.device(groups["port"])
        if dev is None or dev.adapter is None:
            return -ENOENT
        if name == "hold_time":
            value = value * cpu.params.hz // 1000
        ring = dev.adapter.all_rings[int(groups["txq"])]
        cpu.ram.words64[ring.state + _WORDS[name]] = value
        yield
        return 0


for _name in _WORDS:
    _limit(_name)
