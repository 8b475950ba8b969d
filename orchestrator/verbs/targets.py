"""What the words behind a verb mean: nodes by name, ``active`` and ``backup``, ``lan:1``."""

from __future__ import annotations

from collections.abc import Sequence

from nodes.cpu.page import CPU_SCHEMA
from nodes.machine import GATEWAY, LAN, MachineSettings
from orchestrator.errors import BottomhalfError, did_you_mean, words
from orchestrator.machines.machine import GUEST_PLACE, Machine

ROLES = ("active", "backup")
#: Modes of a bond in which one slave is the active one.
WITH_ACTIVE = ("active-backup", "balance-tlb", "balance-alb")
#: The switch's port that leads to the gateway, as captures name it.
GATEWAY_PORT = f"{LAN}:{GATEWAY}"
#: An emulated CPU that has much to do answers in a second.
_GUEST_TIMEOUT_MS = 20_000


def known(settings: MachineSettings) -> tuple[str, ...]:
    """All words that can be a target."""
    return (*settings.node_names, *(ROLES if settings.bond else ()))


def check(settings: MachineSettings, word: str) -> None:
    """Raise the message for a word that can never be a target of this machine."""
    if word in known(settings) or port_nic(settings, word):
        return
    bond = settings.bond
    nodes = words(settings.node_names)
    if bond is not None and word == bond.name:
        raise BottomhalfError(
            f"{word} is a device inside the kernel, not a process",
            f"processes are {nodes}; {word}'s NICs are {' and '.join(bond.slaves)}: "
            "bottomhalf kill active",
        )
    if word in ROLES:
        raise BottomhalfError(f"`{word}` needs a bond, and this machine has none", nodes)
    if word.startswith(f"{LAN}:") and word != GATEWAY_PORT:
        ports = [f"{LAN}:{n} ({nic})" for n, nic in enumerate(settings.nic_names, 1)]
        raise BottomhalfError(
            f"the switch has no port `{word}`", f"ports are {words([*ports, GATEWAY_PORT])}"
        )
    if word in (GATEWAY, GATEWAY_PORT):
        raise BottomhalfError(
            "the gateway is a host behind the switch, not a process",
            f"kill lan takes both: {nodes}",
        )
    raise BottomhalfError(
        f"no node `{word}`{did_you_mean(word, known(settings))}",
        f"nodes are {nodes}" + ("; also active and backup" if bond else ""),
    )


def resolve(machine: Machine, targets: Sequence[str]) -> list[str]:
    """Node names for the words; ``active`` and ``backup`` are what bond0 says at this moment."""
    found: list[str] = []
    for word in targets:
        for node in _resolve_one(machine, word):
            if node not in found:
                found.append(node)
    return found


def _resolve_one(machine: Machine, word: str) -> list[str]:
    settings = machine.settings
    check(settings, word)
    port = port_nic(settings, word)
    if port:
        return [port]
    if word not in ROLES:
        return [word]
    active = active_slave(machine)
    bond = settings.bond
    assert bond is not None
    if word == "active":
        if active is None:
            raise BottomhalfError(
                f"{bond.name} has no active slave at this moment",
                f"name a NIC: {words(bond.slaves)}",
            )
        return [active]
    backups = [slave for slave in bond.slaves if slave != active]
    if not backups:
        raise BottomhalfError(f"{bond.name} has no backup", f"its only slave is {bond.slaves[0]}")
    return backups


def port_nic(settings: MachineSettings, word: str) -> str | None:
    """NIC at a port of the switch, ``lan:1`` is the first."""
    head, colon, number = word.partition(":")
    if head == LAN and colon and number.isdecimal() and 0 < int(number) <= len(settings.nics):
        return settings.nic_names[int(number) - 1]
    return None


def active_slave(machine: Machine) -> str | None:
    """``curr_active_slave`` as the boot CPU's page has it; a guest is asked."""
    bond = machine.settings.bond
    if machine.settings.guest:
        return None if bond is None else _guest_says(machine, bond.name)
    number = machine.ram.page(machine.settings.cpu_names[0], CPU_SCHEMA)["bond_active"]
    return machine.settings.nic_names[number - 1] if number else None


def _guest_says(machine: Machine, bond: str) -> str | None:
    job = machine.spawn(GUEST_PLACE, ("cat", f"/sys/class/net/{bond}/bonding/active_slave"))
    if not machine.wait(lambda: job.done, _GUEST_TIMEOUT_MS) or job.failed:
        raise BottomhalfError(
            f"the guest does not say which slave is active: {job.failed or 'no answer'}",
            "name a NIC: bottomhalf ps lists them",
        )
    name = "".join(text for stream, text in job.take() if stream == 1).strip()
    return name if name in machine.settings.nic_names else None


def nics_only(machine: Machine, verb: str, nodes: Sequence[str]) -> None:
    """``verb`` acts on NICs alone."""
    nics = machine.settings.nic_names
    for node in nodes:
        if node not in nics:
            what = "is no card in a slot" if verb == "card" else "has no cable"
            raise BottomhalfError(f"{verb}: {node} {what}", f"NICs are {words(nics)}")
