"""Write the table of fault kinds into docs/seeing.md.

python -m tools.faults
"""

from __future__ import annotations

from pathlib import Path

from bus.faults import KINDS

PAGE = Path(__file__).parent.parent / "docs" / "seeing.md"
BEGIN, END = "<!-- faults -->\n", "<!-- end -->"


def table() -> str:
    """The kinds as a table of Markdown."""
    lines = ["| kind | of | what breaks | values | where it shows |", "|---|---|---|---|---|"]
    lines += [
        f"| `{kind.name}` | {' '.join(kind.targets)} | {kind.doc} | {kind.values} | {kind.hint} |"
        for kind in KINDS.values()
    ]
    return "\n".join(lines) + "\n"


def rewritten(text: str) -> str:
    """The page with the table as it is now."""
    head, rest = text.split(BEGIN, 1)
    return f"{head}{BEGIN}{table()}{END}{rest.split(END, 1)[1]}"


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text()))
