"""What ping prints: addresses, round trips, errors and the closing statistics, as iputils 20221126
does. The machine's ping speaks so, and the one of the host behind the switch."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address

from nodes.iputils import INT_MAX


def dotted(address: bytes) -> str:
    return ".".join(str(octet) for octet in address)


def names(hosts: dict[str, str]) -> dict[bytes, str]:
    """``name (address)`` by address, from addresses by name: what pr_addr looks up. What is first
    in the file wins."""
    return {IPv4Address(a).packed: f"{name} ({a})" for name, a in reversed(hosts.items())}


def header(host: str, address: bytes, size: int, via: str = "") -> str:
    """What stands above the replies; ``via``: where it leaves, if that was asked for."""
    return f"PING {host} ({dotted(address)}){via} {size}({size + 28}) bytes of data.\n"


def error_line(source: str, sequence: int, text: str) -> str:
    """An ICMP error about a request, from ``source``."""
    return f"From {source} icmp_seq={sequence & 0xFFFF} {text}\n"


def round_trip(us: int) -> str:
    """A time in ms with iputils' number of decimals."""
    if us >= 100_000 - 50:
        return f"{(us + 500) // 1000}"
    if us >= 10_000 - 5:
        return f"{(us + 50) // 1000}.{(us + 50) % 1000 // 100}"
    if us >= 1000:
        return f"{(us + 5) // 1000}.{(us + 5) % 1000 // 10:02d}"
    return f"{us // 1000}.{us % 1000:03d}"


def milliseconds(us: int) -> str:
    """Three decimals, as in the rtt line."""
    return f"{us // 1000}.{us % 1000:03d}"


def llsqrt(number: int) -> int:
    """Newton's square root as ping stops it: at the first value that is not smaller, which is one
    too many just below a perfect square. What is not positive comes back as it is."""
    previous, root = number + 1, number
    while 0 < root < previous:
        previous, root = root, (root + number // root) // 2
    return root


class Statistics:
    """Counters of one run; times in us."""

    def __init__(self) -> None:
        self.transmitted = 0
        self.received = 0
        self.duplicates = 0
        self.corrupted = 0
        self.errors = 0
        self.pipe = 0
        self.minimum: int | None = None
        self.maximum = 0
        self.total = 0
        self.squares = 0
        self.smoothed = 0  # eight times the moving average

    def add(self, us: int) -> None:
        """One round trip."""
        self.minimum = us if self.minimum is None else min(self.minimum, us)
        self.maximum = max(self.maximum, us)
        self.total += us
        self.squares += us * us
        self.smoothed = us * 8 if not self.smoothed else self.smoothed + us - self.smoothed // 8

    def outstanding(self, sequence: int) -> None:
        """pipe: how many were under way when this one was settled."""
        self.pipe = max(self.pipe, self.transmitted - sequence + 1)

    def closing(self, host: str, elapsed_us: int, *, timed: bool, flood: bool) -> str:
        """The lines after the blank one."""
        text = f"\n--- {host} ping statistics ---\n"
        text += f"{self.transmitted} packets transmitted, {self.received} received"
        if self.duplicates:
            text += f", +{self.duplicates} duplicates"
        if self.corrupted:
            text += f", +{self.corrupted} corrupted"
        if self.errors:
            text += f", +{self.errors} errors"
        if self.transmitted:
            loss = (self.transmitted - self.received) * 100 / self.transmitted
            text += f", {loss:g}% packet loss, time {(elapsed_us + 500) // 1000}ms"
        text += "\n"
        parts = []
        count = self.received + self.duplicates
        if self.received and timed and self.minimum is not None:
            average = self.total // count
            if self.total < INT_MAX:
                spread = llsqrt((self.squares - self.total * self.total // count) // count)
            else:
                spread = llsqrt(self.squares // count - average * average)
            numbers = "/".join(
                milliseconds(us) for us in (self.minimum, average, self.maximum, spread)
            )
            parts.append(f"rtt min/avg/max/mdev = {numbers} ms")
        if self.pipe > 1:
            parts.append(f"pipe {self.pipe}")
        if flood and self.transmitted > 1 and self.received:
            gap = elapsed_us // (self.transmitted - 1)
            parts.append(f"ipg/ewma {milliseconds(gap)}/{milliseconds(self.smoothed // 8)} ms")
        return text + ", ".join(parts) + "\n"

    def status(self, *, timed: bool) -> str:
        """The line for SIGQUIT."""
        loss = (self.transmitted - self.received) * 100 // max(self.transmitted, 1)
        text = f"\r{self.received}/{self.transmitted} packets, {loss}% loss"
        if self.received and timed and self.minimum is not None:
            average = self.total // (self.received + self.duplicates)
            numbers = (self.minimum, average, self.smoothed // 8, self.maximum)
            text += ", min/avg/ewma/max = " + "/".join(milliseconds(us) for us in numbers) + " ms"
        return text + "\n"


_UNREACHABLE = (
    "Destination Net Unreachable", "Destination Host Unreachable",
    "Destination Protocol Unreachable", "Destination Port Unreachable",
    "Frag needed and DF set (mtu = {info})", "Source Route Failed", "Destination Net Unknown",
    "Destination Host Unknown", "Source Host Isolated", "Destination Net Prohibited",
    "Destination Host Prohibited", "Destination Net Unreachable for Type of Service",
    "Destination Host Unreachable for Type of Service", "Packet filtered", "Precedence Violation",
    "Precedence Cutoff",
)  # fmt: skip
_REDIRECTS = (
    "Redirect Network", "Redirect Host", "Redirect Type of Service and Network",
    "Redirect Type of Service and Host",
)  # fmt: skip
_EXCEEDED = ("Time to live exceeded", "Frag reassembly time exceeded")


def icmp_text(kind: int, code: int, info: int = 0, pr_addr: Callable[[bytes], str] = dotted) -> str:
    """pr_icmph: what an ICMP message says. ``info``: the mtu, or for a redirect the gateway."""
    if kind == 3:
        if code < len(_UNREACHABLE):
            return _UNREACHABLE[code].format(info=info)
        return f"Dest Unreachable, Bad Code: {code}"
    if kind == 4:
        return "Source Quench"
    if kind == 5:
        text = _REDIRECTS[code] if code < len(_REDIRECTS) else f"Redirect, Bad Code: {code}"
        return f"{text}(New nexthop: {pr_addr(info.to_bytes(4, 'big'))})"
    if kind == 11:
        return _EXCEEDED[code] if code < len(_EXCEEDED) else f"Time exceeded, Bad Code: {code}"
    if kind == 12:
        return f"Parameter problem: pointer = {info >> 24}"
    return f"Bad ICMP type: {kind}"


def wrong_data(data: bytes, expected: bytes, first: int) -> str:
    """The first byte that is not as it was sent, and all of them; \"\" if there is none.
    ``first``: bytes before it carry the time."""
    for number in range(first, len(expected)):
        if data[number] != expected[number]:
            text = (
                f"\nwrong data byte #{number} should be 0x{expected[number]:x} "
                f"but was 0x{data[number]:x}"
            )
            for at in range(first, len(expected)):
                text += f"\n#{at}\t" if at % 32 == first else ""
                text += f"{data[at]:x} "
            return text
    return ""
