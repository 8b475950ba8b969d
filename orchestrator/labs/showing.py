"""A lab's page as a terminal or a pipe shows it: rich's Markdown, but blocks of output as they are.

rich would break their lines at the width, which tears tables and pictures apart."""

from __future__ import annotations

from typing import ClassVar

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import CodeBlock, Markdown, MarkdownElement
from rich.text import Text


class _Block(CodeBlock):
    """Lines that are never broken or cut."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        text = str(self.text).rstrip()
        yield Text(text, style="markdown.code_block", no_wrap=True, overflow="ignore")


class Page(Markdown):
    """The page."""

    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "fence": _Block,
        "code_block": _Block,
    }
