"""What all screens share: the header line and the footer."""

from __future__ import annotations

from typing import NamedTuple

from rich.text import Text

from orchestrator.dashboards.draw import STYLES, WIDTH, Line, two, uptime
from orchestrator.dashboards.model import MachineView, NodeView

HONEST = " us are the emulator's on this host; texts, counts, order and ms are Linux's"


class Size(NamedTuple):
    """Of the terminal, in characters; what the caller wants to say in the header and the footer."""

    width: int = WIDTH
    height: int = 24
    caption: str = ""
    message: str = ""  # takes the place of the keys for a moment


#: 80x24 and nothing to say.
PLAIN = Size()


def header(view: MachineView, node: NodeView | None, size: Size) -> Text:
    """Line 1: who, and in which world."""
    settings = view.settings
    time = "virtual time" if view.virtual else "real time"
    who = settings.name if node is None else f"{settings.name} > {node.name}"
    parts = {"who": (who, "bold")}
    if node is not None:
        parts |= _process(node)
    parts |= {"era": (f"era {settings.era}", ""), "time": (time, "")}
    parts["up"] = (f"up {uptime(view.up_ns)}", "")
    if size.caption:
        parts["caption"] = (size.caption, "bold reverse")
    right = "? help " if node is None else "Esc back  ? help "
    line = _joined(parts, "   ")
    for gap, dropped in (("  ", ""), (" ", ""), (" ", "help"), (" ", "up"), (" ", "era")):
        if len(line) + len(right) < size.width:
            break
        parts.pop(dropped, None)
        right = "" if dropped == "help" else right
        line = _joined(parts, gap)
    return two(line, right, size.width)


def _joined(parts: dict[str, tuple[str, str]], gap: str) -> Text:
    line = Text(" ")
    for number, (text, style) in enumerate(parts.values()):
        line.append(gap if number else "").append(text, style)
    return line


def _process(node: NodeView) -> dict[str, tuple[str, str]]:
    """What there is to say of a node's process."""
    state = node.state
    parts = {}
    if state.pid is not None:
        parts["pid"] = (f"pid {state.pid}", "")
    if node.incarnation > 1:
        parts["life"] = (f"life {node.incarnation}", "")
    if not node.alive:
        parts["state"] = ("DEAD", STYLES["X"])
    elif state.frozen:
        parts["state"] = ("STOP", STYLES["S"])
    return parts


def footer(keys: str, size: Size) -> list[Line]:
    """Keys (or a message) and the honest label."""
    return [
        Text(f" {size.message}", style="bold") if size.message else Text(f" {keys}", style="dim"),
        Text(HONEST, style="dim"),
    ]
