"""The kernel log of a CPU: a ring of lines that outlives it, as pstore does on real machines."""

from __future__ import annotations

from bus.ram.layout import LOG_LINE_BYTES, LOG_LINES


class LogRing:
    """Kernel log of one CPU: the last 512 lines with their times; readable after its death."""

    def __init__(self, words: memoryview, data: memoryview) -> None:
        self._words = words
        self._data = data

    def append(self, time_ns: int, level: int, text: str) -> None:
        count: int = self._words[0]
        at = count % LOG_LINES * LOG_LINE_BYTES
        body = text.encode()[: LOG_LINE_BYTES - 24]
        self._data[at : at + 24] = (
            time_ns.to_bytes(8, "little")
            + level.to_bytes(8, "little")
            + len(body).to_bytes(8, "little")
        )
        self._data[at + 24 : at + 24 + len(body)] = body
        self._words[0] = count + 1

    @property
    def count(self) -> int:
        """Lines ever written."""
        value: int = self._words[0]
        return value

    def lines(self, since: int = 0) -> list[tuple[int, int, str]]:
        """(time_ns, level, text) of the lines from number ``since`` on that are still there."""
        count = self.count
        out = []
        for number in range(max(since, count - LOG_LINES + 1), count):
            at = number % LOG_LINES * LOG_LINE_BYTES
            head = bytes(self._data[at : at + 24])
            length = min(int.from_bytes(head[16:24], "little"), LOG_LINE_BYTES - 24)
            text = bytes(self._data[at + 24 : at + 24 + length]).decode("utf-8", "replace")
            if self.count - number >= LOG_LINES:
                continue  # its slot is being written again
            out.append(
                (int.from_bytes(head[0:8], "little"), int.from_bytes(head[8:16], "little"), text)
            )
        return out
