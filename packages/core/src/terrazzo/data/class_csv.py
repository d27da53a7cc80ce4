"""Class tables as label maps: the CSV file that colour-coded data sets carry beside their masks.

    name;r;g;b
    building;255;255;0
    road;255;0;0

The separator is a semicolon, a comma or a tab. Each line is a class, in the order of the train ids;
nothing is ignored, so a table's ``unlabeled`` is a class. To ignore it, write a label map.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from terrazzo.base.errors import ConfigError

COLUMNS = ("name", "r", "g", "b")


def read(path: Path) -> dict[str, Any]:
    """Read a class table as the table a label map's TOML file holds.

    Raises:
        ConfigError: SEG-X005 the file cannot be read; SEG-X010 a column is missing, or a line is
            not a name and three numbers of 0…255.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(
            "SEG-X005", "cannot read the class table", file=path, observed=reason
        ) from None
    header = lines[0] if lines else ""
    separator = max(";,\t", key=header.count)
    columns = tuple(column.strip().lower() for column in header.split(separator))
    if columns != COLUMNS:
        raise _refused(path, 1, f"{len(columns)} columns, or others than these")
    rows = csv.reader(lines[1:], delimiter=separator)
    classes = [_class(path, number, row) for number, row in enumerate(rows, start=2) if row]
    return {"name": path.stem, "source": path.name, "classes": classes}


def _class(path: Path, number: int, row: list[str]) -> dict[str, Any]:
    cells = [cell.strip() for cell in row]
    levels = [int(cell) for cell in cells[1:] if cell.isascii() and cell.isdigit()]
    if len(cells) != 4 or not cells[0] or len(levels) != 3 or max(levels) > 255:
        numbers = ", ".join(str(level) for level in levels)
        raise _refused(path, number, f"{len(cells)} cells, numbers among them: {numbers or 'none'}")
    colour = "#{:02X}{:02X}{:02X}".format(*levels)
    return {"name": cells[0], "colour": colour, "raw": [colour]}


def _refused(path: Path, number: int, found: str) -> ConfigError:
    # Without the line: the path may be of a file that the reader of this message may not see.
    return ConfigError(
        "SEG-X010",
        "not a class table",
        file=path,
        observed=f"line {number}: {found}",
        allowed="a first line name;r;g;b, then a name and three numbers of 0…255 a line",
        next_step="correct the line, or write a label map (terrazzo/data/labels.py says how)",
    )
