"""ping on the gateway: ``bottomhalf --on gateway ping m1``, as small as it may be.

Texts and exit codes are iputils' (``-c -i -s -W -w -t -q -n``); the host behind the switch is no
modelled kernel, so this is a state machine: it sends when it is time, resolves the address by ARP
(three requests, a second apart, as Linux does), and ends by itself. Times are those of the LAN's
process: from the frame's departure at the gateway to the reply's arrival there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import AddressValueError, IPv4Address

from nodes.getopt import OPERAND, GetoptError, getopt
from nodes.lan.gateway import Gateway, icmp_message
from nodes.pingtext import Statistics, dotted, icmp_text, names, round_trip

ARP_TRIES, ARP_NS = 3, 1_000_000_000
LINGER_NS = 10_000_000_000
INTERVAL_NS_MIN = 2_000_000
SIZE_MAX = 1472
_SECOND = 1_000_000_000
USAGE = "ping: usage: ping [-qn] [-c N] [-i S] [-s BYTES] [-t TTL] [-W S] [-w S] HOST"


class UsageError(ValueError):
    """What ping says about its words, and its exit code."""

    def __init__(self, text: str, code: int = 2) -> None:
        super().__init__(text)
        self.code = code


class Options:
    """The words of a command line; ``UsageError`` has ping's text."""

    def __init__(self, argv: Sequence[str], hosts: dict[str, str]) -> None:
        given: dict[str, str] = {}
        found: list[str] = []
        try:
            for letter, text in getopt(argv, "qnc:i:s:W:w:t:"):
                if letter == OPERAND:
                    found.append(text)
                else:
                    given[letter] = text
        except GetoptError as error:
            raise UsageError(f"ping: {error}\n{USAGE}") from None
        if not found:
            raise UsageError("ping: usage error: Destination address required", 1)
        if len(found) > 1:
            raise UsageError("ping: record route: not modelled (docs/limitations.md)")
        self.host = found[0]
        try:
            self.target = IPv4Address(hosts.get(self.host, self.host)).packed
        except AddressValueError:
            raise UsageError(f"ping: {self.host}: Name or service not known") from None
        self.quiet = "q" in given
        self.numeric = "n" in given or self.host not in hosts
        self.count = _number(given, "c", 0, 1, 1 << 31)
        self.size = _number(given, "s", 56, 0, SIZE_MAX)
        self.ttl = _number(given, "t", 64, 1, 255)
        self.interval_ns = max(_seconds(given, "i", 1.0), INTERVAL_NS_MIN)
        self.linger_ns = _seconds(given, "W", 0.0)
        self.deadline_ns = _seconds(given, "w", 0.0)


def _number(given: dict[str, str], letter: str, default: int, low: int, high: int) -> int:
    text = given.get(letter)
    if text is None:
        return default
    if not text.isdecimal():
        raise UsageError(f"ping: invalid argument: '{text}'", 1)
    if not low <= int(text) <= high:
        text = f"ping: invalid argument: '{text}': out of range: {low} <= value <= {high}"
        raise UsageError(text, 1)
    return int(text)


def _seconds(given: dict[str, str], letter: str, default: float) -> int:
    try:
        value = float(given.get(letter, default))
    except ValueError:
        raise UsageError(f"ping: bad timing interval: {given[letter]}") from None
    if not 0 <= value < 1e6:
        raise UsageError(f"ping: bad timing interval: {given[letter]}")
    return int(value * _SECOND)


class HostPing:
    """One run. ``emit`` puts a frame on the gateway's wire, ``say`` writes text to the caller."""

    def __init__(
        self,
        options: Options,
        ident: int,
        gateway: Gateway,
        host_names: dict[str, str],
        now_ns: int,
        emit: Callable[[bytes], None],
        say: Callable[[str], None],
    ) -> None:
        self.options = options
        self._ident = ident.to_bytes(2, "big")
        self._gateway = gateway
        self._names = {} if options.numeric else names(host_names)
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
        host, size = options.host, options.size
        say(f"PING {host} ({IPv4Address(options.target)}) {size}({size + 28}) bytes of data.\n")

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
            self._say(f"From {self._pr_addr(source)} icmp_seq={number} {text}\n")
        self._enough()

    # -- the end

    def finish(self) -> None:
        """Statistics, and the exit code."""
        if self.exit_code is not None:
            return
        elapsed_us = (self._last - self._began) // 1000
        self._say(self.stats.closing(self.options.host, elapsed_us, timed=True, flood=False))
        self.exit_code = 0 if self.stats.received else 1
