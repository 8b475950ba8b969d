"""Workqueues, after kernel/workqueue.c and include/linux/workqueue.h.

``work`` the data word, ``pool`` worker_pool and pool_workqueue, ``worker`` flags and nr_running,
``manage`` workers come and go, ``process`` worker_thread, ``queue`` and ``delayed`` queueing,
``grab`` stealing PENDING, ``flush`` and ``flusher`` waiting for one work or for all, ``cancel``,
``drain``, ``rescuer``, ``freezer``, ``lockmap`` what lockdep knows of them, ``completion`` and
``remote`` questions to other CPUs, ``alloc`` workqueues and their flags, ``hotplug`` a CPU goes and
comes back, ``keventd`` and ``keventd_flush`` the model of 2.6.18, ``state`` cpu.wq, ``show`` the
snapshot, ``rows`` what the page says, ``events`` the tracepoints.

``cpu.wq`` holds a CPU's part; a function that returns a Context may tell or ask another CPU.
"""

from nodes.cpu.kernel.workqueue.alloc import (
    WQ_CPU_INTENSIVE,
    WQ_FREEZABLE,
    WQ_HIGHPRI,
    WQ_MAX_ACTIVE,
    WQ_MEM_RECLAIM,
    WQ_NON_REENTRANT,
    WQ_POWER_EFFICIENT,
    WQ_SYSFS,
    WQ_UNBOUND,
    Workqueue,
    alloc_ordered_workqueue,
    alloc_workqueue,
    create_freezable_workqueue,
    create_singlethread_workqueue,
    create_workqueue,
    workqueue_set_max_active,
)
from nodes.cpu.kernel.workqueue.cancel import cancel_delayed_work_sync, cancel_work_sync
from nodes.cpu.kernel.workqueue.delayed import (
    INIT_DELAYED_WORK,
    mod_delayed_work,
    mod_delayed_work_on,
    queue_delayed_work,
    queue_delayed_work_on,
    schedule_delayed_work,
    schedule_delayed_work_on,
)
from nodes.cpu.kernel.workqueue.drain import destroy_workqueue, drain_workqueue
from nodes.cpu.kernel.workqueue.flush import (
    WORK_BUSY_PENDING,
    WORK_BUSY_RUNNING,
    flush_delayed_work,
    flush_work,
    work_busy,
)
from nodes.cpu.kernel.workqueue.flusher import flush_workqueue
from nodes.cpu.kernel.workqueue.freezer import (
    freeze_workqueues_begin,
    freeze_workqueues_busy,
    thaw_workqueues,
)
from nodes.cpu.kernel.workqueue.grab import (
    cancel_delayed_work,
    cancel_work,
    try_to_grab_pending,
)
from nodes.cpu.kernel.workqueue.hotplug import workqueue_offline_cpu, workqueue_online_cpu
from nodes.cpu.kernel.workqueue.keventd_flush import (
    cancel_rearming_delayed_work,
    cancel_rearming_delayed_workqueue,
)
from nodes.cpu.kernel.workqueue.queue import (
    WORK_CPU_UNBOUND,
    queue_work,
    queue_work_on,
    schedule_work,
    schedule_work_on,
)
from nodes.cpu.kernel.workqueue.state import Workqueues, workqueue_init_early
from nodes.cpu.kernel.workqueue.work import INIT_WORK, DelayedWork, Work
from nodes.cpu.kernel.workqueue.worker import (
    Worker,
    current_work,
    worker_clr_flags,
    worker_set_flags,
)

__all__ = [
    "INIT_DELAYED_WORK",
    "INIT_WORK",
    "WORK_BUSY_PENDING",
    "WORK_BUSY_RUNNING",
    "WORK_CPU_UNBOUND",
    "WQ_CPU_INTENSIVE",
    "WQ_FREEZABLE",
    "WQ_HIGHPRI",
    "WQ_MAX_ACTIVE",
    "WQ_MEM_RECLAIM",
    "WQ_NON_REENTRANT",
    "WQ_POWER_EFFICIENT",
    "WQ_SYSFS",
    "WQ_UNBOUND",
    "DelayedWork",
    "Work",
    "Worker",
    "Workqueue",
    "Workqueues",
    "alloc_ordered_workqueue",
    "alloc_workqueue",
    "cancel_delayed_work",
    "cancel_delayed_work_sync",
    "cancel_rearming_delayed_work",
    "cancel_rearming_delayed_workqueue",
    "cancel_work",
    "cancel_work_sync",
    "create_freezable_workqueue",
    "create_singlethread_workqueue",
    "create_workqueue",
    "current_work",
    "destroy_workqueue",
    "drain_workqueue",
    "flush_delayed_work",
    "flush_work",
    "flush_workqueue",
    "freeze_workqueues_begin",
    "freeze_workqueues_busy",
    "mod_delayed_work",
    "mod_delayed_work_on",
    "queue_delayed_work",
    "queue_delayed_work_on",
    "queue_work",
    "queue_work_on",
    "schedule_delayed_work",
    "schedule_delayed_work_on",
    "schedule_work",
    "schedule_work_on",
    "thaw_workqueues",
    "try_to_grab_pending",
    "work_busy",
    "worker_clr_flags",
    "worker_set_flags",
    "workqueue_init_early",
    "workqueue_offline_cpu",
    "workqueue_online_cpu",
    "workqueue_set_max_active",
]  # fmt: skip
