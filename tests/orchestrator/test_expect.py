"""What a step can expect: how it is written, when it holds, what a slip is answered with."""

from __future__ import annotations

import pytest

from nodes.cpu.kernel.params import PRESETS
from orchestrator.scenarios import expect
from orchestrator.scenarios.expect import Expectation, Reference


def parsed(text: str, *, ping: bool = True, steps: int = 3) -> Expectation:
    return expect.parse(
        text,
        params=PRESETS["6.1"],
        cpus=("cpu0", "cpu1"),
        nics=("eth0", "eth1"),
        ping=ping,
        steps=steps,
    )


@pytest.mark.parametrize(
    ("text", "quantity", "limit"),
    [
        ("exit == 0", "exit", 0.0),
        ("gap <= 250ms", "gap", 250.0),
        ('softirq_order.first == "HI"', "softirq_order.first", "HI"),
        ("storm.share >= 50%", "storm.share", 50.0),
        ("irqs(eth0-TxRx-0,cpu1) >= 10", "irqs(eth0-TxRx-0,cpu1)", 10.0),
        ("event(irq_handler_entry,b) == 0x21", "event(irq_handler_entry,b)", 0x21),
        ("most(napi_poll,a,cpu0) < 9", "most(napi_poll,a,cpu0)", 9),
        ("ksoftirqd_wakeups() == 0", "ksoftirqd_wakeups()", 0.0),
        ("began(sched:active) < 99", "began(sched:active)", 99),
        ("began(take_cpu_down) > began(smpboot/threads:online)", "began(take_cpu_down)", "began(smpboot/threads:online)"),  # noqa: E501
        ('dmesg has "nobody cared"', "dmesg", "nobody cared"),
        ("storm.share@2 > storm.share@1", "storm.share@2", "storm.share@1"),
    ],
)  # fmt: skip
def test_it_is_taken_apart(text: str, quantity: str, limit: object) -> None:
    found = parsed(text)
    assert (found.quantity, found.limit) == (quantity, limit)


def test_a_limit_may_be_a_quantity_itself() -> None:
    assert isinstance(parsed("a.b < irqs(LOC)").limit, Reference)
    assert not isinstance(parsed('a.b == "x.y"').limit, Reference)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("softirqs(NETRX) > 0", ": no softirq `NETRX`; did you mean `NET_RX`?"),
        ("seen(softirq_entri) > 0", ": no trace event `softirq_entri`; did you mean `softirq_entry`?"),  # noqa: E501
        ("ksoftirqd_wakeup() > 0", ": nothing is called `ksoftirqd_wakeup()`; did you mean `ksoftirqd_wakeups`?"),  # noqa: E501
        ("param.hzz == 250", ": no behaviour `hzz`; did you mean `hz`?"),
        ("a.b@4 == 1", ": there is no step 4"),
        ("event(softirq_entry) == 1", ": a or b of an event?"),
        ("began(sched:activ) == 1", ": no trace event or step `sched:activ`; did you mean `sched:active`?"),  # noqa: E501
        ("most(softirq_entry,c) == 1", ": a or b of an event?"),
        ("a.first == HI", ": HI is no number"),
        ("a.first", " is no comparison"),
    ],
)  # fmt: skip
def test_each_slip_has_its_message(text: str, what: str) -> None:
    with pytest.raises(ValueError) as caught:
        parsed(text)
    assert caught.value.args[0] == what


def test_what_is_about_a_ping_needs_one() -> None:
    with pytest.raises(ValueError) as caught:
        parsed("lost == 0", ping=False)
    assert caught.value.args[0] == ": `lost` is about a ping, and none runs"


def test_the_log_has_it_or_lacks_it() -> None:
    has, lacks = parsed('dmesg has "b"'), parsed('dmesg lacks "b"')
    assert (has.holds("a b"), has.holds("a"), lacks.holds("a b"), lacks.holds("a")) == (
        True, False, False, True,
    )  # fmt: skip
    assert has.failure("a") == 'the kernel log lacks "b"'
    assert lacks.failure("a b") == 'the kernel log has "b"'


def test_a_failure_tells_what_the_other_quantity_was() -> None:
    text = parsed("a.b < c.d").failure(5, 4)
    assert text == "a.b 5, expected < c.d (which is 4)"


def test_words_of_bits_are_shown_as_such() -> None:
    text = parsed("preempt(softirq_entry) == 0x100").failure(0x200)
    assert text == "preempt(softirq_entry) 0x200, expected == 0x100"


def test_a_number_against_a_word_is_compared_as_text() -> None:
    assert not parsed("a.b == 5").holds("five")
    assert parsed('a.b == "5"').holds(5)
