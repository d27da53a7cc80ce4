"""The console that tables are printed on: names in them are text, never markup."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from terrazzo.base import printable


class PlainConsole(Console):
    """A Rich console that prints strings as they are.

    Brackets and ``:names:`` of emoji stay what they are, and control characters become visible.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **settings)

    def render_str(self, text: str, **settings: Any) -> Text:
        """Return text with style alone."""
        return super().render_str(printable.lines(text), **settings)
