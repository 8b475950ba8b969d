"""Samples, rates, histories: what the view makes of pages that change under it."""

from __future__ import annotations

import pytest
from dashboard_bench import MS, SECOND, Bench

from bus.ram import RECORDS, Ram
from bus.recorder import ALL_EVENTS, Recorder
from nodes.cpu.trace import TRACEPOINTS
from orchestrator.dashboards.model import MachineView, Route, open_readonly


def test_a_rate_is_the_growth_of_the_last_second():
    bench = Bench()
    for _ in range(40):
        bench.add("eth0", "rx_frames_in", 2, 1)
        bench.add("eth0", "rx_frames_in", 3, 2)
        bench.advance(50)
    node = bench.view["eth0"]
    assert node.rate("rx_frames_in", 1) == pytest.approx(40)
    assert node.rate("rx_frames_in") == pytest.approx(100)


def test_a_single_sample_has_no_rate():
    bench = Bench()
    assert bench.view["eth0"].rate("turns") == 0


def test_a_look_after_a_long_pause_still_has_a_rate():
    bench = Bench()
    bench.advance(10)
    bench.add("eth0", "turns", 50)
    bench.advance(5000)
    assert bench.view["eth0"].rate("turns") == pytest.approx(10)


def test_samples_are_taken_at_most_sixty_times_a_second():
    bench = Bench()
    bench.now += 5 * MS
    assert not bench.view.sample()
    bench.now += 15 * MS
    assert bench.view.sample()


def test_both_histories_are_bounded():
    bench = Bench()
    for _ in range(3000):
        bench.advance(16.7)
    assert len(bench.view["cpu0"].fast) < 80
    assert len(bench.view["eth0"].slow) <= 62


def test_a_series_spreads_growth_between_two_samples_evenly():
    bench = Bench()
    bench.advance(100)
    bench.add("cpu0", "task_ns", 60)
    bench.advance(60)
    assert bench.view["cpu0"].series("task_ns", 0, 4, 20 * MS) == pytest.approx([0, 20, 20, 20])


def test_a_new_life_is_not_compared_with_the_one_before():
    bench = Bench()
    bench.set("eth0", turns=1000)
    bench.advance(100)
    bench.ram.clear_page("eth0")
    bench.set("eth0", incarnation=2, turns=5)
    bench.advance(100)
    bench.add("eth0", "turns", 2)
    bench.advance(100)
    assert bench.view["eth0"].rate("turns") == pytest.approx(20)


def test_a_dead_node_keeps_its_last_page_and_has_no_rates():
    bench = Bench()
    bench.advance(100)
    bench.add("eth0", "turns", 100)
    bench.advance(100)
    bench.kill("eth0")
    bench.look()
    node = bench.view["eth0"]
    assert node.get("turns") == 100
    assert node.rate("turns") == 0


def test_a_silence_of_the_ping_is_measured_to_the_first_reply_after_it():
    bench = Bench()
    bench.pings(100, 100)
    bench.advance(10)
    bench.now += 80 * MS
    bench.pings(110, 103, window="!" * 50 + "......" + "!!!.")  # the first of three 20 ms ago
    bench.look()
    gap = bench.view.gap
    assert gap is not None
    assert gap.end_ns - gap.start_ns == 70 * MS


def test_late_replies_are_no_gap():
    bench = Bench()
    bench.pings(100, 100)
    bench.advance(10)
    bench.now += 80 * MS
    bench.pings(108, 108)  # all at once, after a while
    bench.look()
    assert bench.view.gap is None


def test_ordinary_replies_are_no_gap():
    bench = Bench()
    for n in range(20):
        bench.pings(100 + n, 100 + n)
        bench.advance(10)
    assert bench.view.gap is None


def test_the_kernel_log_of_all_cpus_is_merged_by_time():
    bench = Bench()
    for at, cpu in ((3, 0), (1, 1), (2, 0)):
        bench.ram.log(cpu).append(at * SECOND, 6, f"line {at}")
    bench.look()
    # cpu0 logged out of order on purpose: time alone decides
    assert [text for _, text in bench.view.kernel_log(2)] == ["line 2", "line 3"]
    assert len(bench.view.kernel_log(9)) == 3
    assert bench.view.kernel_log(0) == []


def test_what_is_logged_after_the_sample_is_not_shown_yet():
    bench = Bench()
    bench.ram.log(0).append(SECOND, 6, "seen")
    bench.look()
    bench.ram.log(0).append(SECOND, 6, "later")
    assert [text for _, text in bench.view.kernel_log(5)] == ["seen"]


