"""The flight recorder: a mask, a ring, and an account of what was overwritten."""

from __future__ import annotations

import pytest

from bus.ram import RECORDS, Layout, Ram
from bus.recorder import ALL_EVENTS, Record, Recorder, Tracepoint, always_mask, table


@pytest.fixture
def recorder() -> Recorder:
    ram = Ram.anonymous(Layout(("cpu0",), 1, 0, 4096))
    return Recorder(ram.recorder_words("cpu0"))


def test_only_events_in_the_mask_are_recorded(recorder: Recorder) -> None:
    recorder.mask = 1 << 3
    recorder.record(1, 3, 9, 10, 11)
    recorder.record(2, 4)
    assert recorder.read()[0] == [Record(1, 3, 9, 10, 11)]


def test_the_highest_event_and_the_widest_context_come_back(recorder: Recorder) -> None:
    recorder.mask = ALL_EVENTS
    recorder.record(2**63, 127, 2**32 - 1, 2**64 - 1, 2**64 - 1)
    assert recorder.read()[0] == [Record(2**63, 127, 2**32 - 1, 2**64 - 1, 2**64 - 1)]


def test_the_mask_has_room_for_128_events(recorder: Recorder) -> None:
    for event in (63, 64):
        recorder.mask = 1 << event
        assert recorder.mask == 1 << event
        recorder.record(1, event ^ 127)
        recorder.record(2, event)
    assert [record.event for record in recorder.read()[0]] == [63, 64]
    recorder.mask &= ~(1 << 64)
    assert recorder.mask == 0


def test_a_reader_goes_on_where_it_stopped(recorder: Recorder) -> None:
    recorder.mask = ALL_EVENTS
    recorder.record(1, 1)
    first, following, lost = recorder.read()
    assert ([r.time_ns for r in first], following, lost) == ([1], 1, 0)
    recorder.record(2, 1)
    second, following, lost = recorder.read(following)
    assert ([r.time_ns for r in second], following, lost) == ([2], 2, 0)
    assert recorder.read(following) == ([], 2, 0)


def test_what_was_overwritten_unread_is_counted(recorder: Recorder) -> None:
    recorder.mask = ALL_EVENTS
    for n in range(RECORDS + 100):
        recorder.record(n, 0)
    records, following, lost = recorder.read(50)
    assert lost + len(records) == RECORDS + 100 - 50
    assert [r.time_ns for r in records] == list(range(50 + lost, following))


def test_a_table_refuses_two_events_with_one_number() -> None:
    points = table(Tracepoint(0, "a", "", always=True), Tracepoint(5, "b", "", always=True),
                   Tracepoint(6, "c", ""))  # fmt: skip
    assert always_mask(points) == 0b100001
    with pytest.raises(AssertionError):
        table(Tracepoint(1, "a", ""), Tracepoint(1, "b", ""))
