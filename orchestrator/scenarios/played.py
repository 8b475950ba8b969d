"""What a run has shown: its phases, and what its expectations came to.

A scenario says what it expects of each step (``expect``); here each is judged by the facts of the
phase that the step began (``facts``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from orchestrator.machines.machine import NodeState
from orchestrator.scenarios.expect import Expectation, Reference, Value
from orchestrator.scenarios.facts import Facts, Stretch
from orchestrator.scenarios.phases import Phase, PingTimes
from orchestrator.scenarios.scenario import Scenario

INTERRUPTED = "interrupted"


@dataclass
class Verdict:
    """One expectation, judged."""

    step: int  # from 1
    expectation: Expectation
    value: Value | None
    passed: bool
    cause: str
    limit: Value | None = None  # what a limit that is a quantity came to

    @property
    def text(self) -> str:
        return self.expectation.failure(self.value, self.limit)

    def as_json(self) -> dict[str, Any]:
        """For programs; fields are only ever added."""
        return {
            "step": self.step,
            "expect": self.expectation.text,
            "value": self.value,
            "passed": self.passed,
        }


@dataclass
class Played:
    """What a run has shown."""

    scenario: Scenario
    runtime: str
    seed: int | None
    times: PingTimes = field(default_factory=lambda: PingTimes((), {}))
    phases: list[Phase] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    #: processes that a step ended and another replaced
    buried: list[NodeState] = field(default_factory=list)
    #: why the run ended before its time
    cut_short: str = ""
    facts: Facts | None = None
    stretches: list[Stretch] = field(default_factory=list)
    #: clock at the beginning, and when the last step was over
    origin_ns: int = 0
    over_ns: int = 0

    @property
    def passed(self) -> bool:
        return not self.cut_short and all(verdict.passed for verdict in self.verdicts)

    def judge(self, facts: Facts) -> None:
        """Judge all expectations, but those of a phase that was cut short: it had no chance."""
        self.facts = facts
        steps = zip(self.scenario.steps, self.phases[1:], strict=False)
        for number, (step, phase) in enumerate(steps, 1):
            if self.cut_short == INTERRUPTED and number == len(self.phases) - 1:
                break
            for expectation in step.expect:
                value = facts.value(expectation.quantity, number)
                limit = expectation.limit
                if isinstance(limit, Reference):
                    known = facts.value(limit, number)
                    passed = known is not None and expectation.holds(value, known)
                else:
                    known, passed = None, expectation.holds(value)
                self.verdicts.append(
                    Verdict(number, expectation, value, passed, phase.cause, known)
                )
