"""Routes on a whole machine: who holds an entry, what a change of the table does to it, and ip."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest

from nodes.cpu.kernel.net.dst import DST_NOCACHE, DST_OBSOLETE_DEAD, dev_hold, dev_put, dst_release
from nodes.cpu.kernel.net.route import HashCache, Rtable, ip_route_output
from nodes.cpu.kernel.net.socket import (
    Socket,
    ip4_datagram_connect,
    sk_dst_check,
    sock_close,
)
from nodes.cpu.kernel.params import CHOICES
from nodes.cpu.kernel.percpu import Cpu
from nodes.cpu.kernel.sched import kthread_run
from tests.nodes.cpu.harness import ERAS, GATEWAY, Box

NOBODY = "192.168.1.77"
NETWORK = "192.168.1.0/24 dev bond0 proto kernel scope link src 192.168.1.10 "
DEFAULT = "default via 192.168.1.1 dev bond0 "


def octets(address: str) -> bytes:
    return bytes(int(octet) for octet in address.split("."))


def kernel_of(box: Box, name: str = "cpu0") -> Cpu:
    cpu: Cpu = box.machine.simulation.node(name).cpu
    return cpu


def dst(box: Box, cpu: str = "cpu0") -> Mapping[str, Any]:
    value: Mapping[str, Any] = box.ask(cpu, "dst")
    return value


def lookup(box: Box, to: str = GATEWAY, cpu: str = "cpu0", **how: Any) -> Rtable:
    rt = ip_route_output(kernel_of(box, cpu), octets(to), **how)
    assert rt is not None
    return rt


def route(box: Box, *words: str) -> str:
    ran = box.run("ip", "route", *words)
    assert ran.code == 0, ran.err
    return ran.out


# ---------------------------------------------------------------- who holds an entry


@pytest.mark.parametrize("era", ERAS)
def test_after_a_ping_nobody_holds_its_way(era: str) -> None:
    box = Box(era)
    box.ping("-c", "3")
    box.ping("-c", "3", cpu="cpu1")
    box.live(3000)
    held = 1 if era == "6.1" else 0  # there the cache itself
    for name in ("cpu0", "cpu1"):
        rt = lookup(box, cpu=name)
        assert rt.refcnt == held + 1
        dst_release(kernel_of(box, name), rt)
        assert dst(box, name)["busy"] == dst(box, name)["garbage"] == []


@pytest.mark.parametrize("era", ERAS)
def test_each_cpu_has_its_own_entry(era: str) -> None:
    box = Box(era)
    one, two = lookup(box), lookup(box, cpu="cpu1")
    assert one is not two
    assert (one.number >> 24, two.number >> 24) == (0, 1)
    assert (one.refcnt, two.refcnt) == ((2, 2) if era == "6.1" else (1, 1))


@pytest.mark.parametrize(("era", "entries"), [("2.6.18", 2), ("3.10", 1), ("6.1", 1)])
def test_an_entry_a_destination_or_a_nexthop(era: str, entries: int) -> None:
    box = Box(era)
    one, two = lookup(box), lookup(box, to="192.168.1.5")
    assert (one is two) == (entries == 1)
    assert lookup(box) is one
    far = lookup(box, to="10.1.2.3")
    assert far not in (one, two)
    assert (far.rt_gateway, one.rt_gateway) == (octets(GATEWAY), b"")


@pytest.mark.parametrize("era", ERAS)
def test_packets_that_wait_for_a_neighbour_hold_their_way(era: str) -> None:
    box = Box(era)
    job = box.start("ping", "-c", "3", "-l", "3", NOBODY)
    box.live(200)
    rt = lookup(box, to=NOBODY)
    assert rt.refcnt == 3 + 1 + (era == "6.1")
    box.end(job)
    assert rt.refcnt == 0 + 1 + (era == "6.1")


@pytest.mark.parametrize(("era", "holds"), [("2.6.18", 1), ("3.10", 1), ("6.1", 0)])
def test_a_packet_in_the_qdisc_holds_its_way_where_the_driver_lets_go_of_it(
    era: str, holds: int
) -> None:
    box = Box(era)
    box.ping("-c", "1")
    box.live(200)  # nothing moves that could wake the queue
    cpu = kernel_of(box)
    active = box.kernel()["bonds"]["bond0"]["active"]
    cpu.net.by_name[active].queue_stopped = True
    job = box.start("ping", "-c", "1", GATEWAY)
    box.live(50)
    (skb,) = cpu.net.by_name[active].qdisc
    assert (skb.dst is not None) == bool(holds)
    rt = lookup(box)
    assert rt.refcnt == holds + 1 + (era == "6.1")
    box.interrupt(job)


@pytest.mark.parametrize("era", ERAS)
def test_a_frame_for_another_cpu_looks_its_way_up_there(era: str) -> None:
    """cpu1 knows no MAC yet, so its packets wait on the boot CPU."""
    box = Box(era)
    job = box.start("ping", "-c", "2", "-l", "2", NOBODY, cpu="cpu1")
    box.live(200)
    counted = era == "6.1"
    saddr = octets("192.168.1.10") if era == "2.6.18" else b""  # of the packets, in its key
    waiting = lookup(box, to=NOBODY, saddr=saddr)
    sender = lookup(box, to=NOBODY, cpu="cpu1")
    assert waiting.refcnt == 2 + 1 + counted
    assert sender.refcnt == 0 + 1 + counted
    box.end(job)


@pytest.mark.parametrize("era", ERAS)
def test_a_connected_socket_holds_its_way_until_it_is_stale_or_closed(era: str) -> None:
    box = Box(era)
    cpu = kernel_of(box)
    sock = Socket(77, 1, 0, 0)
    cpu.net.sockets[77] = sock
    assert ip4_datagram_connect(cpu, sock, octets(GATEWAY)) == 0
    first = sock.sk_dst_cache
    assert first is not None
    counted = era == "6.1"
    assert first.refcnt == 1 + counted
    again = sk_dst_check(cpu, sock)
    assert again is first
    dst_release(cpu, first)
    route(box, "add", "10.0.0.0/8", "via", GATEWAY)
    box.live(2500)  # 2.6.18 flushes after two seconds
    assert sk_dst_check(cpu, sock) is None
    assert sock.sk_dst_cache is None
    assert ip4_datagram_connect(cpu, sock, octets(GATEWAY)) == 0
    second = sock.sk_dst_cache
    assert second is not None
    assert second is not first
    kthread_run(cpu, "closes", sock_close(cpu, sock))
    route(box)  # which wakes that CPU
    assert second.refcnt == counted
    assert sock.sk_dst_cache is None


def test_connect_without_a_way_is_refused() -> None:
    box = Box()
    route(box, "del", "default")
    sock = Socket(77, 1, 0, 0)
    assert ip4_datagram_connect(kernel_of(box), sock, octets("10.0.0.1")) == -101


@pytest.mark.parametrize(("era", "nocache"), [("2.6.18", False), ("3.10", True), ("6.1", True)])
def test_a_device_without_a_route_gives_a_way_of_one_use(era: str, nocache: bool) -> None:
    box = Box(era)
    cpu = kernel_of(box)
    ifindex = box.kernel()["netdevs"]["eth0"]["ifindex"]
    rt = lookup(box, oif=ifindex)
    assert bool(rt.flags & DST_NOCACHE) == nocache
    assert (rt.dev.name, rt.rt_gateway, rt.source) == ("eth0", b"", octets("192.168.1.10"))
    before = dst(box)["entries"]
    dst_release(cpu, rt)
    box.live(100)
    assert dst(box)["entries"] == before - nocache


# ---------------------------------------------------------------- what changes do


@pytest.mark.parametrize("era", ERAS)
def test_a_dropped_route_with_packets_that_hold_it(era: str) -> None:
    """Nobody's neighbour: three packets wait for three seconds and hold the way meanwhile."""
    box = Box(era)
    job = box.start("ping", "-c", "3", "-l", "3", "-q", NOBODY)
    box.live(200)
    rt = lookup(box, to=NOBODY)
    dst_release(kernel_of(box), rt)
    route(box, "del", "192.168.1.0/24")
    if era == "2.6.18":
        assert rt.obsolete == 0  # the flush comes in two seconds
        box.live(2200)
    else:
        box.live(100)
    assert rt.obsolete == DST_OBSOLETE_DEAD
    assert rt.refcnt == 3
    waits = [number for number, _, _ in (*dst(box)["garbage"], *dst(box)["busy"])]
    assert (rt.number in waits) == (era != "6.1")
    box.end(job)
    assert rt.refcnt == 0
    box.live(4000)
    assert dst(box)["garbage"] == dst(box)["busy"] == []
    assert rt.dev is None  # destroyed
    if era != "6.1":
        assert dst(box)["freed"] >= 1