def test_a_file_of_another_process_is_mapped_read_only(tmp_path):
    layout = Bench().settings.layout()
    path = str(tmp_path / "ram")
    owner = Bench(ram=Ram.create(path, layout))
    owner.network()
    ram = open_readonly(path, layout)
    view = MachineView(ram, owner.settings, lambda: owner.states, lambda: owner.now)
    assert view.boot_cpu.get("bond_present") == 1
    owner.set("cpu0", bond_present=0)
    view.sample(force=True)
    assert view.boot_cpu.get("bond_present") == 0
    with pytest.raises(TypeError):
        ram.words64[100] = 1


def test_a_file_that_is_no_ram_is_refused(tmp_path):
    path = tmp_path / "ram"
    path.write_bytes(b"x")
    with pytest.raises(ValueError, match="size"):
        open_readonly(str(path), Bench().settings.layout())


# ---------------------------------------------------------------- names


def test_an_msi_address_names_cpus_by_flat_logical_bits_or_by_apic_id():
    bench = Bench(cpus=12)
    bench.set("eth0", msix_address={0: 0xFEE00004 | 0b101 << 12, 1: 0xFEE00000 | 9 << 12})
    bench.set("eth0", msix_data={0: 0x21, 1: 0x4022, 2: 0x23})
    assert bench.look().msix_names() == {
        (0, 0x21): "eth0-TxRx-0",
        (2, 0x21): "eth0-TxRx-0",
        (9, 0x22): "eth0-TxRx-1",
    }


def test_the_vector_behind_the_queues_has_the_nics_name():
    bench = Bench(cpus=2)
    bench.msix("eth1", (0, 0x31), (1, 0x32), (0, 0x33))
    assert bench.look().msix_names()[0, 0x33] == "eth1"


def test_the_vector_of_an_irq_is_remembered():
    bench = Bench()
    recorder = Recorder(bench.ram.recorder_words("cpu1"))
    recorder.mask = ALL_EVENTS
    entry = TRACEPOINTS["irq_handler_entry"].number
    recorder.record(bench.now, entry, 0, 34, 0x22)
    assert bench.view.irq_vectors(bench.view["cpu1"]) == {34: 0x22}
    for _ in range(RECORDS):
        recorder.record(bench.now, TRACEPOINTS["softirq_raise"].number, 0, 3)
    recorder.record(bench.now, entry, 0, 37, 0x25)
    assert bench.view.irq_vectors(bench.view["cpu1"]) == {34: 0x22, 37: 0x25}


def test_routes_are_learned_from_the_rows_written_since_the_last_look():
    bench = Bench()
    for n in range(40):  # more than the page has rows
        bench.route(0, 1, 0x30 + n)
    bench.look()
    assert [route.vector for route in bench.view.routes] == list(range(0x48, 0x58))
    bench.advance(10)
    bench.route(64, 1, 0xFD)
    bench.look()
    assert len(bench.view.routes) == 17
    bench.ram.clear_page("apic")
    bench.set("apic", incarnation=2)
    bench.route(65, 0, 0xFD)
    bench.look()
    assert bench.view.routes[Route(65, 0, 0xFD, 0)] == bench.now


def test_done_bits_of_a_ring_that_is_not_in_ram_are_unknown():
    bench = Bench()
    view, end = bench.view, bench.ram.layout.total_bytes
    assert view.descriptors_done(0, 512, 3) == []
    assert view.descriptors_done(end - 4096, 512, 3) == []
    assert view.descriptors_done(end - 4097, 8, 3) == []
    bench.ram.words32[(end - 4096 + 16 * 2 + 12) // 4] = 1
    assert view.descriptors_done(end - 4096, 4, 3) == [False, False, True, False]


def test_records_written_after_the_sample_are_not_shown_yet():
    bench = Bench()
    recorder = Recorder(bench.ram.recorder_words("cpu0"))
    recorder.mask = ALL_EVENTS
    for ms in range(5):
        recorder.record(bench.now + ms * MS, 3)
    assert [r.time_ns for r in bench.view.trace("cpu0", 3)] == [bench.now]
    bench.advance(10)
    ages = [bench.now - record.time_ns for record in bench.view.trace("cpu0", 2)]
    assert ages == [7 * MS, 6 * MS]
