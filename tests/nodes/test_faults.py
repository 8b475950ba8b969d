"""The faults of one device as rows of a page: adding, ending, hitting; any message is survived."""

from __future__ import annotations

import random

import msgpack
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.faults import COUNT_MAX, HARD, HITS, KINDS, NIC, ROW_WORDS, ROWS, UNTIL_RESET, VALUE
from bus.messages import Fault
from nodes.faults import NEVER_NS, Faults
from tests.nodes.nic.rig import MS, Rig, frame

LOSE, HANG = KINDS["lose-msi"].number, KINDS["hang"].number
#: Any value that the wire lets pass.
WORD = st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 40), st.just(1 << 32))


class Part:
    """Rows without a device."""

    def __init__(self, seed: int = 0) -> None:
        self.words = memoryview(bytearray(8 * ROWS * ROW_WORDS)).cast("Q")
        self.changes: list[tuple[int, bool]] = []
        self.faults = Faults(
            self.words, 0, NIC, random.Random(seed), lambda *what: self.changes.append(what)
        )

    def say(self, kind: str, value: int, now: int = 0, for_ns: int = 0, on: int = 1):
        reply = self.faults.take(Fault(1, kind, value, for_ns, on), now)
        return reply.ok, msgpack.unpackb(reply.value)


def test_a_count_is_used_up_and_then_over() -> None:
    part = Part()
    assert part.say("lose-msi", 2) == (1, 0)
    assert [part.faults.hits(LOSE) for _ in range(4)] == [True, True, False, False]
    assert part.faults.on == 0
    assert part.changes == [(LOSE, True), (LOSE, False)]


def test_counts_are_summed_and_stay_counts() -> None:
    part = Part()
    for _ in range(3):
        part.say("lose-msi", COUNT_MAX)
    assert part.words[VALUE] == COUNT_MAX


def test_a_device_wakes_for_the_end_of_a_fault_if_that_comes_sooner() -> None:
    part = Part()
    assert [part.faults.sooner(wanted) for wanted in (None, 7)] == [None, 7]
    part.say("hang", 1, now=100, for_ns=400)
    assert [part.faults.sooner(wanted) for wanted in (None, 7, 900)] == [500, 7, 500]


def test_a_share_hits_about_so_many_and_the_same_for_the_same_seed() -> None:
    def run(seed: int) -> list[bool]:
        part = Part(seed)
        part.say("lose-msi", 1 << 32 | 10)
        return [part.faults.hits(LOSE) for _ in range(1000)]

    assert run(1) == run(1) != run(2)
    assert 60 < sum(run(1)) < 140


def test_a_message_uses_up_one_count_and_a_share_beside_it_stays() -> None:
    part = Part()
    part.say("lose-msi", 1 << 32 | 1)
    part.say("lose-msi", 3)
    assert part.faults.hits(LOSE)
    assert part.words[HITS] == 1
    assert part.words[ROW_WORDS + VALUE] == 3


def test_a_time_ends_a_row_and_the_later_end_counts() -> None:
    part = Part()
    part.say("hang", 1, now=100, for_ns=50)
    part.say("hang", 1, now=110, for_ns=20)
    assert part.faults.until_ns == 150
    part.faults.expire(149)
    assert part.faults.on
    part.faults.expire(150)
    assert not part.faults.on
    assert part.faults.until_ns == NEVER_NS
    part.say("hang", 1, now=200, for_ns=50)
    part.say("hang", 1, now=210)  # now without an end
    assert part.faults.until_ns == NEVER_NS


def test_unknown_kinds_and_those_of_other_devices_are_refused_by_name() -> None:
    part = Part()
    ok, why = part.say("explode", 1)
    assert (ok, why) == (0, "no fault explode here; there are: lose-msi dup-msi no-dma hang")
    assert part.say("hang", 0)[0] == 0


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "junk", *KINDS]), WORD, WORD, st.integers(0, 1), st.booleans()
        ),
        max_size=30,
    )
)
def test_any_message_leaves_rows_that_a_page_can_hold(messages) -> None:
    part = Part()
    now = 0
    for kind, value, for_ns, on, hit in messages:
        now += 7
        part.faults.expire(now)
        part.say(kind, value, now, for_ns, on)
        if hit:
            part.faults.hits(LOSE)
        assert part.faults.on < 1 << len(KINDS)
    part.say("", 0, now, on=0)
    assert part.faults.on == 0


