"""The list of statements and the marks of the tests fit each other."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.conformance import catalogue, report


def test_every_id_that_a_test_claims_is_in_the_list() -> None:
    unknown = [claim for claim in catalogue.claims() if claim.id not in catalogue.says()]
    assert unknown == []


def test_every_limitation_is_in_the_list_and_has_a_reason() -> None:
    given_up = catalogue.limitations()
    assert [name for name in given_up if name not in catalogue.says()] == []
    assert all(len(why) > 5 for why in given_up.values())


def test_every_statement_is_claimed_by_a_test_or_has_a_reason_not_to_be() -> None:
    claimed = {claim.id for claim in catalogue.claims()}
    given_up = catalogue.limitations()
    assert [n for n in catalogue.says() if n not in claimed and n not in given_up] == []


def test_the_list_is_complete_and_every_entry_says_something() -> None:
    groups = Counter(name[0] for name in catalogue.says())
    assert groups == {"A": 83, "H": 88, "K": 134, "N": 67}
    for name, text in catalogue.says().items():
        assert re.fullmatch(r"[AHKN]\d+(\.\d+)?(-\d+)?[a-z]?", name)
        assert 5 < len(text) < 90


@pytest.mark.parametrize(
    ("statement", "room"),
    [
        ("K3.4-1", "nodes/cpu/kernel/softirq.py"),
        ("K5.10-1", "nodes/cpu/kernel/workqueue"),
        ("A6.13-1", "nodes/apic/destination.py"),
        ("A6.7-1", "nodes/cpu/lapic.py"),
        ("A1.1-1", "nodes/nic/pcie.py"),
        ("A11.3-3", "nodes/nic, bus"),
        ("H11.5-1", "nodes/nic"),
        ("N0.1", "nodes/cpu/kernel/net"),
        ("N3.1b", "nodes/cpu/kernel/net/bonding"),
    ],
)
def test_the_room_of_a_statement(statement: str, room: str) -> None:
    assert catalogue.room(statement)["room"] == room


def test_every_statement_has_a_room() -> None:
    for name in catalogue.says():
        assert set(catalogue.room(name)) == {"room", "later"}


def test_the_report_sorts_by_what_the_tests_said() -> None:
    outcomes = report.Outcomes()
    outcomes.by_id["K3.4-1"] = ["passed", "passed"]
    outcomes.by_id["K3.4-2"] = ["passed", "failed"]
    outcomes.by_id["K3.4-3"] = ["skipped"]
    states = report.sort(outcomes)
    assert states["passing"] == ["K3.4-1"]
    assert states["failing"] == ["K3.4-2"]
    assert states["skipped"] == ["K3.4-3"]
    assert sum(len(names) for names in states.values()) == len(catalogue.says())
