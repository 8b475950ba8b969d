"""RAM: sections apart from each other, and nothing torn when two processes race."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bus.ram import (
    ATOMIC_WORDS,
    CSD_RECORD_WORDS,
    CSD_RECORDS,
    HANDOVER_BUFFERS,
    IOMMU_WINDOWS,
    LOG_LINES,
    PAGE_BYTES,
    RECORDS,
    TAP_SLOTS,
    Field,
    Layout,
    Ram,
    Schema,
)
from bus.recorder import ALL_EVENTS, Recorder

LAYOUT = Layout(("cpu0", "cpu1", "apic", "eth0", "lan"), 2, 1, 1 << 20)
GUARD_S = 120


@pytest.fixture
def ram(tmp_path: Path) -> Iterator[Ram]:
    ram = Ram.create(str(tmp_path / "ram"), LAYOUT)
    yield ram
    ram.close()


class Child:
    """A second process that runs ``work`` and reports success by exiting with 0."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(GUARD_S)
                work()
                code = 0
            finally:
                os._exit(code)

    def join(self) -> None:
        assert os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]) == 0

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@pytest.fixture(autouse=True)
def guard() -> Iterator[None]:
    """A race that does not end fails instead of hanging."""

    def too_late(*_: object) -> None:
        raise TimeoutError(f"the other process did not come within {GUARD_S} s")

    before = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(GUARD_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


# ---------------------------------------------------------------- layout and sections


def test_sections_are_page_aligned_and_do_not_overlap() -> None:
    layout = LAYOUT
    starts = [
        layout.pages, layout.recorders, layout.logs, layout.atomics, layout.csd, layout.handover,
        layout.taps, layout.iommu, layout.dma, layout.total_bytes,
    ]  # fmt: skip
    assert all(start % 4096 == 0 for start in starts)
    assert starts == sorted(set(starts))


def test_everything_filled_to_the_brim_leaves_the_neighbours_alone(ram: Ram) -> None:
    """Each section is written full with its own pattern; afterwards all still read right."""
    for n, name in enumerate(LAYOUT.nodes):
        ram.set_incarnation(name, 100 + n)
        ram.set_pid(name, 200 + n)
        ram.page(name).words[:] = memoryview(bytes([n + 1]) * PAGE_BYTES).cast("Q")
        recorder = Recorder(ram.recorder_words(name))
        recorder.mask = ALL_EVENTS
        for i in range(RECORDS + 5):
            recorder.record(i, n, i, i, i)
    for word in range(ATOMIC_WORDS):
        ram.atomics.store(word, word + 1)
    for cpu in range(2):
        for i in range(LOG_LINES + 3):
            ram.log(cpu).append(i, cpu, f"{cpu}:{i}" + "x" * 300)
        for i in range(TAP_SLOTS + 3):
            ram.tap(cpu).append(i, cpu, True, 1, bytes([cpu]) * 3000, 65535)
        pool = ram.handover(cpu)
        assert [pool.put(bytes([cpu]) * 2048) for _ in range(HANDOVER_BUFFERS)] == list(
            range(HANDOVER_BUFFERS)
        )
        assert pool.put(b"") is None
        for other in range(2):
            ring = ram.csd_ring(cpu, other)
            while ring.push([cpu * 10 + other] * CSD_RECORD_WORDS):
                pass
            assert len(ring) == CSD_RECORDS
    iommu = ram.iommu(0)
    for i in range(IOMMU_WINDOWS):
        iommu.map(i * 4096, 4096)
    with pytest.raises(MemoryError):
        iommu.map(1 << 40, 1)
    ram.bytes[LAYOUT.dma :] = b"\xdd" * LAYOUT.dma_bytes

    for n, name in enumerate(LAYOUT.nodes):
        assert (ram.incarnation(name), ram.pid(name)) == (100 + n, 200 + n)
        assert bytes(ram.page(name).words) == bytes([n + 1]) * PAGE_BYTES
        records, following, lost = Recorder(ram.recorder_words(name)).read()
        assert (len(records), following, lost) == (RECORDS - 1, RECORDS + 5, 6)
        assert all(r.event == n and r.time_ns == r.context == r.a == r.b for r in records)
    assert [ram.atomics.load(w) for w in range(ATOMIC_WORDS)] == list(range(1, ATOMIC_WORDS + 1))
    for cpu in range(2):
        lines = ram.log(cpu).lines()
        assert [line[0] for line in lines] == list(range(4, LOG_LINES + 3))
        assert all(text.startswith(f"{cpu}:{time}x") for time, _, text in lines)
        packets, _, lost = ram.tap(cpu).read(0)
        assert (len(packets), lost) == (TAP_SLOTS - 1, 4)
        assert all(p.length == 3000 and set(p.data) == {cpu} for p in packets)
        pool = ram.handover(cpu)
        assert all(set(pool.take(i, 2048)) == {cpu} for i in range(HANDOVER_BUFFERS))
        assert pool.in_use() == 0
        for other in range(2):
            ring = ram.csd_ring(cpu, other)
            assert [ring.pop() for _ in range(CSD_RECORDS)] == [
                [cpu * 10 + other] * CSD_RECORD_WORDS
            ] * CSD_RECORDS
            assert ring.pop() is None
    assert [w.address for w in iommu.windows()] == [i * 4096 for i in range(IOMMU_WINDOWS)]
    assert bytes(ram.bytes[LAYOUT.dma :]) == b"\xdd" * LAYOUT.dma_bytes


def test_a_page_has_names_text_and_runs(ram: Ram) -> None:
    schema = Schema([Field("single", ""), Field("run", "", 3), Field("name", "", 2)])
    page = ram.page("eth0", schema)
    page["single"] = 7
    page.add("single", 3)
    page.words[schema.span("run")] = memoryview(bytes(range(24))).cast("Q")
    page.set_text("name", "kworker/0:1-and-more-than-fits")
    assert page["single"] == 10
    assert page.text("name") == "kworker/0:1-and-"
    assert page.run("run") == page.as_dict()["run"]
    assert ram.page("lan", schema).as_dict()["single"] == 0
    ram.clear_page("eth0")
    assert page["single"] == 0


def test_a_page_that_does_not_fit_or_names_a_field_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        Schema([Field("a", ""), Field("a", "")])
    with pytest.raises(ValueError, match="larger"):
        Schema([Field("a", "", PAGE_BYTES)])


def test_a_second_opening_sees_the_same_and_a_foreign_file_is_refused(
    ram: Ram, tmp_path: Path
) -> None:
    ram.boot_ns = 12345
    other = Ram.open(str(tmp_path / "ram"), LAYOUT)
    assert other.boot_ns == 12345
    other.close()
    with pytest.raises(FileExistsError):
        Ram.create(str(tmp_path / "ram"), LAYOUT)
    (tmp_path / "zeros").write_bytes(bytes(LAYOUT.total_bytes))
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ValueError, match="size"):
        Ram.open(str(tmp_path / "ram"), LAYOUT._replace(cpus=1))
    with pytest.raises(ValueError, match="bottomhalf"):
        Ram.open(str(tmp_path / "zeros"), LAYOUT)
    assert os.listdir("/proc/self/fd") == before
    assert (tmp_path / "ram").stat().st_mode & 0o777 == 0o600


