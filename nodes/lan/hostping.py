"""ping on the gateway: ``bottomhalf --on gateway ping m1``, as small as it may be.

Texts and exit codes are iputils' (``-c -i -s -W -w -t -q -n``); the host behind the switch is no
modelled kernel, so this is a state machine: it sends when it is time, resolves the address by ARP
(three requests, a second apart, as Linux does), and ends by itself. Times are those of the LAN's
process: from the frame's departure at the gateway to the reply's arrival there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from nodes.getopt import OPERAND, GetoptError, getopt
from nodes.iputils import (
    INT_MAX,
    LONG_MAX,
    UsageError,
    getaddrinfo,
    ping_destination,
    ping_strtod,
    ping_ttl,
    strtol_or_err,
)
from nodes.lan.gateway import Gateway, icmp_message
from nodes.pingtext import (
    Statistics,
    dotted,
    error_line,
    header,
    icmp_text,
    names,
    round_trip,
)

ARP_TRIES, ARP_NS = 3, 1_000_000_000
LINGER_NS = 10_000_000_000
INTERVAL_NS_MIN = 2_000_000
SIZE_MAX = 1472
_SECOND = 1_000_000_000
USAGE = "ping: usage: ping [-qn] [-c N] [-i S] [-s BYTES] [-t TTL] [-W S] [-w S] HOST"


class Options:
    """The words of a command line; ``UsageError`` has ping's text."""

    def __init__(self, argv: Sequence[str], hosts: Mapping[str, str]) -> None:
        self.quiet = self.numeric = False
        self.count = self.deadline_ns = self.linger_ns = 0
        self.size, self.ttl, self.interval_ns = 56, 64, _SECOND
        operands: list[str] = []
        try:
            for letter, text in getopt(argv, "qnc:i:s:W:w:t:"):
                if letter == OPERAND:
                    operands.append(text)
                else:
                    self._option(letter, text)
        except GetoptError as error:
            raise UsageError(f"ping: {error}\n{USAGE}") from None
        self.host = ping_destination(operands)
        self.target = getaddrinfo("ping", self.host, hosts)
        self.numeric = self.numeric or self.host not in hosts

    def _option(self, letter: str, text: str) -> None:
        if letter == "q":
            self.quiet = True
        elif letter == "n":
            self.numeric = True
        elif letter == "c":
            self.count = strtol_or_err("ping", text, 1, LONG_MAX)
        elif letter == "i":
            interval_ns = int(ping_strtod(text, "timing interval") * _SECOND)
            self.interval_ns = max(interval_ns, INTERVAL_NS_MIN)
        elif letter == "s":
            self.size = strtol_or_err("ping", text, 0, SIZE_MAX)
        elif letter == "t":
            self.ttl = ping_ttl(text)
        elif letter == "W":
            self.linger_ns = int(ping_strtod(text, "linger time") * _SECOND)
        else:
            self.deadline_ns = strtol_or_err("ping", text, 0, INT_MAX) * _SECOND


