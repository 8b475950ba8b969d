"""ixgbe on a whole machine: vectors and their names, RSS set-up, link changes, counters."""

from __future__ import annotations

import pytest

from bus.messages import EthFrame
from bus.recorder import ALL_EVENTS, Recorder
from nodes.cpu.kernel.drivers.ixgbe.adapter import RX_NTC
from nodes.cpu.kernel.drivers.ixgbe.hw import read_reg
from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.kernel.sched import kthread_run
from nodes.cpu.trace import TRACEPOINTS
from nodes.machine import GATEWAY_ADDRESSES
from tests.nodes.cpu.harness import ERAS, Box, posted

RETA = 0x5C00  # 82599: indirection table of RSS


def rows(box: Box) -> dict[str, tuple[str, list[int]]]:
    """Device rows of /proc/interrupts: name -> (number, counts)."""
    found = {}
    for line in box.proc("/proc/interrupts").splitlines()[1:]:
        label, rest = line.strip().split(":", 1)
        if label.isdigit():
            fields = rest.split()
            found[fields[-1]] = (label, [int(word) for word in fields[: box.cpus]])
    return found


# ---------------------------------------------------------------- vectors


@pytest.mark.conformance("N4.1")
@pytest.mark.parametrize(
    ("era", "last"), [("2.6.18", "eth0:lsc"), ("3.10", "eth0"), ("6.1", "eth0")]
)
def test_four_cpus_have_four_queue_vectors_and_one_for_the_rest(era: str, last: str) -> None:
    found = rows(Box(era, cpus=4))
    names = [name for name in found if name.startswith("eth0")]
    assert sorted(names) == sorted([f"eth0-TxRx-{n}" for n in range(4)] + [last])


@pytest.mark.parametrize("era", ERAS)
def test_queue_n_interrupts_cpu_n(era: str) -> None:
    box = Box(era, cpus=4)
    for address in GATEWAY_ADDRESSES:
        box.ping("-c", "2", "-i", "0.01", to=address)
    for name, (_, counts) in rows(box).items():
        if "TxRx" in name:
            queue = int(name[-1])
            assert counts[queue] > 0
            assert sum(counts) == counts[queue]


def test_irq_numbers_of_2_6_18_are_the_vectors_in_allocation_order() -> None:
    found = rows(Box("2.6.18", cpus=4))
    numbers = [found[f"eth0-TxRx-{n}"][0] for n in range(4)] + [found["eth0:lsc"][0]]
    numbers += [found[f"eth1-TxRx-{n}"][0] for n in range(4)] + [found["eth1:lsc"][0]]
    assert numbers == ["169", "177", "185", "193", "201", "209", "217", "225", "233", "50"]


# ---------------------------------------------------------------- RSS


@pytest.mark.conformance("N7.1")
@pytest.mark.parametrize(("era", "queues"), [("3.10", [3, 2, 1, 0]), ("6.1", [0, 1, 2, 3])])
def test_the_indirection_table_is_reversed_in_groups_of_four_before_3_16(
    era: str, queues: list[int]
) -> None:
    box = Box(era, cpus=4, nics=1, boot=False)
    writes = posted(box, "eth0")
    box.boot()
    table = bytearray(128)
    for write in writes:
        if RETA <= write.offset < RETA + 128:
            at = write.offset - RETA
            table[at : at + 4] = write.value.to_bytes(4, "little")
    assert list(table) == queues * 32


@pytest.mark.conformance("N7.2")
@pytest.mark.parametrize("era", ERAS)
def test_all_replies_of_one_host_come_to_one_queue(era: str) -> None:
    box = Box(era, cpus=4)
    for address in GATEWAY_ADDRESSES:
        before = [page.run("rx_polled")[2] for page in box.pages.values()]
        box.ping("-c", "4", "-i", "0.01", to=address)
        after = [page.run("rx_polled")[2] for page in box.pages.values()]
        assert sorted(b - a for a, b in zip(before, after, strict=True)) == [0, 0, 0, 4]


def test_the_key_is_fixed_in_old_drivers_and_drawn_in_new_ones() -> None:
    keys = {
        (era, seed): Box(era, nics=1, seed=seed).machine.simulation.node("cpu0").cpu.net.rss_key
        for era in ERAS
        for seed in (1, 2)
    }
    assert keys["2.6.18", 1] == keys["2.6.18", 2] == keys["3.10", 1]
    assert keys["3.10", 1].hex().startswith("3dd791e2")
    assert keys["6.1", 1] != keys["6.1", 2]
    assert {len(key) for key in keys.values()} == {40}


# ---------------------------------------------------------------- link


@pytest.mark.conformance("N4.4")
@pytest.mark.parametrize("era", ERAS)
def test_a_pulled_cable_is_known_at_the_link_interrupt_not_at_the_next_tick(era: str) -> None:
    box = Box(era)
    box.live(1000)
    other = rows(box)["eth0:lsc" if era == "2.6.18" else "eth0"][1][0]
    pulled = box.now_s
    box.cable("eth0", inserted=False)
    box.live(50)
    assert box.when("NIC Link is Down", pulled) - pulled < 0.001
    assert rows(box)["eth0:lsc" if era == "2.6.18" else "eth0"][1][0] == other + 1


