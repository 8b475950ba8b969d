"""What the words in each node's page mean."""

from __future__ import annotations

from bus.ram import Schema
from nodes.apic.page import APIC_SCHEMA
from nodes.cpu.page import CPU_SCHEMA
from nodes.lan.page import LAN_SCHEMA
from nodes.machine import APIC, LAN, MachineSettings
from nodes.nic.page import NIC_SCHEMA


def schema_of(settings: MachineSettings, node: str) -> Schema:
    """Schema of the page of ``node``."""
    if node == APIC:
        return APIC_SCHEMA
    if node == LAN:
        return LAN_SCHEMA
    return CPU_SCHEMA if node in settings.cpu_names else NIC_SCHEMA
