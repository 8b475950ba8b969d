"""Readers and writers, and mutexes: who waits, who sleeps, who is woken."""

from __future__ import annotations

import random
from typing import Any

import pytest

from nodes.cpu.kernel.locks.mutex import Mutex, mutex_lock, mutex_trylock, mutex_unlock
from nodes.cpu.kernel.locks.rwlock import RwLock, read_lock, read_unlock, write_lock, write_unlock
from nodes.cpu.kernel.percpu import Context, Cpu
from tests.nodes.cpu.duo import ON, Duo
from tests.nodes.cpu.harness import BareCpu

# ---------------------------------------------------------------- rwlock and mutex


def test_readers_share_and_a_writer_is_alone() -> None:
    duo, table = Duo(), RwLock(40, "devices")
    readers: list[int] = []
    writers: list[int] = []
    together: list[int] = [0]

    def task(cpu: Cpu, rng: random.Random) -> Context:
        for _ in range(20):
            if rng.random() < 0.6:
                yield from read_lock(cpu, table)
                assert not writers
                readers.append(cpu.number)
                together[0] = max(together[0], len(readers))
                for _ in range(rng.randrange(4)):
                    yield
                readers.remove(cpu.number)
                yield from read_unlock(cpu, table)
            else:
                yield from write_lock(cpu, table)
                assert not readers
                assert not writers
                writers.append(cpu.number)
                for _ in range(rng.randrange(4)):
                    yield
                writers.clear()
                yield from write_unlock(cpu, table)

    rng = random.Random(7)
    for bench in duo.both:
        bench.task(task(bench.cpu, rng))
    for _ in range(2000):
        duo.step(rng.randrange(2))
    assert duo.idle()
    assert together == [2]
    assert duo.zero.ram.atomics.load(table.word) == 0


@pytest.mark.parametrize("seed", range(20))
def test_mutex_waiters_sleep_and_are_woken_also_on_the_other_cpu(seed: int) -> None:
    duo, table = Duo(), Mutex(40, "rtnl_mutex")
    inside: list[int] = []
    done: list[int] = []
    rng = random.Random(seed)

    def task(cpu: Cpu) -> Context:
        for _ in range(5):
            yield from mutex_lock(cpu, table)
            assert not inside
            assert table.owner(cpu) == cpu.current.pid
            inside.append(cpu.current.pid)
            for _ in range(rng.randrange(30)):
                yield
            inside.clear()
            yield from mutex_unlock(cpu, table)
            yield
        done.append(cpu.current.pid)

    for bench in duo.both:
        for _ in range(2):
            bench.task(task(bench.cpu))
    for _ in range(20000):
        if len(done) == 4:
            break
        duo.step(rng.randrange(2))
    assert len(done) == 4
    assert table.owner(duo.zero.cpu) == 0
    assert not mutex_waiters(duo)


def mutex_waiters(duo: Duo) -> list[Any]:
    return [task for b in duo.both for tasks in b.cpu.mutex_waiters.values() for task in tasks]


def test_mutex_trylock_takes_what_is_free() -> None:
    bench, table, got = BareCpu(overrides=ON), Mutex(40, "m"), []

    def task(cpu: Cpu) -> Context:
        got.append(mutex_trylock(cpu, table))
        got.append(mutex_trylock(cpu, table))
        yield from mutex_unlock(cpu, table)

    bench.task(task(bench.cpu))
    bench.settle()
    assert got == [True, False]
