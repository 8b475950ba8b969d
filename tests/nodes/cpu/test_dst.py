"""dst entries and their collector: references, children, back-off, device events, by era."""

from __future__ import annotations

import random

import pytest

from nodes.cpu.kernel.jiffies import initial_jiffies
from nodes.cpu.kernel.net.dst import (
    DST_NOCACHE,
    DST_NOCOUNT,
    DST_NOHASH,
    DST_OBSOLETE_DEAD,
    DstEntry,
    DstOps,
    dst_alloc,
    dst_check,
    dst_clone,
    dst_dev_put,
    dst_hold,
    dst_release,
    dst_use,
    netdev_refcnt_read,
)
from nodes.cpu.kernel.net.dst_gc import Backoff, DstGarbage, dst_free, dst_gc_task, dst_run_gc
from nodes.cpu.kernel.net.netdevice import (
    IFF_UP,
    NETDEV_DOWN,
    NETDEV_UNREGISTER,
    NetDevice,
    apply_netdev_event,
)
from tests.nodes.cpu.harness import ERAS, MS, SECOND, BareCpu

COLLECTED = ("2.6.18", "3.10")


class Family(DstOps):
    """A family that remembers which of its entries were destroyed."""

    def __init__(self) -> None:
        super().__init__("test")
        self.destroyed: list[str] = []
        self.names: dict[int, str] = {}

    def destroy(self, _cpu: object, dst: DstEntry) -> None:
        self.destroyed.append(self.names[dst.number])


class Bench:
    """A CPU with one device, entries by name, and the times at which the collector ran."""

    def __init__(self, era: str, overrides: tuple[tuple[str, str], ...] = ()) -> None:
        self.bare = BareCpu(era, overrides=overrides)
        self.cpu = self.bare.cpu
        self.ops = Family()
        self.dev = NetDevice(2, "eth0", bytes(6), 0)
        self.dev.flags |= IFF_UP
        self.cpu.net.devices[2] = self.dev
        self.hz = self.cpu.params.hz
        self.ran: list[int] = []  # jiffies of each run
        self._watch()

    def _watch(self) -> None:
        """Note each run, as it begins."""
        garbage, ran = self.garbage, self.ran

        def noted(cpu: object) -> object:
            ran.append(self.cpu.jiffies())
            run = dst_run_gc if self.cpu.params.dst_gc == "timer" else dst_gc_task
            return run(self.cpu)

        garbage.work.function = noted  # type: ignore[assignment]
        garbage.timer.function = noted  # type: ignore[assignment]

    @property
    def garbage(self) -> DstGarbage:
        return self.cpu.net.dst_garbage

    def entry(self, name: str, refs: int = 0, flags: int = 0) -> DstEntry:
        dst = DstEntry(self.ops, self.dev, refs, 0, flags)
        dst_alloc(self.cpu, dst)
        self.ops.names[dst.number] = name
        return dst

    def free(self, *entries: DstEntry) -> None:
        """dst_free, one after the other."""

        def frees() -> object:
            for dst in entries:
                yield from dst_free(self.cpu, dst)

        self.bare.task(frees())  # type: ignore[arg-type]
        self.bare.settle()

    def waiting(self) -> list[str]:
        return [self.ops.names[dst.number] for dst in self.garbage.entries()]

    def destroyed(self) -> list[str]:
        return self.ops.destroyed

    def gaps_s(self, since: int) -> list[float]:
        return [round((jiffy - since) / self.hz, 3) for jiffy in self.ran]


# ---------------------------------------------------------------- references


def test_hold_clone_use_and_release_count() -> None:
    bench = Bench("3.10")
    dst = bench.entry("a")
    dst_hold(dst)
    assert dst_clone(dst) is dst
    dst_use(dst, 77)
    assert (dst.refcnt, dst.use, dst.lastuse) == (3, 1, 77)
    for _ in range(3):
        dst_release(bench.cpu, dst)
    assert dst.refcnt == 0
    bench.bare.run_for(2 * SECOND)
    assert bench.destroyed() == []  # nobody took it out of its cache