@pytest.mark.parametrize("era", ERAS)
def test_a_flush_replaces_what_was_cached(era: str) -> None:
    box = Box(era)
    cpu = kernel_of(box)
    old = lookup(box)
    dst_release(cpu, old)
    route(box, "flush", "cache")
    if era == "2.6.18":
        still = lookup(box)
        assert still is old  # -1: two seconds
        dst_release(cpu, still)
        box.live(2100)
    new = lookup(box)
    assert new is not old
    box.live(1000)
    assert old.dev is None
    assert new.dev is not None


def test_2_6_18_flushes_at_once_for_who_asks_again() -> None:
    """A second request of a task finds the timer running and its deadline near."""
    box = Box("2.6.18")
    cpu = kernel_of(box)
    cache = cpu.net.route_cache
    assert isinstance(cache, HashCache)
    dst_release(cpu, lookup(box))
    route(box, "flush", "cache")
    assert len(cache.table) == 1
    box.live(2500)
    assert not cache.table
    dst_release(cpu, lookup(box))
    assert box.run("write", "/proc/sys/net/ipv4/route/flush", "0").code == 0
    assert not cache.table  # 0: now


@pytest.mark.parametrize("era", ERAS)
def test_a_failover_makes_cached_ways_stale(era: str) -> None:
    """netdev_state_change of the slave whose carrier went: NETDEV_CHANGE flushes the cache."""
    box = Box(era)
    old = lookup(box)
    active = box.kernel()["bonds"]["bond0"]["active"]
    box.cable(active, inserted=False)
    box.live(1500)
    assert lookup(box) is not old
    assert box.ping("-c", "1").code == 0


