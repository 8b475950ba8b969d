"""From single pings to phases: sent, lost, the gap in ms and the kernel line that ended it."""

from __future__ import annotations

from orchestrator.machines.kernellog import LogLine
from orchestrator.scenarios.phases import PingTimes, compute, ping_totals

MS = 1_000_000
BOOT = 5_000 * MS


def times(count: int, lost: set[int], trip_us: int = 400) -> PingTimes:
    """A request each 10 ms from the machine's boot on."""
    sent = tuple(BOOT + n * 10 * MS for n in range(count))
    received = {n: sent[n - 1] + trip_us * 1000 for n in range(1, count + 1) if n not in lost}
    return PingTimes(sent, received)


def line(ms: float, text: str) -> LogLine:
    return LogLine(int(ms * MS), 6, text)


SWITCH = "bond0: (slave eth1): making interface the new active one"


def test_without_loss_there_is_no_gap_and_no_cause():
    (phase,) = compute([("ping", BOOT)], times(10, set()), [line(50, "something")], BOOT)
    assert (phase.sent, phase.received, phase.lost, phase.gap_ms, phase.cause) == (10, 10, 0, 0, "")


def test_gap_is_from_the_last_reply_before_to_the_first_after():
    # 6 lost: replies at 30.4 and 100.4 ms, as in the capture of a real failover
    phases = compute(
        [("ping", BOOT), ("cable eth0 out", BOOT + 35 * MS)],
        times(20, {5, 6, 7, 8, 9, 10}),
        [line(36, "ixgbe eth0: NIC Link is Down"), line(99, SWITCH), line(150, "later")],
        BOOT,
    )
    assert phases[1].gap_ms == 70.0
    assert phases[1].lost == 6
    assert phases[1].cause == f"[    0.099000] {SWITCH}"
    assert phases[0].gap_ms == 0.0


def test_without_the_switch_the_last_line_before_the_reply_is_the_cause():
    (phase,) = compute(
        [("ping", BOOT)], times(10, {4, 5}), [line(40, "one"), line(49, "two"), line(70, "x")], BOOT
    )
    assert phase.cause == "[    0.049000] two"


def test_longest_run_decides_the_gap():
    (phase,) = compute([("ping", BOOT)], times(30, {3, 10, 11, 12}), [], BOOT)
    assert phase.gap_ms == 40.0
    assert phase.lost == 4


def test_request_on_its_way_when_a_step_begins_is_that_steps_loss():
    # request 3 leaves at 20.0 ms, its reply is due at 20.4, the step begins at 20.2
    phases = compute(
        [("ping", BOOT), ("kill eth0", BOOT + 20_200_000)], times(10, {3, 4}), [], BOOT
    )
    assert [phase.lost for phase in phases] == [0, 2]
    assert [phase.sent for phase in phases] == [2, 8]
    assert phases[1].gap_ms == 30.0


def test_request_lost_before_the_step_stays_in_its_phase():
    phases = compute([("ping", BOOT), ("kill eth0", BOOT + 25 * MS)], times(10, {2}), [], BOOT)
    assert [phase.lost for phase in phases] == [1, 0]


def test_what_a_later_step_makes_slow_does_not_take_a_loss_along():
    # As a real kernel did it: its gap ends 870 ms before the next step, whose replies take 900 ms.
    measured = times(400, {98, 99, 100, 101, 113})
    for number in range(201, 401):
        measured.received[number] += 900 * MS  # type: ignore[index]
    phases = compute(
        [("ping", BOOT), ("kill", BOOT + 965 * MS), ("restart", BOOT + 2000 * MS)],
        measured,
        [],
        BOOT,
    )
    assert [phase.lost for phase in phases] == [0, 5, 0]
    assert [phase.gap_ms for phase in phases] == [0.0, 50.0, 0.0]


def test_a_gap_that_never_ends_has_no_length():
    (phase,) = compute([("ping", BOOT)], times(10, {8, 9, 10}), [line(90, "x")], BOOT)
    assert phase.gap_ms is None
    assert phase.cause == ""
    assert phase.measure("gap") is None


def test_every_request_is_in_exactly_one_phase():
    measured = times(100, {20, 21, 22, 50, 99})
    phases = compute(
        [("a", BOOT), ("b", BOOT + 213 * MS), ("c", BOOT + 500 * MS)], measured, [], BOOT
    )
    totals = ping_totals(measured)
    assert sum(p.sent for p in phases) == totals["sent"] == 100
    assert sum(p.received for p in phases) == totals["received"] == 95
    assert sum(p.lost for p in phases) == totals["lost"] == 5


def test_start_of_phases_counts_from_the_ping():
    phases = compute([("a", BOOT), ("b", BOOT + 2000 * MS)], times(5, set()), [], BOOT)
    assert [phase.start_ms for phase in phases] == [0.0, 2000.0]


def test_requests_after_the_end_are_nobodys_losses() -> None:
    times = PingTimes((10, 20, 30), {1: 12, 2: 22})
    assert times.until(25) == PingTimes((10, 20), {1: 12, 2: 22})
    assert times.until(None) is times


def test_round_trips_belong_to_the_phase_in_which_the_request_left():
    slow = times(20, {3})
    slow.received[7] += 40 * MS  # type: ignore[index]
    first, second = compute([("ping", BOOT), ("later", BOOT + 100 * MS)], slow, [], BOOT)
    assert first.measure("rtt_max") == 40.4
    assert first.measure("rtt") == round((9 * 0.4 + 40) / 9, 3)
    assert (second.measure("rtt"), second.measure("rtt_max")) == (0.4, 0.4)
    assert first.as_json()["rtt_max_ms"] == 40.4


def test_without_a_reply_there_is_no_round_trip():
    (phase,) = compute([("ping", BOOT)], times(3, {1, 2, 3}), [], BOOT)
    assert phase.measure("rtt") is None
    assert phase.measure("rtt_max") is None