@pytest.mark.parametrize("era", ERAS)
def test_a_release_too_many_warns(era: str) -> None:
    bench = Bench(era)
    dst = bench.entry("a")
    dst_release(bench.cpu, dst)
    assert bench.bare["warnings"] == 1
    assert ("dst_release underflow" in bench.bare.log()) == (era == "6.1")


@pytest.mark.parametrize(("era", "gone"), [("2.6.18", []), ("3.10", ["a"])])
def test_what_was_never_cached_ends_with_its_last_reference(era: str, gone: list[str]) -> None:
    bench = Bench(era)  # 2.6.18 knows no DST_NOCACHE
    dst = bench.entry("a", refs=1, flags=DST_NOCACHE)
    dst_release(bench.cpu, dst)
    assert bench.destroyed() == gone


def test_without_a_collector_the_last_release_frees_after_a_grace_period() -> None:
    bench = Bench("6.1")
    dst = bench.entry("a", refs=2)
    dst_release(bench.cpu, dst)
    bench.bare.run_for(SECOND)
    assert bench.destroyed() == []
    dst_release(bench.cpu, dst)
    assert bench.destroyed() == []  # somebody may still be looking at it
    bench.bare.run_for(SECOND)
    assert bench.destroyed() == ["a"]
    assert bench.ops.entries == 0
    assert not bench.ran


def test_entries_are_counted_unless_they_ask_not_to_be() -> None:
    bench = Bench("3.10")
    one, two = bench.entry("a"), bench.entry("b", flags=DST_NOCOUNT)
    assert bench.ops.entries == 1
    bench.free(one, two)
    assert (bench.ops.entries, bench.destroyed()) == (0, ["a", "b"])


# ---------------------------------------------------------------- children


@pytest.mark.parametrize(
    ("flags", "refs", "gone", "left"),
    [
        (DST_NOHASH, 1, ["parent", "child"], []),  # only the parent knew it
        (DST_NOHASH, 2, ["parent"], ["child"]),  # somebody else has it: the collector's now
        (0, 1, ["parent"], []),  # still in its own table
        (0, 2, ["parent"], []),
    ],
)
def test_a_parent_takes_its_child_along(
    flags: int, refs: int, gone: list[str], left: list[str]
) -> None:
    bench = Bench("3.10")
    parent, child = bench.entry("parent"), bench.entry("child", refs, flags)
    parent.child = child
    bench.free(parent)
    assert bench.destroyed() == gone
    assert child.refcnt == refs - 1
    assert bench.waiting() == left
    if left:
        assert child.obsolete == DST_OBSOLETE_DEAD
        dst_release(bench.cpu, child)
        bench.bare.run_for(200 * MS)
        assert bench.destroyed() == ["parent", "child"]


def test_a_chain_of_children_goes_in_one_go() -> None:
    bench = Bench("3.10")
    first = dst = bench.entry("0")
    for i in range(1, 5):
        dst.child = bench.entry(str(i), 1, DST_NOHASH)
        dst = dst.child
    bench.free(first)
    assert bench.destroyed() == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("era", COLLECTED)
def test_a_child_that_the_collector_finds_held_takes_its_parents_place(era: str) -> None:
    bench = Bench(era)
    parent, child = bench.entry("parent", 1), bench.entry("child", 2, DST_NOHASH)
    parent.child = child
    bench.free(bench.entry("x", 1), parent, bench.entry("y", 1))
    dst_release(bench.cpu, parent)
    bench.bare.run_for(110 * MS)
    assert (bench.destroyed(), bench.waiting()) == (["parent"], ["y", "child", "x"])
    assert child.obsolete == DST_OBSOLETE_DEAD
    dst_release(bench.cpu, child)
    bench.bare.run_for(110 * MS)
    assert bench.destroyed() == ["parent", "child"]


