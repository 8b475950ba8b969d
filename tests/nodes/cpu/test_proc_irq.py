"""/proc/irq and /proc/stat: what a real 6.1 printed, the older eras, and a living machine."""

from __future__ import annotations

import re
from typing import Any

import pytest

from nodes.cpu.kernel import procfs
from nodes.cpu.kernel.cputime import CPUTIME_SOFTIRQ, CPUTIME_SYSTEM, CPUTIME_USER
from nodes.cpu.kernel.irq.affinity import packed
from nodes.cpu.kernel.percpu import USER, Context, Cpu
from nodes.cpu.kernel.softirq import raise_softirq_irqoff
from nodes.cpu.page import ARCH_IRQS
from tests.nodes.cpu.captures import captured
from tests.nodes.cpu.harness import ERAS, MS, SECOND, BareCpu, Box
from tests.nodes.cpu.test_procfs import boot, fill, pages, rendered

TICK = 10 * MS  # USER_HZ


def mask(text: str) -> int:
    return int(text.replace(",", ""), 16)


# ---------------------------------------------------------------- /proc/irq


def irq_capture(path: str) -> tuple[dict[int, dict[str, str]], list[str], str]:
    """Contents by irq and file, the paths that were listed, default_smp_affinity."""
    contents: dict[int, dict[str, str]] = {}
    listed, default = [], ""
    for line in captured(path).splitlines():
        name, colon, text = line.partition(": ")
        found = re.fullmatch(r"/proc/irq/(\d+)/(\w+)", name)
        if name == "/proc/irq/default_smp_affinity":
            default = text
        elif colon and found is not None:
            contents.setdefault(int(found[1]), {})[found[2]] = text
        elif line.startswith("/proc/irq/"):
            listed.append(line)
    return contents, listed, default


@pytest.mark.parametrize("machine", ["e1000e-smp2", "virtio-mq-smp2"])
def test_the_files_of_an_irq_as_a_real_kernel_has_them(machine: str) -> None:
    contents, listed, default = irq_capture(f"{machine}/static/irq-affinity.txt")
    rows = {}
    for irq, files in contents.items():
        own = [path.rsplit("/", 1)[1] for path in listed if path.startswith(f"/proc/irq/{irq}/")]
        rows[irq] = {
            "affinity": packed(mask(files["smp_affinity"].rstrip(";"))),
            "effective": packed(mask(files["effective_affinity"].rstrip(";"))),
            "hint": packed(mask(files["affinity_hint"].rstrip(";"))),
            "node": -1,
            "target": mask(files["effective_affinity"].rstrip(";")).bit_length() - 1,
            "actions": [name for name in own if name not in procfs.irqdir.FILES["6.1"]],
        }
    assert len(rows) >= 6
    snapshot = boot(irq_dirs=rows)
    quiet, once = "count 0;unhandled 0;", "count 1;unhandled 1;"  # 4.72 s after boot
    counts = {quiet: (0, 0, 0), once: (1, 1, 1180)}
    assert rendered("/proc/irq/default_smp_affinity", snapshot) == default + "\n"
    for irq, files in contents.items():
        for name, text in files.items():
            asked = {f"cpu{n}": {} for n in (0, 1)}
            if name == "spurious":
                seen = counts[text[: len(quiet)]]
                asked = {name: {"spurious": seen} for name in asked}
            asked["cpu0"] = {**asked["cpu0"], **snapshot}
            shown = procfs.render(f"/proc/irq/{irq}/{name}", asked, pages())
            assert shown.replace("\n", ";") == text
    ours = [path.rstrip("/") for path in procfs.paths({"cpu0": snapshot})]
    assert sorted(path for path in ours if path.count("/") == 4 and "/irq/" in path) == sorted(
        listed
    )


def one_irq(era: str, **values: Any) -> dict[str, Any]:
    row = {
        "affinity": packed(3), "effective": packed(1), "hint": packed(2), "node": -1, "target": 0,
        "actions": ["eth0", "eth0", "other"], **values,
    }  # fmt: skip
    return boot(era, irq_dirs={26: row})


