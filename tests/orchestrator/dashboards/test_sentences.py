"""Line 2 of each screen: every row of every table is reached by a machine in that situation."""

from __future__ import annotations

import pytest
import situations_cpu  # noqa: F401  (importing them fills CASES)
import situations_devices  # noqa: F401
import situations_pools  # noqa: F401
from situations import CASES, bench_with

from orchestrator.dashboards.apicsentences import APIC
from orchestrator.dashboards.cpusentences import CPU
from orchestrator.dashboards.lansentences import LAN
from orchestrator.dashboards.nicsentences import NIC
from orchestrator.dashboards.overviewsentences import OVERVIEW
from orchestrator.dashboards.poolsentences import POOLS
from orchestrator.dashboards.sentences import sentence

NODE = {
    "OVERVIEW": "cpu0", "CPU": "cpu1", "NIC": "eth0", "APIC": "apic", "LAN": "lan", "POOLS": "cpu1",
}  # fmt: skip
TABLES = {"OVERVIEW": OVERVIEW, "CPU": CPU, "NIC": NIC, "APIC": APIC, "LAN": LAN, "POOLS": POOLS}


@pytest.mark.parametrize(
    ("table", "text", "situation"), CASES, ids=[f"{c[0]}-{c[2].__name__}" for c in CASES]
)
def test_the_first_row_that_applies_is_the_sentence(table, text, situation):
    bench = bench_with(situation)
    assert sentence(TABLES[table], bench.view, bench.view[NODE[table]]) == text
    assert len(text) < 79


@pytest.mark.parametrize("table", TABLES)
def test_every_row_of_the_table_has_its_situation(table):
    reached = []
    for name, _, situation in CASES:
        if name == table:
            bench = bench_with(situation)
            node = bench.view[NODE[table]]
            reached.append(next(r for r in TABLES[table] if r.words(bench.view, node) is not None))
    assert [row.text for row in TABLES[table] if row not in reached] == []
