"""What a guest needs that is not ours: QEMU, a kernel, tools; each fetched once into the cache.

QEMU 11 is in trixie-backports (``vfio-user-pci`` came with 10.1; bookworm and trixie are older). It
is unpacked with its libraries, C library included, and run by that tree's own ``ld.so``, so the
host need not be a trixie. The kernel is bookworm's 6.1, the tools are bookworm's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.errors import BottomhalfError
from orchestrator.guest import aptroot, cache
from orchestrator.guest.aptroot import AptRoot

QEMU_SUITE, QEMU_PACKAGE = "trixie-backports", "qemu-system-x86"
QEMU_SUITES = ("trixie", QEMU_SUITE)
GUEST_SUITE = "bookworm"
#: Its one dependency that is a kernel is the image of the day.
KERNEL_PACKAGE, KERNEL_PATTERN = "linux-image-amd64", r"linux-image-6\.1\.\S+-amd64"
#: Three quarters of the modules, and nothing that a machine of NICs could load.
_UNUSED_MODULES = (
    "sound", "fs", "drivers/gpu", "drivers/media", "drivers/net/wireless", "drivers/scsi",
    "drivers/staging", "drivers/infiniband", "drivers/usb", "drivers/iio", "drivers/input",
)  # fmt: skip
TOOL_PACKAGES = (
    "bash", "busybox-static", "coreutils", "dash", "ethtool", "iproute2", "iputils-ping", "tcpdump",
)  # fmt: skip
#: Folders in the cache; another list of packages is another thing.
QEMU, KERNEL = "qemu", "kernel"
TOOLS = f"tools.{zlib.crc32(' '.join(TOOL_PACKAGES).encode()):08x}"
_BINARY = "usr/bin/qemu-system-x86_64"
_LD_SO = "usr/lib64/ld-linux-x86-64.so.2"
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
DEVICE = "vfio-user-pci"


@dataclass(frozen=True)
class Qemu:
    """A QEMU that can be run: the words before its options, and its environment."""

    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    where: str = ""

    def run_environment(self) -> dict[str, str]:
        return {**os.environ, **self.environment}


@dataclass(frozen=True)
class Fetched:
    """Everything that a guest is made of."""

    qemu: Qemu
    kernel: Path  # vmlinuz
    modules: tuple[Path, ...]  # folders below which the modules lie, the first one first
    tools: Path  # unpacked tree of programs


class Teller:
    """Progress for people: one line on a terminal, else a line for each new thing."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._last = ""
        self._width = 0
        self._next = 0.0

    def __call__(self, what: str, percent: float) -> None:
        if not self._terminal:
            if what != self._last:
                sys.stderr.write(f"  {what}\n")
        elif what != self._last or percent >= 100 or time.monotonic() >= self._next:
            text = f"  {what} {percent:3.0f} %"
            sys.stderr.write("\r" + text.ljust(self._width))
            self._width = len(text)
            self._next = time.monotonic() + 0.1
        self._last = what
        sys.stderr.flush()

    def done(self, text: str) -> None:
        """The whole is there."""
        end = "\r" + " " * self._width + "\r" if self._terminal and self._width else ""
        sys.stderr.write(f"{end}  {text}\n")
        sys.stderr.flush()
        self._last, self._width = "", 0


def everything(kernel: str = "", modules: str = "", again: bool = False) -> Fetched:
    """All of it: from the cache, or fetched now. ``again`` asks the mirror for newer versions.

    A kernel of one's own brings its own modules; modules alone are for Debian's kernel, which
    lends them the others that they need."""
    teller = Teller()
    qemu = None if again else find_qemu()
    if qemu is None:
        qemu = tree_qemu(_fetch(QEMU, teller))
    folders: tuple[Path, ...] = (Path(modules),) if modules else ()
    if kernel:
        image = Path(kernel)
    else:
        tree = (None if again else cache.newest(KERNEL)) or _fetch(KERNEL, teller)
        image = next(tree.glob("boot/vmlinuz-*"))
        folders += tuple(tree.glob("lib/modules/*"))
    tools = (None if again else cache.newest(TOOLS)) or _fetch(TOOLS, teller)
    return Fetched(qemu, image, folders, tools)