@pytest.mark.parametrize(
    ("era", "names"),
    [
        ("2.6.18", ["smp_affinity"]),
        ("3.10", ["affinity_hint", "node", "smp_affinity", "smp_affinity_list", "spurious"]),
        (
            "6.1",
            ["affinity_hint", "effective_affinity", "effective_affinity_list", "node",
             "smp_affinity", "smp_affinity_list", "spurious"],
        ),
    ],
)  # fmt: skip
def test_files_of_each_era_and_a_directory_for_each_action(era: str, names: list[str]) -> None:
    found = procfs.paths({"cpu0": one_irq(era)})
    here = [p.removeprefix("/proc/irq/26/") for p in found if p.startswith("/proc/irq/26/")]
    assert here == sorted([*names, "eth0/", "other/"])
    assert list(procfs.irqdir.MODES[era]) == names
    assert ("/proc/irq/default_smp_affinity" in found) == (era != "2.6.18")


def test_2_6_18_prints_all_of_its_255_cpus() -> None:
    snapshot = one_irq("2.6.18", affinity=packed((1 << 255) - 1))
    assert rendered("/proc/irq/26/smp_affinity", snapshot) == "7fffffff" + ",ffffffff" * 7 + "\n"


def test_the_spurious_counts_come_from_the_cpu_that_takes_the_irq() -> None:
    snapshot = one_irq("6.1", target=1)
    path = "/proc/irq/26/spurious"
    assert procfs.also_asked(path, snapshot) == ("cpu1", "spurious:26")
    snapshots = {"cpu0": snapshot, "cpu1": {"spurious": (71, 3, 500)}}
    text = procfs.render(path, snapshots, pages())
    assert text == f"count 71\nunhandled 3\nlast_unhandled {2**32 - 300_000 + 2000} ms\n"


@pytest.mark.parametrize(
    "path",
    ["/proc/irq/27/smp_affinity", "/proc/irq/26/nothing", "/proc/irq/x/node", "/proc/irq/27"],
)
def test_what_is_not_below_proc_irq(path: str) -> None:
    with pytest.raises(FileNotFoundError):
        rendered(path, one_irq("6.1"))


@pytest.mark.parametrize("path", ["/proc/irq", "/proc/irq/26", "/proc/irq/26/eth0"])
def test_the_directories_below_proc_irq(path: str) -> None:
    snapshot = one_irq("6.1")
    with pytest.raises(IsADirectoryError):
        rendered(path, snapshot)
    names = procfs.listing(path, procfs.paths({"cpu0": snapshot}))
    assert names[:1] == {"/proc/irq": ["26"], "/proc/irq/26": ["affinity_hint"]}.get(path, [])


@pytest.mark.parametrize(
    ("era", "path"),
    [
        ("2.6.18", "/proc/irq/26/smp_affinity_list"), ("2.6.18", "/proc/irq/26/spurious"),
        ("2.6.18", "/proc/irq/default_smp_affinity"), ("3.10", "/proc/irq/26/effective_affinity"),
    ],
)  # fmt: skip
def test_what_older_kernels_do_not_have(era: str, path: str) -> None:
    with pytest.raises(FileNotFoundError):
        rendered(path, one_irq(era))


@pytest.mark.parametrize("era", ERAS)
def test_a_living_machine_has_its_queues_on_their_cpus(era: str) -> None:
    box = Box(era)
    names = {p.split("/")[4]: p.split("/")[3] for p in procfs.paths({"cpu0": box.kernel()})
             if p.startswith("/proc/irq/") and p.endswith("/")}  # fmt: skip
    irq = names["eth0-TxRx-1"]
    assert mask(box.proc(f"/proc/irq/{irq}/smp_affinity")) == 2
    if era == "6.1":
        assert box.proc(f"/proc/irq/{irq}/effective_affinity_list") == "1\n"
        assert box.proc(f"/proc/irq/{irq}/affinity_hint") == "2\n"
        assert box.proc(f"/proc/irq/{names['eth0']}/smp_affinity_list") == "0-1\n"
        assert box.proc(f"/proc/irq/{irq}/spurious").startswith("count ")
        assert box.proc(f"/proc/irq/{irq}/node") == "-1\n"


