"""ip, of iproute2:

    ip route show|add|del|get|flush cache        ip neigh [show|add|replace|change|del|flush]
    ip [-s] link [show] [DEV]                    ip addr [show] [DEV]
    ip link set DEV up|down|mtu N|master BOND|nomaster
    ip monitor link

Words may be shortened as iproute2 allows it. Texts are those of a late version; one of 2006 put two
blanks before some words. Changing addresses and what else a link has are not built."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from errno import ENETDOWN, ENETUNREACH, ENODEV, ESRCH
from typing import TYPE_CHECKING

from nodes.cpu.kernel import files
from nodes.cpu.kernel.net.fib import (
    RTPROT_BOOT,
    RTPROT_KERNEL,
    RTPROT_STATIC,
    FibRoute,
    fib_table_delete,
    fib_table_insert,
)
from nodes.cpu.kernel.net.netdevice import IFF_UP, NetDevice
from nodes.cpu.kernel.net.route import ip_route_output, ip_rt_put
from nodes.cpu.kernel.net.rtnetlink import Listener
from nodes.cpu.kernel.percpu import SCHEDULE, USER, Context
from nodes.cpu.kernel.sched import TASK_INTERRUPTIBLE
from nodes.cpu.programs import iplink, ipneigh, ipshow
from nodes.cpu.programs.iperror import IpError, answers
from nodes.cpu.programs.run import STDERR, Process, program

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

PROTOCOLS = {"kernel": RTPROT_KERNEL, "boot": RTPROT_BOOT, "static": RTPROT_STATIC}
_NAMES = {number: name for name, number in PROTOCOLS.items()}
_COMMANDS = ("add", "append", "change", "delete", "flush", "get", "list", "lst", "replace", "show")
#: Of links and addresses; ``link set`` is another thing.
_CHANGES = ("add", "append", "change", "del", "delete", "flush", "replace")
_METRIC_MAX = 0xFFFF_FFFF


@program("ip")
def ip(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
    """main() of ip."""
    if not cpu.boot:
        process.write("ip: only the boot CPU writes the tables\n", STDERR)
        return 2
    stats = "-s" in argv[1:2]
    words = [word for word in argv[1:] if word not in ("-4", "-s")]
    try:
        yield USER
        _modelled(words)
        if words and "route".startswith(words[0]):
            yield from _route(cpu, process, words[1:])
        elif words and "link".startswith(words[0]) and words[1:2] == ["set"]:
            yield from iplink.do_iplink(cpu, words[1:])
        elif words and "link".startswith(words[0]):
            process.write(
                _devices(cpu, words[1:], lambda dev: ipshow.link_text(cpu, dev, stats=stats))
            )
        elif words and "address".startswith(words[0]):
            process.write(_devices(cpu, words[1:], lambda dev: ipshow.addr_text(cpu, dev)))
        elif words and "neighbour".startswith(words[0].replace("neighbor", "neighbour")):
            yield from ipneigh.do_ipneigh(cpu, process, words[1:])
        elif words and "monitor".startswith(words[0]):
            yield from _monitor(cpu, process, words[1:])
        else:
            name = words[0] if words else ""
            raise IpError(f'Object "{name}" is unknown, try "ip help".')
    except IpError as error:
        process.write(f"{error.text}\n", STDERR)
        return error.code
    return 0


def _modelled(words: list[str]) -> None:
    """What ip knows and this one does not is said by name."""
    name = words[0] if words else ""
    if name.startswith("-"):
        raise IpError(f"ip: the option {name} is not modelled", 255)
    verb = words[1] if words[1:] else ""
    if name and ("link".startswith(name) or "address".startswith(name)) and verb in _CHANGES:
        raise IpError(f"ip: {name} {verb} is not modelled", 255)


def _devices(cpu: Cpu, words: list[str], text: Callable[[NetDevice], str]) -> str:
    """``show [dev NAME]``: all devices, or one."""
    rest = [word for word in words if not "show".startswith(word) and word not in ("list", "dev")]
    found = ipshow.devices(cpu)
    if rest:
        found = [dev for dev in found if dev.name == rest[0]]
        if not found:
            raise IpError(f'Device "{rest[0]}" does not exist.')
    return "".join(text(dev) for dev in found)


def _monitor(cpu: Cpu, process: Process, words: list[str]) -> Context:
    """``ip monitor link``: a line for each message, until a signal comes."""
    if words not in ([], ["link"], ["all"]):
        raise IpError(f'Argument "{words[0]}" is unknown, try "ip monitor help".', 255)
    listener, task = Listener(), process.task
    cpu.net.link_listeners.append(listener)
    try:
        while not task.signals:
            while listener.queue:
                message = listener.queue.popleft()
                dev = cpu.net.devices.get(message.ifindex)
                if dev is None:
                    dev = NetDevice(message.ifindex, message.name, message.address, None)
                process.write(ipshow.monitor_text(cpu, message, dev))
            task.state = TASK_INTERRUPTIBLE
            listener.waiter = task
            yield SCHEDULE
            listener.waiter = None
    finally:
        cpu.net.link_listeners.remove(listener)


def _route(cpu: Cpu, process: Process, words: list[str]) -> Context:
    """do_iproute."""
    verb = words.pop(0) if words else "show"
    command = next((c for c in _COMMANDS if c.startswith(verb)), "")
    if command in ("list", "lst", "show"):
        process.write(_show(cpu, words))
    elif command == "get":
        process.write(_get(cpu, words))
    elif command == "flush":
        if words[:1] != ["cache"]:
            raise IpError('"ip route flush" requires arguments.')
        yield from files.write(cpu, "/proc/sys/net/ipv4/route/flush", "-1")
    elif command in ("add", "delete"):
        yield from _modify(cpu, command, words)
    else:
        raise IpError(f'Command "{verb}" is unknown, try "ip route help".', 255)


# ---------------------------------------------------------------- arguments


def _prefix(text: str) -> ipaddress.IPv4Network:
    """A destination; ``default`` is everything."""
    try:
        return ipaddress.IPv4Network("0.0.0.0/0" if text == "default" else text)
    except ValueError:
        raise IpError(f'Error: inet prefix is expected rather than "{text}".') from None


def _address(text: str) -> int:
    try:
        return int(ipaddress.IPv4Address(text))
    except ValueError:
        raise IpError(f'Error: inet address is expected rather than "{text}".') from None


def _ifindex(cpu: Cpu, name: str) -> int:
    dev = cpu.net.device(name)
    if dev is None:
        raise IpError(f'Cannot find device "{name}"')
    return dev.ifindex


def _wrong(value: str, what: str) -> IpError:
    return IpError(f'Error: argument "{value}" is wrong: "{what}" value is invalid\n', 255)


def _parse(cpu: Cpu, words: list[str]) -> FibRoute:
    """PREFIX [via ADDRESS] [dev NAME] [metric N] [proto NAME] [src ADDRESS]; ``ifindex`` may
    stay 0."""
    network: ipaddress.IPv4Network | None = None
    route = FibRoute(0, 0, 0, 0)
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in ("via", "dev", "metric", "proto", "src", "scope"):
            if not rest:
                raise IpError('Command line is not complete. Try option "help"', 255)
            value = rest.pop(0)
            if word == "via":
                route = route._replace(gateway=_address(value))
            elif word == "dev":
                route = route._replace(ifindex=_ifindex(cpu, value))
            elif word == "src":
                route = route._replace(prefsrc=_address(value))
            elif word == "proto":
                if value not in PROTOCOLS:
                    raise _wrong(value, "protocol")
                route = route._replace(protocol=PROTOCOLS[value])
            elif word == "metric":
                if not value.isdecimal() or len(value) > 10 or int(value) > _METRIC_MAX:
                    raise _wrong(value, "metric")
                route = route._replace(metric=int(value))
        elif network is None:
            network = _prefix(rest.pop(0) if word == "to" and rest else word)
        else:
            raise IpError(f'Error: either "to" is duplicate, or "{word}" is a garbage.')
    if network is None:
        network = _prefix("default")
    return route._replace(network=int(network.network_address), mask=int(network.netmask))


# ---------------------------------------------------------------- what it does


def _modify(cpu: Cpu, command: str, words: list[str]) -> Context:
    """iproute_modify, and what fib_check_nh says about the gateway."""
    route = _parse(cpu, words)
    if not words:
        raise answers(ENODEV if command == "add" else ESRCH)
    yield from cpu.net.rtnl.lock(cpu)
    if command == "delete":
        error: int = yield from fib_table_delete(
            cpu, route.network, route.mask, route.gateway, route.ifindex, route.metric
        )
    else:
        error = _check_nh(cpu, route)
        if error > 0:
            error = yield from fib_table_insert(cpu, route._replace(ifindex=error))
    cpu.net.rtnl.unlock(cpu)
    if error:
        raise answers(error)


def _check_nh(cpu: Cpu, route: FibRoute) -> int:
    """ifindex of the nexthop's device, which must be up and, with a gateway, lead to it directly;
    or a negative errno."""
    ifindex = route.ifindex
    if route.gateway:
        info = cpu.net.fib.lookup_oif(route.gateway.to_bytes(4, "big"), ifindex)
        if info is None or info.route.gateway:
            return -ENETUNREACH
        ifindex = info.route.ifindex
    dev = cpu.net.devices.get(ifindex)
    if dev is None:
        return -ENODEV
    return ifindex if dev.flags & IFF_UP else -ENETDOWN


def _get(cpu: Cpu, words: list[str]) -> str:
    """The route that a packet would take; the lookup is a real one."""
    if not words:
        raise IpError("need at least a destination address")
    daddr = _address(words[0]).to_bytes(4, "big")
    oif = _ifindex(cpu, words[2]) if words[1:2] in (["oif"], ["dev"]) and words[2:] else 0
    rt = ip_route_output(cpu, daddr, oif=oif)
    if rt is None:
        raise answers(ENETUNREACH)
    via = f"via {ipaddress.IPv4Address(rt.rt_gateway)} " if rt.rt_gateway else ""
    source = ipaddress.IPv4Address(rt.source)
    kind, cache = ("local ", "cache <local> ") if rt.local else ("", "cache ")
    text = f"{kind}{ipaddress.IPv4Address(daddr)} {via}dev {rt.dev.name} src {source} uid 0 \n"
    text += f"    {cache}\n"
    ip_rt_put(cpu, rt)
    return text


def _show(cpu: Cpu, words: list[str]) -> str:
    """One line a route; with words only those that fit."""
    if words == ["cache"]:
        return ""
    wanted = _parse(cpu, words)
    routes = sorted(cpu.net.fib.routes(), key=lambda r: (r.network, -r.mask, r.metric))
    return "".join(
        _line(cpu, route)
        for route in routes
        if wanted.ifindex in (0, route.ifindex)
        and wanted.gateway in (0, route.gateway)
        and (not words or "dev" in words or (wanted.network, wanted.mask) == route[:2])
    )


def _line(cpu: Cpu, route: FibRoute) -> str:
    """print_route."""
    network = ipaddress.IPv4Network((route.network, route.mask.bit_count()))
    host = route.mask == 0xFFFF_FFFF
    text = "default" if not route.mask else str(network.network_address if host else network)
    if route.gateway:
        text += f" via {ipaddress.IPv4Address(route.gateway)}"
    dev = cpu.net.devices.get(route.ifindex)
    text += f" dev {dev.name if dev is not None else f'if{route.ifindex}'}"
    if route.protocol != RTPROT_BOOT:
        text += f" proto {_NAMES[route.protocol]}"
    if not route.gateway:
        text += " scope link"
    if route.prefsrc:
        text += f" src {ipaddress.IPv4Address(route.prefsrc)}"
    if route.metric:
        text += f" metric {route.metric}"
    return text + " \n"
