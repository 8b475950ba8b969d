"""What ping prints: reply lines, errors and the closing statistics, as iputils 20221126 does."""

from __future__ import annotations


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
            text += f", {loss:g}% packet loss, time {elapsed_us // 1000}ms"
        text += "\n"
        parts = []
        count = self.received + self.duplicates
        if count and timed and self.minimum is not None:
            average = self.total // count
            spread = llsqrt((self.squares - self.total * self.total // count) // count)
            numbers = "/".join(
                milliseconds(us) for us in (self.minimum, average, self.maximum, spread)
            )
            parts.append(f"rtt min/avg/max/mdev = {numbers} ms")
        if self.pipe > 1:
            parts.append(f"pipe {self.pipe}")
        if flood and self.transmitted > 1 and count:
            gap = elapsed_us // (self.transmitted - 1)
            parts.append(f"ipg/ewma {milliseconds(gap)}/{milliseconds(self.smoothed // 8)} ms")
        return text + ", ".join(parts) + "\n"
