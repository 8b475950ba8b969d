"""Netfilter: the hooks' contexts and order, rules of ip_tables, iptables' own text."""

from __future__ import annotations

import pytest

from nodes.cpu.kernel.net.netdevice import NetDevice
from nodes.cpu.kernel.net.netfilter import (
    HOOKS,
    LOCAL_OUT,
    NF_ACCEPT,
    NF_DROP,
    PRE_ROUTING,
    nf_hook,
    nf_hook_slow,
    nf_register_hook,
    nf_unregister_hook,
)
from nodes.cpu.kernel.net.skbuff import SkBuff
from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.kernel.sched import kthread_run
from nodes.cpu.kernel.softirq import (
    NET_RX_SOFTIRQ,
    local_bh_disable,
    local_bh_enable,
    raise_softirq_irqoff,
)
from nodes.cpu.page import DROP_REASONS, NF_SLOTS
from nodes.cpu.programs.iptables import nf_add_rule
from tests.nodes.cpu.harness import ERAS, BareCpu, Box, handled
from tests.nodes.cpu.test_ping import Replies, echo_request_to_us


def tables(box: Box, *argv: str) -> list[str]:
    ran = box.run("iptables", *argv)
    assert (ran.code, ran.err) == (0, "")
    return ran.lines


# ---------------------------------------------------------------- hooks


def pass_hook(cpu: Cpu) -> None:
    packet = SkBuff(b"", None, 0, 0)  # type: ignore[arg-type]
    assert nf_hook(cpu, LOCAL_OUT, packet)  # nobody looks


@pytest.mark.parametrize("era", ERAS)
def test_a_hook_tells_process_bottom_halves_off_softirq_and_hard_interrupt_apart(era: str) -> None:
    bench = BareCpu(era)

    def softirq(cpu: Cpu) -> Context:
        pass_hook(cpu)
        yield

    def handler(_irq: int, _dev: object) -> int:
        for _ in range(4):
            pass_hook(bench.cpu)
        raise_softirq_irqoff(bench.cpu, NET_RX_SOFTIRQ)
        return handled(_irq, _dev)

    def task(cpu: Cpu) -> Context:
        yield
        pass_hook(cpu)
        pass_hook(cpu)
        local_bh_disable(cpu)
        for _ in range(3):
            pass_hook(cpu)
        yield from local_bh_enable(cpu)

    bench.softirq(NET_RX_SOFTIRQ, softirq)
    bench.task(task(bench.cpu))
    bench.settle()
    bench.irq(0x41, handler)
    bench.vector(0x41)
    bench.settle()
    assert bench.cpu.net.hook_counts[LOCAL_OUT] == [2, 3, 1, 4]


def ended(context: Context) -> object:
    """What a context returns that never stops at a boundary."""
    with pytest.raises(StopIteration) as end:
        next(context)
    return end.value.value


def test_a_function_of_a_hook_may_be_a_context() -> None:
    cpu, order = BareCpu(nics=1, boot=False).cpu, []

    def slow(_cpu: Cpu, _hook: int, _skb: SkBuff) -> Context:
        order.append("begins")
        yield
        order.append("ends")
        return NF_ACCEPT

    nf_register_hook(cpu, PRE_ROUTING, 0, slow)
    packet = SkBuff(b"", NetDevice(2, "eth0", bytes(6), 0), 0, 0)
    context = nf_hook_slow(cpu, PRE_ROUTING, packet)
    next(context)
    assert order == ["begins"]
    assert ended(context) is True
    assert order == ["begins", "ends"]


