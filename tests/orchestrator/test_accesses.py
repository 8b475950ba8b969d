"""Register accesses in groups: whose, in which order, what was waited for behind them."""

from __future__ import annotations

import pytest

from bus.recorder import Record
from nodes.cpu.kernel.params import PRESETS
from nodes.cpu.trace import TRACEPOINTS
from nodes.nic.registers import TABLE, address_of
from orchestrator.scenarios import expect
from orchestrator.views import accesses


def record(time_ns: int, kind: str, nic: int, register: str) -> tuple[str, Record]:
    offset = address_of(register)
    b = offset << 32 | 7 if kind == "mmio_write" else offset
    return "cpu0", Record(time_ns, TRACEPOINTS[kind].number, 0, nic, b)


RECORDS = [
    record(1000, "mmio_read", 0, "EEC"),
    record(1500, "mmio_read", 1, "RDT[1]"),
    record(2000, "mmio_write", 0, "CTRL"),
    record(52_000, "mmio_read", 0, "I2CCTL"),
    record(53_000, "mmio_read", 0, "CTRL"),
    record(54_000, "mmio_write", 0, "I2CCTL"),
]


def test_groups_stand_in_the_order_of_the_first_touch_with_the_time_up_to_the_next_access() -> None:
    rows = accesses.table(accesses.of(RECORDS, nic=0))
    assert rows == [
        ("general", ("EEC",), 1, 0, 1000),
        ("reset", ("CTRL",), 1, 1, 51_000),
        ("I2C", ("I2CCTL",), 1, 1, 1000),
    ]
    assert [row.group for row in accesses.table(accesses.of(RECORDS, nic=1))] == ["receive"]
    assert len(accesses.of(RECORDS)) == len(RECORDS)
    assert accesses.table([]) == []


def test_the_picture_names_what_came_first() -> None:
    lines = accesses.draw("eth0", "step 1", accesses.of(RECORDS, nic=0))
    assert lines[0] == "registers of eth0 in step 1: 3 reads, 2 writes in 0.05 ms"
    assert lines[-1] == "  first touched: EEC CTRL I2CCTL"


def test_every_register_of_the_table_has_a_group() -> None:
    ungrouped = {
        row.name for row in TABLE if accesses.group_of(row.runs[0].offset) == accesses.OTHER
    }
    assert not {"CTRL", "EICR", "RDT", "TDT", "LINKS"} & ungrouped
    assert accesses.group_of(0x1FFFC) == accesses.OTHER


def test_what_can_be_no_group_is_refused_with_the_nearest() -> None:
    where = {"params": PRESETS["6.1"], "cpus": ("cpu0",), "ping": False, "steps": 1}
    for fine in ("reads(eth1)", "writes(I2C)", "spent(reset,eth0)", "first(eth0)"):
        expect.check(fine, **where)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no registers `EPROM`; did you mean `EEPROM`"):
        expect.check("reads(EPROM,eth1)", **where)  # type: ignore[arg-type]
