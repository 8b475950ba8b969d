"""Kernel modules for the guest: which files, and what each needs to be loaded before it.

A package's ``modules.dep`` is made by ``depmod`` when it is installed, and ours is not: the same is
read here from each module's section ``.modinfo`` (``depends=a,b``). A driver author's folder may
hold just her own ``ixgbe.ko``; what it needs comes from the kernel's folder.
"""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from orchestrator.errors import BottomhalfError, words

DRIVER = "ixgbe"
#: What init loads, and what else one may load by ``modprobe`` (or ``ip link add ... type bond``).
LOADED = (DRIVER,)
WANTED = (*LOADED, "bonding", "8021q")
#: The channel that commands come by; without it the second serial line serves.
CHANNEL = ("virtio_pci", "virtio_console")
_SUFFIXES = (".ko", ".ko.xz", ".ko.gz", ".ko.zst")
_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")
_NAME = re.compile(rb"\0name=([^\0]*)\0")
_ALIAS = re.compile(rb"\0alias=([^\0]*)")
_VERMAGIC = re.compile(rb"\0vermagic=([^\0 ]+)")


def name_of(path: Path) -> str:
    """``virtio-rng.ko.xz`` -> ``virtio_rng``."""
    return path.name.partition(".ko")[0].replace("-", "_")


class Modules:
    """The modules below some folders; of two with one name the first folder's counts."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(folders)
        self._paths: dict[str, Path] = {}
        self._data: dict[str, bytes] = {}
        for folder in reversed(self.folders):
            for path in sorted(folder.rglob("*.ko*")):
                if path.name.endswith(_SUFFIXES):
                    self._paths[name_of(path)] = path
        self._builtin = _builtin(self.folders)

    def has(self, name: str) -> bool:
        """Can it be loaded, or is it part of the kernel?"""
        return name in self._paths or name in self._builtin

    def data(self, name: str) -> bytes:
        """The module as the kernel takes it."""
        if name not in self._data:
            self._data[name] = _read(self._paths[name])
        return self._data[name]

    def release(self, name: str) -> str:
        """The kernel that it was built for."""
        found = _VERMAGIC.search(self.data(name))
        return found[1].decode() if found else ""

    def needs(self, name: str) -> list[str]:
        """Modules that it names, in its own order."""
        found = _DEPENDS.search(self.data(name))
        if found is None and not _NAME.search(self.data(name)):
            raise BottomhalfError(f"guest: {self._paths[name]} is no kernel module")
        return [] if found is None else [n for n in found[1].decode().split(",") if n]

    def order(self, wanted: Sequence[str]) -> list[str]:
        """Modules to load one after the other, each after what it needs. What is part of the
        kernel is left out."""
        found: list[str] = []
        for name in wanted:
            self._visit(name.replace("-", "_"), found, ())
        return found

    def _visit(self, name: str, found: list[str], above: tuple[str, ...]) -> None:
        if name in found or (name in self._builtin and name not in self._paths):
            return
        if name not in self._paths:
            by = f" (needed by {above[-1]})" if above else ""
            raise BottomhalfError(
                f"guest: no module {name}{by} below {words(map(str, self.folders))}",
                "build it (CONFIG_...=m or y), or leave --kernel out to use Debian's kernel",
            )
        if name in above:
            raise BottomhalfError(f"guest: modules need each other: {words(above)} {name}")
        for needed in self.needs(name):
            self._visit(needed.replace("-", "_"), found, (*above, name))
        found.append(name)

    def dep_file(self, names: Sequence[str]) -> str:
        """``modules.dep`` for these, as modprobe reads it."""
        lines = []
        for name in names:
            needed = [n for n in reversed(self.order([name])) if n != name]
            lines.append(f"{name}.ko: {words(f'{n}.ko' for n in needed)}".rstrip() + "\n")
        return "".join(lines)

    def alias_file(self, names: Sequence[str]) -> str:
        """``modules.alias``: other names of them, by which the kernel asks for a module."""
        lines = []
        for name in names:
            lines += [f"alias {a.decode()} {name}\n" for a in _ALIAS.findall(self.data(name))]
        return "".join(lines)


def _builtin(folders: Sequence[Path]) -> set[str]:
    """Modules that the kernel says are parts of it."""
    found = set()
    for folder in folders:
        listed = folder / "modules.builtin"
        if listed.exists():
            found |= {name_of(Path(line)) for line in listed.read_text().split()}
    return found


def _read(path: Path) -> bytes:
    data = path.read_bytes()
    try:
        if path.suffix == ".xz":
            return lzma.decompress(data)
        if path.suffix == ".gz":
            return gzip.decompress(data)
    except (OSError, lzma.LZMAError) as error:
        raise BottomhalfError(f"guest: {path}: {error}") from None
    if path.suffix != ".zst":
        return data
    if shutil.which("zstd") is None:
        raise BottomhalfError(f"guest: {path} is packed by zstd", "apt-get install zstd")
    made = subprocess.run(["zstd", "-dcq", str(path)], capture_output=True, check=False)
    if made.returncode:
        raise BottomhalfError(f"guest: {path}: {made.stderr.decode(errors='replace').strip()}")
    return made.stdout
