"""ping, as iputils has it: a user task with a raw ICMP socket (``pingrun`` is what it does).

Any number of them run at once, on any CPU; one that moves with its CPU going offline takes all of
its state along.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from nodes.cpu.kernel.net.route import ip_route_output, ip_rt_put, martian_source
from nodes.cpu.kernel.net.socket import sock_close, sock_open
from nodes.cpu.kernel.net.sockmove import sock_unpack
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.programs.pingargs import PingOptions, parse
from nodes.cpu.programs.pingdata import PingTimes
from nodes.cpu.programs.pingrun import SHOWN, Ping
from nodes.cpu.programs.run import STDERR, STDOUT, Process, program, resumable
from nodes.iputils import UsageError
from nodes.pingtext import dotted, header

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

__all__ = ["Ping", "PingTimes", "ping"]

#: All ICMP types but the ones ping wants are blocked by the socket's filter.
ICMP_FILTER = 0xFFFF_FFFF ^ (1 << 0 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 11 | 1 << 12)


@program("ping")
def ping(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
    """main() of ping; exit code 0 with a reply, 1 without, 2 for anything else."""
    try:
        options = parse(cpu, argv, process.hosts)
    except UsageError as error:
        process.write(f"{error}\n", STDOUT if error.out else STDERR)
        return error.code
    run = Ping(cpu, process, options)
    dev = cpu.net.device(options.device) if options.device else None
    ifindex = 0 if dev is None else dev.ifindex
    # its probe socket's connect(2)
    rt = ip_route_output(cpu, options.address, options.source, oif=ifindex)
    if rt is None:
        process.write("ping: connect: Network is unreachable\n", STDERR)
        return 2
    run.source = options.source or rt.source
    martian = martian_source(cpu, rt, run.source)
    ip_rt_put(cpu, rt)
    if martian:
        process.write("ping: connect: Invalid argument\n", STDERR)
        return 2
    cpu.programs.last_ping = run.times
    run.sock = yield from sock_open(cpu, run.ident, ifindex, ICMP_FILTER)
    run.began = run.next_send = run.last_send = cpu.now()
    _header(process, options, run.source)
    yield from run.run()
    code: int = yield from _close(cpu, process, run)
    return code


def _close(cpu: Cpu, process: Process, run: Ping) -> Context:
    """Close, and say how it was; the exit code."""
    options = run.options
    yield from sock_close(cpu, run.sock)
    run.finished()
    flood = options.flood or options.adaptive or not options.interval_ns
    process.write(run.stats.closing(options.host, run.elapsed_us, timed=run.timed, flood=flood))
    wanted = options.count if options.deadline_ns is not None and options.count else 1
    return 0 if run.stats.received >= wanted else 1


@resumable("ping")
def resume(cpu: Cpu, process: Process, state: Any) -> Context:
    """Go on with what ``Ping.pack`` packed."""
    options, stats, loop, source, (sent, received, duplicates), shown, sock = state
    run = Ping(cpu, process, PingOptions(**options))
    vars(run.stats).update(stats, squares=int(stats["squares"]))
    (run.answered, run.confirm, run.began, run.next_send, run.last_send, run.credit,
     run.linger_ns) = loop  # fmt: skip
    run.source = source
    run.times.sent = array("Q", sent).tolist()
    run.times.received = dict(received)
    run.times.duplicates = duplicates
    cpu.programs.last_ping = run.times
    for word, value in zip(SHOWN, shown, strict=True):
        cpu.words[word] = value
    run.sock = sock_unpack(cpu, sock)
    return _go_on(cpu, process, run)


def _go_on(cpu: Cpu, process: Process, run: Ping) -> Context:
    yield from run.run()
    code: int = yield from _close(cpu, process, run)
    return code


def _header(process: Process, options: PingOptions, saddr: bytes) -> None:
    """What stands above the replies."""
    if options.pattern and not options.quiet:
        process.write(f"PATTERN: 0x{options.pattern.hex()}\n")
    if options.verbose:
        process.write(
            "ping: sock4.fd: 3 (socktype: SOCK_RAW), sock6.fd: 4 (socktype: SOCK_RAW), "
            "hints.ai_family: AF_UNSPEC\n\n",
            STDERR,
        )
        process.write(f"ai->ai_family: AF_INET, ai->ai_canonname: '{options.host}'\n")
    asked = options.device or options.source
    via = f" from {dotted(saddr)} {options.device}:" if asked else ""
    process.write(header(options.host, options.address, options.size, via))