class HostPing:
    """One run. ``emit`` puts a frame on the gateway's wire, ``say`` writes text to the caller."""

    def __init__(
        self,
        options: Options,
        ident: int,
        gateway: Gateway,
        hosts: dict[str, str],
        now_ns: int,
        emit: Callable[[bytes], None],
        say: Callable[[str], None],
    ) -> None:
        self.options = options
        self._ident = ident.to_bytes(2, "big")
        self._gateway = gateway
        self._names = {} if options.numeric else names(hosts)
        self._emit = emit
        self._say = say
        self.exit_code: int | None = None
        self._began = self._last = self._next = now_ns
        self._sent: dict[int, int] = {}
        self._seen: dict[int, bool] = {}
        self.stats = Statistics()
        self._unresolved: list[int] = []  # sequences that wait for ARP
        self._arp_tries = 0
        self._arp_ns = 0
        say(header(options.host, options.target, options.size))

    # -- time

    def next_ns(self) -> int:
        """When ``tick`` has something to do."""
        options = self.options
        more = not options.count or self.stats.transmitted < options.count
        due = self._next if more else self._last + self._linger()
        if self._unresolved:
            due = min(due, self._arp_ns) if more else self._arp_ns
        return min(due, self._began + options.deadline_ns) if options.deadline_ns else due

    def _linger(self) -> int:
        if self.options.linger_ns:
            return self.options.linger_ns
        if self.stats.received:
            return max(2000 * self.stats.maximum, self.options.interval_ns)
        return LINGER_NS

    def tick(self, now_ns: int) -> None:
        """Send, ask again, give up, end."""
        options = self.options
        if options.deadline_ns and now_ns >= self._began + options.deadline_ns:
            self.finish()
            return
        if self._unresolved and now_ns >= self._arp_ns:
            self._ask(now_ns)
        if not options.count or self.stats.transmitted < options.count:
            if now_ns >= self._next:
                self._next = max(self._next + options.interval_ns, now_ns)
                self._last = now_ns
                self.stats.transmitted += 1
                self._send(self.stats.transmitted, now_ns)
        elif not self._unresolved and now_ns >= self._last + self._linger():
            self.finish()
        self._enough()

    def _enough(self) -> None:
        if self.options.count and self.stats.received + self.stats.errors >= self.options.count:
            self.finish()

    # -- out

    def _send(self, number: int, now_ns: int) -> None:
        if self.options.target not in self._gateway.neighbours:
            self._unresolved.append(number)
            if len(self._unresolved) == 1:
                self._arp_tries = 0
                self._ask(now_ns)
            return
        self._sent[number & 0xFFFF] = now_ns
        self._seen.pop(number & 0xFFFF, None)
        data = bytes(i & 0xFF for i in range(self.options.size))
        tail = self._ident + (number & 0xFFFF).to_bytes(2, "big") + data
        gateway, target = self._gateway, self.options.target
        message = icmp_message(b"\x08\0", tail)
        packet = gateway.packet(1, gateway.first, target, message, ttl=self.options.ttl)
        self._emit(gateway.frame(gateway.neighbours[target], packet))

    def _ask(self, now_ns: int) -> None:
        """ARP; after the third request without an answer the packets are undeliverable."""
        if self._arp_tries < ARP_TRIES:
            self._arp_tries += 1
            self._arp_ns = now_ns + ARP_NS
            self._emit(self._gateway.ask(self.options.target))
            return
        waiting, self._unresolved = self._unresolved, []
        for number in waiting:
            self._failed(self._gateway.first, number, "Destination Host Unreachable")

    def resolved(self, now_ns: int) -> None:
        """The neighbour table changed: what waits may go."""
        if self._unresolved and self.options.target in self._gateway.neighbours:
            waiting, self._unresolved = self._unresolved, []
            for number in waiting:
                self._send(number, now_ns)

    # -- in

    def hear(self, packet: bytes, now_ns: int) -> None:
        """A reply or an error came to the gateway; this ping's, perhaps."""
        icmp, source = packet[20:], packet[12:16]
        if icmp[0]:
            quoted = icmp[8:]
            if len(quoted) >= 28 and quoted[9] == 1 and quoted[24:26] == self._ident:
                text = icmp_text(icmp[0], icmp[1], icmp[6] << 8 | icmp[7])
                self._failed(source, int.from_bytes(quoted[26:28], "big"), text)
            return
        number = int.from_bytes(icmp[6:8], "big")
        if icmp[4:6] != self._ident or number not in self._sent:
            return
        us = max(now_ns - self._sent[number], 0) // 1000
        again = number in self._seen
        self._seen[number] = True
        self.stats.received += not again
        self.stats.duplicates += again
        self._settled(number)
        self.stats.add(us)
        if not self.options.quiet:
            head = f"{len(icmp)} bytes from {self._pr_addr(source)}: icmp_seq={number}"
            mark = " (DUP!)" if again else ""
            self._say(f"{head} ttl={packet[8]} time={round_trip(us)} ms{mark}\n")
        self._enough()

    def _pr_addr(self, address: bytes) -> str:
        """With its name, if it has one."""
        return self._names.get(address) or dotted(address)

    def _settled(self, number: int) -> None:
        """``number`` has 16 bits on the wire."""
        sent = self.stats.transmitted
        self.stats.outstanding(sent - (sent - number & 0xFFFF))

    def _failed(self, source: bytes, number: int, text: str) -> None:
        self.stats.errors += 1
        self._settled(number)
        if not self.options.quiet:
            self._say(error_line(self._pr_addr(source), number, text))
        self._enough()

    # -- the end

    def finish(self) -> None:
        """Statistics, and the exit code."""
        if self.exit_code is not None:
            return
        elapsed_us = (self._last - self._began) // 1000
        self._say(self.stats.closing(self.options.host, elapsed_us, timed=True, flood=False))
        self.exit_code = 0 if self.stats.received else 1