def test_iommu_windows_come_and_go(ram: Ram) -> None:
    iommu = ram.iommu(0)
    iommu.map(0, 100)
    iommu.map(4096, 200, writable=False)
    iommu.unmap(0)
    assert [tuple(w) for w in iommu.windows()] == [(4096, 200, False)]
    with pytest.raises(KeyError):
        iommu.unmap(0)
    before = iommu.generation
    iommu.map(8192, 1)
    assert iommu.generation != before
    assert sorted(w.address for w in iommu.windows()) == [4096, 8192]


# ---------------------------------------------------------------- two processes


def test_a_descriptor_ring_raced_in_two_processes_has_no_torn_read(ram: Ram) -> None:
    """Payload, then the descriptor without DD, then DD alone; the reader tests DD alone."""
    entries, rounds = 64, 20_000
    descriptors = LAYOUT.dma // 8
    payloads = descriptors + entries * 2
    words = ram.words64

    def produce() -> None:
        for n in range(1, rounds + 1):
            slot = n % entries
            at, body = descriptors + slot * 2, payloads + slot * 8
            while words[at + 1]:  # the reader has not taken it yet
                os.sched_yield()
            for i in range(8):
                words[body + i] = n
            words[at] = n
            words[at + 1] = 1

    child = Child(produce)
    for n in range(1, rounds + 1):
        slot = n % entries
        at, body = descriptors + slot * 2, payloads + slot * 8
        while not words[at + 1]:
            os.sched_yield()
        assert words[at] == n
        assert words[body : body + 8].tolist() == [n] * 8
        words[at + 1] = 0
    child.join()


