"""The guest's root: busybox, some tools with their libraries, modules, and ``init.sh``.

Which libraries a tool needs its own dynamic linker says (``ld.so --list``), so that nothing else is
packed. The archive is not compressed: QEMU copies it at once, an emulated CPU would unpack slowly.
"""

from __future__ import annotations

import re
import subprocess
from importlib.resources import files
from pathlib import Path

from orchestrator.errors import BottomhalfError
from orchestrator.guest.cpio import Archive
from orchestrator.guest.modules import CHANNEL, LOADED, WANTED, Modules

_BUSYBOX = "bin/busybox"
#: Where tools lie in the tree; in the guest all are in /bin. Those of coreutils run other programs,
#: and busybox's would run busybox's own ping and ip.
TOOLS = (
    "bin/dash", "bin/bash", "bin/ip", "bin/ping", "sbin/bridge", "sbin/ethtool", "sbin/tc",
    "usr/bin/tcpdump",
    "bin/date", "usr/bin/env", "usr/bin/nice", "usr/bin/nohup", "usr/bin/timeout",
)  # fmt: skip
_LD_SO = "lib64/ld-linux-x86-64.so.2"
_LIBRARIES = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")
_LISTED = re.compile(r"(\S+) => (/\S+) \(")

_PASSWD = "root:x:0:0:root:/root:/bin/sh\ntcpdump:x:100:100::/tmp:/bin/sh\n"
_GROUP = "root:x:0:\ntcpdump:x:100:\n"


def build(tools: Path, modules: Modules) -> tuple[bytes, str]:
    """The archive, and the release of the kernel that its modules are for."""
    archive = Archive()
    for folder in ("proc", "sys", "dev", "root", "tmp", "run", "etc", "var"):
        archive.folder(folder)
    archive.file("init", files(__package__).joinpath("init.sh").read_bytes(), 0o755)
    archive.file("etc/passwd", _PASSWD.encode())
    archive.file("etc/group", _GROUP.encode())
    _busybox(archive, tools)
    _tools(archive, tools)
    return _with_modules(archive, modules)


def _with_modules(archive: Archive, modules: Modules) -> tuple[bytes, str]:
    channel = [name for name in CHANNEL if modules.has(name)]
    if len(channel) < len(CHANNEL):
        channel = []  # the second serial line serves
    names = modules.order([*channel, *WANTED])
    release = modules.release(names[0]) if names else ""
    folder = f"lib/modules/{release}"
    for name in names:
        if modules.release(name) != release:
            raise BottomhalfError(
                f"guest: module {name} is for kernel {modules.release(name)}, others for {release}",
                "--kernel VMLINUZ and --modules DIR of one build",
            )
        archive.file(f"{folder}/{name}.ko", modules.data(name))
    archive.file(f"{folder}/modules.dep", modules.dep_file(names).encode())
    archive.file(f"{folder}/modules.alias", modules.alias_file(names).encode())
    # A bond0 that nobody asked for would come with the module.
    archive.file("etc/modprobe.d/bonding.conf", b"options bonding max_bonds=0\n")
    wanted = [name for name in (*channel, *LOADED) if name in names]
    archive.file("etc/modules", "".join(f"{name}\n" for name in wanted).encode())
    return archive.pack(), release


def _busybox(archive: Archive, tools: Path) -> None:
    binary = tools / _BUSYBOX
    try:
        listed = subprocess.run([str(binary), "--list"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BottomhalfError(
            f"guest: {binary} does not run: {error}", "bottomhalf guest --fetch gets it again"
        ) from None
    archive.file(_BUSYBOX, binary.read_bytes(), 0o755)
    for applet in set(listed.stdout.split()) - {"busybox", "sh"}:
        archive.link(f"bin/{applet}", "busybox")
    # Not busybox's shell: that one takes its own ping and ip for those of the same name.
    archive.link("bin/sh", "dash")
    archive.link("sbin/modprobe", "../bin/busybox")  # the kernel asks for modules there


def _tools(archive: Archive, tools: Path) -> None:
    """Programs of their own, in place of busybox's, and the libraries that they name."""
    search = ":".join(str(tools / folder) for folder in _LIBRARIES)
    linker = tools / _LD_SO
    archive.file(_LD_SO, linker.read_bytes(), 0o755)
    for tool in TOOLS:
        binary = tools / tool
        made = subprocess.run(
            [str(linker), "--library-path", search, "--list", str(binary)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if made.returncode:
            raise BottomhalfError(
                f"guest: {binary}: {made.stderr.strip()}", "bottomhalf guest --fetch gets it again"
            )
        archive.file(f"bin/{binary.name}", binary.read_bytes(), 0o755)
        for name, path in _LISTED.findall(made.stdout):
            if not name.startswith("/"):
                archive.file(f"lib/x86_64-linux-gnu/{name}", Path(path).read_bytes(), 0o755)
