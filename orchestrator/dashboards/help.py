"""The help screen: every key, every letter, every label."""

from __future__ import annotations

from orchestrator.dashboards.common import PLAIN, Size, footer, header
from orchestrator.dashboards.draw import Box, Frame, Shelf, compose, static
from orchestrator.dashboards.model import MachineView

_KEYS = (
    " 0-9         open the process with this number",
    " Left Right  the process before and after in the list",
    " Esc         back to the whole machine",
    " w           on a CPU: its worker pools, and back",
    " space       hold the view; the machine goes on",
    " k f c r     kill; freeze or thaw; cable out or in; restart",
    "             on the overview, then the number, a active, b backup",
    " d           leave the screen, let the machine run",
    " q           leave the screen (after `up`: end the machine)",
)
_LETTERS = (
    " H hardirq   S softirq   T task   . idle   N NMI   X dead   - offline",
    " W waits for the answer to a register read",
    " A column of a CPU's history shows a context that ran in it, each in turn.",
    " Wires: = alive, x no light or no process.  NICs: X dead.",
    " ping: one character a request, ! answered, . not.",
    " rings: H head, T tail, # descriptors of the NIC, . of the driver.",
)


def render(view: MachineView, size: Size = PLAIN) -> Frame:
    """The help screen in exactly the given size."""
    return compose(
        header(view, None, size),
        "What is shown is read from the machine's RAM; looking changes nothing.",
        [
            Shelf((Box("keys", static(_KEYS), len(_KEYS), 1),)),
            Shelf((Box("letters and pictures", static(_LETTERS), len(_LETTERS), 1),)),
        ],
        footer("any key goes back", size),
        size.width,
        size.height,
    )