def test_a_counter_raced_in_two_processes_is_never_half_written(ram: Ram) -> None:
    page = ram.page("eth0")
    index = page.schema.index("turns")
    low, high = 0x0000_0000_FFFF_FFFF, 0xFFFF_FFFF_0000_0000
    words = page.words
    stop = ram.page("lan").words

    def write() -> None:
        while not stop[0]:
            for _ in range(100):
                words[index] = low
                words[index] = high

    child = Child(write)
    seen: set[int] = set()
    while not {low, high} <= seen:
        seen.add(words[index])
    for _ in range(100_000):
        seen.add(words[index])
    stop[0] = 1
    child.join()
    assert seen <= {0, low, high}


def test_multi_word_state_raced_in_two_processes_is_read_whole(ram: Ram) -> None:
    """The IOMMU table has a sequence word: whoever reads sees both windows or neither."""
    iommu = ram.iommu(0)
    stop = ram.page("lan").words

    def write() -> None:
        while not stop[0]:
            iommu.map(4096, 4096)
            iommu.unmap(4096)

    child = Child(write)
    seen: set[tuple[tuple[int, int, bool], ...]] = set()
    both = {(), ((4096, 4096, True),)}
    rounds = 0
    while rounds < 20_000 or seen != both:
        windows = iommu.consistent()
        if windows is None:
            continue
        seen.add(tuple(tuple(w) for w in windows))  # type: ignore[misc]
        rounds += 1
        assert seen <= both
    stop[0] = 1
    child.join()


def test_a_csd_ring_raced_in_two_processes_loses_and_tears_nothing(ram: Ram) -> None:
    ring, records = ram.csd_ring(0, 1), 20_000

    def push() -> None:
        for n in range(records):
            while not ring.push([n] * CSD_RECORD_WORDS):
                os.sched_yield()

    child = Child(push)
    for n in range(records):
        while (record := ring.pop()) is None:
            os.sched_yield()
        assert record == [n] * CSD_RECORD_WORDS
    child.join()
    assert ring.pop() is None


def test_a_packet_ring_raced_in_two_processes_yields_only_whole_packets(ram: Ram) -> None:
    tap, packets = ram.tap(0), 20_000

    def write() -> None:
        for n in range(packets):
            tap.append(n, n % 7, True, 1, n.to_bytes(8, "little") * 40, 65535)

    child = Child(write)
    following = taken = lost = 0
    while following < packets:
        got, following, missed = tap.read(following)
        taken += len(got)
        lost += missed
        for packet in got:
            assert packet.data == packet.time_ns.to_bytes(8, "little") * 40
            assert packet.ifindex == packet.time_ns % 7
    child.join()
    assert taken + lost == packets
    assert taken > 0


def test_a_recorder_raced_in_two_processes_yields_only_whole_records(ram: Ram) -> None:
    recorder, records = Recorder(ram.recorder_words("eth0")), 60_000
    recorder.mask = ALL_EVENTS

    def write() -> None:
        for n in range(records):
            recorder.record(n, n % 60, n, n, n)

    child = Child(write)
    following = taken = lost = 0
    while following < records:
        got, following, missed = recorder.read(following)
        taken += len(got)
        lost += missed
        for record in got:
            assert record == (record.a, record.a % 60, record.a, record.a, record.a)
    child.join()
    assert taken + lost == records


