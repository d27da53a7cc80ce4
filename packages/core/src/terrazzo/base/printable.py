"""Text that others wrote (names of classes, runs, files) in a form that can be shown anywhere."""

from __future__ import annotations

import re

_NEVER = r"\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff"
# Control characters steer a terminal and are no XML; the marks of direction turn a line around;
# halves of surrogate pairs stand for bytes of a file name that are no text.
_CONTROL = re.compile(rf"[\x00-\x1f{_NEVER}]")
_CONTROL_IN_LINES = re.compile(rf"[\x00-\x08\x0b-\x1f{_NEVER}]")


def has_control_characters(text: str) -> bool:
    """Tell whether text has characters that steer a terminal or that no file format can hold."""
    return _CONTROL.search(text) is not None


def one_line(text: str) -> str:
    r"""Return a name with escapes such as ``\x1b`` in place of its control characters."""
    return _CONTROL.sub(_escape, text)


def lines(text: str) -> str:
    """Return text as `one_line` does, but with its line ends and tabs."""
    return _CONTROL_IN_LINES.sub(_escape, text)


def shortened(text: str, most: int) -> str:
    """Return text of `most` characters at the longest; the middle gives way to an ellipsis."""
    if len(text) <= most:
        return text
    half = (most - 1) // 2
    return f"{text[: most - 1 - half]}…{text[len(text) - half :]}"


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
