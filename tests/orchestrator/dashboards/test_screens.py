"""Each screen as a person reads it: exact sizes, the boxes, the words, dead and broken things."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from dashboard_bench import MS, SECOND, Bench

from bus.faults import KINDS
from bus.recorder import ALL_EVENTS, Recorder
from nodes.cpu.trace import TRACEPOINTS
from orchestrator.dashboards import help as help_screen
from orchestrator.dashboards import screens
from orchestrator.dashboards.common import HONEST, Size

NODES = (None, "cpu0", "cpu1", "cpu1:pools", "apic", "eth0", "lan")


@pytest.fixture
def bench() -> Bench:
    """A machine whose ping runs well over eth0."""
    bench = Bench()
    bench.network()
    bench.msix("eth0", (0, 0x21), (1, 0x22), (0, 0x23))
    bench.ram.log(0).append(248 * MS, 6, "bond0: (slave eth0): making interface the new active one")
    for _ in range(70):
        bench.add("cpu0", "task_ns", 2 * MS)
        bench.add("cpu0", "hardirq_ns", MS // 10)
        bench.add("cpu1", "softirq_ns", 4 * MS)
        bench.add("eth0", "rx_frames_in", 2, 2)
        bench.advance(16.7)
    bench.pings(100, 100)
    bench.look()
    return bench


def screen(bench: Bench, node: str | None = None, **size: object) -> list[str]:
    bench.look()
    return screens.once(bench.view, node, Size(**size)).split("\n")  # type: ignore[arg-type]


def line_with(lines: list[str], piece: str) -> str:
    return next(line for line in lines if piece in line)


def box(lines: list[str], title: str) -> str:
    """Text of the boxes whose border carries this title, as one string."""
    at = next(n for n, line in enumerate(lines) if line.startswith("+") and title in line)
    inside = []
    for line in lines[at + 1 :]:
        if line.startswith("+-"):
            break
        inside.append(line)
    return "\n".join(inside)


# ---------------------------------------------------------------- size


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("size", [(80, 24), (80, 30), (132, 50), (79, 24), (60, 15), (20, 4)])
def test_a_screen_has_exactly_the_size_of_the_terminal(bench, node, size):
    frame = screens.render(bench.view, node, Size(*size))
    assert len(frame.lines) == size[1]
    assert {line.cell_len for line in frame.lines} == {size[0]}
    assert frame.plain.isascii()


@pytest.mark.parametrize(
    ("node", "last"),
    [
        (None, "broken now"),
        ("cpu0", "just now"),
        ("cpu0:pools", "worklists: next"),
        ("apic", "where they ended"),
        ("eth0", "frames dropped, by reason"),
        ("lan", "gateway"),
    ],
)
def test_every_box_fits_on_80x24(bench, node, last):
    assert any(line.startswith(f"+- {last} -") for line in screen(bench, node))


@pytest.mark.parametrize("cpus", [1, 2, 3, 4, 8, 9, 32, 64])
@pytest.mark.parametrize("nics", [1, 2, 4, 8])
def test_machines_of_all_sizes_fit(cpus, nics):
    bench = Bench(cpus, nics)
    bench.network()
    for node in (None, f"cpu{cpus - 1}", "apic", "eth0", "lan"):
        lines = screen(bench, node)
        assert len(lines) == 25
        assert max(map(len, lines)) <= 80


def test_the_lowest_boxes_go_first_when_the_terminal_is_low(bench):
    text = "\n".join(screen(bench, height=19))
    assert "kernel log" in text
    assert "broken now" not in text
    text = "\n".join(screen(bench, height=15))
    assert "bond0  active-backup" in text
    assert "kernel log" not in text


# ---------------------------------------------------------------- overview


def test_the_overview_of_a_healthy_machine(bench):
    lines = screen(bench)
    assert lines[0].split() == "m1 era 6.1 real time up 0:03 ? help".split()  # noqa: SIM905
    assert lines[1] == " Replies come over eth0; eth1 stands by."
    assert "gateway   = 3 eth0 pid 41203 up    =            > 0 cpu0 41200  .  runq 0" in lines[3]
    assert "active  10G rx 120/s" in lines[4]
    assert "5 lan ====+" in lines[5]
    assert "+== 2 apic ==+" in lines[5]
    assert "TH" in lines[4]
    assert ".S.S" in lines[8]
    assert "> eth0  mii up         failures 0" in box(lines, "bond0  active-backup  miimon 100")
    assert "sent 100  lost 0  last rtt 0.42 ms" in box(lines, "ping 100/s")
    assert "[    0.248] bond0: (slave eth0): making" in box(lines, "kernel log")
    assert box(lines, "broken now").strip("| ") == "nothing"
    assert lines[22].startswith(" 0-5 open   k kill")
    assert lines[23] == HONEST


def test_virtual_time_says_so(bench):
    bench.view.virtual = True
    bench.state("eth0", pid=None)
    lines = screen(bench)
    assert "virtual time" in lines[0]
    assert "3 eth0 simulated up" in lines[3]
    assert "pid" not in screen(bench, "eth0")[0]


def test_a_dead_nic_is_an_x_with_signal_and_age(bench):
    bench.kill("eth0")
    bench.now += 64 * MS
    bench.pings(104, 100)
    bench.set("cpu0", ping_last_reply_ns=bench.now - 64 * MS, ping_window=~0b1111 & 2**64 - 1)
    lines = screen(bench)
    assert lines[1] == " eth0's process is dead and bond0 still sends to it: no reply for 64 ms."
    assert "X 3 eth0 pid 41203 DEAD  x" in lines[3]
    assert "SIGKILL 64 ms ago" in lines[4]
    assert (
        line_with(lines, "eth0  killed (SIGKILL) 64 ms ago")
        .rstrip("| ")
        .endswith("mend: restart eth0")
    )
    assert "waiting: eth0's carrier is still on; miimon" in box(lines, "kernel log")
    # the newest of the four is still on its way
    assert "!!!!... |" in box(lines, "ping 100/s").split("\n")[0]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"bond_next_mii_ns": 29 * MS}, "eth0's carrier is still on; miimon looks again in 29 ms"),
        ({"bond_next_mii_ns": -1}, "eth0's carrier is still on; miimon is about to look"),
        ({"bond_slave_link": {0: 2}}, "eth0 is going down for bond0; miimon"),
        ({"nic_flags": {0: 0}}, "eth0's carrier is off; miimon"),
        ({"bond_miimon_ms": 0}, "bond0 has no miimon; nobody looks at eth0's link"),
    ],
)
def test_the_log_says_whom_the_failover_waits_for(bench, changes, text):
    if "bond_next_mii_ns" in changes:
        changes = {"bond_next_mii_ns": bench.now + changes["bond_next_mii_ns"]}
    bench.plug("eth0", inserted=False)
    bench.set("cpu0", **changes)
    assert f"waiting: {text}" in box(screen(bench), "kernel log")


def test_a_pulled_cable_is_seen_at_the_wire_and_has_its_mend(bench):
    bench.plug("eth1", inserted=False)
    lines = screen(bench)
    assert "x 4 eth1 pid 41204 OUT" in lines[7]
    assert "backup cable out" in lines[8]
    assert "mend: cable eth1 in" in line_with(lines, "eth1  cable out")


def test_a_frozen_process_has_its_mend(bench):
    bench.state("cpu1", frozen=True)
    bench.state("lan", frozen=True)
    lines = screen(bench)
    assert lines[1] == " The LAN's process is frozen, so frames wait for it: replies still come."
    assert "5 lan STOP" in lines[5]
    assert "1 cpu1 41201  .  STOP" in lines[7]
    assert "mend: thaw cpu1" in line_with(lines, "cpu1  frozen (SIGSTOP)")


def test_everything_broken_is_listed_or_counted(bench):
    for name in ("cpu1", "eth0", "eth1"):
        bench.kill(name)
    broken = box(screen(bench), "broken now")
    assert all(f"mend: restart {name}" in broken for name in ("cpu1", "eth0", "eth1"))
    bench.kill("lan")
    assert "| and 2 more: eth1 lan " in box(screen(bench), "broken now")
    assert "mend: restart lan" in box(screen(bench, height=27), "broken now")


def test_past_eight_cpus_a_cpu_is_a_column(bench):
    bench = Bench(cpus=32)
    bench.network()
    for _ in range(20):
        for n in range(32):
            bench.add(f"cpu{n}", "softirq_ns", n * MS)
        bench.advance(50)
    bench.kill("cpu3")
    bench.set("cpu5", context=2)
    lines = screen(bench)
    assert lines[1].startswith(" cpu3's process is dead")
    assert "  0 ...X.S................." in lines[3]
    assert lines[4].endswith("  .. .....:::::------===|")  # cpu0 was idle, cpu3 is dead
    assert " 23 ........." in lines[5]
    assert "    ===+++++*  " in lines[6]
    assert "0-35 open" in lines[22]


def test_the_kernel_log_is_cut_at_the_border(bench):
    bench.ram.log(0).append(9 * SECOND, 6, "x" * 200)
    assert line_with(screen(bench), "xxx").endswith("xx..|")


@pytest.mark.parametrize(
    ("caption", "kept"),
    [
        ("3 of 4: kill active", "m1   era 6.1   real time   up 0:03   3 of 4: kill active"),
        ("1 of 4: pulling the active NIC's cable", "era 6.1  real time  up 0:03  1 of 4"),
        ("2 of 4: the cable is back: eth0 returns as a backup", "m1 era 6.1 real time 2 of 4"),
        ("4 of 4: a caption that would never fit beside all the rest", "m1 real time 4 of 4"),
    ],
)
def test_the_first_line_makes_room_for_a_caption(bench, caption, kept):
    line = screen(bench, caption=caption)[0]
    assert caption in line
    assert kept in line


# ---------------------------------------------------------------- CPU


def test_a_cpu_in_the_middle_of_a_poll(bench):
    recorder = Recorder(bench.ram.recorder_words("cpu1"))
    recorder.mask = ALL_EVENTS
    recorder.record(bench.now, TRACEPOINTS["irq_handler_entry"].number, 0, 34, 0x22)
    recorder.record(bench.now, TRACEPOINTS["softirq_raise"].number, 0, 3, 0)
    comm = int.from_bytes(b"ping", "little")
    bench.set(
        "cpu1",
        context=2,
        softirq_now=4,
        napi_now=2 | 1 << 16 | 12 << 32 | 64 << 48,
        preempt_count=0x100,
        softirq_pending=8,
        current_pid=312,
        current_comm="ping",
        irqs={34: 90114, 37: 12},
        irq_latency={14: 60, 15: 39, 17: 1},
        run_queue={0: 312, 1: 20, 3: comm},
        wq_last_work="ixgbe_service_task",
        wq_last_ns=bench.now - 200 * MS,
        ksoftirqd_wakeups=3,
    )
    lines = screen(bench, "cpu1")
    assert lines[1] == (
        " Polling eth0 queue 1 (12 of 64) in NET_RX, on the way out of interrupt 34."
    )
    assert line_with(lines, "| S softirq  ").endswith(" 24.0 % |")
    stack = box(lines, "now: what stands on what")
    assert " > softirq  NET_RX  eth0:1 12/64" in stack
    assert "   task     ping/312  interrupted" in stack
    assert "preempt_count 0x00000100 =" in stack
    assert "NMI 0 HARDIRQ 0 SOFTIRQ 1 PREEMPT 0" in stack
    assert "in_irq() no  in_softirq() yes" in stack
    irqs = box(lines, "irq  name")
    assert "34 eth0-TxRx-1   0x22" in irqs
    assert "LOC timer         0xec" in irqs
    assert "NET_RX                  *" in irqs
    assert "MSI to handler  p50 <33  p99 <66 us" in irqs
    assert "ksoftirqd/1 nice 0 asleep, woken 3" in irqs
    assert "> ping/312        nice 0" in box(lines, "run queue 1")
    assert "last: ixgbe_service_task, 200 ms ago" in box(lines, "run queue 1")
    assert "irq 34 entry, vector 0x22   " in box(lines, "just now")
    assert "NET_RX raise" in box(lines, "just now")


# ---------------------------------------------------------------- worker pools


def test_the_pools_of_a_cpu_with_one_that_is_stalled(bench):
    bench.pool("cpu1", 0, 1, running=1, workers=4, idle=1, worklist=3, stuck_ms=300, head="after")
    bench.pool("cpu1", 1, 1, nice=-20, workers=2, idle=2)
    bench.pool("cpu1", 2, None, id=9, workers=2, idle=1, inactive=7)
    bench.works("cpu1", 0, "kworker/1:2", "hog", "events", 320)
    bench.works("cpu1", 1, "kworker/1:0", "reader", "events", 2000, asleep=True)
    bench.works("cpu1", 2, "kworker/1:1", "cruncher", "crypto", 40, flags=1 << 6)
    bench.works("cpu1", 3, "kworker/u9:0", "bond_mii_monitor", "bond0", 0, pool=2, flags=1 << 7)
    bench.delays("cpu1", 0, "bond_mii_monitor", 89)
    lines = screen(bench, "cpu1:pools")
    said = "Stalled 300 ms: 3 works wait in the normal pool while hog runs, for 320 ms."
    assert lines[1].strip() == said
    pools = box(lines, "pools")
    assert " 2 cpu1           nice 0        1    1    3     3    0" in pools
    assert "300 ms" in pools
    assert " 3 cpu1           nice -20      0    2    0     0    0" in pools
    assert " 9 unbound        nice 0        -    1    1     0    7" in pools
    rows = [line.split() for line in box(lines, "in a work").split("\n")]
    assert [row[1:5] for row in rows if len(row) > 4] == [
        ["S", "kworker/1:0+events", "reader", "2.0"],
        ["R", "kworker/1:2+events", "hog", "320"],
        ["C", "kworker/1:1+crypto", "cruncher", "40"],
        ["u", "kworker/u9:0+bond0", "bond_mii_monitor", "0"],
    ]
    assert "cpu1: after" in box(lines, "worklists")
    assert "bond_mii_monitor              89 ms" in box(lines, "worklists")
    value = screens.as_json(bench.view, "cpu1:pools")
    assert [pool["worklist"] for pool in value["pools"]] == [3, 0, 0]
    assert value["busy"][0]["state"] == "S"


@pytest.mark.parametrize(("era", "name"), [("3.10", "kworker/1:2 "), ("6.1", "kworker/1:2+events")])
def test_a_kworkers_name_says_what_it_runs_since_6_1(era, name):
    bench = Bench(era=era)
    bench.pool("cpu1", 0, 1, running=1, workers=3)
    bench.works("cpu1", 0, "kworker/1:2", "hog", "events", 5)
    assert name in box(screen(bench, "cpu1:pools"), "in a work")


def test_keventd_has_threads_instead_of_pools():
    bench = Bench(era="2.6.18")
    bench.pool("cpu0", 0, 0, nice=-5, workers=1, idle=1, thread="events")
    lines = screen(bench, "cpu0:pools")
    assert " events           nice -5       -    1    0" in box(lines, "workqueue threads")
    assert any("a work that sleeps holds up all that wait behind it" in line for line in lines)


def test_a_pool_of_a_cpu_that_is_offline_says_so(bench):
    bench.pool("cpu0", 3, 1, id=2, flags=1 << 2)
    assert " 2 cpu1 unbound   nice 0" in box(screen(bench, "cpu0:pools"), "pools")


def test_a_cpu_that_is_offline_has_no_pools(bench):
    bench.set("cpu1", online=0)
    assert "none while it is offline" in box(screen(bench, "cpu1:pools"), "pools")


@pytest.mark.parametrize("node", NODES)
def test_the_line_of_keys_fits_into_80_columns(bench, node):
    assert any(line.endswith("q quit") for line in map(str.rstrip, screen(bench, node)))


def test_the_cpu_screen_names_the_work_that_has_run_longest(bench):
    bench.pool("cpu1", 0, 1, running=1, workers=3, idle=1)
    bench.pool("cpu1", 1, 1, nice=-20, workers=2, idle=2, worklist=1)
    bench.works("cpu1", 0, "kworker/1:0", "reader", "events", 2000, asleep=True)
    text = box(screen(bench, "cpu1"), "run queue 1")
    assert "nr_running 1  idle 3  queued 1" in text
    assert "S kworker/1:0 reader 2.0 s" in text


@pytest.mark.parametrize(
    ("era", "name"), [("3.10", "kworker/1:0/100"), ("6.1", "kworker/1:0+crypto/100")]
)
def test_a_kworker_in_the_run_queue_has_the_name_that_top_shows(era, name):
    bench = Bench(era=era)
    bench.pool("cpu1", 0, 1, running=1, workers=3, idle=2)
    bench.works("cpu1", 0, "kworker/1:0", "hog", "crypto", 20)
    comm = int.from_bytes(b"kworker/", "little"), int.from_bytes(b"1:0", "little")
    bench.set("cpu1", current_pid=100, run_queue={0: 100, 1: 20, 3: comm[0], 4: comm[1]})
    assert f"> {name}" in box(screen(bench, "cpu1"), "run queue 1")


def test_shares_of_the_contexts(bench):
    lines = screen(bench, "cpu0")
    assert line_with(lines, "| T tasks").split()[-3] == "12.0"
    assert line_with(lines, "| H hardirq").split()[-3] == "0.6"


def test_the_words_of_another_era(bench):
    bench = Bench(era="2.6.18")
    text = "\n".join(screen(bench, "cpu0"))
    assert "era 2.6.18" in text
    assert "LOC timer         0xef" in text
    assert "ksoftirqd/0 nice 19" in text


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"irq_enabled": 0}, "IF 0: nothing but an NMI"),
        ({"irq_enabled": 0, "online": 0}, "IF 0: nothing but INIT and STARTUP"),
        ({"online": 0}, "nobody can run: the CPU is offline"),
        ({"preempt_count": 0x10000}, "IF 1: hard interrupts, no softirq"),
        ({"preempt_count": 1}, "IF 1: hard interrupts, softirqs"),
        ({}, "IF 1: interrupts, softirqs, tasks"),
    ],
)
def test_what_may_interrupt(bench, fields, text):
    bench.set("cpu0", **fields)
    assert text in "\n".join(screen(bench, "cpu0"))


def test_a_dead_cpu_shows_its_last_page(bench):
    bench.set("cpu1", current_pid=312, current_comm="ping", nr_running=2)
    bench.kill("cpu1")
    bench.advance(500)
    lines = screen(bench, "cpu1")
    assert "DEAD" in lines[0]
    assert "ping/312" in "\n".join(lines)
    assert "X 1 cpu1 41201  X  DEAD" in screen(bench)[7]
    assert ".S.S.S.S.S.XXXXXXXXXXX" in screen(bench)[8]


# ---------------------------------------------------------------- interrupt controller


def test_the_interrupt_controller(bench):
    bench.set("cpu1", irr={3: 1 << 0x2C}, isr={0: 1 << 0x22}, lapic_merged=18)
    bench.route(64, 1, 0, delivery_mode=5)
    bench.advance(10)
    bench.route(0, 1, 0x22)
    bench.set("apic", msi_in={0: 140}, msi_routed={1: 140}, ipi_init=1, msi_drop_no_target=4)
    lines = screen(bench, "apic")
    assert lines[1].startswith(" 4 in the last second reached nobody: MSI to a CPU that does not")
    assert "cpu1  IRR 0xec            ISR 0x22" in box(lines, "CPUs: IRR waits")
    routes = box(lines, "routes in use")
    assert "0x22 eth0 > cpu1 eth0-TxRx-1" in routes
    assert "0x00 cpu0 > cpu1 INIT" in routes
    assert "| eth0                    141     140 |" in routes  # 140 in 994 ms
    ends = box(lines, "where they ended")
    assert "| merged: IRR bit was set             18 |" in ends
    assert "| MSI to a CPU that does not exist     4 |" in ends
    assert "| init                      1       1 |" in ends


# ---------------------------------------------------------------- NIC


def test_rings_are_bars_with_head_tail_and_done(bench):
    base = bench.ram.layout.dma
    for descriptor in range(64, 128):
        bench.ram.words32[(base + descriptor * 16 + 12) // 4] = 1
    bench.set(
        "eth0",
        rx_size={0: 512},
        rx_head={0: 256},
        rx_tail={0: 128},
        tx_size={0: 512},
        tx_head={0: 128},
        tx_tail={0: 256},
        tx_base={0: base},
    )
    line = line_with(screen(bench, "eth0"), "rx0 [")
    assert "rx0 [#####T....H######### 384/512" in line
    assert "tx0 [..DDDH####T......... 128/512" in line


def test_vectors_have_their_bits_and_rates(bench):
    bench.set("eth0", eicr_vectors=2, eims_vectors=5, pba=2, itr_ns={0: 51200})
    lines = screen(bench, "eth0")
    vectors = box(lines, "vector").split("\n")
    assert vectors[0].split()[1:6] == ["0", "TxRx-0", "0", "1", "0"]
    assert vectors[0].split()[-2] == "51.2"
    assert vectors[1].split()[1:6] == ["1", "TxRx-1", "1", "0", "1"]
    assert vectors[2].split()[1:3] == ["2", "other"]


def test_drops_of_a_nic_have_reasons(bench):
    bench.set("eth0", rx_drop_filter={2: 12}, tx_drop_laser_off={1: 3}, rx_drop_missed={0: 40})
    drops = box(screen(bench, "eth0", height=30), "frames dropped")
    assert "packet buffer full (MPC)" in drops.split("\n")[0]
    assert "not our address" in drops
    assert "laser is off" in drops


# ---------------------------------------------------------------- LAN


def test_the_lan(bench):
    bench.plug("eth1", inserted=False)
    mac = 0x525400000010
    bench.set(
        "lan", macs={0: mac | 1 << 48, 1: bench.now - 300 * MS, 4: 5 | 9 << 48}, mac_entries=2
    )
    bench.set("lan", in_drop_cable_out={4: 7}, gw_answered={1: 99}, flooded=2)
    lines = screen(bench, "lan")
    assert "eth0    up   cable in  light yes" in lines[3]
    assert "eth1    DOWN cable OUT light yes" in lines[4]
    assert lines[4].split()[-2] == "7"
    table = box(lines, "MAC table, 2 of 1024")
    assert "52:54:00:00:00:10  eth0         300 ms" in table
    assert "00:00:00:00:00:05  gateway" in table
    assert "| its cable is out          7 (7.1/s) |" in table
    assert "took  request 99  reply 0  other 0" in box(lines, "- gateway -")


def test_the_lan_shows_faults_channels_and_vlans(bench):
    row = [KINDS["delay"].number + 1, 5 * MS | 1 << 62, 1, 0, 0]
    bench.set("lan", faults=dict(enumerate(row)), fault_held={1: 3}, channel={1: 9})
    bench.set("lan", collecting={1: 1}, mac_entries=1, ageing_s=300)
    bench.set("lan", macs={0: 5 | 2 << 48 | 10 << 52, 1: bench.now})
    lines = screen(bench, "lan")
    assert lines[4].strip("| ") == "fault delay=5ms,rx, 3 wait"
    assert "po9: collecting" in lines[6]
    assert "00:00:00:00:00:05  eth1 10" in box(lines, "MAC table, 1 of 1024, 300 s")
    value = json.loads(json.dumps(screens.as_json(bench.view, "lan")))
    port = value["ports"][0]
    assert (port["faults"], port["held"], port["link"]) == (["delay=5ms,rx"], 3, True)
    assert value["macs"][0] | {"age_ns": 0} == {
        "mac": "00:00:00:00:00:05", "port": "eth1", "age_ns": 0, "vlan": 10,
    }  # fmt: skip
    assert value["drops"] == []


# ---------------------------------------------------------------- other forms


def test_the_help_screen_fits(bench):
    frame = help_screen.render(bench.view)
    assert len(frame.lines) == 24
    assert "any key goes back" in frame.plain
    assert "rings: H head" in frame.plain


@pytest.mark.parametrize("node", NODES)
def test_the_picture_is_an_xml_file_that_needs_nothing_else(bench, node, tmp_path):
    path = tmp_path / "top.svg"
    screens.svg(bench.view, node, str(path))
    root = ElementTree.fromstring(path.read_text())
    text = "".join(root.itertext()).replace("\xa0", " ")
    assert "real time" in text
    assert screens.sentence_of(bench.view, node) in text
    assert "http" not in path.read_text().replace("http://www.w3.org/2000/svg", "")


def test_the_overview_as_json(bench):
    bench.kill("eth1")
    bench.look()
    value = json.loads(json.dumps(screens.as_json(bench.view)))
    assert value["sentence"].startswith("eth1's process is dead; bond0 sends over eth0")
    assert value["bond"]["active"] == "eth0"
    assert [slave["nic"] for slave in value["bond"]["slaves"]] == ["eth0", "eth1"]
    assert value["ping"]["sent"] == 100
    assert value["nodes"][4] == value["nodes"][4] | {"name": "eth1", "alive": False, "signal": 9}
    assert value["broken"][0]["mend"] == "restart eth1"
    assert value["time"] == "real"


@pytest.mark.parametrize("node", NODES[1:])
def test_a_node_as_json_has_its_sentence_and_its_whole_page(bench, node):
    value = json.loads(json.dumps(screens.as_json(bench.view, node)))
    assert value["name"] == node.partition(":")[0]
    assert value["sentence"]
    assert set(value["page"]) == {
        field.name for field in bench.view[node.partition(":")[0]].schema.fields
    }


def test_the_interrupt_controllers_redirection_entries(bench):
    level, edge = 1 << 56 | 0x1A821 | 1 << 14, 2 << 56 | 0x10930
    bench.set("apic", redirection={17: level & ~(1 << 16), 2: edge}, lines=1 << 17, ioapic_masked=3)
    lines = screen(bench, "apic", height=40)
    pins = box(lines, "I/O APIC: pin, vector")
    assert "|  17 0x21 level fixed   logical 0x01  open    active  remote IRR" in pins
    assert "|   2 0x30 edge  lowest  logical 0x02  masked  -" in pins
    assert pins.index("0x21") < pins.index("0x30")
    assert "| masked: held by the I/O APIC         3 |" in box(lines, "where they ended")
