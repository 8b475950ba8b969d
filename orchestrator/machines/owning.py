"""Starting a machine that stays: the owner's process, detached from the shell that started it.

``start`` forks twice, so that the owner belongs to no terminal, and waits until it says that the
machine is up or what went wrong. Whoever opened the dashboard *holds* the machine by a connection:
when that ends without a word, by a closed terminal or ``kill -9``, the machine ends too.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING, Any

import msgpack

from nodes.machine import MachineSettings
from orchestrator.errors import OUR_FAULT, BottomhalfError, our_fault

if TYPE_CHECKING:
    from orchestrator.guest.qemu import GuestPlan
    from orchestrator.machines.processes import ProcessMachine

#: The owner must have said something by then.
START_TIMEOUT_S = 60.0


def start(settings: MachineSettings, config: str, guest: GuestPlan | None = None) -> dict[str, Any]:
    """Start the owner of a machine made from ``config``: what it says when it is up (with a
    ``guest``: when QEMU has been started)."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _become_owner(settings, config, guest, writer)
    os.close(writer)
    os.waitpid(pid, 0)
    said = bytearray()
    deadline = time.monotonic() + START_TIMEOUT_S
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            chunk = pipe.read(65536)
            if not chunk:
                break
            said += chunk
    if not said:
        raise BottomhalfError("the machine's owner ended without a word", code=OUR_FAULT)
    answer: dict[str, Any] = msgpack.unpackb(bytes(said))
    if "error" in answer:
        raise BottomhalfError(*answer["error"])
    return answer


def _become_owner(
    settings: MachineSettings, config: str, guest: GuestPlan | None, writer: int
) -> None:
    """In the child: fork again and never return."""
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        sys.stdout.flush()
        sys.stderr.flush()
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        try:
            _own(settings, config, guest, writer)
        except BottomhalfError as error:
            _say(writer, {"error": [error.what, error.hint, error.code]})
        except BaseException as error:
            fault = our_fault(error)
            _say(writer, {"error": [fault.what, fault.hint, fault.code]})
    finally:
        os._exit(0)


def _say(writer: int, value: dict[str, Any]) -> bool:
    """False if it was said before, or nobody waits any more."""
    try:
        os.write(writer, msgpack.packb(value))
        os.close(writer)
    except OSError:
        return False
    return True


def _own(settings: MachineSettings, config: str, guest: GuestPlan | None, writer: int) -> None:
    from orchestrator.machines.daemon import ControlServer, serve  # noqa: PLC0415
    from orchestrator.machines.ready import wait_until_ready  # noqa: PLC0415
    from orchestrator.machines.running import CONTROL_SOCKET, SETTINGS_FILE, pack_settings  # noqa: PLC0415

    stopped = _Stopped()
    began = time.monotonic()
    machine = new_machine(settings, config, guest)
    try:
        launched_ms = (time.monotonic() - began) * 1000
        directory = machine.rundir.path
        (directory / SETTINGS_FILE).write_bytes(pack_settings(settings))
        server = ControlServer(machine, str(directory / CONTROL_SOCKET))
        try:
            machine.watch_fd(server.fileno(), lambda: None)
            machine.watch_fd(stopped.fileno(), lambda: None)
            ready = guest is None and wait_until_ready(machine)
            heard = _say(writer, {
                "directory": str(directory),
                "pid": os.getpid(),
                "launched_ms": launched_ms,
                "ready_ms": (time.monotonic() - began) * 1000,
                "ready": ready,
            })  # fmt: skip
            if heard:  # a Ctrl-C before that: whoever started us does not want the machine any more
                serve(machine, server, lambda: stopped() or machine.over)
        finally:
            server.close()
    finally:
        machine.close()


def new_machine(
    settings: MachineSettings, config: str, guest: GuestPlan | None = None
) -> ProcessMachine:
    """Start all processes of a machine; the message when the name is taken or no place is left."""
    from orchestrator.machines.launch import LaunchError  # noqa: PLC0415
    from orchestrator.machines.processes import ProcessMachine  # noqa: PLC0415
    from orchestrator.machines.rundir import RunDirError  # noqa: PLC0415
    from orchestrator.machines.running import already_running  # noqa: PLC0415

    try:
        if guest is not None:
            from orchestrator.guest.machine import GuestMachine  # noqa: PLC0415

            return GuestMachine(settings, guest, config=config)
        return ProcessMachine(settings, config=config)
    except RunDirError as error:
        if error.running is not None and error.running.pid:
            raise already_running(error.running, "guest" if guest else "up") from None
        raise BottomhalfError(str(error), "bottomhalf doctor") from None
    except LaunchError as error:
        raise BottomhalfError(str(error), "bottomhalf doctor", OUR_FAULT) from None


class _Stopped:
    """True from the first SIGTERM, SIGINT or SIGHUP on; its descriptor becomes readable then."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._reader.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._stopped = False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._stopped = True

    def fileno(self) -> int:
        return self._reader.fileno()

    def __call__(self) -> bool:
        return self._stopped
