"""Names that others chose as fields of CSV files."""

from __future__ import annotations

import re

_FORMULA = re.compile("'*[=+\\-@\\t\\r\\n]")
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
"""What a file of text cannot hold."""


def csv_text(name: str) -> str:
    """Return a name that a spreadsheet does not take for a formula; `name_from_csv` undoes it.

    A name that begins with one of ``= + - @``, a tab or a line end gets the apostrophe by which
    spreadsheets know text; so does one that would look as if it had got it.
    """
    name = _NO_TEXT.sub("\ufffd", name)
    return f"'{name}" if _FORMULA.match(name) else name


def name_from_csv(field: str) -> str:
    """Return the name that `csv_text` made a field of."""
    return field[1:] if field.startswith("'") and _FORMULA.match(field) else field