@pytest.mark.conformance("N4.4")
@pytest.mark.parametrize("era", ERAS)
def test_a_plugged_cable_is_found_by_looking_every_100_ms(era: str) -> None:
    box = Box(era)
    box.live(100)
    box.cable("eth0", inserted=False)
    box.live(2500)  # the service timer has come by and looks often now
    plugged = box.now_s
    box.cable("eth0", inserted=True)
    box.live(500)
    assert box.when("NIC Link is Up", plugged) - plugged < 0.12


@pytest.mark.conformance("N4.4")
def test_after_four_seconds_without_a_link_it_looks_every_two_and_at_the_interrupt() -> None:
    box = Box()
    box.cable("eth0", inserted=False)
    box.live(9000)
    timers = box.pages["cpu0"]["timers_run"]
    executed = box.pages["cpu0"]["wq_executed"]
    box.live(2000)
    assert box.pages["cpu0"]["wq_executed"] - executed < 30  # bonding's twenty, and few others
    assert box.pages["cpu0"]["timers_run"] - timers < 30
    plugged = box.now_s
    box.cable("eth0", inserted=True)
    box.live(100)
    assert box.when("NIC Link is Up", plugged) - plugged < 0.01  # the interrupt is on again


# ---------------------------------------------------------------- counters


@pytest.mark.conformance("N4.5")
@pytest.mark.parametrize("era", ERAS)
def test_sent_packets_are_counted_when_they_are_complete(era: str) -> None:
    box = Box(era)
    box.live(2500)
    before = dict(box.kernel()["devices"])["eth0"][9]
    ran = box.ping("-c", "5", "-i", "0.01")
    assert ran.code == 0
    box.live(2500)
    assert dict(box.kernel()["devices"])["eth0"][9] - before == 6  # and one ARP request


@pytest.mark.conformance("N5.4")
def test_each_receive_interrupt_adds_to_one_column_of_one_row() -> None:
    box = Box(cpus=2)
    box.ping("-c", "1")
    box.live(300)
    before = rows(box)
    polled = [page.run("rx_polled")[2] for page in box.pages.values()]
    box.ping("-c", "5", "-i", "0.1")
    box.live(20)
    after = rows(box)
    gained = [page.run("rx_polled")[2] for page in box.pages.values()]
    queue = [b - a for a, b in zip(polled, gained, strict=True)].index(5)
    for name, (_, counts) in after.items():
        grew = [b - a for a, b in zip(before[name][1], counts, strict=True)]
        if name == f"eth0-TxRx-{queue}":
            assert grew[queue] >= 5
            assert grew[1 - queue] == 0
        elif not name.startswith("eth0-TxRx"):
            assert grew == [0, 0]


@pytest.mark.parametrize("era", ERAS)
def test_the_backups_receive_counters_count_what_bonding_drops(era: str) -> None:
    box = Box(era)
    box.ping("-c", "1")  # its ARP request is flooded to eth1
    box.live(2500)
    assert dict(box.kernel()["devices"])["eth1"][1] >= 1
    assert box.drops()["eth1", "BOND_INACTIVE"][0] >= 1


# ---------------------------------------------------------------- probe


@pytest.mark.parametrize(
    ("era", "lines"),
    [
        (
            "2.6.18",
            [
                "Multiqueue Enabled: Rx Queue count = 4, Tx Queue count = 4",
                "(PCI Express:5.0Gb/s:Width x8) 00:1b:21:00:00:01",
                "MAC: 2, PHY: 15, SFP+: 3, PBA No: BH8259-001",
                "Intel(R) 10 Gigabit Network Connection",
                "eth0: NIC Link is Up 10 Gbps, Flow Control: RX/TX",
            ],
        ),
        (
            "3.10",
            [
                "Multiqueue Enabled: Rx Queue count = 4, Tx Queue count = 4",
                "(PCI Express:5.0GT/s:Width x8) 00:1b:21:00:00:01",
                "MAC: 2, PHY: 15, SFP+: 3, PBA No: BH8259-001",
                "Intel(R) 10 Gigabit Network Connection",
            ],
        ),
        (
            "6.1",
            [
                "Multiqueue Enabled: Rx Queue count = 4, Tx Queue count = 4 XDP Queue count = 0",
                "32.000 Gb/s available PCIe bandwidth (5.0 GT/s PCIe x8 link)",
                "MAC: 2, PHY: 20, SFP+: 3, PBA No: BH8259-001",
                "00:1b:21:00:00:01",
                "Intel(R) 10 Gigabit Network Connection",
            ],
        ),
    ],
)
def test_probing_logs_what_the_driver_says(era: str, lines: list[str]) -> None:
    prefix = "ixgbe 0000:01:00.0: "
    said = [line for line in Box(era, cpus=4, nics=1).said() if line.startswith(prefix)]
    assert [line.removeprefix(prefix) for line in said] == lines


