"""Runs the tests that claim statements of the reference and says how many statements hold.

    python -m tests.conformance.report [-v] [pytest arguments]

A statement passes when every test that claims it passed; what no test claims must stand in
docs/limitations.md with its reason. ``-v`` lists the statements."""

from __future__ import annotations

import sys
from collections import defaultdict

import pytest

from tests.conformance import catalogue

GROUPS = {"A": "APIC, MSI, PCIe", "H": "82599", "K": "interrupt core", "N": "network path"}


class Outcomes:
    """A pytest plugin: for each id the outcomes of the tests that claim it."""

    def __init__(self) -> None:
        self.by_id: dict[str, list[str]] = defaultdict(list)
        self._ids: dict[str, list[str]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            marks = item.iter_markers("conformance")
            self._ids[item.nodeid] = [str(name) for mark in marks for name in mark.args]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            for name in self._ids.get(report.nodeid, ()):
                self.by_id[name].append(report.outcome)


def sort(outcomes: Outcomes) -> dict[str, list[str]]:
    """ids by state: passing, failing, skipped, limitation, neither."""
    states: dict[str, list[str]] = defaultdict(list)
    given_up = catalogue.limitations()
    for name in catalogue.says():
        results = outcomes.by_id.get(name, [])
        if "failed" in results:
            states["failing"].append(name)
        elif "passed" in results:
            states["passing"].append(name)
        elif results:
            states["skipped"].append(name)
        else:
            states["limitation" if name in given_up else "neither"].append(name)
    return states


def print_report(states: dict[str, list[str]], *, verbose: bool) -> None:
    titles = {
        "passing": "passing",
        "failing": "FAILING",
        "skipped": "skipped on this computer",
        "limitation": "not yet, with a reason in docs/limitations.md",
        "neither": "NEITHER tested nor given a reason",
    }
    print(f"\nconformance: {len(catalogue.says())} statements of the reference")
    for state, title in titles.items():
        names = states.get(state, [])
        counts = ", ".join(
            f"{title} {count}"
            for letter, title in GROUPS.items()
            if (count := sum(name.startswith(letter) for name in names))
        )
        if names or state in ("passing", "limitation", "neither"):
            print(f"  {len(names):4d}  {title}" + (f" ({counts})" if names else ""))
        if verbose or state in ("failing", "neither"):
            for name in names:
                home = catalogue.room(name)
                later = f"; comes with: {home['later']}" if state == "limitation" else ""
                print(f"          {name:8} {catalogue.says()[name]} [{home['room']}{later}]")


def main(arguments: list[str]) -> int:
    verbose = "-v" in arguments
    extra = [argument for argument in arguments if argument != "-v"]
    outcomes = Outcomes()
    code = pytest.main(
        ["-q", "--no-header", "-m", "conformance", "-p", "no:cacheprovider", *extra],
        plugins=[outcomes],
    )
    states = sort(outcomes)
    print_report(states, verbose=verbose)
    return int(code) or int(bool(states["failing"] or states["neither"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
