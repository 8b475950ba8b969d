"""An I2C bus with memory chips on it, as bits: what a driver bangs through two pins.

Source: the I2C bus specification, as SFF-8472 uses it for the chips of a module. Rules:

* a line is low if anybody pulls it low; data may change only while the clock is low;
* START: data falls while the clock is high; STOP: it rises; both end whatever was going on;
* a byte is eight bits, highest first, each taken when the clock rises; the receiver pulls data low
  in the ninth clock (ACK);
* after START comes the chip's address with bit 0 = 1 for reading. Written: the first byte sets the
  chip's pointer, further ones are stored where the chip allows it. Read: bytes from the pointer on,
  until the reader leaves out its ACK. An address that no chip has gets no ACK.

Left out: clock stretching, ten-bit addresses, a second master.
"""

from __future__ import annotations

from collections.abc import Mapping

CHIP_BYTES = 256

_IDLE, _ADDRESS, _POINTER, _STORE, _SEND = range(5)


class Chip:
    """256 bytes behind one address; ``writable`` chips take stores."""

    def __init__(self, image: bytes, writable: bool = False) -> None:
        self.image = bytearray(image.ljust(CHIP_BYTES, b"\0"))
        self.writable = writable
        self.pointer = 0

    def fetch(self) -> int:
        value = self.image[self.pointer]
        self.pointer = (self.pointer + 1) % CHIP_BYTES
        return value

    def store(self, value: int) -> bool:
        """True if the byte was taken."""
        if self.writable:
            self.image[self.pointer] = value
            self.pointer = (self.pointer + 1) % CHIP_BYTES
        return self.writable


class I2cBus:
    """The chips' side. ``drive`` tells what the host does; ``data`` is the line as all see it."""

    def __init__(self, chips: Mapping[int, Chip]) -> None:
        self._chips = chips
        self._clock = True  # as the host drives them
        self._host = True
        self.reset()

    def reset(self) -> None:
        """Nobody speaks, nobody pulls."""
        self._pull = False  # a chip holds data low
        self._state = _IDLE
        self._chip = Chip(b"")
        self._bits = 0  # of the byte under way, 9 with its ACK
        self._byte = 0

    @property
    def data(self) -> bool:
        """Level of the data line."""
        return self._host and not self._pull

    def drive(self, clock: bool, data: bool) -> None:
        """The host's levels from now on; of two changes at once the clock's comes first."""
        before = self.data
        if clock != self._clock:
            self._clock = clock
            self._host = data
            if clock:
                self._rise()
            else:
                self._fall()
            return
        self._host = data
        if clock and self.data != before:
            self._pull = False
            self._state = _IDLE if data else _ADDRESS  # STOP or START
            self._bits = self._byte = 0

    def _rise(self) -> None:
        """The ninth bit of a byte that a chip sends is the host's ACK."""
        if self._state == _IDLE:
            return
        self._bits += 1
        if self._state == _SEND:
            if self._bits == 9 and self.data:
                self._state = _IDLE  # the host has enough
        elif self._bits <= 8:
            self._byte = self._byte << 1 & 0xFF | self.data

    def _fall(self) -> None:
        """The chip's turn to change data."""
        if self._state == _IDLE:
            self._pull = False
        elif self._bits == 9:
            self._bits = 0
            self._pull = False
            self._next()
        elif self._state == _SEND:
            self._pull = self._bits < 8 and not self._byte >> 7 - self._bits & 1
        elif self._bits == 8:
            self._pull = self._take(self._byte)

    def _take(self, byte: int) -> bool:
        """A whole byte from the host; True is ACK."""
        if self._state == _ADDRESS:
            chip = self._chips.get(byte & 0xFE)
            if chip is None:
                self._state = _IDLE
                return False
            self._chip = chip
            return True
        if self._state == _POINTER:
            self._chip.pointer = byte
            return True
        return self._chip.store(byte)

    def _next(self) -> None:
        """The ACK is over: what the next byte means."""
        if self._state == _ADDRESS:
            self._state = _SEND if self._byte & 1 else _POINTER
        elif self._state == _POINTER:
            self._state = _STORE
        if self._state == _SEND:
            self._byte = self._chip.fetch()
            self._pull = not self._byte >> 7