def test_functions_of_a_hook_run_by_priority_until_one_drops() -> None:
    cpu, order = BareCpu(nics=1, boot=False).cpu, []

    def function(name: str, verdict: int):  # type: ignore[no-untyped-def]
        def run(_cpu: Cpu, _hook: int, _skb: SkBuff) -> int:
            order.append(name)
            return verdict

        return run

    first = function("raw", NF_ACCEPT)
    nf_register_hook(cpu, PRE_ROUTING, 0, function("filter", NF_DROP))
    nf_register_hook(cpu, PRE_ROUTING, 100, function("nat", NF_ACCEPT))
    nf_register_hook(cpu, PRE_ROUTING, -300, first)
    packet = SkBuff(b"", NetDevice(2, "eth0", bytes(6), 0), 0, 0)
    assert not nf_hook(cpu, PRE_ROUTING, packet)
    assert ended(nf_hook_slow(cpu, PRE_ROUTING, packet)) is False
    assert order == ["raw", "filter"]
    nf_unregister_hook(cpu, PRE_ROUTING, first)
    assert ended(nf_hook_slow(cpu, PRE_ROUTING, packet)) is False
    assert order == ["raw", "filter", "filter"]
    drops = cpu.page.run("drops")[3 * len(DROP_REASONS) :]
    assert drops[3 * DROP_REASONS.index("NETFILTER_DROP")] == 2


# ---------------------------------------------------------------- rules and what they do


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("chain", [("OUTPUT",), ("POSTROUTING", "-t", "mangle")])
def test_a_drop_on_the_way_out_is_eperm_for_ping(era: str, chain: tuple[str, ...]) -> None:
    box = Box(era)
    tables(box, "-A", *chain, "-p", "icmp", "-j", "DROP")
    ran = box.ping("-c", "3", "-i", "0.1", "-W", "0.2")
    assert ran.err == "ping: sendmsg: Operation not permitted\n" * 3
    assert ran.lines[-2].startswith("3 packets transmitted, 0 received, 100% packet loss, time ")
    assert ran.code == 1
    assert box.drops()["-", "NETFILTER_DROP"] == [0, 3, 0]


@pytest.mark.parametrize("chain", [("INPUT",), ("PREROUTING", "-t", "raw")])
def test_a_drop_on_the_way_in_is_silence(chain: tuple[str, ...]) -> None:
    box = Box()
    tables(box, "-A", *chain, "-p", "icmp", "-s", "192.168.1.1", "-j", "DROP")
    ran = box.ping("-c", "2", "-i", "0.1", "-W", "0.2")
    assert (ran.code, ran.err) == (1, "")
    assert box.drops()["-", "NETFILTER_DROP"] == [0, 0, 2]
    assert box.ping("-c", "1", to="192.168.1.2").code == 0  # another source


def test_an_echo_reply_can_be_dropped_in_the_softirq_that_makes_it() -> None:
    box = Box()
    box.ping("-c", "1")
    tables(box, "-A", "OUTPUT", "-j", "DROP")
    Replies(box).inject(echo_request_to_us(box))
    assert box.drops()["-", "NETFILTER_DROP"] == [0, 0, 1]


def test_the_first_rule_with_a_target_decides_and_one_without_only_counts() -> None:
    box = Box()
    tables(box, "-A", "OUTPUT", "-p", "icmp")
    tables(box, "-A", "OUTPUT", "-d", "192.168.1.0/24", "-j", "ACCEPT")
    tables(box, "-A", "OUTPUT", "-j", "DROP")
    assert box.ping("-c", "2", "-i", "0.1").code == 0
    assert tables(box, "-L", "OUTPUT", "-v", "-n") == [
        "Chain OUTPUT (policy ACCEPT 0 packets, 0 bytes)",
        " pkts bytes target     prot opt in     out     source               destination         ",
        "    2   168            icmp --  *      *       0.0.0.0/0            0.0.0.0/0           ",
        "    2   168 ACCEPT     all  --  *      *       0.0.0.0/0            192.168.1.0/24      ",
        "    0     0 DROP       all  --  *      *       0.0.0.0/0            0.0.0.0/0           ",
    ]


