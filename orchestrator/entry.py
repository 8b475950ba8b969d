"""Where `bottomhalf` and `bh` begin: Ctrl-C means the same from the first moment on."""

from __future__ import annotations

import sys

INTERRUPTED = 130


def main() -> None:
    """Import the program and run it; an interrupt meanwhile ends it without a word."""
    try:
        from orchestrator.cli import main as cli_main  # noqa: PLC0415
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    cli_main()
