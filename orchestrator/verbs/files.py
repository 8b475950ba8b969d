"""Files of the emulated machine: ``cat`` and ``ls``, with coreutils' texts.

The boot CPU is asked for a plain snapshot and Linux's text is rendered on this side."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Generator, Sequence

from nodes.cpu.kernel.procfs import is_directory, listing
from orchestrator.errors import OK, BottomhalfError, nearest
from orchestrator.machines import procfiles
from orchestrator.session import ENDLESS, Session, Steps, Wait

#: The file system: the root has two mounts and an empty home.
HOME = "/root"
ROOT_NAMES = ("proc", "root", "sys")


def absolute(cwd: str, path: str) -> str:
    """The whole name; normpath would keep two slashes at the beginning."""
    return posixpath.normpath("/" + posixpath.join(cwd, path).lstrip("/"))


def cat(session: Session, argv: Sequence[str]) -> Steps:
    """Print files of the emulated /proc and /sys."""
    code = OK
    contents = {}
    for path in argv:
        if path.startswith("-"):
            raise BottomhalfError(
                f"invalid option -- '{path.lstrip('-')}'",
                "files only: bottomhalf cat /proc/interrupts",
                code=1,
                program="cat",
            )
        try:
            text = yield from procfiles.read(session, absolute(session.cwd, path))
        except OSError as error:
            session.err(f"cat: {path}: {os.strerror(error.errno or 0)}\n")
            if isinstance(error, FileNotFoundError):
                session.hint((yield from near(session, absolute(session.cwd, path))))
            code = 1
            continue
        contents[path] = text
        if not session.json:
            session.out(text)
    if session.json:
        session.out(json.dumps(contents) + "\n")
    return code


def near(session: Session, path: str) -> Generator[Wait, None, str]:
    """Files that are like one that is not there."""
    paths = yield from procfiles.paths(session)
    folder = path.rsplit("/", 1)[0] + "/"
    close = [p for p in paths if p.startswith(folder)] if len(folder) > 1 else []
    best = nearest(path, paths)
    if best:
        close = [best, *(p for p in close if p != best)]
    if not close:
        return "not modelled (docs/limitations.md); bottomhalf ls /proc"
    return f"not modelled (docs/limitations.md); near it: {', '.join(close[:4])}"


def names_in(path: str, paths: Sequence[str]) -> list[str] | None:
    """Names in a directory; None if it is none."""
    if path == "/":
        return list(ROOT_NAMES)
    if path == HOME:
        return []
    return listing(path, paths) if is_directory(path, paths) else None


def ls(session: Session, argv: Sequence[str]) -> Steps:
    """Names, in columns on a terminal."""
    options = [word for word in argv if word.startswith("-") and word != "-"]
    for word in options:
        if word.strip("-1aA"):
            raise BottomhalfError(
                f"invalid option -- '{word.strip('-1aA')[0]}'",
                "names only: bottomhalf ls /sys/class/net",
                code=2,
                program="ls",
            )
    paths = yield from procfiles.paths(session)
    words = [word for word in argv if word not in options] or ["."]
    plain: list[str] = []
    folders: list[tuple[str, list[str]]] = []
    code = OK
    for word in words:
        path = absolute(session.cwd, word)
        names = names_in(path, paths)
        if names is not None:
            folders.append((word, names))
        elif path in paths:
            plain.append(word)
        else:
            session.err(f"ls: cannot access '{word}': No such file or directory\n")
            code = 2
    if session.json:
        session.out(json.dumps(dict(folders) | dict.fromkeys(plain)) + "\n")
        return code
    width = 1 if "1" in "".join(options) else session.width
    blocks = [columns(plain, width)] if plain else []
    for word, names in folders:
        head = f"{word}:\n" if len(words) > 1 else ""
        blocks.append(head + columns(names, width))
    session.out("\n".join(blocks))
    return code


def columns(names: Sequence[str], width: int) -> str:
    """Names below one another, in as many columns as fit; one on a pipe."""
    if width == ENDLESS:
        return "".join(f"{name}\n" for name in names)
    for rows in range(1, len(names) + 1):
        table = [names[at : at + rows] for at in range(0, len(names), rows)]
        widths = [max(map(len, column)) for column in table]
        if sum(widths) + 2 * (len(widths) - 1) <= width or rows == len(names):
            lines = (
                "  ".join(
                    column[row].ljust(size)
                    for column, size in zip(table, widths, strict=True)
                    if row < len(column)
                )
                for row in range(rows)
            )
            return "".join(line.rstrip() + "\n" for line in lines)
    return ""
