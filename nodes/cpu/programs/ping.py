"""ping, as iputils has it: a user task with a raw ICMP socket.

Sends an echo request each interval (flood: as fast as replies come, or a hundred a second), matches
replies by id and sequence, prints and counts. The bytes 8..23 of the data carry the time of
sending; the receive time is the kernel's stamp. Times of every packet are kept for whoever asks.
"""

from __future__ import annotations

from array import array
from dataclasses import asdict
from errno import EMSGSIZE
from typing import TYPE_CHECKING, Any

from nodes.cpu.kernel.net.checksum import checksum
from nodes.cpu.kernel.net.ip_output import ip_send_icmp
from nodes.cpu.kernel.net.neighbour import neigh_confirm
from nodes.cpu.kernel.net.netfilter import EPERM
from nodes.cpu.kernel.net.route import ip_route_output, ip_rt_put
from nodes.cpu.kernel.net.skbuff import SkBuff
from nodes.cpu.kernel.net.socket import Socket, SocketError, sock_close, sock_open, sock_poll
from nodes.cpu.kernel.net.sockmove import sock_moved, sock_pack, sock_unpack
from nodes.cpu.kernel.percpu import USER, Context
from nodes.cpu.kernel.sched import SIGINT, SIGQUIT
from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.programs.pingargs import PingOptions, UsageError, parse
from nodes.cpu.programs.pingtext import Statistics, round_trip
from nodes.cpu.programs.run import STDERR, Process, program, resumable
from nodes.cpu.trace import TRACEPOINTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: All ICMP types but the ones ping wants are blocked by the socket's filter.
ICMP_FILTER = 0xFFFF_FFFF ^ (1 << 0 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 11 | 1 << 12)
FLOOD_NS = 10_000_000
LINGER_NS = 10_000_000_000
TIMEVAL_BYTES = 16

_RUNNING = CPU_SCHEMA.index("ping_running")
_SENT = CPU_SCHEMA.index("ping_sent")
_RECEIVED = CPU_SCHEMA.index("ping_received")
_DUPLICATES = CPU_SCHEMA.index("ping_duplicates")
_INTERVAL = CPU_SCHEMA.index("ping_interval_ns")
_LAST_SENT = CPU_SCHEMA.index("ping_last_sent_ns")
_LAST_REPLY = CPU_SCHEMA.index("ping_last_reply_ns")
_LAST_RTT = CPU_SCHEMA.index("ping_last_rtt_ns")
_WINDOW = CPU_SCHEMA.index("ping_window")
SHOWN = (
    _RUNNING, _SENT, _RECEIVED, _DUPLICATES, _INTERVAL, _LAST_SENT, _LAST_REPLY, _LAST_RTT, _WINDOW,
)  # fmt: skip
_SENDMSG = TRACEPOINTS["sys_sendmsg"].number
_RECVMSG = TRACEPOINTS["recvmsg"].number
_WINDOW_MASK = (1 << 64) - 1


class PingTimes:
    """When each packet went and came: clock in ns, by sequence number from 1."""

    def __init__(self, ident: int) -> None:
        self.ident = ident
        self.sent: list[int] = []
        self.received: dict[int, int] = {}
        self.duplicates = 0


