"""The situations of worker pools."""

from __future__ import annotations

from dashboard_bench import MS
from situations import case

# ---------------------------------------------------------------- worker pools


@case("POOLS", "cpu1's process is dead (SIGKILL 0 us ago); this is the last page it wrote.")
def pools_dead(bench):
    bench.kill("cpu1")


@case("POOLS", "cpu1's process is frozen (SIGSTOP): what is sent to it waits or is lost.")
def pools_frozen(bench):
    bench.state("cpu1", frozen=True)


@case("POOLS", "Offline: another CPU runs the works of cpu1 until it is back.")
def pools_offline(bench):
    bench.set("cpu1", online=0)


@case("POOLS", "cpu1's process does not answer heartbeats; its page may be old.")
def pools_silent(bench):
    bench.state("cpu1", silent=True)


@case("POOLS", "Stalled 2.0 s: 1 work waits in workqueue events behind reader, which sleeps.")
def keventd_sleeps(bench):
    bench.pool("cpu1", 0, 1, nice=-5, workers=1, idle=0, worklist=1, stuck_ms=2000, thread="events")
    bench.works("cpu1", 0, "events/1", "reader", "events", 2000, asleep=True)


@case(
    "POOLS",
    "Stalled 300 ms: 3 works wait in the normal pool while hog runs, for 400 ms.",
)
def pool_hogged(bench):
    bench.pool("cpu1", 0, 1, running=1, workers=3, idle=1, worklist=3, stuck_ms=300)
    bench.works("cpu1", 0, "kworker/1:0", "sleeper", "events", 500, asleep=True)
    bench.works("cpu1", 1, "kworker/1:1", "hog", "events", 400)


@case("POOLS", "Stalled 1.0 s: 2 works wait in the highpri pool for a worker; 1 worker busy.")
def pool_without_a_worker(bench):
    bench.pool("cpu1", 0, 1)
    bench.pool("cpu1", 1, 1, nice=-20, workers=1, idle=0, worklist=2, stuck_ms=1000)
    bench.works("cpu1", 0, "kworker/1:0H", "sleeper", "events_highpri", 1000, pool=1, asleep=True)


@case(
    "POOLS",
    "Stalled 150 ms: 1 work waits in the unbound pool; a woken worker cannot run.",
)
def pool_whose_worker_cannot_run(bench):
    bench.pool("cpu1", 2, None, worklist=1, stuck_ms=150)


@case("POOLS", "2 works of the normal pool are held back by max_active.")
def pool_held_back(bench):
    bench.pool("cpu1", 0, 1, inactive=2)


@case("POOLS", "Nothing is stalled; longest: reader, for 3.0 s (sleeps in it).")
def pool_with_a_long_work(bench):
    bench.pool("cpu1", 0, 1, workers=3, idle=2)
    bench.works("cpu1", 3, "kworker/1:0", "reader", "events", 3000, asleep=True)


@case("POOLS", "Nothing is stalled: 1 work runs, none waits.")
def pool_runs(bench):
    bench.pool("cpu1", 0, 1, workers=3, idle=2, running=1)
    bench.works("cpu1", 0, "kworker/1:0", "quick", "events", 1)


@case("POOLS", "Nothing to do; the next is bond_mii_monitor, in 43 ms.")
def pool_waits_for_a_timer(bench):
    bench.pool("cpu1", 0, 1)
    bench.delays("cpu1", 0, "ixgbe_service_task", 900)
    bench.delays("cpu1", 4, "bond_mii_monitor", 43)


@case("POOLS", "Nothing to do; the last was ixgbe_service_task, 200 ms ago.")
def pool_did_something(bench):
    bench.set("cpu1", wq_last_work="ixgbe_service_task", wq_last_ns=bench.now - 200 * MS)


@case("POOLS", "Nothing to do: no work has run here yet.")
def pool_new(bench):
    pass