@pytest.mark.parametrize("era", ERAS)
def test_a_device_that_is_removed_takes_its_routes_and_is_let_go(era: str) -> None:
    box = Box(era, nics=1, bonded=False)
    cpu = kernel_of(box)
    rt = lookup(box)
    dev = rt.dev
    assert dev.name == "eth0"
    assert box.run("pci-remove", "eth0").code == 0
    assert "eth0" not in box.kernel()["netdevs"]
    assert rt.refcnt > 0  # still held, but not the device
    assert dev.refcnt == 0
    assert rt.dev.name == {"6.1": "blackhole_dev"}.get(era, "lo")
    assert rt.discard
    dst_release(cpu, rt)
    box.live(5000)
    assert rt.dev is None
    assert not [line for line in box.said() if "waiting for" in line]
    assert route(box, "show") == ""


@pytest.mark.parametrize(("era", "count"), [("2.6.18", 1), ("3.10", 1), ("6.1", 2)])
def test_a_device_that_somebody_holds_is_waited_for(era: str, count: int) -> None:
    box = Box(era, nics=1, bonded=False)
    cpu = kernel_of(box)
    dev = cpu.net.by_name["eth0"]
    dev_hold(cpu, dev)
    job = box.start("pci-remove", "eth0")
    box.live(25_000)
    text = f"unregister_netdevice: waiting for eth0 to become free. Usage count = {count}"
    assert [line for line in box.said() if "waiting" in line] == [text, text]
    dev_put(cpu, dev)
    assert box.end(job).code == 0


