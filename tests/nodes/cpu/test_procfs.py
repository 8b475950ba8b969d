"""/proc text: byte for byte what a real 6.1 printed, and the templates of the older eras.

The judge's numbers and names go into a snapshot made by hand; the renderer must give back its text.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from bus.ram import Page, Ram
from nodes.cpu.kernel import procfs
from nodes.cpu.kernel.irq.affinity import packed
from nodes.cpu.kernel.params import PRESETS
from nodes.cpu.kernel.procfs.interrupts import render_interrupts
from nodes.cpu.page import ARCH_IRQS, CPU_SCHEMA
from nodes.machine import BondSettings, GatewaySettings, MachineSettings
from tests.nodes.cpu.captures import captured

FOLDERS = ("virtio-mq-smp2/before20", "e1000e-smp2/after20", "vmxnet3-smp2/after20")
OFFLINE = "e1000e-smp2/cpuhp/3-offline"


def pages(cpus: int = 2) -> dict[str, Page]:
    machine = MachineSettings("m1", "6.1", cpus, (), None, GatewaySettings())
    ram = Ram.anonymous(machine.layout())
    return {name: ram.page(name, CPU_SCHEMA) for name in machine.cpu_names}


def fill(page: Page, field: str, values: dict[int, int]) -> None:
    at = CPU_SCHEMA.index(field)
    for number, value in values.items():
        page.words[at + number] = value


def boot(era: str = "6.1", **values: Any) -> dict[str, Any]:
    """A snapshot of the boot CPU."""
    params = PRESETS[era]
    return {
        "proc_format": params.proc_format,
        "softirq_names": params.softirq_names,
        "softnet_columns": params.softnet_columns,
        "bonding_version": params.bonding_version,
        "online": [0, 1],
        "irqs": [],
        "irq_dirs": {},
        "nr_irqs": min(512, params.nr_irqs_base + 2 * params.nr_irqs_per_cpu),
        "cpumask_bits": params.cpumask_bits or 2,
        "default_affinity": packed(3),
        "hz": params.hz,
        "uptime_ns": 0,
        "devices": [],
        "bonds": {},
        "neighbours": [],
        "routes": [],
        **values,
    }


def rendered(path: str, snapshot: dict[str, Any], page: dict[str, Page] | None = None) -> str:
    return procfs.render(path, {"cpu0": snapshot}, page or pages())


# ---------------------------------------------------------------- /proc/interrupts


@pytest.mark.parametrize("folder", [*FOLDERS, OFFLINE])
def test_interrupts_as_a_real_kernel_prints_them(folder: str) -> None:
    lines = captured(f"{folder}/proc-interrupts.txt").splitlines()
    cpus, irqs, flows, page = len(lines[0].split()), [], {}, pages()
    for line in lines[1:]:
        label, rest = line.strip().split(":", 1)
        fields = rest.split()
        counts = [int(number) for number in fields[:cpus] if number.isdigit()]
        for number, count in enumerate(counts):
            if label.isdigit():
                fill(page[f"cpu{number}"], "irqs", {int(label): count})
            else:
                fill(page[f"cpu{number}"], "arch_irqs", {ARCH_IRQS.index(label): count})
        if label.isdigit():
            chip, (hwirq, flows[int(label)]) = fields[cpus], fields[cpus + 1].split("-")
            irqs.append((int(label), int(hwirq), chip, " ".join(fields[cpus + 2 :]).split(", ")))
    snapshot = boot(online=list(range(cpus)), irqs=irqs, irq_flows=flows)
    assert rendered("/proc/interrupts", snapshot, page) == "\n".join(lines) + "\n"


#: Rows of the reference for the eras that nobody can record any more.
OLD_ROWS = {
    "2.6.18": " 58:        100          5       PCI-MSI-X  eth0-TxRx-0",
    "3.10": " 44:        100          5   PCI-MSI-edge      eth0-TxRx-0",
    "6.1": " 24:        100          5   PCI-MSI 524288-edge      eth0-TxRx-0",
}
LEVEL_ROWS = {
    "2.6.18": "169:        100          5   IO-APIC-level  eth0, eth1",
    "3.10": " 18:        100          5   IO-APIC-fasteoi   eth0, eth1",
    "6.1": " 18:        100          5   IO-APIC  18-fasteoi   eth0, eth1",
}


@pytest.mark.parametrize("era", list(OLD_ROWS))
def test_a_device_row_of_each_era(era: str) -> None:
    page = pages()
    irq = int(OLD_ROWS[era].split(":")[0])
    fill(page["cpu0"], "irqs", {irq: 100})
    fill(page["cpu1"], "irqs", {irq: 5})
    chip = "PCI-MSI-X" if era == "2.6.18" else "PCI-MSI"
    irqs = [(irq, 524288, chip, ["eth0-TxRx-0"])]
    text = render_interrupts(boot(era, irqs=irqs, irq_flows={irq: "edge"}), page)
    assert text.splitlines()[0] == "           CPU0       CPU1       "
    assert text.splitlines()[1] == OLD_ROWS[era]


@pytest.mark.parametrize("era", list(LEVEL_ROWS))
def test_a_shared_level_row_of_each_era(era: str) -> None:
    page = pages()
    irq = int(LEVEL_ROWS[era].split(":")[0])
    fill(page["cpu0"], "irqs", {irq: 100})
    fill(page["cpu1"], "irqs", {irq: 5})
    chip = "IO-APIC-level" if era == "2.6.18" else "IO-APIC"
    irqs = [(irq, 18, chip, ["eth0", "eth1"]), (irq + 1, 19, chip, [])]
    flows = {irq: "fasteoi", irq + 1: "fasteoi"}
    rows = render_interrupts(boot(era, irqs=irqs, irq_flows=flows), page).splitlines()
    assert rows[1] == LEVEL_ROWS[era]
    assert not rows[2].strip().startswith(str(irq + 1))


LABELS = {
    "2.6.18": "NMI LOC ERR MIS",
    "3.10": "NMI LOC SPU PMI IWI RTR RES CAL TLB TRM THR MCE MCP ERR MIS",
    "6.1": "NMI LOC SPU PMI IWI RTR RES CAL TLB TRM THR DFR MCE MCP ERR MIS PIN NPI PIW",
}


@pytest.mark.conformance("K9.1-1", "K9.1-2")
@pytest.mark.parametrize("era", list(LABELS))
def test_architecture_rows_of_each_era(era: str) -> None:
    lines = render_interrupts(boot(era), pages()).splitlines()[1:]
    assert [line[:3] for line in lines] == LABELS[era].split()
    for line in lines:
        assert line[3:5] == ": "
        label, rest = line.split(":")
        numbers = [word for word in rest.split() if word.isdigit()]
        assert len(numbers) == (1 if label in ("ERR", "MIS") else 2)
        words = re.sub(r"[\d\s]", "", rest)
        assert bool(words) == (era != "2.6.18" and label not in ("ERR", "MIS"))


# ---------------------------------------------------------------- /proc/softirqs


@pytest.mark.conformance("K9.2-1")
@pytest.mark.parametrize("folder", [*FOLDERS, "e1000e-smp2/after-flood"])
def test_softirqs_as_a_real_kernel_prints_them(folder: str) -> None:
    text = captured(f"{folder}/proc-softirqs.txt")
    page = pages()
    for vector, line in enumerate(text.splitlines()[1:]):
        for number, count in enumerate(line.split()[1:]):
            fill(page[f"cpu{number}"], "softirqs", {vector: int(count)})
    assert rendered("/proc/softirqs", boot(), page) == text


@pytest.mark.conformance("K8.4-2")
def test_an_offline_cpu_loses_its_column_of_interrupts_and_keeps_that_of_softirqs() -> None:
    page = pages()
    snapshot = boot(online=[0])
    assert "CPU1" not in rendered("/proc/interrupts", snapshot, page)
    text = captured(f"{OFFLINE}/proc-softirqs.txt")
    for vector, line in enumerate(text.splitlines()[1:]):
        for number, count in enumerate(line.split()[1:]):
            fill(page[f"cpu{number}"], "softirqs", {vector: int(count)})
    assert rendered("/proc/softirqs", snapshot, page) == text


@pytest.mark.conformance("K9.2-1")
def test_the_sixth_softirq_has_its_older_name_in_3_10() -> None:
    lines = rendered("/proc/softirqs", boot("3.10")).splitlines()
    assert len(lines) == 11
    assert lines[6].split(":")[0] == "BLOCK_IOPOLL"


def test_2_6_18_has_no_proc_softirqs() -> None:
    with pytest.raises(FileNotFoundError):
        rendered("/proc/softirqs", boot("2.6.18"))
    assert "/proc/softirqs" not in procfs.paths({"cpu0": boot("2.6.18")})


def test_a_file_that_is_not_modelled_does_not_exist() -> None:
    with pytest.raises(FileNotFoundError):
        rendered("/proc/net/tcp", boot())
    with pytest.raises(FileNotFoundError):
        rendered("/proc/net/bonding/bond7", boot())


# ---------------------------------------------------------------- /proc/net


@pytest.mark.parametrize("folder", [*FOLDERS, OFFLINE])
def test_softnet_stat_as_a_real_kernel_prints_it(folder: str) -> None:
    text = captured(f"{folder}/proc-net-softnet_stat.txt")
    page, online = pages(), []
    for line in text.splitlines():
        row = [int(word, 16) for word in line.split()]
        online.append(row[12])
        fill(page[f"cpu{row[12]}"], "softnet", {0: row[0], 1: row[1], 2: row[2], 4: row[9]})
    assert rendered("/proc/net/softnet_stat", boot(online=online), page) == text


@pytest.mark.parametrize(("era", "columns"), [("2.6.18", 9), ("3.10", 10), ("6.1", 13)])
def test_softnet_stat_columns_by_era(era: str, columns: int) -> None:
    page = pages()
    fill(page["cpu1"], "softnet", {0: 0x1234, 1: 2, 2: 3, 3: 4, 4: 5, 5: 6})
    row = rendered("/proc/net/softnet_stat", boot(era), page).splitlines()[1].split()
    assert len(row) == columns
    assert row[:3] == ["00001234", "00000002", "00000003"]
    assert set(row[3:8]) == {"00000000"}
    assert row[8] == ("00000000" if era == "6.1" else "00000004")  # cpu_collision
    assert row[9:10] == ([] if era == "2.6.18" else ["00000005"])
    assert row[10:] == (["00000006", "00000000", "00000001"] if era == "6.1" else [])


@pytest.mark.parametrize("folder", FOLDERS)
def test_net_dev_as_a_real_kernel_prints_it(folder: str) -> None:
    text = captured(f"{folder}/proc-net-dev.txt")
    devices = []
    for line in text.splitlines()[2:]:
        name, rest = line.strip().split(":")
        devices.append((name, [int(word) for word in rest.split()]))
    assert rendered("/proc/net/dev", boot(devices=devices)) == text


def test_net_dev_row_of_2_6_18_has_no_blank_behind_the_colon() -> None:
    stats = [12345678, 10, 0, 0, 0, 0, 0, 0, 980, 10, 0, 0, 0, 0, 0, 0]
    text = rendered("/proc/net/dev", boot("2.6.18", devices=[("lo", [0] * 16), ("eth0", stats)]))
    lines = text.splitlines()
    assert lines[2].startswith("    lo:       0       0    0 ")
    assert lines[3] == (
        "  eth0:12345678      10    0    0    0     0          0         0"
        "      980      10    0    0    0     0       0          0"
    )


@pytest.mark.conformance("N1.6")
@pytest.mark.parametrize("folder", [*FOLDERS, "e1000e-smp2/cpuhp/1-before"])
def test_arp_as_a_real_kernel_prints_it(folder: str) -> None:
    text = captured(f"{folder}/proc-net-arp.txt")
    neighbours = []
    for line in text.splitlines()[1:]:
        address, _, flags, mac, _, device = line.split()
        neighbours.append((address, int(flags, 16), bytes.fromhex(mac.replace(":", "")), device))
    assert rendered("/proc/net/arp", boot(neighbours=neighbours)) == text


def test_arp_of_2_6_18_has_its_addresses_in_capitals() -> None:
    mac = bytes.fromhex("001b210a0b0c")
    text = rendered("/proc/net/arp", boot("2.6.18", neighbours=[("10.0.0.254", 2, mac, "bond0")]))
    assert text.splitlines()[1] == (
        "10.0.0.254       0x1         0x2         00:1B:21:0A:0B:0C     *        bond0"
    )


@pytest.mark.parametrize("folder", FOLDERS)
def test_route_as_a_real_kernel_prints_it(folder: str) -> None:
    text = captured(f"{folder}/proc-net-route.txt")
    routes = []
    for line in text.splitlines()[1:]:
        words = line.split()
        network, gateway, mask = (
            int.from_bytes(bytes.fromhex(word), "little") for word in (words[1], words[2], words[7])
        )
        routes.append((words[0], network, mask, gateway, int(words[6])))
    assert rendered("/proc/net/route", boot(routes=routes)) == text
    assert rendered("/proc/net/route", boot(routes=routes[::-1])) == text


# ---------------------------------------------------------------- /proc/net/bonding


def bond(text: str, **changes: Any) -> dict[str, Any]:
    """A bond with what the text shows of it."""
    head, *blocks = text.split("\nSlave Interface: ")

    def value(label: str, block: str = head) -> str:
        found = re.search(rf"^{re.escape(label)}: (.*)$", block, re.MULTILINE)
        return "" if found is None else found.group(1)

    def ms(label: str) -> int:
        return int(value(f"{label} (ms)"))

    primary = value("Primary Slave").split(" ")[0]
    slaves = []
    for block in blocks:
        speed = value("Speed", block)
        slaves.append(
            {
                "name": block.split("\n")[0],
                "link": ["up", "going down", "down", "going back"].index(
                    value("MII Status", block)
                ),
                "speed": int(speed.split()[0]) if speed.endswith("Mbps") else 0,
                "failures": int(value("Link Failure Count", block)),
                "queue_id": 0,
                "info": {},
                "perm_hwaddr": bytes.fromhex(value("Permanent HW addr", block).replace(":", "")),
            }
        )
    return {
        **BondSettings()._asdict(),
        "mode": "active-backup",
        "long_name": "fault-tolerance (active-backup)",
        "uses_primary": True,
        "hashes": False,
        "info": {},
        "primary": "" if primary == "None" else primary,
        "active": value("Currently Active Slave").replace("None", "") or None,
        "carrier": value("MII Status") == "up",
        "miimon": ms("MII Polling Interval"),
        "updelay": ms("Up Delay"),
        "downdelay": ms("Down Delay"),
        "slaves": slaves,
        **changes,
    }


@pytest.mark.conformance("N3.14")
@pytest.mark.parametrize("folder", FOLDERS)
def test_bonding_as_a_real_kernel_prints_it(folder: str) -> None:
    text = captured(f"{folder}/proc-net-bonding-bond0.txt")
    version = text.splitlines()[0].removeprefix("Ethernet Channel Bonding Driver: ")
    snapshot = boot(bonds={"bond0": bond(text)}, bonding_version=version)
    assert rendered("/proc/net/bonding/bond0", snapshot) == text
    assert text.splitlines()[1] == ""
    assert "/proc/net/bonding/bond0" in procfs.paths({"cpu0": snapshot})


BONDING_TEXTS = {
    "2.6.18": """\
