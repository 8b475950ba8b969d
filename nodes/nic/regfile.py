"""Storage behind the register table, and the place where behaviour is attached to it.

A write first follows the access rule of its row; a unit of the device may then be told (``after``)
or take the write over entirely (``write``); a read may be computed (``read``). Where a read has a
side effect, ``peek`` gives the value without it: whoever looks must not disturb. Values that equal
the reset value need no storage, so a reset is a ``clear``.
"""

from __future__ import annotations

from collections.abc import Callable

from nodes.nic.registers import BY_NAME, DECODE, KEYS

Read = Callable[[int], int]  # (index) -> value
Write = Callable[[int, int], None]  # (index, value as written)


class RegisterFile:
    """BAR0's registers of one port. Offsets must be multiples of 4. ``chip`` is the storage of the
    registers that no reset of a port touches: the ports of one chip share it."""

    def __init__(self, chip: dict[int, int] | None = None) -> None:
        self._values: dict[int, int] = {}
        self._chip: dict[int, int] = {} if chip is None else chip
        self._read: dict[str, Read] = {}
        self._peek: dict[str, Read] = {}
        self._write: dict[str, Write] = {}
        self._after: dict[str, list[Write]] = {}

    def attach(
        self,
        name: str,
        read: Read | None = None,
        write: Write | None = None,
        after: Write | None = None,
        peek: Read | None = None,
    ) -> None:
        """Attach behaviour to a row; KeyError if the table has none of this name. ``peek`` is
        needed with a ``read`` that changes something.

        Several units may want to be told of a write, but one alone computes or takes it."""
        register = BY_NAME[name]
        if read is not None:
            if name in self._read:
                raise ValueError(f"reads of {name} are computed already")
            self._read[register.name] = read
            self._peek[register.name] = peek or read
        if write is not None:
            if name in self._write:
                raise ValueError(f"writes of {name} are taken already")
            self._write[register.name] = write
        if after is not None:
            self._after.setdefault(register.name, []).append(after)

    def read(self, offset: int) -> int:
        """A 32-bit read with its side effects."""
        slot = DECODE.get(offset)
        if slot is None:
            return self._values.get(offset, 0)
        register, index, key = slot
        hook = self._read.get(register.name)
        if hook is not None:
            return hook(index)
        values = self._chip if register.survives else self._values
        value = values.get(key, register.reset)
        if register.access == "RC":
            values[key] = 0
        elif register.access == "RS":
            values[key] = value | 1
        elif register.access == "WO":
            return 0
        return value

    def write(self, offset: int, value: int) -> None:
        """A 32-bit write with its side effects."""
        slot = DECODE.get(offset)
        if slot is None:
            self._values[offset] = value
            return
        register, index, key = slot
        hook = self._write.get(register.name)
        if hook is not None:
            hook(index, value & register.mask)
            return
        access, mask = register.access, register.mask
        if access not in ("RO", "RC"):
            values = self._chip if register.survives else self._values
            old = values.get(key, register.reset)
            if access == "W1C":
                values[key] = old & ~(value & mask)
            elif access == "W1S":
                values[key] = old | (value & mask)
            else:
                values[key] = (old & ~mask | value & mask) & ~register.self_clearing
        for after in self._after.get(register.name, ()):
            after(index, value)

    def peek(self, offset: int) -> int:
        """What a read would give, without its side effects; of a WO register what it holds."""
        slot = DECODE.get(offset)
        if slot is None:
            return self._values.get(offset, 0)
        name, index = slot.register.name, slot.element
        hook = self._peek.get(name)
        return hook(index) if hook is not None else self.get(name, index)

    def get(self, name: str, index: int = 0) -> int:
        """Stored value, without side effects."""
        register = BY_NAME[name]
        values = self._chip if register.survives else self._values
        return values.get(KEYS[name][index], register.reset)

    def put(self, name: str, index: int, value: int) -> None:
        """Store as hardware does: no rule, no side effect."""
        values = self._chip if BY_NAME[name].survives else self._values
        values[KEYS[name][index]] = value

    def clear(self) -> None:
        """All registers to their reset values, but for those that survive a reset of the port."""
        self._values.clear()

    def power_on(self) -> None:
        """All registers to their reset values."""
        self._values.clear()
        self._chip.clear()

    def differing(self) -> dict[int, int]:
        """Every value that is not its reset value, by address, for a snapshot; no side effect."""
        found = {}
        for key, value in (self._values | self._chip).items():
            slot = DECODE.get(key)
            if value != (slot.register.reset if slot is not None else 0):
                found[key] = value
        for name, hook in self._peek.items():
            reset = BY_NAME[name].reset
            for index, key in enumerate(KEYS[name]):
                found[key] = hook(index)
                if found[key] == reset:
                    del found[key]
        return found
