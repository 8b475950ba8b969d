"""The riddle as people run it: who saw which frame, by era; against a real 6.1's captures."""

from __future__ import annotations

import json
import re

import pytest

from bus.messages import EthFrame
from orchestrator import cli, verbs
from orchestrator.errors import BottomhalfError
from orchestrator.session import Session, drive
from tests.nodes.cpu.captures import captured
from tests.nodes.cpu.harness import Box

ORIG_DEV = (("packet_tap", "orig_dev"),)
ERAS = {
    "2.6.18": ("2.6.18", ()),
    "2.6.32": ("2.6.18", ORIG_DEV),
    "3.10": ("3.10", ()),
    "6.1": ("6.1", ()),
}


def machine(era: str, **options) -> Box:
    release, overrides = ERAS[era]
    return Box(release, overrides=overrides, **options)


def run(box: Box, *argv: str, **options) -> tuple[int, str, Session]:
    out: list[str] = []
    session = Session(box.machine, out=out.append, err=out.append, **options)
    code = drive(session, verbs.start(session, list(argv)))
    return code, "".join(out), session


#: How often each tap shows a frame, (bond0, eth0, eth1, any): as the reference's table 0.3 has it,
#: and its table of 2.6 for the broadcast that comes back on the backup's wire.
TABLE = {
    "2.6.18": {"out": (1, 1, 0, 2), "in eth0": (1, 0, 0, 1), "in eth1": (0, 0, 0, 0)},
    "2.6.32": {"out": (1, 1, 0, 2), "in eth0": (1, 1, 0, 1), "in eth1": (0, 0, 1, 0)},
    "3.10": {"out": (1, 1, 0, 2), "in eth0": (1, 1, 0, 2), "in eth1": (0, 0, 1, 1)},
    "6.1": {"out": (1, 1, 0, 2), "in eth0": (1, 1, 0, 2), "in eth1": (0, 0, 1, 1)},
}


@pytest.mark.conformance("N0.1", "N0.2", "N0.3", "N1.9")
@pytest.mark.parametrize("era", ERAS)
def test_the_riddles_table(era: str) -> None:
    code, out, session = run(machine(era), "taps", "ping", "-c", "2", "gateway", json=True)
    assert code == 0
    frames = json.loads(out)["frames"]
    assert [(f["kind"], f["way"], f["wire"]) for f in frames] == [
        ("who_has", "out", ["eth0"]), ("who_has", "in", ["eth1"]), ("is_at", "in", ["eth0"]),
        *[("request", "out", ["eth0"]), ("reply", "in", ["eth0"])] * 2,
    ]  # fmt: skip
    for frame in frames:
        case = "out" if frame["way"] == "out" else f"in {frame['wire'][0]}"
        taps = frame["taps"]
        seen = tuple(taps[device]["seen"] for device in ("bond0", "eth0", "eth1", "any"))
        assert seen == TABLE[era][case], frame["text"]
        assert seen == tuple(taps[d]["expected"] for d in ("bond0", "eth0", "eth1", "any"))
    assert session.figures["taps"]["surprises"] == 0
    replies = [f["taps"]["eth0"]["as"] for f in frames if f["kind"] == "reply"]
    own = {"2.6.18": [], "2.6.32": ["bond0"]}.get(era, ["eth0"])
    assert replies == [own, own]


BROADCAST = bytes.fromhex(
    "ffffffffffff 020000000099 0806 0001080006040001 020000000099c0a80163 000000000000c0a80162"
).ljust(60, b"\0")


@pytest.mark.conformance("N2.7", "N2.8", "N2.9")
@pytest.mark.parametrize("era", ERAS)
def test_a_foreign_broadcast_that_the_switch_floods_to_both_ports(era: str) -> None:
    """Each wire's copy has a row and reasons of its own."""
    box = machine(era)
    box.ping("-c", "1")
    box.live(100)
    simulation = box.machine.simulation
    lan = simulation.node("lan")
    # as if a host behind the gateway's port asked: the switch itself floods it
    fired: list[bool] = []

    def tick() -> None:
        if not fired:
            fired.append(True)
            lan.forwarding.now_ns = lan.clock()
            lan.forwarding.taps.look()  # as at the beginning of a turn
            lan.forwarding.enter(8, BROADCAST)

    watch_before = simulation.watch

    def watch(now, sender, receiver, message):
        if isinstance(message, EthFrame) and sender == "eth0":
            tick()
        if watch_before is not None:
            watch_before(now, sender, receiver, message)

    simulation.watch = watch
    _, out, session = run(box, "taps", "ping", "-c", "2", "-i", "0.2", "gateway", json=True)
    frames = [f for f in json.loads(out)["frames"] if "192.168.1.98" in f["text"]]
    assert sorted(f["wire"][0] for f in frames) == ["eth0", "eth1"]
    for frame in frames:
        taps = frame["taps"]
        seen = tuple(taps[device]["seen"] for device in ("bond0", "eth0", "eth1", "any"))
        assert seen == TABLE[era][f"in {frame['wire'][0]}"]
    assert session.figures["taps"]["surprises"] == 0