Ethernet Channel Bonding Driver: v3.0.3 (March 23, 2006)

Bonding Mode: fault-tolerance (active-backup)
Primary Slave: None
Currently Active Slave: eth0
MII Status: up
MII Polling Interval (ms): 100
Up Delay (ms): 0
Down Delay (ms): 0

Slave Interface: eth0
MII Status: up
Link Failure Count: 0
Permanent HW addr: 00:1b:21:00:00:01

Slave Interface: eth1
MII Status: up
Link Failure Count: 0
Permanent HW addr: 00:1b:21:00:00:02
""",
    "3.10": """\
Ethernet Channel Bonding Driver: v3.7.1 (April 27, 2011)

Bonding Mode: fault-tolerance (active-backup)
Primary Slave: eth0 (primary_reselect always)
Currently Active Slave: eth0
MII Status: up
MII Polling Interval (ms): 100
Up Delay (ms): 0
Down Delay (ms): 0

Slave Interface: eth0
MII Status: up
Speed: 10000 Mbps
Duplex: full
Link Failure Count: 0
Permanent HW addr: 00:1b:21:00:00:01
Slave queue ID: 0
""",
}


@pytest.mark.parametrize("era", list(BONDING_TEXTS))
def test_bonding_template_of_the_older_eras(era: str) -> None:
    text = BONDING_TEXTS[era]
    assert rendered("/proc/net/bonding/bond0", boot(era, bonds={"bond0": bond(text)})) == text


def test_2_6_18_shows_every_state_but_up_as_down() -> None:
    base = bond(BONDING_TEXTS["2.6.18"])
    for link, shown in enumerate(("up", "down", "down", "down")):
        base["slaves"][0]["link"] = link
        text = rendered("/proc/net/bonding/bond0", boot("2.6.18", bonds={"bond0": base}))
        assert f"Slave Interface: eth0\nMII Status: {shown}\n" in text


def test_states_on_the_way_have_names_in_later_eras() -> None:
    base = bond(BONDING_TEXTS["3.10"])
    for link, shown in enumerate(("up", "going down", "down", "going back")):
        base["slaves"][0]["link"] = link
        text = rendered("/proc/net/bonding/bond0", boot("3.10", bonds={"bond0": base}))
        assert f"Slave Interface: eth0\nMII Status: {shown}\n" in text
