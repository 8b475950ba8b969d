"""``write PATH [TEXT...]``: what a shell's ``echo TEXT > PATH`` does, with the shell's error texts.

Words after the first are pieces of one text, because a message's words are short. Without any the
file is only opened. All tables are the boot CPU's, so it runs there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel import files, procfs
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.snapshot import snapshot
from nodes.cpu.programs.libc import strerror
from nodes.cpu.programs.run import STDERR, Process, program

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


@program("write")
def write(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
    if not cpu.boot or len(argv) < 2:
        process.write("write: PATH [TEXT...], on the boot CPU\n", STDERR)
        return 2
    path, text = argv[1], "".join(argv[2:])
    error = files.open_for_writing(path, procfs.paths({"cpu0": snapshot(cpu, "kernel")}))
    yield
    if error:
        process.write(f"bash: {path}: {strerror(error)}\n", STDERR)
        return 1
    if text:
        error = yield from files.write(cpu, path, text)
    if error:
        process.write(f"bash: echo: write error: {strerror(error)}\n", STDERR)
    return 1 if error else 0