def test_a_log_raced_in_two_processes_yields_only_whole_lines(ram: Ram) -> None:
    log, lines = ram.log(0), 20_000

    def write() -> None:
        for n in range(lines):
            log.append(n, n % 8, f"line {n} " + "x" * (n % 200))

    child = Child(write)
    while log.count < lines:
        for time_ns, level, text in log.lines(max(0, log.count - LOG_LINES)):
            assert level == time_ns % 8
            assert text == f"line {time_ns} " + "x" * (time_ns % 200)
    child.join()


def test_handed_over_buffers_raced_in_two_processes_are_never_mixed_up(ram: Ram) -> None:
    pool, ring, packets = ram.handover(0), ram.csd_ring(0, 1), 10_000

    def give() -> None:
        for n in range(packets):
            data = n.to_bytes(4, "little") * 100
            while (number := pool.put(data)) is None:
                os.sched_yield()
            while not ring.push([n, number]):
                os.sched_yield()

    child = Child(give)
    for n in range(packets):
        while (record := ring.pop()) is None:
            os.sched_yield()
        assert record[0] == n
        assert pool.take(record[1], 400) == n.to_bytes(4, "little") * 100
    child.join()
    assert pool.in_use() == 0


# ---------------------------------------------------------------- atomic words


def test_atomic_additions_of_two_processes_all_count(ram: Ram) -> None:
    atomics, rounds = ram.atomics, 10_000

    def add() -> None:
        for _ in range(rounds):
            atomics.add(7, 1)

    child = Child(add)
    add()
    child.join()
    assert atomics.load(7) == 2 * rounds


def test_test_and_set_lets_one_of_two_processes_in(ram: Ram) -> None:
    """A spinlock made of one word guards a plain counter."""
    atomics, rounds, shared = ram.atomics, 500, ram.page("lan").words

    def work() -> None:
        for _ in range(rounds):
            while atomics.test_and_set(3):
                os.sched_yield()
            value = shared[0]
            os.sched_yield()
            shared[0] = value + 1
            atomics.store(3, 0)

    child = Child(work)
    work()
    child.join()
    assert shared[0] == 2 * rounds


def test_cmpxchg_of_two_processes_wins_once_for_each_value(ram: Ram) -> None:
    atomics, rounds = ram.atomics, 5_000

    def advance(counter: int) -> None:
        won = 0
        while (now := atomics.load(9)) < rounds:
            won += atomics.cmpxchg(9, now, now + 1) == now
        ram.page("lan").words[counter] = won

    child = Child(lambda: advance(0))
    advance(1)
    child.join()
    words = ram.page("lan").words
    assert words[0] + words[1] == rounds == atomics.load(9)


def test_bits_are_set_and_cleared_one_by_one(ram: Ram) -> None:
    atomics = ram.atomics
    assert atomics.test_and_set(0, 0b01) is False
    assert atomics.test_and_set(0, 0b11) is True
    assert atomics.clear_bits(0, 0b01) == 0b11
    assert atomics.load(0) == 0b10
    assert atomics.add(0, -3) == 2**64 - 1


def test_the_file_lock_of_a_killed_process_is_free_and_its_word_stays(ram: Ram) -> None:
    atomics = ram.atomics
    read_fd, write_fd = os.pipe()

    def hold() -> None:
        atomics.store(5, 0b100)
        atomics._lock(5)
        os.write(write_fd, b"x")
        signal.pause()

    child = Child(hold)
    assert os.read(read_fd, 1) == b"x"
    child.kill()
    assert atomics.test_and_set(5, 1) is False  # would wait for ever if the lock were still held
    assert atomics.load(5) == 0b101
    os.close(read_fd)
    os.close(write_fd)


def test_the_lock_of_one_word_does_not_hold_up_another(ram: Ram) -> None:
    atomics = ram.atomics
    read_fd, write_fd = os.pipe()

    def hold() -> None:
        atomics._lock(5)
        os.write(write_fd, b"x")
        signal.pause()

    child = Child(hold)
    assert os.read(read_fd, 1) == b"x"
    assert atomics.add(6, 1) == 1
    child.kill()
    os.close(read_fd)
    os.close(write_fd)
