"""The folder of a run: captures, kernel log, /proc before and after, the machine, the result."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from orchestrator.captures.capture import Tap, TapReader, close_tap, epoch_ns, open_tap
from orchestrator.captures.pcap import PcapWriter
from orchestrator.configuration import configtext
from orchestrator.errors import BottomhalfError
from orchestrator.machines import procfiles
from orchestrator.machines.kernellog import LogLine
from orchestrator.machines.machine import Machine
from orchestrator.session import Session, Wait, drive

#: Files of /proc that are kept before and after.
SNAPSHOTS = (
    "/proc/interrupts",
    "/proc/softirqs",
    "/proc/net/dev",
    "/proc/net/softnet_stat",
    "/proc/net/bonding/bond0",
)


class Report:
    """Collects the artefacts of one run; paths in ``artefacts`` are relative to the folder."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.artefacts: dict[str, Any] = {}
        self._files = ExitStack()
        self._reader: TapReader | None = None
        self._taps: list[tuple[Tap, PcapWriter]] = []
        self._machine: Machine | None = None
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BottomhalfError(f"--report {directory}: {error.strerror}", "a folder") from None

    # -- while it runs

    def begin(self, machine: Machine) -> None:
        """Open the captures and keep /proc as it is before."""
        self._machine = machine
        self._write("machine", "machine.toml", configtext.to_toml(machine.settings))
        session = Session(machine)
        drive(session, self._begin(session))

    def _begin(self, session: Session) -> Generator[Wait, None, int]:
        yield from self._snapshots(session, "before")
        settings = session.machine.settings
        bond = (settings.bond.name,) if settings.bond else ()
        self._reader = TapReader(session.machine.ram)
        epoch = epoch_ns(session.machine)
        for device in (*bond, *settings.nic_names):
            name = f"{device}.pcap"
            tap = yield from open_tap(session, device, promiscuous=False)
            file = self._files.enter_context((self.directory / name).open("wb"))
            self._taps.append((tap, PcapWriter(file, epoch)))
            self.artefacts.setdefault("captures", {})[device] = name
        return 0

    def pull(self) -> None:
        """Empty the packet rings; called between slices of the run."""
        if self._reader is not None and self._machine is not None:
            self._keep(self._reader.pull(self._machine.now_ns()))

    def _keep(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            for tap, writer in self._taps:
                if packet.sessions >> tap.session & 1:
                    writer.write(packet)

    # -- afterwards

    def end(self, log: Iterable[LogLine]) -> None:
        """Close the captures, keep /proc as it is after, and the kernel log."""
        assert self._machine is not None
        session = Session(self._machine)
        drive(session, self._end(session))
        if self._reader is not None:
            self._keep(self._reader.rest())
        self._files.close()
        self._write("dmesg", "dmesg.txt", "".join(line.stamped() + "\n" for line in log))

    def _end(self, session: Session) -> Generator[Wait, None, int]:
        for tap, _ in self._taps:
            yield from close_tap(session, tap)
        yield from self._snapshots(session, "after")
        return 0

    def _snapshots(self, session: Session, when: str) -> Generator[Wait, None, None]:
        for path in SNAPSHOTS:
            name = f"{when}{path}"
            try:
                text = yield from procfiles.read(session, path)
            except OSError:
                continue  # this kernel has no such file
            (self.directory / name).parent.mkdir(parents=True, exist_ok=True)
            (self.directory / name).write_text(text)
            self.artefacts.setdefault(f"proc_{when}", {})[path] = name

    def _write(self, what: str, name: str, text: str) -> None:
        (self.directory / name).write_text(text)
        self.artefacts[what] = name

    def keep_result(self, result: dict[str, Any], text: str) -> None:
        """The judgement, as JSON and as text."""
        (self.directory / "result.json").write_text(json.dumps(result, indent=2) + "\n")
        (self.directory / "result.txt").write_text(text)
