"""The verb ``flows``: which wire each flow took, both ways."""

from __future__ import annotations

import json

from bus.ram import TapPacket
from nodes.lan.taps import PORT_IFINDEX
from orchestrator import flows, verbs
from orchestrator.errors import BottomhalfError
from orchestrator.session import Session, drive
from tests.nodes.cpu.harness import Box

import pytest

NICS = ("eth0", "eth1")