def test_a_nocache_parents_child_reaches_the_collector() -> None:
    bench = Bench("3.10")
    parent = bench.entry("parent", 1, DST_NOCACHE)
    parent.child = bench.entry("child", 2, DST_NOHASH)
    dst_release(bench.cpu, parent)
    bench.bare.run_for(50 * MS)
    assert (bench.destroyed(), bench.waiting()) == (["parent"], ["child"])


# ---------------------------------------------------------------- the collector


@pytest.mark.conformance("K6-1")
@pytest.mark.parametrize("era", COLLECTED)
def test_a_used_entry_waits_for_the_collector(era: str) -> None:
    bench = Bench(era)
    dst = bench.entry("a", refs=2)
    began = bench.cpu.jiffies()
    bench.free(dst)
    assert list(bench.garbage.list) == [dst]
    assert dst.obsolete == DST_OBSOLETE_DEAD
    assert not dst_check(bench.cpu, dst)
    dst_release(bench.cpu, dst)
    dst_release(bench.cpu, dst)
    bench.bare.run_for(90 * MS)
    assert (bench.destroyed(), bench.ran) == ([], [])
    bench.bare.run_for(20 * MS)
    assert bench.destroyed() == ["a"]
    assert bench.gaps_s(began) == pytest.approx([0.1], abs=0.004)


@pytest.mark.conformance("K6-2")
@pytest.mark.parametrize("era", COLLECTED)
def test_a_second_free_does_nothing(era: str) -> None:
    bench = Bench(era)
    dst = bench.entry("a", refs=1)
    bench.free(dst, dst)
    assert bench.waiting() == ["a"]
    dst_release(bench.cpu, dst)
    bench.free(dst)  # unused by now, but the collector's
    assert bench.destroyed() == []
    bench.bare.run_for(110 * MS)
    assert bench.destroyed() == ["a"]


@pytest.mark.conformance("K6-3")
@pytest.mark.parametrize("era", COLLECTED)
def test_the_first_dead_entry_arms_the_collector_and_one_after_a_fruitless_run_pulls_it_back(
    era: str,
) -> None:
    bench = Bench(era)
    began = bench.cpu.jiffies()
    bench.free(bench.entry("a", refs=1))
    bench.bare.run_for(60 * MS)
    bench.free(bench.entry("b", refs=1))  # timer_inc is INC: armed already
    bench.bare.run_for(60 * MS)
    assert bench.gaps_s(began) == pytest.approx([0.1], abs=0.004)
    assert bench.garbage.backoff.timer_inc == 2 * bench.garbage.backoff.DST_GC_INC
    bench.bare.run_for(100 * MS)  # the next run is due 0.6 s after the first
    again = bench.cpu.jiffies()
    bench.free(bench.entry("c", refs=1))
    bench.bare.run_for(200 * MS)
    assert bench.gaps_s(again)[1:] == pytest.approx([0.1], abs=0.004)


