"""Run directories: where a running machine's RAM file, sockets, logs and locks live.

One directory for each machine name, mode 0700, on tmpfs if there is one::

    $BOTTOMHALF_RUN_DIR/NAME, if that is set, else
    $XDG_RUNTIME_DIR/bottomhalf/NAME    or  /dev/shm/bottomhalf-UID/NAME
                                        or  $TMPDIR (or /tmp)/bottomhalf-UID/NAME

The lock is a ``flock`` on the directory itself: whoever holds it is the machine, so a second
machine of the same name is refused, and a directory that nobody locks is what a dead machine left
behind: it is emptied and used, or removed. The fork server inherits the lock, so that a name is
free only when everything of the machine is gone.

A socket's path may have 107 bytes at the most. ``socket_path`` gives a path that always fits: where
the directory's own is too long, the way leads through ``/proc/self/fd``.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

SOCKET_PATH_BYTES_MAX = 107
NAME_CHARS_MAX = 64
#: Left for "/" and a node's name in a socket's path.
_NODE_NAME_BYTES = 33
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_INFO = "machine.json"
_LOCK_ATTEMPTS = 30


class RunDirError(Exception):
    """The run directory cannot be had; the text says why. ``running`` is who has it."""

    def __init__(self, text: str, running: RunningMachine | None = None) -> None:
        super().__init__(text)
        self.running = running


class RunningMachine(NamedTuple):
    """A machine that runs now, as its run directory tells."""

    name: str
    directory: Path
    pid: int  # of its orchestrator; 0 while it is starting
    config: str  # name of its configuration
    started: float  # seconds since 1970


#: Names the one directory that holds run directories; then no other is looked at.
RUN_DIR_VARIABLE = "BOTTOMHALF_RUN_DIR"


def bases() -> list[Path]:
    """Directories that may hold run directories, best first."""
    chosen = os.environ.get(RUN_DIR_VARIABLE)
    if chosen:
        return [Path(chosen)]
    uid = os.getuid()
    found = [
        Path("/dev/shm", f"bottomhalf-{uid}"),
        Path(tempfile.gettempdir(), f"bottomhalf-{uid}"),
    ]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and Path(runtime).is_dir():
        found.insert(0, Path(runtime, "bottomhalf"))
    return found


class RunDir:
    """The locked run directory of one machine."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self.name = path.name
        #: descriptor of the directory; holds the lock, and is inherited by the fork server
        self.lock_fd = lock_fd

    @classmethod
    def create(cls, name: str, base: Path | None = None, needed_bytes: int = 0) -> RunDir:
        """Make and lock the directory for machine ``name``.

        ``base`` overrides the choice of place. ``RunDirError`` when a machine of that name runs,
        when the name cannot be a directory's, or when no place has ``needed_bytes`` free."""
        if len(name) > NAME_CHARS_MAX or not _NAME.fullmatch(name):
            raise RunDirError(
                f"a machine cannot be called {name!r}: up to {NAME_CHARS_MAX} letters, digits "
                "and . _ - are allowed"
            )
        reasons = []
        for place in [base] if base else bases():
            try:
                return cls(place / name, _claim(place / name, needed_bytes))
            except OSError as error:
                reasons.append(f"{place}: {error.strerror or error}")
        raise RunDirError("no place for the run directory: " + "; ".join(reasons))

    def write_info(self, config: str, started: float) -> None:
        """Say who runs here, for ``running_machines``."""
        info = {"name": self.name, "pid": os.getpid(), "config": config, "started": started}
        scratch = self.path / f"{_INFO}.new"
        scratch.write_text(json.dumps(info))
        scratch.rename(self.path / _INFO)

    def socket_path(self, name: str) -> str:
        """Path for the socket ``name`` here that is short enough, valid in this process only."""
        return os.path.join(self.socket_directory(), name)

    def socket_directory(self) -> str:
        """Directory part of ``socket_path`` for names of at most 32 bytes."""
        return short_directory(self.path, self.lock_fd)

    def remove(self) -> None:
        """Delete the directory and give up the lock. Harmless when it is gone already."""
        if self.lock_fd < 0:
            return
        remove_tree(self.path)
        os.close(self.lock_fd)
        self.lock_fd = -1


def short_directory(path: Path, directory_fd: int) -> str:
    """``path``, or if sockets' paths in it would be too long, a way through its descriptor."""
    if len(os.fsencode(path)) + _NODE_NAME_BYTES <= SOCKET_PATH_BYTES_MAX:
        return str(path)
    return f"/proc/self/fd/{directory_fd}"


def remove_tree(path: Path) -> None:
    """Delete a run directory, and the directory above if it was the last one."""
    shutil.rmtree(path, ignore_errors=True)
    if path.parent in bases():
        with suppress(OSError):  # others run there
            path.parent.rmdir()


def _claim(path: Path, needed_bytes: int) -> int:
    """Make, lock and empty ``path``; its descriptor."""
    while True:
        _make_base(path.parent)
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # somebody removed the base between the two lines
        try:
            _lock(path, fd)
            if not _is_still(path, fd):
                os.close(fd)
                continue  # its last owner deleted it while we waited for nothing
            _empty(path)
            _check_room(fd, needed_bytes)
        except BaseException:
            os.close(fd)
            raise
        return fd


def _make_base(base: Path) -> None:
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    info = base.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
        raise PermissionError(0, "is not a directory of ours")


def _lock(path: Path, fd: int) -> None:
    """Take the lock. Somebody who looks for leftovers may hold it for a moment: try again."""
    for attempt in range(_LOCK_ATTEMPTS):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            running = _read_info(path)
            if running.pid:
                break
            if attempt + 1 < _LOCK_ATTEMPTS:
                time.sleep(0.01)
    who = f"{running.config}, pid {running.pid}" if running.pid else "it is starting or ending"
    raise RunDirError(f"machine {path.name} is already running ({who})", running)


def _is_still(path: Path, fd: int) -> bool:
    """Whether ``path`` is (still) the directory that ``fd`` has open."""
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def _empty(path: Path) -> None:
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _check_room(fd: int, needed_bytes: int) -> None:
    """A RAM file on a full tmpfs would end its writers by SIGBUS; rather refuse the place."""
    room = os.fstatvfs(fd)
    free = room.f_bavail * room.f_frsize
    if free < needed_bytes:
        raise OSError(28, f"{free >> 20} MiB free, {needed_bytes >> 20} MiB are needed")


def _read_info(path: Path) -> RunningMachine:
    info: Mapping[str, Any] = {}
    with suppress(OSError, ValueError):  # it is just starting or ending
        info = json.loads((path / _INFO).read_text())
    return RunningMachine(
        path.name,
        path,
        int(info.get("pid", 0)),
        str(info.get("config", "?")),
        float(info.get("started", 0.0)),
    )


def running_machines(base: Path | None = None) -> list[RunningMachine]:
    """All machines of this user that run now, by name; leftovers of dead ones are removed."""
    found = []
    for place in [base] if base else bases():
        for path in _directories(place):
            try:
                fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # it ended just now
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append(_read_info(path))
            else:
                if _is_still(path, fd):
                    remove_tree(path)
            finally:
                os.close(fd)
    return sorted(found)


def _directories(place: Path) -> Iterator[Path]:
    try:
        yield from sorted(p for p in place.iterdir() if p.is_dir() and not p.is_symlink())
    except FileNotFoundError:
        return
