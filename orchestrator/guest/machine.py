"""A machine with a guest: the processes of its NICs and LAN, and QEMU beside them.

QEMU is started when all NICs listen, and ends before they do. It dies with the owner (the signal
of a parent's death), and when it ends by itself, because the guest powered off or its kernel
panicked, the machine is over. ``spawn`` runs a command of the guest's. QEMU's connections to NICs
are kept by ``slots`` while a NIC's process is another one.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

from bus.identity import die_with_parent
from bus.messages import CPU_MASK_ALL
from nodes.machine import MachineSettings, with_lines
from orchestrator.errors import BottomhalfError
from orchestrator.guest import network, qemu
from orchestrator.guest.channel import Channel
from orchestrator.guest.qemu import Descriptors, GuestPlan
from orchestrator.guest.slots import Slot
from orchestrator.machines import hosts
from orchestrator.machines.machine import GUEST_PLACE, Job
from orchestrator.machines.processes import ProcessMachine

CONSOLE_LINES_SHOWN = 8
_END_S = 5.0
_PANIC = re.compile(r"Kernel panic - not syncing: .*")


class GuestMachine(ProcessMachine):
    """See the module. Raises what ``ProcessMachine`` does, and ``BottomhalfError`` for QEMU."""

    own_guest = True

    def __init__(self, settings: MachineSettings, plan: GuestPlan, *, config: str = "") -> None:
        self._why_over = ""
        self._setup: Job | None = None
        super().__init__(settings, config=config)
        try:
            self._start_qemu(plan)
        except BaseException:
            self.close()
            raise

    @property
    def over(self) -> bool:
        return bool(self._why_over)

    @property
    def qemu_pid(self) -> int:
        return self._process.pid

    # -- the guest's life

    def _start_qemu(self, plan: GuestPlan) -> None:
        directory = self.rundir.path
        (directory / qemu.INITRD).write_bytes(plan.initrd)
        commands, their_commands = socket.socketpair()
        self._channel = Channel(commands, self._booted)
        self._cleanup.callback(self._channel.close)
        self._slots = {nic: Slot(nic, self) for nic in self.settings.nic_names}
        for slot in self._slots.values():
            self._cleanup.callback(slot.close)
        console = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        console.bind(self.rundir.socket_path(qemu.CONSOLE))
        console.listen(1)
        (directory / qemu.CONSOLE_LOG).touch()
        fds = Descriptors(their_commands.fileno(), console.fileno())
        owner = os.getpid()
        with their_commands, console, open(directory / qemu.QEMU_LOG, "wb") as log:
            try:
                self._process = subprocess.Popen(
                    qemu.command(plan, self.settings.nics, fds),
                    cwd=directory,
                    env=plan.qemu.run_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=fds,
                    start_new_session=True,
                    preexec_fn=lambda: die_with_parent(owner),  # noqa: PLW1509  (no threads here)
                )
            except OSError as error:
                raise BottomhalfError(
                    f"guest: QEMU cannot be started: {error}", "bottomhalf guest --fetch"
                ) from None
        self._cleanup.callback(self._end_qemu)
        pidfd = os.pidfd_open(self._process.pid)
        self._cleanup.callback(os.close, pidfd)
        self.watch_fd(pidfd, lambda: self._qemu_ended(pidfd))
        self.watch_fd(self._channel.fileno(), self._heard)

    def _heard(self) -> None:
        self._channel.receive()
        if self._setup is not None and self._setup.done and not self._channel.ready:
            self._channel.open()

    def _booted(self) -> None:
        """The guest said hello."""
        with suppress(OSError):
            (self.rundir.path / qemu.INITRD).unlink()  # it has its own copy
        script = network.start(self.settings)
        self._setup = self._channel.spawn(GUEST_PLACE, ("sh", "-c", script), at_once=True)

    def _qemu_ended(self, pidfd: int) -> None:
        self.unwatch_fd(pidfd)
        self._channel.receive()
        self.unwatch_fd(self._channel.fileno())
        code = self._process.wait()
        self._why_over = _why_over(self.rundir.path, code)
        self._channel.lose(self._why_over)

    def _end_qemu(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._channel.lose("the machine ended")

    # -- Machine

    def spawn(self, cpu: str, argv: tuple[str, ...], cpus_allowed: int = CPU_MASK_ALL) -> Job:
        if cpu != GUEST_PLACE:
            return super().spawn(cpu, argv, cpus_allowed)
        # its /etc/hosts is its own, so the names of other machines become addresses
        found = with_lines({}, hosts.lines(self.settings, argv, self.others))
        argv = tuple(found.get(word, word) for word in argv)
        return self._channel.spawn(GUEST_PLACE, argv)

    def signal(self, job: Job, signo: int) -> None:
        if job.cpu == GUEST_PLACE:
            self._channel.signal(job, signo)
        else:
            super().signal(job, signo)

    def restart(self, node: str) -> None:
        super().restart(node)
        if node in self._slots:
            self._slots[node].hand_over()


def _why_over(directory: Path, code: int) -> str:
    """Why QEMU ended, in words and the last lines of what there is."""
    console = _tail(directory / qemu.CONSOLE_LOG)
    panic = _PANIC.search(console)
    if code:
        said = _tail(directory / qemu.QEMU_LOG).strip()
        how = f"signal {-code}" if code < 0 else f"exit {code}"
        return f"QEMU ended ({how})" + (f": {said}" if said else "")
    if panic:
        lines = [line.rstrip() for line in console.splitlines() if line.strip()]
        shown = "".join(f"\n  {line}" for line in lines[-CONSOLE_LINES_SHOWN:])
        return f"the guest's kernel panicked: {panic[0].strip()}{shown}"
    return "the guest has powered off"


def _tail(path: Path) -> str:
    try:
        return path.read_bytes()[-8192:].decode(errors="replace")
    except OSError:
        return ""