# ---------------------------------------------------------------- what a person sees


def test_ip_route_show_as_a_real_kernel_prints_it() -> None:
    box = Box()
    assert route(box).splitlines() == [DEFAULT, NETWORK]
    assert route(box, "show", "default").splitlines() == [DEFAULT]
    assert route(box, "ls", "dev", "bond0").splitlines() == [DEFAULT, NETWORK]
    assert route(box, "show", "10.0.0.0/8") == ""


def test_ip_route_add_and_del() -> None:
    box = Box()
    route(box, "add", "10.0.0.0/8", "via", GATEWAY, "metric", "7")
    route(box, "add", "10.0.0.9", "dev", "bond0", "proto", "static")
    assert route(box).splitlines() == [
        DEFAULT,
        "10.0.0.0/8 via 192.168.1.1 dev bond0 metric 7 ",
        "10.0.0.9 dev bond0 proto static scope link ",
        NETWORK,
    ]
    table = box.proc("/proc/net/route").splitlines()
    assert "bond0\t0000000A\t0101A8C0\t0003\t0\t0\t7\t000000FF\t0\t0\t0" in [
        line.rstrip() for line in table
    ]
    assert route(box, "get", "10.0.0.9") == (
        "10.0.0.9 dev bond0 src 192.168.1.10 uid 0 \n    cache \n"
    )
    assert route(box, "get", "10.0.0.8").startswith("10.0.0.8 via 192.168.1.1 dev bond0 src")
    route(box, "del", "10.0.0.9")
    route(box, "delete", "10.0.0.0/8")
    assert route(box).splitlines() == [DEFAULT, NETWORK]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("add", "default", "via", GATEWAY), 2, "RTNETLINK answers: File exists"),
        (("del", "10.0.0.0/8"), 2, "RTNETLINK answers: No such process"),
        (("add", "10.0.0.0/8", "via", "10.9.9.9"), 2, "RTNETLINK answers: Network is unreachable"),
        (("add", "10.0.0.0/8"), 2, "RTNETLINK answers: No such device"),
        (("add", "10.0.0.0/8", "dev", "eth9"), 1, 'Cannot find device "eth9"'),
        (("add", "10.0.0"), 1, 'Error: inet prefix is expected rather than "10.0.0".'),
        (("bend",), 255, 'Command "bend" is unknown, try "ip route help".'),
        (("add", "10.0.0.0/8", "via"), 255, 'Command line is not complete. Try option "help"'),
    ],
)
def test_ip_route_says_what_is_wrong(words: tuple[str, ...], code: int, text: str) -> None:
    ran = Box().run("ip", "route", *words)
    assert (ran.code, ran.err.rstrip("\n"), ran.out) == (code, text, "")


def test_ping_without_a_route() -> None:
    box = Box()
    job = box.start("ping", "-c", "3", "-i", "0.5", "-W", "1", GATEWAY)
    box.live(700)
    route(box, "del", "192.168.1.0/24")
    route(box, "del", "default")
    ran = box.end(job)
    assert ran.err == "ping: sendmsg: Network is unreachable\n"
    assert "3 packets transmitted, 2 received" in ran.out
    assert box.ping("-c", "1").err == "ping: connect: Network is unreachable\n"


@pytest.mark.parametrize(("era", "hits"), [("2.6.18", True), ("3.10", False), ("6.1", False)])
def test_rt_cache_counts(era: str, hits: bool) -> None:
    box = Box(era)
    box.ping("-c", "5")
    header, *rows = box.proc("/proc/net/stat/rt_cache").splitlines()
    names = header.split()
    assert len(rows) == 2
    values = [dict(zip(names, (int(v, 16) for v in row.split()), strict=True)) for row in rows]
    assert values[0]["entries"] == sum(dst(box, cpu)["entries"] for cpu in ("cpu0", "cpu1")) >= 1
    assert (values[0]["out_hit"] >= 4) == hits
    assert values[0]["out_slow_tot"] >= 1