# ---------------------------------------------------------------- /proc/stat


@pytest.mark.parametrize(
    "path", ["e1000e-smp2/after20", "vmxnet3-smp2/after20", "e1000e-smp2/cpuhp/3-offline"]
)
def test_stat_as_a_real_kernel_prints_it(path: str) -> None:
    """Its numbers go into pages and snapshot, its text must come back."""
    text = captured(f"{path}/proc-stat.txt")
    rows = {line.split()[0]: [int(n) for n in line.split()[1:]] for line in text.splitlines()}
    page, online = pages(), [n for n in (0, 1) if f"cpu{n}" in rows]
    for column in range(8):  # a CPU that went offline keeps its times in the sum
        times = [rows[f"cpu{n}"][column] if n in online else 0 for n in (0, 1)]
        rest = rows["cpu"][column] - sum(times)
        for number, ticks in enumerate(times):
            if len(online) == 2:
                ns = ticks * TICK + rest * TICK // 2  # parts of ticks add up in the total
            else:
                ns = ticks * TICK + (rest * TICK if number == 1 else 0)
            fill(page[f"cpu{number}"], "cpustat", {column: ns})
    counts = rows["intr"][1:]
    fill(page["cpu0"], "irqs", dict(enumerate(counts[:256])))
    arch = rows["intr"][0] - sum(counts)
    fill(page["cpu1"], "arch_irqs", {ARCH_IRQS.index("LOC"): arch - 5, ARCH_IRQS.index("ERR"): 5})
    fill(page["cpu1"], "arch_irqs", {ARCH_IRQS.index("TLB"): 77})  # nobody counts it
    fill(page["cpu0"], "softirqs", dict(enumerate(rows["softirq"][1:])))
    for name, field in (("ctxt", "ctxt"), ("processes", "forks"), ("procs_running", "nr_running")):
        fill(page["cpu0"], field, {0: rows[name][0]})
    snapshot = boot(online=online, btime=rows["btime"][0])
    assert rendered("/proc/stat", snapshot, page) == text


@pytest.mark.conformance("K9.3-1")
def test_the_total_of_interrupts_holds_the_architectures_own_but_not_in_2_6_18() -> None:
    page = pages()
    fill(page["cpu0"], "irqs", {24: 5})
    fill(page["cpu1"], "irqs", {24: 7})
    fill(page["cpu1"], "arch_irqs", {ARCH_IRQS.index("RES"): 100})
    found = {}
    for era in ERAS:
        text = rendered("/proc/stat", boot(era), page)
        (line,) = [line for line in text.splitlines() if line.startswith("intr")]
        numbers = [int(word) for word in line.split()[1:]]
        assert numbers[1 + 24] == 12
        found[era] = numbers[0] - sum(numbers[1:])
    assert found == {"2.6.18": 0, "3.10": 100, "6.1": 100}


@pytest.mark.parametrize(("era", "columns"), [("2.6.18", 8), ("3.10", 10), ("6.1", 10)])
def test_stat_of_each_era(era: str, columns: int) -> None:
    lines = rendered("/proc/stat", boot(era)).splitlines()
    assert lines[0].startswith("cpu  0 ")
    assert [len(line.split()) - 1 for line in lines[:3]] == [columns] * 3
    names = [line.split()[0] for line in lines[3:]]
    rest = ["intr", "ctxt", "btime", "processes", "procs_running", "procs_blocked", "softirq"]
    assert names == (rest[:-1] if era == "2.6.18" else rest)
    assert len(lines[3].split()) == 2 + {"2.6.18": 239, "3.10": 512, "6.1": 440}[era]


