"""A recipe as text, each line with the reason for its value."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_WIDE = 100  # characters of a line
_OWN_TABLES = ("data", "data.options", "augment", "model", "training", "validation")


def recipe_text(values: Mapping[str, Any], reasons: Mapping[str, str], head: str) -> str:
    """Return the TOML of a recipe.

    Args:
        values: tables and keys.
        reasons: by dotted key; a comment each.
        head: comment at the beginning, lines of it.
    """
    lines = [f"# {_plain(line)}".rstrip() for line in head.splitlines()]
    lines.append("")
    lines += _table(values, reasons, "")
    return "\n".join(lines).rstrip() + "\n"


def _table(values: Mapping[str, Any], reasons: Mapping[str, str], path: str) -> list[str]:
    lines: list[str] = []
    tables: list[tuple[str, Mapping[str, Any]]] = []
    for key, value in values.items():
        dotted = f"{path}.{key}" if path else key
        is_table = isinstance(value, Mapping) and (dotted in _OWN_TABLES or not path)
        if is_table:
            tables.append((dotted, value))
        else:
            lines += _line(key, value, reasons.get(dotted, ""))
    for dotted, table in tables:
        lines += ["", f"[{dotted}]", *_table(table, reasons, dotted)]
    return lines


def _line(key: str, value: Any, reason: str) -> list[str]:
    line = f"{_key(key)} = {toml_value(value)}"
    if not reason:
        return [line]
    told = f"# {_plain(reason)}"
    if len(line) + len(told) + 2 <= _WIDE:
        return [f"{line}  {told}"]
    return [*textwrap.wrap(told, _WIDE, subsequent_indent="# "), line]


def toml_value(value: Any) -> str:
    """Return a value as TOML in one line."""
    if isinstance(value, bool | str):
        return _text(value) if isinstance(value, str) else str(value).lower()
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_key(key)} = {toml_value(each)}" for key, each in value.items())
        return f"{{ {inside} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    return repr(value)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _plain(text: str) -> str:
    """Return a text that is one line of a comment."""
    told = "".join(letter if letter.isprintable() else "?" for letter in text)
    return told.encode("utf-8", "backslashreplace").decode()