@pytest.mark.conformance("K6-4")
@pytest.mark.parametrize(
    ("busy", "freed", "inc"), [(10, 1, 2), (9, 1, 1), (20, 2, 2), (20, 3, 1), (1, 0, 2)]
)
def test_a_tenth_of_what_stays_busy_is_too_little(busy: int, freed: int, inc: int) -> None:
    bench = Bench("3.10")
    entries = [bench.entry(f"busy{i}", 1) for i in range(busy)]
    short = [bench.entry(f"freed{i}", 1) for i in range(freed)]
    bench.free(*entries, *short)
    for dst in short:
        dst_release(bench.cpu, dst)
    bench.bare.run_for(150 * MS)
    backoff = bench.garbage.backoff
    assert len(bench.ran) == 1
    assert backoff.timer_inc == inc * backoff.DST_GC_INC
    assert backoff.timer_expires == (bench.hz // 10 if inc == 1 else 6 * bench.hz // 10)


@pytest.mark.conformance("K6-4")
@pytest.mark.parametrize("era", COLLECTED)
def test_with_nothing_left_the_collector_sleeps_until_the_next_entry(era: str) -> None:
    bench = Bench(era)
    dst = bench.entry("a", refs=1)
    bench.free(dst)
    dst_release(bench.cpu, dst)
    bench.bare.run_for(200 * SECOND)
    assert len(bench.ran) == 1
    assert bench.garbage.backoff.timer_inc == bench.garbage.backoff.DST_GC_MAX
    began = bench.cpu.jiffies()
    bench.free(bench.entry("b", refs=1))
    bench.bare.run_for(150 * MS)
    assert bench.gaps_s(began)[1:] == pytest.approx([0.1], abs=0.004)


def test_2_6_18_starts_anew_when_anything_was_freed() -> None:
    bench = Bench("2.6.18")
    entries = [bench.entry(f"busy{i}", 1) for i in range(30)]
    one = bench.entry("one", 1)
    bench.free(*entries, one)
    dst_release(bench.cpu, one)
    bench.bare.run_for(150 * MS)
    assert bench.garbage.backoff.timer_inc == bench.garbage.backoff.DST_GC_INC


@pytest.mark.conformance("K6-5")
def test_what_comes_during_a_run_is_looked_at_in_it() -> None:
    bench = Bench("3.10")
    first = bench.entry("first", 1)
    bench.free(bench.entry("held", 1), first)
    late = bench.entry("late", 1)
    dst_release(bench.cpu, first)
    bench.bare.run_until(lambda: bench.destroyed() == ["first"])
    assert bench.ran
    assert bench.garbage.runs == 0  # half way
    bench.bare.task(dst_free(bench.cpu, late))
    bench.cpu.need_resched = True  # it gives way between two entries
    bench.bare.run_until(lambda: late.obsolete == DST_OBSOLETE_DEAD)
    assert bench.garbage.runs == 0
    dst_release(bench.cpu, late)
    bench.bare.settle()
    assert bench.garbage.runs == 1
    assert bench.destroyed() == ["first", "late"]


@pytest.mark.conformance("K6-6")
def test_garbage_is_newest_first_and_the_busy_list_keeps_the_order_of_the_scan() -> None:
    bench = Bench("3.10")
    entries = {name: bench.entry(name, 1) for name in "abcd"}
    bench.free(*entries.values())
    assert bench.waiting() == ["d", "c", "b", "a"]
    dst_release(bench.cpu, entries["c"])
    bench.bare.run_for(110 * MS)
    assert [bench.ops.names[d.number] for d in bench.garbage.busy] == ["d", "b", "a"]
    bench.free(bench.entry("e", 1))
    bench.bare.run_for(110 * MS)
    assert [bench.ops.names[d.number] for d in bench.garbage.busy] == ["d", "b", "a", "e"]


@pytest.mark.conformance("K6-7")
@pytest.mark.parametrize(
    ("era", "comm", "in_softirq"), [("2.6.18", None, True), ("3.10", "kworker/0:", False)]
)
def test_the_collector_is_a_work_or_a_timer(era: str, comm: str | None, in_softirq: bool) -> None:
    bench = Bench(era)
    seen: list[tuple[str, bool, bool]] = []

    def destroyed(cpu: object, dst: DstEntry) -> None:
        seen.append((bench.cpu.current.comm, bench.cpu.in_softirq(), bench.cpu.in_atomic()))

    dst = bench.entry("a", 1)
    bench.free(dst)
    bench.ops.destroy = destroyed  # type: ignore[method-assign]
    dst_release(bench.cpu, dst)
    bench.bare.run_for(110 * MS)
    assert [(softirq, atomic) for _, softirq, atomic in seen] == [(in_softirq, in_softirq)]
    assert comm is None or seen[0][0].startswith(comm)


@pytest.mark.conformance("K6-7")
def test_the_work_gives_way_between_two_entries() -> None:
    bench = Bench("3.10")
    bench.free(*(bench.entry(str(i), 1) for i in range(5)))
    bench.bare.run_until(lambda: len(bench.garbage.busy) == 2)
    order: list[int] = []

    def other() -> object:
        order.append(len(bench.garbage.busy))
        yield

    bench.bare.task(other())  # type: ignore[arg-type]
    bench.cpu.need_resched = True
    bench.bare.settle()
    assert order
    assert order[0] < 5


# ---------------------------------------------------------------- how it backs off


def model(hz: int, *, rounded: bool, until_s: float) -> list[float]:
    """When the collector runs (seconds) if nothing is ever freed, written from the description:
    each pause is the last one plus an increment that grows by half a second, 120 s at most;
    pauses above 4 s end on a full second of jiffies (less than a quarter past: down, else up)."""
    now = initial_jiffies(hz) + hz // 3
    start, pause, grow = now, hz // 10, hz // 2
    times = []
    while (now - start) / hz < until_s:
        wait = pause
        if rounded and pause > 4 * hz:
            end = now + pause
            whole = end // hz * hz
            wait = (whole if end - whole < hz // 4 else whole + hz) - now
        now += wait
        times.append((now - start) / hz)
        pause = min(pause + grow, 120 * hz)
        grow += hz // 2
    return times


def test_the_series_of_pauses() -> None:
    """The numbers of the reference, from both the model and the code."""
    expected = [
        0.1, 0.6, 1.6, 3.1, 5.1, 7.6, 10.6, 14.1, 18.1, 22.6, 27.6, 33.1, 39.1, 45.6, 52.6, 60.1,
        68.1, 76.6, 85.6, 95.1, 105.1, 115.6, 120, 120,
    ]  # fmt: skip
    for hz in (1000, 250, 100):
        backoff = Backoff(hz)
        assert backoff.something_died()
        pauses = [backoff.timer_expires / hz]
        while len(pauses) < len(expected):
            backoff.later()
            pauses.append(backoff.timer_expires / hz)
        assert pauses == expected
        times = model(hz, rounded=False, until_s=2000)[: len(expected)]
        assert times == pytest.approx([sum(expected[: i + 1]) for i in range(len(expected))])
        assert backoff.timer_inc == (len(expected)) * hz // 2  # without a limit


@pytest.mark.parametrize("era", COLLECTED)
def test_the_collector_comes_when_the_model_says(era: str) -> None:
    bench = Bench(era, (("timer_slack", "none"),))
    hz = bench.hz
    start = initial_jiffies(hz) + 300 * hz + hz // 3  # as far into its second as the model's
    bench.bare.run_for((start - bench.cpu.jiffies()) * SECOND // hz)
    bench.free(bench.entry("leaked", 1))
    bench.bare.run_for(400 * SECOND)
    expected = model(hz, rounded=era == "3.10", until_s=399)
    found = bench.gaps_s(start)
    assert len(found) in (len(expected), len(expected) - 1)
    for was, should in zip(found, expected, strict=False):
        assert was == pytest.approx(should, abs=0.05)  # a jiffy or two late, each time


@pytest.mark.parametrize("seed", range(20))
def test_random_releases_against_a_second_collector(seed: int) -> None:
    """Entries that come and are let go at random: what is freed and kept, run by run, is what a
    list comprehension says."""
    bench, rng = Bench("3.10"), random.Random(seed)
    held: list[DstEntry] = []
    alive: list[DstEntry] = []
    for _ in range(30):
        for _ in range(rng.randrange(4)):
            dst = bench.entry(f"{len(bench.ops.names)}", rng.randrange(3))
            if dst.refcnt:
                alive.append(dst)
            held += [dst] * dst.refcnt
            bench.free(dst)
        rng.shuffle(held)
        for _ in range(rng.randrange(4)):
            if held:
                dst_release(bench.cpu, held.pop())
        runs = bench.garbage.runs
        before = len([dst for dst in alive if not dst.refcnt])
        bench.bare.run_for(rng.randrange(1, 900) * MS)
        if bench.garbage.runs > runs:
            alive = [dst for dst in alive if dst.refcnt]
        assert len(bench.waiting()) == len(alive)
        assert before == 0 or bench.garbage.runs > runs or bench.garbage.backoff.timer_inc
        armed = bench.garbage.backoff.timer_inc < bench.garbage.backoff.DST_GC_MAX
        assert armed == bool(alive)
    for dst in held:
        dst_release(bench.cpu, dst)
    bench.bare.run_for(400 * SECOND)
    assert bench.waiting() == []
    assert bench.ops.entries == 0
    assert sorted(bench.destroyed()) == sorted(bench.ops.names.values())


# ---------------------------------------------------------------- devices


@pytest.mark.conformance("K6-8")
@pytest.mark.parametrize("era", COLLECTED)
def test_a_device_that_goes_down_keeps_its_entries_and_one_that_goes_is_let_go(era: str) -> None:
    bench = Bench(era)
    on_list, on_busy = bench.entry("list", 1), bench.entry("busy", 1)
    bench.free(on_busy)
    bench.bare.run_for(110 * MS)
    bench.free(on_list)
    assert netdev_refcnt_read(bench.cpu, bench.dev) == 2
    bench.dev.flags &= ~IFF_UP
    apply_netdev_event(bench.cpu, 2, NETDEV_DOWN)
    for dst in (on_list, on_busy):
        assert dst.dev is bench.dev
        assert dst.discard
    assert netdev_refcnt_read(bench.cpu, bench.dev) == 2
    apply_netdev_event(bench.cpu, 2, NETDEV_UNREGISTER)
    lo = bench.cpu.net.loopback_dev
    assert (on_list.dev, on_busy.dev) == (lo, lo)
    assert (netdev_refcnt_read(bench.cpu, bench.dev), netdev_refcnt_read(bench.cpu, lo)) == (0, 2)
    for dst in (on_list, on_busy):
        dst_release(bench.cpu, dst)
    bench.bare.run_for(SECOND)
    assert sorted(bench.destroyed()) == ["busy", "list"]
    assert netdev_refcnt_read(bench.cpu, lo) == 0


@pytest.mark.conformance("K6-8")
def test_an_event_in_the_middle_of_a_run_reaches_every_entry() -> None:
    bench = Bench("3.10")
    bench.free(*(bench.entry(name, 1) for name in "abcdef"))
    bench.bare.run_until(lambda: len(bench.garbage.busy) == 3)
    bench.bare.task(dst_free(bench.cpu, bench.entry("g", 1)))
    bench.dev.flags &= ~IFF_UP
    apply_netdev_event(bench.cpu, 2, NETDEV_UNREGISTER)
    bench.bare.settle()
    bench.bare.run_for(110 * MS)
    assert sorted(bench.waiting()) == list("abcdefg")
    assert netdev_refcnt_read(bench.cpu, bench.dev) in (0, 1)  # g died after the event
    apply_netdev_event(bench.cpu, 2, NETDEV_UNREGISTER)
    assert netdev_refcnt_read(bench.cpu, bench.dev) == 0


def test_an_entry_that_dies_without_its_device_is_discarded_at_once() -> None:
    bench = Bench("3.10")
    up, down = bench.entry("up", 1), bench.entry("down", 1)
    bench.free(up)
    bench.dev.flags &= ~IFF_UP
    bench.free(down)
    assert (up.discard, down.discard) == (False, True)


def test_6_1_gives_the_device_back_while_the_entry_is_held() -> None:
    bench = Bench("6.1")
    dst = bench.entry("a", 1)
    assert netdev_refcnt_read(bench.cpu, bench.dev) == 2  # 1 is what 6.1 shows of an idle device
    dst_dev_put(bench.cpu, dst)
    assert netdev_refcnt_read(bench.cpu, bench.dev) == 1
    assert (dst.dev is bench.cpu.net.blackhole_netdev, dst.discard) == (True, True)
    assert dst.obsolete == DST_OBSOLETE_DEAD
    dst_release(bench.cpu, dst)
    bench.bare.run_for(SECOND)
    assert bench.destroyed() == ["a"]