def test_a_dead_slot_is_not_probed_and_the_machine_boots_without_it() -> None:
    box = Box(boot=False)
    box.machine.kill("eth0")
    box.boot()
    assert "ixgbe 0000:01:00.0: probe failed with error -19" in box.said()
    assert [slave["name"] for slave in box.kernel()["bonds"]["bond0"]["slaves"]] == ["eth1"]
    assert box.ping("-c", "2", "-i", "0.1").code == 0


def test_a_machine_without_a_bond_pings_through_its_first_nic() -> None:
    box = Box(bonded=False, nics=1)
    assert box.ping("-c", "2", "-i", "0.1").code == 0
    assert "eth0" in box.proc("/proc/net/arp")
    assert box.kernel()["bonds"] == {}


# ---------------------------------------------------------------- polling and ordering


def one_burst(era: str, count: int = 10) -> tuple[Box, list[tuple[int, int]], int]:
    """``count`` frames arrive while the vector is held back by EITR: (machine, (work, budget) of
    each poll, interrupts)."""
    box = Box(era, cpus=1, nics=1)
    frame = (b"\xff" * 6 + bytes.fromhex("020000000099") + b"\x88\xb5").ljust(60, b"\0")
    recorder = Recorder(box.machine.ram.recorder_words("cpu0"))
    recorder.mask = ALL_EVENTS
    assert box.run("ethtool", "-C", "eth0", "rx-usecs", "50").code == 0
    box.live(1)
    box.machine.simulation.send("eth0", EthFrame(frame), sender="lan")
    box.live(0.02)  # taken and done with; the next interrupt may come in 31 us
    since, before = recorder.count, rows(box)["eth0-TxRx-0"][1][0]
    for _ in range(count):
        box.machine.simulation.send("eth0", EthFrame(frame), sender="lan")
    box.live(1)
    polls = [
        (r.b & 0xFFFF_FFFF, r.b >> 32)
        for r in recorder.read(since)[0]
        if r.event == TRACEPOINTS["napi_poll"].number
    ]
    return box, polls, rows(box)["eth0-TxRx-0"][1][0] - before


@pytest.mark.conformance("N4.2", "N4.3")
@pytest.mark.parametrize(("era", "returned"), [("3.10", 0), ("6.1", 10)])
def test_ten_frames_on_one_vector_are_one_interrupt_and_one_poll(era: str, returned: int) -> None:
    box, polls, interrupts = one_burst(era)
    assert polls == [(returned, 64)]
    assert interrupts == 1
    assert box.pages["cpu0"].run("rx_polled")[0] >= 10
    eims = posted(box, "eth0")
    one_more = box.machine.simulation
    one_more.send("eth0", EthFrame(b"\xff" * 12 + b"\x88\xb5" + bytes(46)), sender="lan")
    box.live(1)
    assert any(write.value == 1 and write.offset in (0x0AA0, 0x0AA4) for write in eims)


@pytest.mark.conformance("A11-1")
def test_data_and_descriptor_are_in_ram_before_the_interrupt_message_leaves() -> None:
    box = Box(cpus=1, nics=1)
    ring = box.machine.simulation.node("cpu0").cpu.net.adapters["eth0"].rings[0]
    words32, memory = box.machine.ram.words32, box.machine.ram.bytes
    payload = b"\xff" * 6 + bytes.fromhex("020000000099") + b"\x88\xb5" + bytes(range(46))
    seen: list[bool] = []

    def watch(_now: int, sender: str, receiver: str, _message: object) -> None:
        if (sender, receiver) == ("eth0", "apic"):
            entry = box.machine.ram.words64[ring.state + RX_NTC]
            done = words32[(ring.rx_desc >> 2) + entry * 4 + 2] & 1
            at = ring.rx_buffers + entry * 2048
            seen.append(bool(done) and bytes(memory[at : at + 60]) == payload)

    box.live(20)
    box.machine.simulation.watch = watch
    box.machine.simulation.send("eth0", EthFrame(payload), sender="lan")
    box.live(5)
    assert seen == [True]


@pytest.mark.conformance("A11-2")
def test_a_read_after_a_posted_write_sees_it() -> None:
    box = Box(cpus=1, nics=1)
    cpu = box.machine.simulation.node("cpu0").cpu
    adapter, got = cpu.net.adapters["eth0"], []

    def task(cpu: Cpu) -> Context:
        for value in (0x11, 0x22, 0x33):
            adapter.write_reg(0x5480, value)  # RAL 16: a register that only remembers
            adapter.write_reg(0x5480, value + 1)
            got.append((yield from read_reg(cpu, adapter, 0x5480)))

    kthread_run(cpu, "test", task(cpu))
    box.ask("cpu0", "state")  # gives it a turn
    box.live(1)
    assert got == [0x12, 0x23, 0x34]
