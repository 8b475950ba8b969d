"""One run of ping: its socket, its loop, what it sends and what it makes of what comes.

Follows iputils 20221126 (ping_common.c, ping.c): bytes 8..23 of the data carry the time of sending,
the receive time is the kernel's stamp, the kernel's error queue tells of requests that failed.
Times of every packet are kept for whoever asks.
"""

from __future__ import annotations

from array import array
from dataclasses import asdict
from errno import EMSGSIZE
from typing import TYPE_CHECKING, Any

from nodes.checksum import checksum
from nodes.cpu.kernel.net.ip_output import ip_send_icmp
from nodes.cpu.kernel.net.neighbour import neigh_confirm
from nodes.cpu.kernel.net.netfilter import EPERM
from nodes.cpu.kernel.net.protocols import ICMP_ECHOREPLY
from nodes.cpu.kernel.net.route import ip_route_output
from nodes.cpu.kernel.net.skbuff import SkBuff
from nodes.cpu.kernel.net.socket import Socket, SocketError, sock_attach_filter, sock_poll
from nodes.cpu.kernel.net.sockmove import sock_moved, sock_pack
from nodes.cpu.kernel.percpu import USER, Context
from nodes.cpu.kernel.sched import SIGQUIT
from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.programs.pingargs import PingOptions
from nodes.cpu.programs.pingdata import MESSAGE_BYTES_MAX, PingTimes, filled
from nodes.cpu.programs.run import STDERR, Process
from nodes.cpu.trace import TRACEPOINTS
from nodes.pingtext import (
    Statistics,
    dotted,
    error_line,
    icmp_text,
    names,
    round_trip,
    wrong_data,
)

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

FLOOD_NS = 10_000_000
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


