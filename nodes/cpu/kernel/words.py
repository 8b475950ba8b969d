"""Where the atomic words of the kernel lie (``Ram.atomics``): one table, so that no two rooms meet.

Each CPU computes the same places. A row: what the words are for, and how many there are; the
constants below are the numbers of the first.
"""

from __future__ import annotations

from bus.ram import ATOMIC_WORDS
from nodes.cpu.page import NICS_MAX
from nodes.machine import QUEUES_MAX

CPUS_MAX = 64
LOCKS, LOCK_CLASSES = 256, 64
LOCK_MAPS = 24
SHARED_TASKLETS, PRIVATE_TASKLETS = 64, 8
SHARED_TIMERS = 64
WQ_TORTURE_WORKS = 1024
#: Works by whose they are: the number of a work is the place of its work->data.
_WORKS = {
    "ixgbe_service_task": NICS_MAX,
    "linkwatch_event": 1,
    "bond_mii_monitor": 1,
    "bond_arp_monitor": 1,
    "bond_3ad_state_machine_handler": 1,
    "bond_alb_monitor": 1,
    "wq_unbind_fn": CPUS_MAX,
    "dst_gc_task": CPUS_MAX,
    "bh_off_irq_off": CPUS_MAX,
    "wq_works": 6 * CPUS_MAX,
    "delayed_work": 1,
    "cpu_offline": 5,
    "wq_torture": WQ_TORTURE_WORKS + CPUS_MAX,
    "others": 1016,  # tests
    "pciehp": NICS_MAX,
}
WORKS = sum(_WORKS.values())

_ROWS = {
    **_WORKS,
    "works running": WORKS,  # by number of the work, as the next
    "delayed works": WORKS,
    "last workqueue": 1,
    "pool hosts": CPUS_MAX,  # 1 + the CPU that adopted the pools of CPU n; 0: itself
    "cancel waiters": 1,  # bit n: CPU n waits for somebody else's cancel_work_sync
    "napi": NICS_MAX * QUEUES_MAX,  # NAPI_STATE_*
    "tx locks": NICS_MAX * QUEUES_MAX,
    "tasklets": SHARED_TASKLETS + PRIVATE_TASKLETS * CPUS_MAX,
    "timers": 2 * (SHARED_TIMERS + WORKS),
    "locks": LOCKS,
    "mutex waiters": LOCKS,  # bit n: CPU n waits
    "lock usage": LOCK_CLASSES,
    "lock dependencies": LOCK_CLASSES,
    "debug_locks": 1,
    "lock maps": LOCK_MAPS,  # whose class it is: workqueue.lockmap
    "call queues": CPUS_MAX,
    "call_data": 3,  # of 2.6.18: lock, started, finished
    "jiffies_stall": 1,
    "csd_bug_count": 1,
    "modules": 2,  # somebody loads one that each CPU must know; how many know it
    "wq_torture counts": WQ_TORTURE_WORKS + 16,
    "udp ports": 65536 // 64,  # bit n of word m: port 64 * m + n is taken
    "conntrack": 16 * 8 * 5,  # buckets, entries in each, words of an entry
    "lab modules": 16,  # conntable 0-3, lock_contexts 4-6, sleep_in_atomic 7-8, bh_off_irq_off 9,
    # cpu_offline 10-15
}

PLACES: dict[str, range] = {}
_next = 0
for _name, _count in _ROWS.items():
    PLACES[_name] = range(_next, _next + _count)
    _next += _count
assert _next <= ATOMIC_WORDS

WORK = 0
SERVICE_WORK = PLACES["ixgbe_service_task"].start
LINKWATCH_WORK = PLACES["linkwatch_event"].start
MII_WORK = PLACES["bond_mii_monitor"].start
ARP_WORK = PLACES["bond_arp_monitor"].start
AD_WORK = PLACES["bond_3ad_state_machine_handler"].start
ALB_WORK = PLACES["bond_alb_monitor"].start
UNBIND_WORK = PLACES["wq_unbind_fn"].start
DST_GC_WORK = PLACES["dst_gc_task"].start
PCIEHP_WORK = PLACES["pciehp"].start
BH_OFF_IRQ_OFF_WORK = PLACES["bh_off_irq_off"].start
WQ_WORKS_WORK = PLACES["wq_works"].start
DELAYED_WORK_WORK = PLACES["delayed_work"].start
CPU_OFFLINE_WORK = PLACES["cpu_offline"].start
WQ_TORTURE_WORK = PLACES["wq_torture"].start
OTHER_WORK = PLACES["others"].start
#: Works that are not the kernel's own.
MODULE_WORKS = range(BH_OFF_IRQ_OFF_WORK, OTHER_WORK + _WORKS["others"])
WORK_RUNNING = PLACES["works running"].start
DELAYED_WORK = PLACES["delayed works"].start
LAST_WORKQUEUE = PLACES["last workqueue"].start
POOL_HOST = PLACES["pool hosts"].start
CANCEL_WAITERS = PLACES["cancel waiters"].start
NAPI = PLACES["napi"].start
CONNTRACK = PLACES["conntrack"].start
TX_LOCK = PLACES["tx locks"].start
TASKLET = PLACES["tasklets"].start
TIMER = PLACES["timers"].start
LOCK = PLACES["locks"].start
MUTEX_WAITERS = PLACES["mutex waiters"].start
LOCK_USAGE = PLACES["lock usage"].start
LOCK_DEPENDENCY = PLACES["lock dependencies"].start
LOCK_MAP = PLACES["lock maps"].start
DEBUG_LOCKS_OFF = PLACES["debug_locks"].start
CALL_QUEUE = PLACES["call queues"].start
CALL_DATA = PLACES["call_data"].start
JIFFIES_STALL = PLACES["jiffies_stall"].start
CSD_BUG_COUNT = PLACES["csd_bug_count"].start
MODULE_MUTEX, MODULE_TOLD = PLACES["modules"]
WQ_TORTURE = PLACES["wq_torture counts"].start
UDP_PORTS = PLACES["udp ports"].start
LAB_MODULES = PLACES["lab modules"].start
#: Number of the shared timer of the first work; those below are anybody's.
DELAYED_WORK_TIMER = SHARED_TIMERS