class Ping:
    """State of one run."""

    def __init__(self, cpu: Cpu, process: Process, options: PingOptions) -> None:
        self.cpu = cpu
        self.process = process
        self.options = options
        self.ident = process.task.pid & 0xFFFF
        self.times = PingTimes(self.ident)
        self.stats = Statistics()
        self.timed = options.size >= TIMEVAL_BYTES
        self.answered = 0  # sequences settled by a reply or an error
        self.confirm = False
        self.began = cpu.now()
        self.next_send = self.last_send = self.began
        self.credit = options.preload
        self.sock: Socket
        self.source = b""  # the first route's
        self._mtu = 0
        self._fill = bytes(i & 0xFF for i in range(TIMEVAL_BYTES, max(options.size, 16)))
        words = cpu.words
        for word in (_SENT, _RECEIVED, _DUPLICATES, _LAST_SENT, _LAST_REPLY, _LAST_RTT, _WINDOW):
            words[word] = 0
        words[_INTERVAL] = options.interval_ns
        words[_RUNNING] = 1

    # -- moving

    def pack(self) -> Any:
        """All of it as plain values, taken off this CPU."""
        cpu, words = self.cpu, self.cpu.words
        if cpu.programs.last_ping is self.times:
            cpu.programs.last_ping = None
        shown = [words[word] for word in SHOWN]
        for word in SHOWN:
            words[word] = 0
        times = self.times
        return (
            asdict(self.options),
            {**vars(self.stats), "squares": str(self.stats.squares)},  # it may pass 64 bits
            (self.answered, self.confirm, self.began, self.next_send, self.last_send, self.credit),
            self.source,
            (array("Q", times.sent).tobytes(), times.received, times.duplicates),
            shown,
            sock_pack(self.sock),
        )

    def moved(self, target: int) -> Context:
        """It goes on there: its socket is that CPU's."""
        yield from sock_moved(self.cpu, self.sock, target)

    # -- sending

    def send(self) -> Context:
        """One echo request."""
        cpu, stats = self.cpu, self.stats
        if self.options.outstanding:
            self._say_outstanding()
        sequence = (stats.transmitted + 1) & 0xFFFF
        now = cpu.now()
        if self.timed:
            seconds, ns = divmod(now - cpu.ram.boot_ns, 1_000_000_000)
            data = seconds.to_bytes(8, "little") + (ns // 1000).to_bytes(8, "little") + self._fill
        else:
            data = bytes(i & 0xFF for i in range(self.options.size))
        tail = self.ident.to_bytes(2, "big") + sequence.to_bytes(2, "big") + data
        message = b"\x08\0" + checksum(b"\x08\0\0\0" + tail).to_bytes(2, "big") + tail
        stats.transmitted += 1
        self.times.sent.append(now)
        words = cpu.words
        words[_SENT] = stats.transmitted
        words[_LAST_SENT] = now
        words[_WINDOW] = words[_WINDOW] << 1 & _WINDOW_MASK
        cpu.trace(_SENDMSG, 1 << 32 | self.ident << 16 | sequence, self.sock.number)
        daddr = self.options.address
        rt = ip_route_output(cpu, daddr, oif=self.sock.ifindex)
        if rt is None:
            self._sendmsg_failed("Network is unreachable")
            yield USER
            return
        if self.confirm:  # MSG_CONFIRM
            self.confirm = False
            neigh_confirm(cpu, rt.rt_gateway or daddr)
        self._mtu = rt.dev.mtu
        error: int = yield from ip_send_icmp(
            cpu, rt, message, rt.source, daddr, ttl=self.options.ttl, sock=True
        )
        if error == -EPERM:
            self._sendmsg_failed("Operation not permitted")
        elif error == -EMSGSIZE:
            self._local_error()
        elif self.options.flood and not self.options.quiet:
            self.process.write(".")
        yield USER

    def _sendmsg_failed(self, text: str) -> None:
        """A hard local error: the request counts as sent, and as no error."""
        if self.options.flood and not self.options.quiet:
            self.process.write("E")
        elif not self.options.quiet:
            self.process.write(f"ping: sendmsg: {text}\n", STDERR)

    def _local_error(self) -> None:
        """The kernel refused it: longer than the way's MTU (the socket's error queue says so)."""
        self.stats.errors += 1
        self.answered += 1
        if self.options.flood and not self.options.quiet:
            self.process.write("E")
        elif not self.options.quiet:
            text = f"ping: local error: message too long, mtu={self._mtu}\n"
            self.process.write(text, STDERR)

    def _say_outstanding(self) -> None:
        """-O: the last request has not been answered when the next one is due."""
        last = self.stats.transmitted
        if last and last not in self.times.received:
            text = f"{self._stamp(self.cpu.now())}no answer yet for icmp_seq={last & 0xFFFF}\n"
            self.process.write(text)

    # -- receiving

    def receive(self) -> Context:
        """Everything the socket has."""
        sock = self.sock
        while sock.receive_queue or sock.error_queue:
            if sock.error_queue:
                self._error(sock.error_queue.popleft())
            else:
                self._reply(sock.receive_queue.popleft())
            yield USER

    def _reply(self, skb: SkBuff) -> None:
        frame, stats = skb.frame, self.stats
        if frame[34] != 0 or frame[38:40] != self.ident.to_bytes(2, "big"):
            return  # somebody else's
        low = frame[40] << 8 | frame[41]
        sequence = stats.transmitted - (stats.transmitted - low & 0xFFFF)  # undo the 16-bit wrap
        if sequence < 1:
            return
        self.confirm = True
        bad = bool(checksum(frame[34:]))
        us = self._round_trip_us(frame, skb.tstamp_ns)
        duplicate = sequence in self.times.received
        if duplicate:
            stats.duplicates += 1
            self.times.duplicates += 1
        elif bad:
            stats.corrupted += 1
        else:
            stats.received += 1
            self.answered += 1
            self.times.received[sequence] = skb.tstamp_ns
        if us is not None and not bad:
            stats.add(us)
        stats.outstanding(sequence)
        self._show(sequence, skb)
        if self.options.flood and not self.options.quiet:
            self.process.write("\b \b")
        elif not self.options.quiet:
            self._print_reply(skb, sequence, us, duplicate=duplicate, bad=bad)

    def _round_trip_us(self, frame: bytes, stamp_ns: int) -> int | None:
        if not self.timed or len(frame) < 42 + TIMEVAL_BYTES:
            return None
        sent_us = int.from_bytes(frame[42:50], "little") * 1_000_000
        sent_us += int.from_bytes(frame[50:58], "little")
        return max(0, (stamp_ns - self.cpu.ram.boot_ns) // 1000 - sent_us)

    def _show(self, sequence: int, skb: SkBuff) -> None:
        words, stats = self.cpu.words, self.stats
        words[_RECEIVED] = stats.received
        words[_DUPLICATES] = stats.duplicates
        words[_LAST_REPLY] = skb.tstamp_ns
        trip = skb.tstamp_ns - self.times.sent[sequence - 1]
        words[_LAST_RTT] = trip
        age = stats.transmitted - sequence
        if age < 64:
            words[_WINDOW] |= 1 << age
        self.cpu.trace(_RECVMSG, skb.key, trip)

    def _print_reply(
        self, skb: SkBuff, sequence: int, us: int | None, *, duplicate: bool, bad: bool
    ) -> None:
        frame = skb.frame
        source = ".".join(str(octet) for octet in frame[26:30])
        text = f"{len(frame) - 34} bytes from {source}: icmp_seq={sequence} ttl={frame[22]}"
        if us is not None:
            text += f" time={round_trip(us)} ms"
        text += (" (DUP!)" if duplicate else "") + (" (BAD CHECKSUM!)" if bad else "")
        self.process.write(self._stamp(skb.tstamp_ns) + text + "\n")

    def _stamp(self, clock_ns: int) -> str:
        if not self.options.timestamps:
            return ""
        us = (clock_ns - self.cpu.ram.boot_ns) // 1000
        return f"[{us // 1_000_000}.{us % 1_000_000:06d}] "

    def _error(self, error: SocketError) -> None:
        self.stats.errors += 1
        self.answered += 1
        self.stats.outstanding(error.sequence)
        if self.options.flood:
            self.process.write("\bE")
        elif not self.options.quiet:
            source = ".".join(str(octet) for octet in error.offender)
            self.process.write(
                f"{self._stamp(self.cpu.now())}From {source} icmp_seq={error.sequence} "
                "Destination Host Unreachable\n"
            )

    # -- the loop

    def interval_ns(self) -> int:
        """Time between two requests right now."""
        options = self.options
        if options.adaptive:
            return max(self.stats.smoothed // 8 * 1000, 1_000_000)
        return options.interval_ns

    def run(self) -> Context:
        """Send and receive until it is enough; returns nothing."""
        cpu, options, stats = self.cpu, self.options, self.stats
        deadline = None if options.deadline_ns is None else self.began + options.deadline_ns
        while True:
            self.process.may_move(self.pack, self.moved)
            signals = self.process.task.signals
            if signals & 1 << SIGQUIT:
                self.process.task.signals &= ~(1 << SIGQUIT)
                self._status()
            elif signals:
                break
            now = cpu.now()
            if deadline is not None and now >= deadline:
                break
            if options.count is not None and self._settled() >= options.count:
                break
            more = options.count is None or deadline is not None
            more = more or stats.transmitted < (options.count or 0)
            if more and (self.credit > 0 or now >= self.next_send):
                self.credit = max(0, self.credit - 1)
                self.last_send = now
                yield from self.send()
                gap = self.interval_ns() or FLOOD_NS
                later = max(self.next_send + gap, now) if gap < FLOOD_NS else now + gap
                self.next_send = later
                continue
            until = self.next_send if more else self.last_send + self._linger_ns()
            if not more and now >= until:
                break
            if deadline is not None:
                until = min(until, deadline)
            yield from sock_poll(cpu, self.sock, until)
            before = self.answered
            yield from self.receive()
            if options.flood and not options.interval_ns:
                self.credit += self.answered - before
        self.elapsed_us = (self.last_send - self.began) // 1000

    def _settled(self) -> int:
        """-c counts replies and errors; together with -w only replies."""
        return self.stats.received if self.options.deadline_ns is not None else self.answered

    def _linger_ns(self) -> int:
        if self.options.linger_ns is not None:
            return self.options.linger_ns
        if self.stats.received:
            return max(2 * self.stats.maximum * 1000, self.interval_ns())
        return LINGER_NS

    def _status(self) -> None:
        stats = self.stats
        loss = (stats.transmitted - stats.received) * 100 // max(stats.transmitted, 1)
        text = f"\r{stats.received}/{stats.transmitted} packets, {loss}% loss"
        self.process.write(text + "\n", STDERR)


@program("ping")
def ping(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
    """main() of ping; exit code 0 with a reply, 1 without, 2 for anything else."""
    try:
        options = parse(cpu, argv)
    except UsageError as error:
        process.write(f"{error}\n", STDERR)
        return 2
    run = Ping(cpu, process, options)
    ifindex = 0
    if options.device:
        dev = cpu.net.device(options.device)
        if dev is None:
            process.write(f"ping: unknown iface {options.device}\n", STDERR)
            return 2
        ifindex = dev.ifindex
    rt = ip_route_output(cpu, options.address, oif=ifindex)  # its probe socket's connect(2)
    if rt is None:
        process.write("ping: connect: Network is unreachable\n", STDERR)
        return 2
    run.source = rt.source
    ip_rt_put(cpu, rt)
    cpu.programs.last_ping = run.times
    run.sock = yield from sock_open(cpu, run.ident, ifindex, ICMP_FILTER)
    run.began = run.next_send = run.last_send = cpu.now()
    process.write(_header(options, run.source))
    code: int = yield from to_end(cpu, process, run)
    return code


def to_end(cpu: Cpu, process: Process, run: Ping) -> Context:
    """Ping, close, and say how it was; the exit code."""
    options = run.options
    yield from run.run()
    yield from sock_close(cpu, run.sock)
    cpu.words[_RUNNING] = 0
    flood = options.flood or options.adaptive or not options.interval_ns
    process.write(run.stats.closing(options.host, run.elapsed_us, timed=run.timed, flood=flood))
    wanted = options.count if options.deadline_ns is not None and options.count else 1
    interrupted = process.task.signals & 1 << SIGINT
    return 0 if run.stats.received >= (1 if interrupted else wanted) else 1


@resumable("ping")
def resume(cpu: Cpu, process: Process, state: Any) -> Context:
    """Go on with what ``Ping.pack`` packed."""
    options, stats, loop, source, (sent, received, duplicates), shown, sock = state
    run = Ping(cpu, process, PingOptions(**options))
    vars(run.stats).update(stats, squares=int(stats["squares"]))
    run.answered, run.confirm, run.began, run.next_send, run.last_send, run.credit = loop
    run.source = source
    run.times.sent = array("Q", sent).tolist()
    run.times.received = dict(received)
    run.times.duplicates = duplicates
    cpu.programs.last_ping = run.times
    for word, value in zip(SHOWN, shown, strict=True):
        cpu.words[word] = value
    run.sock = sock_unpack(cpu, sock)
    return to_end(cpu, process, run)


def _header(options: PingOptions, saddr: bytes) -> str:
    address = ".".join(str(octet) for octet in options.address)
    source = ".".join(str(octet) for octet in saddr)
    via = f" from {source} {options.device}:" if options.device else ""
    size = options.size
    return f"PING {options.host} ({address}){via} {size}({size + 28}) bytes of data.\n"