class Ping:
    """State of one run."""

    def __init__(self, cpu: Cpu, process: Process, options: PingOptions) -> None:
        self.cpu = cpu
        self.process = process
        self.options = options
        self.ident = process.task.pid & 0xFFFF if options.ident is None else options.ident
        self._ident_bytes = self.ident.to_bytes(2, "big")
        self.times = PingTimes(self.ident)
        self.stats = Statistics()
        self.timed = options.size >= TIMEVAL_BYTES
        self.answered = 0  # sequences settled by a reply or an error
        self.confirm = False
        self._epoch_ns = cpu.ram.epoch_ns
        self.began = cpu.now()
        self.next_send = self.last_send = self.began
        self.credit = options.preload
        self.sock: Socket
        self.source = b""  # the first route's
        self._mtu = 0
        self.linger_ns: int | None = None  # how long the last replies are waited for
        self._names = {} if options.numeric else names(process.hosts)
        self._data = filled(options)
        self._fill = self._data[TIMEVAL_BYTES:]
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
            (
                self.answered,
                self.confirm,
                self.began,
                self.next_send,
                self.last_send,
                self.credit,
                self.linger_ns,
            ),
            self.source,
            (array("Q", times.sent).tobytes(), times.received, times.duplicates),
            shown,
            sock_pack(self.sock),
        )

    def finished(self) -> None:
        """It is over; what its page shows stays."""
        self.cpu.words[_RUNNING] = 0

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
        stats.transmitted += 1
        self.times.sent.append(now)
        words = cpu.words
        words[_SENT] = stats.transmitted
        words[_LAST_SENT] = now
        words[_WINDOW] = words[_WINDOW] << 1 & _WINDOW_MASK
        if self.timed:
            seconds, ns = divmod(now + self._epoch_ns, 1_000_000_000)
            data = seconds.to_bytes(8, "little") + (ns // 1000).to_bytes(8, "little") + self._fill
        else:
            data = self._data
        if len(data) > MESSAGE_BYTES_MAX:
            self._sendmsg_failed("Message too long")
            yield USER
            return
        tail = self._ident_bytes + sequence.to_bytes(2, "big") + data
        message = b"\x08\0" + checksum(b"\x08\0\0\0" + tail).to_bytes(2, "big") + tail
        cpu.trace(_SENDMSG, 1 << 32 | self.ident << 16 | sequence, self.sock.number)
        options = self.options
        daddr = options.address
        rt = ip_route_output(cpu, daddr, options.source, oif=self.sock.ifindex)
        if rt is None:
            self._sendmsg_failed("Network is unreachable")
            yield USER
            return
        if self.confirm:  # MSG_CONFIRM
            self.confirm = False
            neigh_confirm(cpu, rt.rt_gateway or daddr)
        self._mtu = rt.dev.mtu
        error: int = yield from ip_send_icmp(
            cpu, rt, message, options.source or rt.source, daddr, ttl=options.ttl,
            tos=options.tos, sock=True, pmtudisc=options.pmtudisc,
        )  # fmt: skip
        if error == -EPERM:
            self._sendmsg_failed("Operation not permitted")
        elif error == -EMSGSIZE:
            self._local_error()
        elif options.flood and not options.quiet:
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
            text = f"{self.stamp()}no answer yet for icmp_seq={last & 0xFFFF}\n"
            self.process.write(text)

    # -- receiving

    def receive(self) -> Context:
        """Everything the socket has."""
        sock = self.sock
        while sock.receive_queue or sock.error_queue:
            if sock.error_queue:
                self._error(sock.error_queue.popleft())
            else:
                skb = sock.receive_queue.popleft()
                if skb.frame[34] != ICMP_ECHOREPLY:
                    self._other(skb)
                elif skb.frame[38:40] == self._ident_bytes:
                    self._received(skb)
                elif not sock.own_replies:  # another ping's: no more of those
                    yield from sock_attach_filter(self.cpu, sock)
            yield USER

    def _received(self, skb: SkBuff) -> None:
        """A reply to one of our requests."""
        frame, stats, options = skb.frame, self.stats, self.options
        low = frame[40] << 8 | frame[41]
        sequence = stats.transmitted - (stats.transmitted - low & 0xFFFF)  # undo the 16-bit wrap
        if sequence < 1:
            return
        self.confirm = True
        came_ns = self.cpu.now() if options.latency else skb.tstamp_ns
        bad = bool(checksum(frame[34:]))
        us = self._round_trip_us(frame, came_ns)
        duplicate = sequence in self.times.received
        if bad:
            stats.corrupted += 1
        elif duplicate:
            stats.duplicates += 1
            self.times.duplicates += 1
        else:
            stats.received += 1
            self.answered += 1
            self.times.received[sequence] = skb.tstamp_ns
        if not bad:
            stats.outstanding(sequence)
            if us is not None:
                stats.add(us)
        self._show(sequence, skb)
        if options.quiet:
            return
        if options.flood:
            self.process.write("\bC" if bad else "\b \b")
        else:
            self._print_reply(
                skb,
                low,
                us,
                (" (DUP!)" if duplicate and not bad else "") + (" (BAD CHECKSUM!)" if bad else ""),
            )

    def _round_trip_us(self, frame: bytes, came_ns: int) -> int | None:
        if not self.timed or len(frame) < 42 + TIMEVAL_BYTES:
            return None
        sent_us = int.from_bytes(frame[42:50], "little") * 1_000_000
        sent_us += int.from_bytes(frame[50:58], "little")
        return max(0, (came_ns + self._epoch_ns) // 1000 - sent_us)

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

    def _print_reply(self, skb: SkBuff, sequence: int, us: int | None, marks: str) -> None:
        frame, options = skb.frame, self.options
        text = f"{self.stamp()}{len(frame) - 34} bytes from {self.pr_addr(frame[26:30])}:"
        text += f" icmp_seq={sequence}"
        if options.verbose:
            text += f" ident={self.ident}"
        text += f" ttl={frame[22]}"
        if len(frame) < 42 + options.size:
            self.process.write(text + " (truncated)\n")
            return
        if us is not None:
            text += f" time={round_trip(us)} ms"
        text += marks
        if frame[26:30] != options.address:
            text += " (DIFFERENT ADDRESS!)"
        if frame[42 + TIMEVAL_BYTES : 42 + options.size] != self._fill:
            text += wrong_data(frame[42:], self._data, TIMEVAL_BYTES)
        self.process.write(text + ("\a\n" if options.audible else "\n"))

    def pr_addr(self, address: bytes) -> str:
        """With its name, if it has one; -n and a destination without a name look for none."""
        return self._names.get(address) or dotted(address)

    def stamp(self) -> str:
        """-D: the time of day, when it is printed."""
        if not self.options.timestamps:
            return ""
        us = (self.cpu.now() + self._epoch_ns) // 1000
        return f"[{us // 1_000_000}.{us % 1_000_000:06d}] "

    def _other(self, skb: SkBuff) -> None:
        """A message that is no echo reply. Errors come by the error queue as well, so only what
        goes on in spite of them is said: redirects and source quenches about this ping."""
        frame, options = skb.frame, self.options
        if frame[34] not in (4, 5) or len(frame) < 70 or options.quiet or options.flood:
            return
        if frame[58:62] != options.address or frame[62] != 8 or frame[66:68] != self._ident_bytes:
            return
        info = int.from_bytes(frame[38:42], "big")
        text = icmp_text(frame[34], frame[35], info, self.pr_addr)
        sequence = frame[68] << 8 | frame[69]
        source = self.pr_addr(frame[26:30])
        self.process.write(f"{self.stamp()}From {source}: icmp_seq={sequence} {text}\n")

    def _error(self, error: SocketError) -> None:
        options = self.options
        self.stats.errors += 1
        self.answered += 1
        self.stats.outstanding(error.sequence)
        if options.quiet:
            return
        if options.flood:
            self.process.write("\bE")
            return
        text = icmp_text(error.icmp_type, error.icmp_code, getattr(error, "info", 0))
        source = self.pr_addr(error.offender)
        self.process.write(self.stamp() + error_line(source, error.sequence, text))

    # -- the loop

    def interval_ns(self) -> int:
        """Time between two requests right now."""
        options = self.options
        if options.adaptive and self.stats.smoothed:
            return (self.stats.smoothed // 8 + 500) // 1000 * 1_000_000
        return options.interval_ns

    def _adapt(self) -> None:
        """-A: a reply changed the interval, which counts from the last request. While that one is
        under way a short interval waits for it, 10 ms at most (main_loop's MININTERVAL)."""
        gap = self.interval_ns()
        if self.stats.transmitted not in self.times.received:
            gap = max(gap, FLOOD_NS)
        self.next_send = self.last_send + gap

    def run(self) -> Context:
        """Send and receive until it is enough; returns nothing."""
        cpu, options, stats = self.cpu, self.options, self.stats
        deadline = None if options.deadline_ns is None else self.began + options.deadline_ns
        while True:
            self.process.may_move(self.pack, self.moved)
            signals = self.process.task.signals
            if signals & 1 << SIGQUIT:
                self.process.task.signals &= ~(1 << SIGQUIT)
                self.process.write(stats.status(timed=self.timed), STDERR)
            elif signals:
                break
            now = cpu.now()
            if deadline is not None and now >= deadline:
                break
            if options.count is not None and self.answered >= options.count:
                break
            if deadline is not None and stats.errors:
                break
            more = options.count is None or deadline is not None
            more = more or stats.transmitted < (options.count or 0)
            if more and (self.credit > 0 or now >= self.next_send):
                self.credit = max(0, self.credit - 1)
                self.last_send = now
                yield from self.send()
                gap = self.interval_ns() or FLOOD_NS
                later = max(self.next_send + gap, now) if gap < FLOOD_NS else now + gap
                self.next_send = later if not options.adaptive else now + max(gap, FLOOD_NS)
                continue
            until = self.next_send if more else self._give_up_ns()
            if not more and until is not None and now >= until:
                break
            if deadline is not None:
                until = deadline if until is None else min(until, deadline)
            yield from sock_poll(cpu, self.sock, until)
            before = self.answered
            yield from self.receive()
            if options.adaptive:
                self._adapt()
            elif not self.interval_ns():
                self.credit += self.answered - before
        self.elapsed_us = (self.last_send - self.began) // 1000

    def _give_up_ns(self) -> int | None:
        """When waiting for the last replies ends, decided at the last send; None: never (-W 0)."""
        if self.linger_ns is None:
            if self.stats.received:
                self.linger_ns = max(2 * self.stats.maximum * 1000, self.interval_ns())
            else:
                self.linger_ns = self.options.linger_ns
        return self.last_send + self.linger_ns if self.linger_ns else None
