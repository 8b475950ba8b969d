"""Where what was fetched lies: whole folders that appear by a rename, or not at all.

``$XDG_CACHE_HOME/bottomhalf`` (``~/.cache/bottomhalf``) holds one folder for each thing and
version, ``qemu-11.1.3``. A folder is filled under another name and renamed when nothing is missing,
so one that exists is complete. A lock keeps two fetches apart: the second waits, and finds.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.errors import BottomhalfError

_UNFINISHED = ".unfinished-"


def folder() -> Path:
    """The cache folder; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # A relative path is to be ignored, says the base directory specification.
    root = Path(base) if base.startswith("/") else Path.home() / ".cache"
    return root / "bottomhalf"


def newest(prefix: str) -> Path | None:
    """The folder of this name that was fetched last."""
    try:
        found = [p for p in folder().iterdir() if p.name.startswith(f"{prefix}-") and p.is_dir()]
    except FileNotFoundError:
        return None
    return max(found, key=lambda p: (p.stat().st_mtime_ns, p.name), default=None)


@contextmanager
def locked() -> Iterator[Path]:
    """The cache folder, ours alone; what an earlier fetch did not finish is removed."""
    place = folder()
    try:
        place.mkdir(parents=True, exist_ok=True)
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise BottomhalfError(
            f"no cache folder {place}: {error.strerror}",
            "XDG_CACHE_HOME=DIR bottomhalf guest --fetch          puts it elsewhere",
        ) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        for left in place.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield place
    finally:
        os.close(fd)


@contextmanager
def unfinished(place: Path) -> Iterator[Path]:
    """A folder to work in that is gone afterwards, unless it was renamed."""
    work = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=place))
    try:
        work.chmod(0o755)
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def finish(tree: Path, name: str) -> Path:
    """``tree`` is complete: give it its name."""
    target = folder() / name
    if target.exists():
        shutil.rmtree(target)
    tree.rename(target)
    target.touch()
    return target
