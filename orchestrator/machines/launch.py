"""The fork server: a small warmed process that becomes nodes in about 2 ms each.

Starting an interpreter for each node would take 80 ms each; forking from the orchestrator would
hand its threads, sockets and large modules on to every node. So one process is started that imports
what nodes need (and neither pydantic nor rich, nor ever a ZeroMQ context), and forks.

It is also the machine's undertaker. It holds one end of a socket pair whose other end only the
orchestrator has: end of file there means that the orchestrator is gone, however it died, and the
server kills all nodes, removes the run directory and exits. Should the server itself be killed, the
nodes die by ``PR_SET_PDEATHSIG`` and the orchestrator, which sees end of file too, cleans up.

The protocol is one pickled value a packet: first the machine's ``Charter``, then request and answer
in turns::

    (START, [(name, incarnation, cpu or None), ...])  ->  [pid, ...]
    (REAP, pid)                                       ->  wait status of the dead child

A dead child stays a zombie until the orchestrator asks for its status, so that a pid which the
orchestrator knows is never somebody else's.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from bus.identity import die_with_parent, exact_timers, rename
from bus.links import listen
from bus.process import EXIT_FAULT, Plan, run
from bus.ram import Layout
from bus.simulation import Place
from bus.wires import WirePlan
from orchestrator.machines.rundir import RunDir, remove_tree, short_directory

START, REAP = "start", "reap"
PACKET_BYTES_MAX = 1 << 20
#: How long the answer to a request may take, and the end of the server.
GUARD_S = 30.0
#: RAM file in the run directory; the socket where other machines join the LAN.
RAM_FILE = "ram"
DOOR = "join"

#: The server runs without ``site``: it needs no more than its parent's path.
_BOOT = (
    "import sys; sys.path[:] = {path!r}; "
    "from orchestrator.machines.launch import serve; serve({args})"
)


class LaunchError(Exception):
    """Processes could not be started; the text says why."""


class Outside(NamedTuple):
    """Wires of one node to what is no part of the machine: see ``bus.wires``."""

    node: str
    join: str = ""  # run directory of the machine that this one joins
    tap_fd: int = -1


class Charter(NamedTuple):
    """What the fork server must know of the machine; the first packet it gets."""

    machine: str
    directory: str
    layout: Layout
    places: Mapping[str, Place]
    seed: str
    control_pid: int
    outside: Outside | None = None


class Order(NamedTuple):
    """One process to start; ``cpu`` is the processor it is bound to."""

    name: str
    incarnation: int
    cpu: int | None


# ---------------------------------------------------------------- the orchestrator's side


class ForkServer:
    """Handle of the running fork server."""

    def __init__(
        self, rundir: RunDir, preload: Sequence[str] = (), outside: Outside | None = None
    ) -> None:
        """Start the server; it imports the modules ``preload`` while the caller goes on."""
        self._outside = outside
        tap = (outside.tap_fd,) if outside is not None and outside.tap_fd >= 0 else ()
        self._rundir = rundir
        self.dead = False
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        ours.settimeout(GUARD_S)
        path = [str(Path(__file__).parents[2]), *sys.path]
        args = f"{theirs.fileno()}, {rundir.lock_fd}, {list(preload)}"
        self.log_path = rundir.path / "launch.log"
        with theirs, open(self.log_path, "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-c", _BOOT.format(path=path, args=args)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(theirs.fileno(), rundir.lock_fd, *tap),
                start_new_session=True,  # Ctrl-C and a closed terminal are the orchestrator's
            )

    def commission(self, layout: Layout, places: Mapping[str, Place], seed: str) -> None:
        """Tell the server what machine it is for; before the first ``start``."""
        rundir = self._rundir
        where = str(rundir.path)
        outside = self._outside
        charter = Charter(rundir.name, where, layout, places, seed, os.getpid(), outside)
        try:
            _send(self._socket, charter)
        except OSError as error:
            self.dead = True
            raise LaunchError("the fork server is dead" + self._last_words()) from error

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        """Readable only when the server is gone."""
        return self._socket.fileno()

    def start(self, orders: Sequence[Order]) -> list[int]:
        """Fork the nodes; their pids."""
        pids: list[int] = self._ask((START, list(orders)))
        return pids

    def reap(self, pid: int) -> int:
        """Wait status of the dead node ``pid``, which exists no more afterwards."""
        status: int = self._ask((REAP, pid))
        return status

    def _ask(self, request: tuple[Any, ...]) -> Any:
        try:
            _send(self._socket, request)
            answer = _receive(self._socket)
        except TimeoutError:
            answer = f"the fork server does not answer within {GUARD_S:.0f} s"
        except OSError:
            answer = None
        if answer is None:
            self.dead = True
            raise LaunchError("the fork server is dead" + self._last_words())
        if isinstance(answer, str):
            raise LaunchError(answer)
        return answer

    def _last_words(self) -> str:
        try:
            lines = self.log_path.read_text(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return f": {lines[-1]}" if lines else ""

    def close(self) -> None:
        """End the server and with it all nodes and the run directory; may be called again."""
        self._socket.close()
        try:
            self._process.wait(GUARD_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.dead = True


# ---------------------------------------------------------------- the server's side


def _send(sock: socket.socket, value: Any) -> None:
    sock.send(pickle.dumps(value))


def _receive(sock: socket.socket) -> Any:
    """The next packet, or None at the end."""
    data = sock.recv(PACKET_BYTES_MAX)
    return pickle.loads(data) if data else None


def serve(fd: int, lock_fd: int, preload: Sequence[str]) -> None:
    """Main function of the fork server process; never returns."""
    sock = socket.socket(fileno=fd)
    try:
        for module in preload:
            importlib.import_module(module)
        charter: Charter | None = _receive(sock)
        if charter is None:
            remove_tree(Path(f"/proc/self/fd/{lock_fd}").resolve())
        else:
            _Server(sock, charter, lock_fd).serve()
    except (ConnectionError, EOFError):
        pass  # the orchestrator is gone
    os._exit(0)


class _Server:
    """State of the fork server."""

    def __init__(self, sock: socket.socket, charter: Charter, lock_fd: int) -> None:
        self._socket = sock
        self._charter = charter
        self._lock_fd = lock_fd
        self._children: set[int] = set()
        self._pid = os.getpid()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        rename(f"bh:launch {charter.machine}")
        _raise_descriptor_limit()
        where = short_directory(Path(charter.directory), lock_fd)
        self._listeners = {name: listen(f"{where}/{name}") for name in charter.places}
        self._door: socket.socket | None = None
        if charter.outside is not None:
            self._door = listen(f"{where}/{DOOR}", socket.SOCK_SEQPACKET)
        gc.collect()
        gc.freeze()  # collections in the children leave the shared pages alone

    def serve(self) -> None:
        try:
            while (request := _receive(self._socket)) is not None:
                try:
                    answer: Any = self._answer(*request)
                except OSError as error:
                    answer = f"the fork server cannot {request[0]}: {error}"
                _send(self._socket, answer)
        finally:
            if os.getpid() == self._pid:
                self._bury()

    def _answer(self, verb: str, what: Any) -> Any:
        if verb == START:
            return [self._fork(Order(*order)) for order in what]
        _, status = os.waitpid(what, 0)
        self._children.discard(what)
        return status

    def _fork(self, order: Order) -> int:
        _hang_up(self._listeners[order.name])
        pid = os.fork()
        if pid == 0:
            code = EXIT_FAULT
            try:
                code = self._become(order)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        self._children.add(pid)
        return pid

    def _become(self, order: Order) -> int:
        """In the child: be the node."""
        die_with_parent(self._pid)
        rename(f"bh:{order.name}")
        exact_timers()
        charter = self._charter
        directory = Path(charter.directory)
        log = os.open(
            directory / f"{order.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
        )
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        directory_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        listen_fd = self._listeners[order.name].detach()
        for listener in self._listeners.values():
            listener.close()
        self._socket.close()
        os.close(self._lock_fd)
        wires = self._wires(order.name)
        faulthandler.enable()
        if order.cpu is not None:
            with suppress(OSError):  # it may have gone offline; then anywhere
                os.sched_setaffinity(0, {order.cpu})
        return run(
            Plan(
                order.name,
                order.incarnation,
                charter.places[order.name],
                charter.layout,
                str(directory / RAM_FILE),
                listen_fd,
                short_directory(directory, directory_fd),
                charter.control_pid,
                f"{charter.seed}/{order.name}/{order.incarnation}",
                wires,
            )
        )

    def _wires(self, node: str) -> WirePlan | None:
        """In the child: what leads out of the machine, closed for all but the one node."""
        outside, door = self._charter.outside, self._door
        if outside is None or door is None:
            return None
        if node != outside.node:
            door.close()
            if outside.tap_fd >= 0:
                os.close(outside.tap_fd)
            return None
        path = ""
        if outside.join:
            directory = Path(outside.join)
            fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            path = f"{short_directory(directory, fd)}/{DOOR}"
        return WirePlan(self._charter.machine, door.detach(), path, outside.tap_fd)

    def _bury(self) -> None:
        """Kill what lives, remove what lies about."""
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
        for pid in self._children:
            os.waitpid(pid, 0)
        remove_tree(Path(self._charter.directory))


def _hang_up(listener: socket.socket) -> None:
    """Close what waits for a dead node's successor: the living connect again at once, and those
    who died meanwhile do not look like strangers to it."""
    with suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()


def _raise_descriptor_limit() -> None:
    """A node with 66 peers has some 300 descriptors; the usual soft limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