def test_rules_bind_every_cpu_and_their_counts_are_summed() -> None:
    box = Box(cpus=2)
    tables(box, "-A", "OUTPUT", "-p", "icmp", "-j", "DROP")
    for cpu in ("cpu0", "cpu1"):
        ran = box.ping("-c", "1", "-W", "0.1", cpu=cpu)
        assert ran.err == "ping: sendmsg: Operation not permitted\n"
    assert tables(box, "-L", "OUTPUT", "-vn")[2].startswith("    2   168 DROP ")


def test_the_policy_decides_what_no_rule_matches() -> None:
    box = Box()
    tables(box, "-P", "OUTPUT", "DROP")
    assert "Operation not permitted" in box.ping("-c", "1", "-W", "0.1").err
    tables(box, "-A", "OUTPUT", "-d", "192.168.1.1", "-j", "ACCEPT")
    assert box.ping("-c", "1").code == 0
    lines = tables(box, "-L", "OUTPUT", "-v", "-n")
    assert lines[0] == "Chain OUTPUT (policy DROP 1 packets, 84 bytes)"


def test_flush_and_delete_take_rules_away() -> None:
    box = Box()
    rule = ("OUTPUT", "-p", "icmp", "-j", "DROP")
    tables(box, "-A", *rule)
    tables(box, "-D", *rule)
    assert box.ping("-c", "1").code == 0
    tables(box, "-I", *rule)
    tables(box, "-D", "OUTPUT", "1")
    assert box.ping("-c", "1").code == 0
    tables(box, "-A", *rule)
    tables(box, "-A", "INPUT", "-j", "DROP")
    tables(box, "-F")
    assert box.ping("-c", "1").code == 0


def test_inserted_rules_come_first_or_where_the_number_says() -> None:
    box = Box()
    tables(box, "-A", "INPUT", "-s", "10.0.0.1", "-j", "DROP")
    tables(box, "-I", "INPUT", "-s", "10.0.0.2", "-j", "DROP")
    tables(box, "-I", "INPUT", "2", "-s", "10.0.0.3", "-j", "DROP")
    tables(box, "-A", "OUTPUT", "-d", "10.0.0.9", "-j", "DROP")
    assert tables(box, "-L", "-n", "--line-numbers") == [
        "Chain INPUT (policy ACCEPT)",
        "num  target     prot opt source               destination         ",
        "1    DROP       all  --  10.0.0.2             0.0.0.0/0           ",
        "2    DROP       all  --  10.0.0.3             0.0.0.0/0           ",
        "3    DROP       all  --  10.0.0.1             0.0.0.0/0           ",
        "",
        "Chain FORWARD (policy ACCEPT)",
        "num  target     prot opt source               destination         ",
        "",
        "Chain OUTPUT (policy ACCEPT)",
        "num  target     prot opt source               destination         ",
        "1    DROP       all  --  0.0.0.0/0            10.0.0.9            ",
    ]


def test_a_new_rule_counts_from_zero_in_the_place_of_an_old_one() -> None:
    box = Box()
    tables(box, "-A", "OUTPUT", "-p", "icmp")
    box.ping("-c", "1")
    tables(box, "-F")
    tables(box, "-A", "OUTPUT", "-p", "icmp")
    assert tables(box, "-L", "OUTPUT", "-vn")[2].startswith("    0     0  ")


def test_the_listing_can_be_asked_of_any_cpu_without_a_program() -> None:
    box = Box(cpus=2)
    tables(box, "-A", "OUTPUT", "-p", "icmp", "-j", "ACCEPT")
    box.ping("-c", "1", cpu="cpu1")
    assert box.ask("cpu1", "iptables").splitlines() == tables(box, "-L", "-v", "-n")
    assert "Chain POSTROUTING" in box.ask("cpu0", "iptables:mangle")