def test_the_lab_compares_the_eras_in_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["lab", "run", "tcpdump-on-bond", "--compare", ",".join(ERAS)]) == 0
    rows = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines() if line)
    assert rows["figure"].split() == ["2.6.18", "2.6.32*", "3.10", "6.1"]
    ways = {"request_out_eth0": ("out", 2), "reply_in_eth0": ("in eth0", 2),
            "is_at_in_eth0": ("in eth0", 1), "who_has_in_eth1": ("in eth1", 1)}  # fmt: skip
    for name, (way, times) in ways.items():
        for column, device in enumerate(("bond0", "eth0", "eth1", "any")):
            shown = [int(cell) for cell in rows[f"taps.{name}_{device}"].split()]
            assert shown == [TABLE[era][way][column] * times for era in ERAS], name
    assert rows["checks"].split() == ["ok"] * 4


def test_a_wrong_era_is_refused_before_any_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BottomhalfError, match="no preset for era 9"):
        cli.run(["lab", "run", "tcpdump-on-bond", "--compare", "2.6.18,9"])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("era", ERAS)
def test_each_tap_has_a_line_of_reasoning(era: str) -> None:
    _, out, _ = run(machine(era), "taps", "ping", "-c", "1", "gateway")
    assert "NOT AS THE RULE SAYS" not in out
    blocks = re.split(r"\nframes? [\d, ]+: ", out)[1:]
    assert len(blocks) == 3
    for block in blocks:
        assert re.findall(r"^  (\w+) +(?:-|In|Out|In 2x|Out 2x) +\S", block, re.MULTILINE) == [
            "bond0", "eth0", "eth1", "any",
        ]  # fmt: skip
    said = {"2.6.18": "skb_bond()", "2.6.32": "orig_dev", "3.10": "rx_handler", "6.1": "rx_handler"}
    assert said[era] in out


def test_without_the_active_slaves_cable_it_is_true_of_the_other() -> None:
    box = machine("2.6.18")
    box.cable("eth0", inserted=False)
    box.live(300)
    _, _, session = run(box, "taps", "ping", "-c", "1", "gateway", json=True)
    figures = session.figures["taps"]
    assert figures["reply_in_eth1_eth1"] == 0
    assert figures["reply_in_eth1_bond0"] == figures["request_out_eth1_eth1"] == 1
    assert figures["surprises"] == 0


# ---------------------------------------------------------------- against a real kernel


def lines(text: str) -> list[str]:
    """Lines of tcpdump without times, ids and what only names the machines."""
    kept = [line for line in text.splitlines() if re.match(r"\d{4}-|\d\d:", line)]
    names = {"52:54:00:00:00:10": "US", "02:00:00:00:00:01": "GW", "192.0.2.10": "us",
             "00:1b:21:00:00:01": "US", "192.168.1.10": "us", "192.0.2.1": "gw",
             "192.168.1.1": "gw"}  # fmt: skip
    found = []
    for line in kept:
        line = re.sub(r"^(\d{4}-\d\d-\d\d )?\S+ ", "", line)
        for name, short in names.items():
            line = re.sub(rf"{re.escape(name)}(?![\d])", short, line)
        found.append(re.sub(r"id \d+", "id N", line))
    return found


@pytest.mark.parametrize(
    ("folder", "name", "options", "count", "warm"),
    [
        ("e1000e-smp2", "tcpdump-5pings", (), 5, True),
        ("virtio-mq-smp2", "tcpdump-5pings", (), 5, True),
        # not virtio-mq-smp2: a virtio NIC has no wire that pads an ARP reply to 60 bytes
        ("e1000e-smp2", "tcpdump-p-arp-2pings", ("-p",), 2, False),
    ],
)
def test_packet_by_packet_as_a_real_6_1(
    folder: str, name: str, options: tuple[str, ...], count: int, warm: bool
) -> None:
    from orchestrator.captures.packettext import Detail, describe  # noqa: PLC0415

    box = Box("6.1")
    if warm:
        box.ping("-c", "1")
        box.live(100)
    taps = {dev: box.capture(dev, *options) for dev in ("bond0", "eth0", "eth1")}
    box.ping("-c", str(count))
    box.live(50)
    for dev, tap in taps.items():
        ours = [f"00:00:00 {describe(p.data, p.length, Detail(link=True))}" for p in tap.packets()]
        real = captured(f"{folder}/{name}-{dev}.txt")
        assert lines("\n".join(ours)) == lines(real), dev
        tap.stop()


# ---------------------------------------------------------------- drops


@pytest.mark.conformance("N2.10")
@pytest.mark.parametrize(
    ("era", "counter"), [("2.6.18", None), ("3.10", "rx_dropped"), ("6.1", "rx_nohandler")]
)
def test_which_counter_the_backups_copies_move(era: str, counter: str | None) -> None:
    box = machine(era)
    box.ping("-c", "1")
    box.live(200)
    _, out, session = run(box, "drops", "ping", "-q", "-c", "1", "192.168.1.77")
    figures = session.figures["drops"]
    assert figures["bond_inactive"] == 3
    moved = {key for key in figures if key.startswith("eth1_")}
    assert moved == ({f"eth1_{counter}"} if counter else set())
    assert "NEIGH_FAILED" in out


def test_nothing_lost_moves_no_counter() -> None:
    box = machine("6.1")
    box.ping("-c", "1")
    box.live(200)
    code, out, _ = run(box, "drops", "ping", "-q", "-c", "2", "-i", "0.1", "gateway")
    assert code == 0
    assert out.endswith("no counter of lost packets moved\n")
