"""What a packet costs by layer: the arithmetic, and that every function finds its layer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks import layers
from benchmarks.layermap import BUS_IN, CALLER, LEDGER, ORDER, REST, RULES, layer_of
from benchmarks.profiles import Function, by_layer, combined, net_seconds, shares_of_callers


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    return layers.measure(blocks=1, packets=20)


def function(name: str, self_s: float = 1.0, calls: int = 1, **more: Any) -> Function:
    return Function(name, self_s, calls, more.get("made", 0), more.get("callers", {}))


def test_the_profilers_charge_is_taken_away_and_the_rest_fits_the_total() -> None:
    caller = function("caller", 5.0, 1, made=10)
    called = function("called", 3.0, 10)
    net = net_seconds([caller, called], 2.0, (0.2, 0.4))  # 10 x 0.2 off called, 10 x 0.4 + 0.2 off
    assert net["called"] == pytest.approx(2.0 * 1.0 / 1.8)
    assert net["caller"] == pytest.approx(2.0 * 0.8 / 1.8)


def test_no_function_costs_less_than_nothing() -> None:
    assert net_seconds([function("a", 0.1, 10), function("b")], 1.0, (0.5, 0.0))["a"] == 0


def test_what_everybody_uses_is_its_callers() -> None:
    atomics, ledger = "bus/ram/atomics.py:Atomics.load", "nodes/ledger.py:classify"
    found = shares_of_callers(
        "cpu", [function(atomics, callers={ledger: 3, "bus/codec.py:decode_batch": 1})]
    )
    assert found[atomics] == {LEDGER: 0.75, BUS_IN: 0.25}


def test_two_that_call_each_other_and_are_nobodys_are_the_rest() -> None:
    a, b = "bus/ram/atomics.py:Atomics.a", "bus/ram/atomics.py:Atomics.b"
    found = shares_of_callers("cpu", [function(a, callers={b: 1}), function(b, callers={a: 1})])
    assert found == {a: {REST: 1.0}, b: {REST: 1.0}}


def test_seconds_and_calls_of_all_layers_are_those_of_all_functions() -> None:
    functions = [
        function("nodes/ledger.py:classify", 1.0, 4),
        function("nodes/nowhere.py:f", 2.0, 1),
        function("bus/ram/file.py:Ram.page", 3.0, 2, callers={"nodes/ledger.py:classify": 2}),
    ]
    rows = by_layer("lan", functions, {f.name: f.self_s / 2 for f in functions})
    assert rows[LEDGER] == (2.0, 4.0, 6.0)
    assert rows[REST] == (1.0, 2.0, 1.0)


def test_the_lower_quartile_of_the_blocks_counts() -> None:
    blocks = [[function("f", s)] for s in (9.0, 1.0, 2.0, 3.0, 50.0)]
    assert combined(blocks)[0].self_s == 2.0
    assert combined([*blocks, []])[0].self_s == pytest.approx(65 / 6)  # not in every block


@pytest.mark.parametrize("kind", ORDER)
def test_every_rules_layer_is_in_the_table(kind: str) -> None:
    assert {layer for _, layer in RULES[kind]} <= {CALLER, *ORDER[kind]}
    assert layer_of(kind, "nodes/nowhere.py:f") == REST


def test_every_workload_and_kind_is_measured(figures: dict[str, Any]) -> None:
    assert set(figures) == set(layers.WORKLOADS)
    for kinds in figures.values():
        assert list(kinds) == list(ORDER)
        for kind, found in kinds.items():
            assert list(found["layers"]) == list(ORDER[kind])
            total = sum(row["us"] for row in found["layers"].values())
            assert total == pytest.approx(found["us"])


@pytest.mark.parametrize("kind", ORDER)
def test_hardly_a_call_is_of_no_layer(figures: dict[str, Any], kind: str) -> None:
    found = figures["ping"][kind]
    assert found["layers"][REST]["calls"] < 0.1 * found["calls"]


def test_a_ping_meets_all_layers_and_udp_out_no_input(figures: dict[str, Any]) -> None:
    meets = {name: found["calls"] > 0.5 for name, found in figures["ping"]["cpu"]["layers"].items()}
    assert all(met for name, met in meets.items() if name != REST), meets
    way_in = figures["udp_out"]["cpu"]["layers"]["netif_receive, bond, taps"]
    assert way_in["calls"] < 1


def test_calls_are_exact(figures: dict[str, Any]) -> None:
    again = layers.measure(blocks=1, packets=20)
    for name, kinds in figures.items():
        for kind, found in kinds.items():
            assert again[name][kind]["calls"] == found["calls"], (name, kind)


def test_the_table_fits_a_terminal_and_the_json_has_no_functions(figures: dict[str, Any]) -> None:
    text = layers.table(figures)
    assert max(map(len, text.splitlines())) <= 79
    assert text.count("netif_receive") == len(layers.WORKLOADS)
    assert "functions" not in json.dumps(layers.without_functions(figures))