def test_counts_are_put_to_zero_on_every_cpu() -> None:
    box = Box(cpus=2)
    tables(box, "-A", "OUTPUT", "-p", "icmp")
    tables(box, "-A", "INPUT", "-p", "icmp")
    for cpu in ("cpu0", "cpu1"):
        box.ping("-c", "1", cpu=cpu)
    tables(box, "-Z", "OUTPUT")
    box.live(1)
    lines = tables(box, "-L", "-v", "-n")
    assert lines[0] == "Chain INPUT (policy ACCEPT 2 packets, 168 bytes)"
    assert lines[2].startswith("    2   168 ")
    assert lines[-3] == "Chain OUTPUT (policy ACCEPT 0 packets, 0 bytes)"
    assert lines[-1].startswith("    0     0 ")


@pytest.mark.parametrize(
    ("argv", "code", "error"),
    [
        ((), 2, "no command specified"),
        (("-A", "NOSUCH", "-j", "DROP"), 1, "iptables: No chain/target/match by that name.\n"),
        (("-A", "INPUT", "-p", "nosuch"), 2, 'unknown protocol "nosuch" specified'),
        (("-A", "INPUT", "-j", "REJECT"), 2, "Couldn't load target `REJECT'"),
        (("-A", "INPUT", "-s", "::1"), 2, "host/network `::1' not found"),
        (("-A", "INPUT", "-j"), 2, 'option "-j" requires an argument'),
        (("-A", "INPUT", "!", "-p", "icmp"), 2, "inversion"),
        (("-D", "INPUT", "-j", "DROP"), 1, "iptables: Bad rule (does a matching rule exist"),
        (("-D", "INPUT", "1"), 1, "iptables: Index of deletion too big.\n"),
        (("-I", "INPUT", "3", "-j", "DROP"), 1, "iptables: Index of insertion too big.\n"),
        (("-t", "nat", "-L"), 3, "can't initialize iptables table `nat'"),
        (("-P", "INPUT", "REJECT"), 1, "iptables: Bad policy name."),
        (("-L", "-A", "INPUT"), 2, "Cannot use -A with -L"),
        (("--nosuch",), 2, 'unknown option "--nosuch"'),
        (("word",), 2, "Bad argument `word'"),
    ],
)
def test_iptables_says_what_is_wrong(argv: tuple[str, ...], code: int, error: str) -> None:
    box = one_box()
    ran = box.run("iptables", *argv)
    assert ran.code == code
    assert error in ran.err
    assert ran.out == ""


_BOXES: list[Box] = []


def one_box() -> Box:
    """A machine that tests share because they change nothing."""
    if not _BOXES:
        _BOXES.append(Box(cpus=2))
    return _BOXES[0]


def test_only_the_boot_cpu_writes_the_tables() -> None:
    ran = one_box().run("iptables", "-L", cpu="cpu1")
    assert (ran.code, ran.err) == (4, "iptables: only the boot CPU writes the tables\n")


def test_there_is_room_for_so_many_rules_and_then_it_says_so() -> None:
    box = Box()
    for n in range(NF_SLOTS - 3):  # three policies
        tables(box, "-A", "INPUT", "-s", f"10.0.0.{n}")
    ran = box.run("iptables", "-A", "INPUT", "-s", "10.0.1.1")
    assert (ran.code, ran.err) == (4, "iptables: Memory allocation problem.\n")


def test_rules_can_be_set_by_kernel_code_too() -> None:
    box = Box()
    node = box.machine.simulation.node("cpu0")
    kthread_run(node.cpu, "lab", nf_add_rule(node.cpu, "-A OUTPUT -p icmp -j DROP"))  # type: ignore[attr-defined]
    box.live(1)
    box.ping("-c", "1", "-W", "0.1")
    assert box.drops()["-", "NETFILTER_DROP"] == [0, 1, 0]


def test_no_table_is_asked_before_one_was_set() -> None:
    box = Box()
    box.ping("-c", "1")
    node = box.machine.simulation.node("cpu0")
    assert node.cpu.net.nf_hooks == [[] for _ in HOOKS]  # type: ignore[attr-defined]