def tree_qemu(tree: Path) -> Qemu:
    """QEMU in an unpacked tree, through that tree's own dynamic linker."""
    libraries = tree / _LIBRARIES
    data = tree / "usr/share"
    return Qemu(
        (str(tree / _LD_SO), "--library-path", str(libraries), str(tree / _BINARY),
         "-L", str(data / "seabios"), "-L", str(data / "qemu")),
        # A QEMU of the host would lend its modules first, and they would be refused.
        {"QEMU_MODULE_DIR": str(libraries / "qemu")},
        str(tree),
    )  # fmt: skip


def find_qemu() -> Qemu | None:
    """A QEMU that is there: fetched, or the host's if it is new enough."""
    tree = cache.newest(QEMU)
    if tree is not None:
        return tree_qemu(tree)
    host = shutil.which("qemu-system-x86_64")
    if host is None:
        return None
    asked = subprocess.run(
        [host, "-device", f"{DEVICE},help"], capture_output=True, text=True, check=False
    )
    return Qemu((host,), where=host) if asked.returncode == 0 else None


def _fetch(thing: str, teller: Teller) -> Path:
    """Get one thing; a newer version stands beside an older one and is preferred."""
    with cache.locked() as place:
        address = aptroot.mirror()
        with cache.unfinished(place) as work:
            name = {QEMU: _get_qemu, KERNEL: _get_kernel, TOOLS: _get_tools}[thing](
                work, address, teller
            )
            found = cache.finish(work / "tree", name)
    teller.done(f"{name} is in {found}")
    return found


def _upstream(version: str) -> str:
    """``1:11.1.3+ds-1~bpo13+1`` -> ``11.1.3``."""
    return version.rpartition(":")[2].partition("+")[0].partition("-")[0]


def _get_qemu(work: Path, address: str, teller: Teller) -> str:
    apt = AptRoot(work, address, QEMU_SUITES, teller)
    version = _upstream(apt.version(QEMU_PACKAGE, QEMU_SUITE))
    packages = apt.download_all(f"QEMU {version} (38 MB)", [QEMU_PACKAGE], QEMU_SUITE)
    tree = work / "tree"
    aptroot.unpack(packages, tree, teller)
    asked = subprocess.run(
        [*tree_qemu(tree).command, "-device", f"{DEVICE},help"],
        env=tree_qemu(tree).run_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if asked.returncode:
        raise BottomhalfError(
            f"guest: QEMU {version} does not run here: {asked.stderr.strip()}", aptroot.INSTEAD
        )
    return f"{QEMU}-{version}"


def _get_kernel(work: Path, address: str, teller: Teller) -> str:
    apt = AptRoot(work, address, (GUEST_SUITE,), teller)
    package = apt.depends(KERNEL_PACKAGE, KERNEL_PATTERN)
    version = _upstream(apt.version(package))
    image = apt.download(f"Linux {version} (70 MB)", package)
    aptroot.unpack([image], work / "tree", teller)
    for folder in (work / "tree").glob("lib/modules/*/kernel"):
        for unused in _UNUSED_MODULES:
            shutil.rmtree(folder / unused, ignore_errors=True)
    return f"{KERNEL}-{version}"


def _get_tools(work: Path, address: str, teller: Teller) -> str:
    apt = AptRoot(work, address, (GUEST_SUITE,), teller)
    version = _upstream(apt.version("iproute2"))
    packages = apt.download_all(f"{' '.join(TOOL_PACKAGES)} (20 MB)", TOOL_PACKAGES)
    aptroot.unpack(packages, work / "tree", teller)
    return f"{TOOLS}-{version}"