def test_the_flush_file_takes_numbers_and_cannot_be_read() -> None:
    box = Box()
    path = "/proc/sys/net/ipv4/route/flush"
    assert box.run("write", path, "x\n").err == "bash: echo: write error: Invalid argument\n"
    with pytest.raises(PermissionError):
        box.proc(path)


# ---------------------------------------------------------------- all of it at random


def held_by_packets(cpu: Cpu) -> dict[int, int]:
    """References that can be found: neighbour queues, qdiscs, backlogs, sockets; by entry."""
    skbs = [skb for neigh in cpu.net.neighbours.entries.values() for skb in neigh.queue]
    skbs += [skb for dev in cpu.net.devices.values() for skb in dev.qdisc]
    skbs += [skb for _, skb, _ in cpu.net.backlog]
    held = [skb.dst for skb in skbs] + [sock.sk_dst_cache for sock in cpu.net.sockets.values()]
    found: dict[int, int] = {}
    for entry in held:
        if entry is not None:
            found[entry.number] = found.get(entry.number, 0) + 1
    return found


def cached(cpu: Cpu) -> list[Rtable]:
    cache = cpu.net.route_cache
    if isinstance(cache, HashCache):
        return list(cache.table.values())
    return [fi.nh_rth_output for fi in cpu.net.fib.both_tables() if fi.nh_rth_output is not None]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("seed", range(4))
def test_references_add_up_whatever_happens(era: str, seed: int) -> None:
    add_up(Box(era, seed=seed), seed, counted=era == "6.1")


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("gc", CHOICES["dst_gc"])
@pytest.mark.parametrize("cache", CHOICES["route_cache"])
def test_any_cache_goes_with_any_collector(era: str, gc: str, cache: str) -> None:
    rng = random.Random(f"{era}{gc}{cache}")
    release = rng.choice(CHOICES["xmit_dst_release"])
    overrides = (("dst_gc", gc), ("route_cache", cache), ("xmit_dst_release", release))
    add_up(Box(era, overrides=overrides), rng.randrange(1000), counted=gc == "rcu")


def add_up(box: Box, seed: int, *, counted: bool) -> None:
    """Pings to somebody and to nobody on two CPUs, routes that come and go, flushes, a cable: at
    any rest each reference has a holder; when all is quiet nothing is left that is not cached."""
    rng = random.Random(seed)
    jobs = []
    for _ in range(12):
        what = rng.randrange(7)
        if what < 3:
            to = rng.choice([GATEWAY, NOBODY, "192.168.1.78", "10.1.1.1"])
            count = str(rng.randrange(1, 6))
            cpu = rng.choice(["cpu0", "cpu1"])
            jobs.append(box.start("ping", "-q", "-c", count, "-l", "3", "-i", "0.2", to, cpu=cpu))
        elif what == 3:
            box.run("ip", "route", "del", rng.choice(["192.168.1.0/24", "default"]))
        elif what == 4:
            box.run("ip", "route", "add", "192.168.1.0/24", "dev", "bond0")
            box.run("ip", "route", "add", "default", "via", GATEWAY)
        elif what == 5:
            box.run("ip", "route", "flush", "cache")
        else:
            box.cable(rng.choice(["eth0", "eth1"]), inserted=rng.random() < 0.7)
        box.live(rng.randrange(1, 1500))
        for name in ("cpu0", "cpu1"):
            cpu_ = kernel_of(box, name)
            packets = held_by_packets(cpu_)
            for rt in cached(cpu_):
                assert rt.refcnt == packets.get(rt.number, 0) + counted
            for entry in cpu_.net.dst_garbage.entries():
                assert entry.refcnt == packets.get(entry.number, 0)
    for job in jobs:
        box.end(job)
    box.live(60_000)
    for name in ("cpu0", "cpu1"):
        cpu_ = kernel_of(box, name)
        assert not list(cpu_.net.dst_garbage.entries())
        assert cpu_.net.route_cache.ops.entries == len(cached(cpu_))
        assert not cpu_.net.route_cache.ops.uncached
        assert [rt.refcnt for rt in cached(cpu_)] == [counted] * len(cached(cpu_))
        assert box.pages[name]["warnings"] == 0


