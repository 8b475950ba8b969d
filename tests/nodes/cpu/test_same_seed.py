"""The same seed gives the same run, byte for byte, whatever the interpreter's hash seed is."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.pages import schema_of
from tests.nodes.cpu.harness import ERAS, GATEWAY, Box

ROOT = Path(__file__).parents[3]


def run(era: str, seed: int) -> str:
    """A failover by cable, a killed NIC and its return; everything that came out, as text."""
    box = Box(era, seed=seed)
    tap = box.capture("bond0", "-p")
    job = box.start("ping", "-i", "0.02", "-D", GATEWAY)
    box.live(300)
    box.cable("eth0", inserted=False)
    box.live(400)
    box.cable("eth0", inserted=True)
    box.live(300)
    box.machine.kill("eth1")
    box.live(2500)
    box.run("pci-remove", "eth1")
    box.machine.restart("eth1")
    box.live(50)
    box.run("pci-rescan", "eth1")
    box.run("enslave", "eth1")
    box.live(500)
    ran = box.interrupt(job)
    packets = hashlib.sha256()
    for packet in tap.packets():
        packets.update(repr(packet).encode())
    pages = {
        name: box.machine.ram.page(name, schema_of(box.machine.settings, name)).as_dict()
        for name in box.settings.node_names
    }
    files = [
        box.proc(path) for path in ("/proc/interrupts", "/proc/net/dev", "/proc/net/bonding/bond0")
    ]
    return json.dumps(
        {
            "ping": ran.out,
            "dmesg": box.dmesg(),
            "packets": packets.hexdigest(),
            "pages": pages,
            "files": files,
            "now": box.machine.now_ns(),
        }
    )


def in_another_interpreter(era: str, seed: int, hash_seed: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.nodes.cpu.test_same_seed", era, str(seed)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("era", ERAS)
def test_twice_in_one_interpreter(era: str) -> None:
    assert run(era, 7) == run(era, 7)


def test_in_two_interpreters_with_different_hash_seeds() -> None:
    first, second = (in_another_interpreter("6.1", 7, hash_seed) for hash_seed in ("1", "4242"))
    assert first == second
    assert first == run("6.1", 7)
    assert len(first) > 20_000


def test_another_seed_is_another_run() -> None:
    assert run("6.1", 7) != run("6.1", 8)


if __name__ == "__main__":
    sys.stdout.write(run(sys.argv[1], int(sys.argv[2])))
