"""Run as a program by ``test_processes``: an orchestrator that will be killed.

Prints one line (run directory, pid of the fork server, pids of the nodes) and pumps for ever."""

from __future__ import annotations

import sys

from orchestrator.machines.processes import ProcessMachine
from tests.bus.toys import settings, toys


def main(name: str) -> None:
    made = settings(name)
    machine = ProcessMachine(made, toys(made))
    pids = [machine.state(node).pid for node in made.node_names]
    print(machine.rundir.path, machine.server_pid, *pids, flush=True)
    while True:
        machine.pump(machine.now_ns() + 10**12)


if __name__ == "__main__":
    main(sys.argv[1])
