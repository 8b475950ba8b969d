"""A bonded box and the few things its tests ask for again and again."""

from __future__ import annotations

from typing import Any

from orchestrator.ledger import Ledger, account
from orchestrator.machines.counts import Counts
from tests.nodes.cpu.harness import Box, Ran

BOND = "/sys/class/net/bond0/bonding/"
PROC = "/proc/net/bonding/bond0"
ARP: dict[str, Any] = {"miimon": 0, "arp_ip_target": ("192.168.1.1",)}


def write(box: Box, option: str, text: str) -> Ran:
    """echo TEXT > .../bonding/OPTION."""
    return box.run("write", BOND + option, text + "\n")


def read(box: Box, option: str) -> str:
    return box.proc(BOND + option).removesuffix("\n")


def refused(ran: Ran, why: str) -> bool:
    return (ran.code, ran.err) == (1, f"bash: echo: write error: {why}\n")


def bond(box: Box) -> Any:
    return box.kernel()["bonds"]["bond0"]


def bond_said(box: Box, since_s: float = 0.0) -> list[str]:
    return [text for text in box.said(since_s) if text.startswith(("bond0: ", "bonding: "))]


def plug(box: Box, nic: str) -> None:
    """The driver may look for a link only 2 s later."""
    box.cable(nic, inserted=True)
    box.live(2600)


def ledger(box: Box) -> Ledger:
    """The books after everything has arrived."""
    box.live(50)
    return account(Counts.of(box.machine))


def at_10g(lines: list[str]) -> list[str]:
    return [line.replace("1000 Mbps", "10000 Mbps") for line in lines]