def test_idle_time_that_still_goes_on_is_shown() -> None:
    page = pages()
    fill(page["cpu1"], "idle_since_ns", {0: 1 + SECOND})
    lines = rendered("/proc/stat", boot(uptime_ns=3 * SECOND), page).splitlines()
    assert lines[2] == "cpu1 0 0 0 200 0 0 0 0 0 0"


# ---------------------------------------------------------------- charging ticks


def stat(bare: BareCpu, column: int) -> int:
    return bare.page.run("cpustat")[column]


def spin(cpu: Cpu, end_ns: int, *, user: bool) -> Context:
    while cpu.now() < end_ns:
        yield USER if user else None


@pytest.mark.parametrize(("user", "column"), [(True, CPUTIME_USER), (False, CPUTIME_SYSTEM)])
def test_a_tick_goes_to_the_mode_that_it_interrupted(user: bool, column: int) -> None:
    bare = BareCpu()
    before = stat(bare, column)
    task = bare.task(spin(bare.cpu, bare.ns + 40 * MS, user=user))
    bare.run_for(60 * MS)
    assert stat(bare, column) - before == pytest.approx(40 * MS, abs=4 * MS)
    assert (task.utime_ns if user else task.stime_ns) == stat(bare, column) - before


def test_a_nice_task_has_its_own_column() -> None:
    bare = BareCpu()
    bare.task(spin(bare.cpu, bare.ns + 40 * MS, user=True), nice=5)
    bare.run_for(60 * MS)
    assert stat(bare, 1) == pytest.approx(40 * MS, abs=4 * MS)


def storm(cpu: Cpu, end_ns: int) -> Context:
    """A softirq that raises itself again until ``end_ns``."""
    if cpu.now() < end_ns:
        raise_softirq_irqoff(cpu, 3)
    yield


@pytest.mark.conformance("K3.5-3")
@pytest.mark.parametrize("measured", ["0", "1"])
def test_ksoftirqd_is_charged_as_a_task_and_in_the_softirq_column(measured: str) -> None:
    bare = BareCpu("6.1", overrides=(("irq_time_accounting", measured),))
    end = bare.ns + 100 * MS
    bare.softirq(3, lambda cpu: storm(cpu, end))
    ksoftirqd = bare.cpu.softirq.ksoftirqd
    assert ksoftirqd is not None
    raise_softirq_irqoff(bare.cpu, 3)
    bare.run_for(150 * MS)
    assert ksoftirqd.stime_ns > 50 * MS
    # a tick between two of its passes is system time, as on Linux
    assert stat(bare, CPUTIME_SOFTIRQ) > 0.8 * ksoftirqd.stime_ns
    assert stat(bare, CPUTIME_SYSTEM) < 20 * MS


def bottom_halves_off(cpu: Cpu, end_ns: int) -> Context:
    cpu.preempt_count += cpu.params.softirq_disable_offset
    yield from spin(cpu, end_ns, user=False)
    cpu.preempt_count -= cpu.params.softirq_disable_offset


@pytest.mark.parametrize(
    ("era", "column"),
    [("2.6.18", CPUTIME_SOFTIRQ), ("3.10", CPUTIME_SYSTEM), ("6.1", CPUTIME_SYSTEM)],
)
def test_2_6_18_takes_disabled_bottom_halves_for_softirq_time(era: str, column: int) -> None:
    bare = BareCpu(era)
    bare.task(bottom_halves_off(bare.cpu, bare.ns + 40 * MS))
    bare.run_for(60 * MS)
    assert stat(bare, column) == pytest.approx(40 * MS, abs=5 * MS)


def test_a_machine_that_pings_adds_up() -> None:
    box = Box("6.1")
    box.ping("-c", "20", "-i", "0.01")
    rows = {line.split()[0]: line.split()[1:] for line in box.proc("/proc/stat").splitlines()}
    for number in (0, 1):
        ticks = sum(int(word) for word in rows[f"cpu{number}"])
        assert ticks == pytest.approx(box.now_s * 100, rel=0.1)
    assert int(rows["processes"][0]) > 4
    assert int(rows["ctxt"][0]) > 40