def test_only_the_orchestrator_breaks_a_nic() -> None:
    rig = Rig()
    before = rig.page["unexpected"]
    assert rig.give(("cpu0", Fault(1, "hang", 2, 0, 1))) == []
    assert rig.page["unexpected"] == before + 1
    assert rig.page.run("faults")[0] == 0
    rig.give(("ctl", Fault(2, "hang", 2, 0, 1)))
    assert rig.page.run("faults")[0] == HANG + 1


def hung_rig() -> tuple[Rig, int]:
    """One frame sent, its write-back held (WTHRESH 4), then a hard hang."""
    rig = Rig()
    rig.up(itr=0xC8)
    ring = rig.tx_queue(0, 512, 0x02000000 | 4 << 16)
    buffer = rig.map(64 * 4096)
    for index in range(2):
        rig.put_tx(ring, index, buffer + index * 4096, frame())
    assert len(rig.frames(rig.write("TDT", 1))) == 1
    rig.give(("ctl", Fault(1, "hang", HARD, 0, 1)))
    return rig, ring


def test_write_backs_that_were_held_wait_until_the_hang_is_over() -> None:
    rig, ring = hung_rig()
    assert rig.vectors(rig.advance(10 * MS)) == []
    assert not rig.done(ring, 0)
    rig.give(("ctl", Fault(2, "", 0, 0, 0)))
    assert rig.vectors(rig.advance(10 * MS)) == [0]
    assert rig.done(ring, 0)


def test_a_hung_datapath_takes_doorbells_and_software_causes() -> None:
    rig, ring = hung_rig()
    assert rig.frames(rig.write("TDT", 2)) == []
    assert (rig.read("TDH"), rig.read("TDT")) == (1, 2)
    assert rig.vectors(rig.write("EICS_EX", 2)) == [1]
    rig.give(("ctl", Fault(2, "hang", 0, 0, 0)))
    assert rig.read("TDH") == 2
    rig.advance(10 * MS)
    assert rig.done(ring, 1)


def test_without_dma_no_message_leaves_and_the_cause_stays() -> None:
    rig, _ = hung_rig()
    rig.give(("ctl", Fault(2, "no-dma", 1, 0, 1)))
    assert rig.vectors(rig.write("EICS_EX", 2)) == []
    rig.give(("ctl", Fault(3, "hang", 0, 0, 0)))
    assert rig.read("TDH") == 1  # each by itself holds it
    said = rig.give(("ctl", Fault(4, "no-dma", 0, 0, 0)))
    assert 1 in rig.vectors(said)


def test_a_fault_with_a_time_wakes_the_device_to_end_it() -> None:
    rig, _ = hung_rig()
    rig.give(("ctl", Fault(2, "", 0, 0, 0)))
    rig.advance(10 * MS)
    rig.give(("ctl", Fault(3, "hang", HARD, 7 * MS, 1)))
    assert rig.wake == rig.clock.ns + 7 * MS
    rig.advance(7 * MS)
    assert rig.page.run("faults")[0] == 0


def test_what_waited_in_a_hung_port_is_dropped_by_the_reset_that_mends_it() -> None:
    rig, _ = hung_rig()
    rig.give(("ctl", Fault(2, "", 0, 0, 0)))
    ring, _ = rig.rx_queue(0)
    rig.give(("ctl", Fault(3, "hang", UNTIL_RESET, 0, 1)))
    rig.wire(frame(), frame())
    assert sum(rig.page.run("rx_buffered")) == 2
    rig.write("CTRL", 1 << 26)
    assert rig.page.run("faults")[0] == 0
    assert sum(rig.page.run("rx_drop_reset")) == 2
    assert not rig.dwords(ring, 0)[2] & 1
