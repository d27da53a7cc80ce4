"""Write docs/settings.md: what `terrazzo list settings` and `terrazzo list options` say.

python tools/settings_page.py
"""

from __future__ import annotations

from pathlib import Path

from terrazzo.base import settings_table
from terrazzo.base.recipe import Config
from terrazzo.data import datasets

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"
_WIDTH = 100
_HEAD = """\
# Every setting of a recipe

Made by `python tools/settings_page.py` from the classes that check them. The same on the command
line: `terrazzo list settings`, `terrazzo list settings training`, `terrazzo list options folder`,
and `terrazzo list options unet` for the options of a model.

A line says key, type and default; `none`: leaving it out means something of its own.
"""


def page() -> str:
    """Return the page."""
    parts = [_HEAD, _block("Recipe", settings_table.of_class(Config))]
    for name in datasets.formats():
        options = datasets.load_format(name).Options
        parts.append(_block(f"`[data.options]` of `{name}`", settings_table.of_class(options)))
    return "\n".join(parts)


def _block(title: str, settings: list[settings_table.Setting]) -> str:
    lines = list(settings_table.text(settings, _WIDTH)) or ["(none)"]
    return "\n".join([f"## {title}", "", "```text", *lines, "```", ""])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