# ---------------------------------------------------------------- a CPU goes and comes back


def hold(box: Box, cpu: str, to: str = GATEWAY) -> Rtable:
    """A reference on that CPU that nobody gives back."""
    return lookup(box, to=to, cpu=cpu)


def online(box: Box, *, up: bool) -> None:
    assert box.run("write", "/sys/devices/system/cpu/cpu1/online", str(int(up))).code == 0


@pytest.mark.parametrize("era", ERAS)
def test_a_cpu_that_goes_offline_keeps_no_device(era: str) -> None:
    box = Box(era, nics=1, bonded=False)
    box.ping("-c", "2", cpu="cpu1")
    leaked = hold(box, "cpu1")
    route(box, "flush", "cache")
    box.live(3000)
    lookup(box, to="192.168.1.9", cpu="cpu1").refcnt -= 1
    online(box, up=False)
    cpu = kernel_of(box, "cpu1")
    assert cached(cpu) == []
    assert leaked.dev is cpu.net.blackhole_netdev
    assert leaked.refcnt == 1
    assert box.run("pci-remove", "eth0").code == 0  # without waiting for that CPU
    assert not [line for line in box.said() if "waiting for" in line]


@pytest.mark.parametrize("era", ERAS)
def test_a_cpu_that_is_back_looks_at_its_garbage_again(era: str) -> None:
    box = Box(era)
    rt = hold(box, "cpu1")
    online(box, up=False)
    runs = dst(box, "cpu1")["runs"] if era != "6.1" else 0
    box.live(5000)
    online(box, up=True)
    if era != "6.1":
        box.live(120)
        assert dst(box, "cpu1")["runs"] == runs + 1
    dst_release(kernel_of(box, "cpu1"), rt)
    box.ping("-c", "3", cpu="cpu1")
    box.live(2000)
    assert rt.dev is None
    assert dst(box, "cpu1")["busy"] == []
    assert box.ping("-c", "3", cpu="cpu1").code == 0


@pytest.mark.parametrize("era", ERAS)
def test_a_ping_that_moves_with_its_cpu_gone_leaves_no_reference(era: str) -> None:
    box = Box(era)
    job = box.start("ping", "-q", "-c", "20", "-i", "0.1", GATEWAY, cpu="cpu1")
    box.live(500)
    online(box, up=False)
    assert box.end(job).code == 0
    box.live(5000)
    cpu = kernel_of(box, "cpu1")
    assert cpu.net.route_cache.ops.entries == 0 or era == "6.1"
    held = [rt.refcnt for rt in cached(kernel_of(box))]
    assert held == [era == "6.1"] * len(held) != []


@pytest.mark.parametrize("era", ERAS)
def test_a_socket_that_moves_looks_its_way_up_anew(era: str) -> None:
    box = Box(era)
    cpu = kernel_of(box, "cpu1")
    job = box.start("ping", "-q", "-c", "10", "-i", "0.2", GATEWAY, cpu="cpu1")
    box.live(300)
    (sock,) = cpu.net.sockets.values()
    assert ip4_datagram_connect(cpu, sock, octets(GATEWAY)) == 0
    rt = sock.sk_dst_cache
    assert rt is not None
    online(box, up=False)
    assert rt.refcnt == 0
    (moved,) = kernel_of(box).net.sockets.values()
    assert moved.sk_dst_cache is None
    assert box.end(job).code == 0
