"""Write what the program itself says into the labs' pages: boxes, questions, outputs.

    python -m tools.labs [NAME...]

Commands run in the simulation with the seed that stands on them, so a test can check that the pages
are still true.
"""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout

from orchestrator import cli
from orchestrator.errors import OUR_FAULT, guard
from orchestrator.labs import file, page


def run(argv: tuple[str, ...]) -> tuple[int, str]:
    """Exit code and output of one command line of ours."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = guard(lambda: cli.run(argv), err)
    return code, out.getvalue() + err.getvalue()


def rewritten(lab: file.Lab) -> str:
    """The lab's page as it should be."""
    return page.generated(page.read(lab), lab, _said)


def _said(argv: tuple[str, ...]) -> str:
    """What a page shows of a command; a fault of ours is none of that."""
    code, text = run(argv)
    if code == OUR_FAULT:
        raise RuntimeError(f"{' '.join(argv)}: {text[-500:]}")
    return text


def main(names: list[str]) -> int:
    """Rewrite the pages."""
    for name in names or file.bundled():
        lab = file.load(name)
        text = rewritten(lab)
        for fault in page.faults(text, lab):
            print(f"{lab.page}: {fault}", file=sys.stderr)
        lab.page.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
