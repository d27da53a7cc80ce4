"""The names of classes in the ``data.yaml`` of a YOLO data set, as the usual tools write it.

Core has no reader of YAML. What is not plainly a list or a numbered table of names is told as not
known, never guessed.
"""

from __future__ import annotations

import re

_BLOCK = re.compile(
    r"^names:[^\S\n]*(?:#.*)?(\[[^\]]*\]|\{[^}]*\})?[^\n]*\n?"
    r"((?:[^\S\n]*(?:#[^\n]*)?\n|[^\S\n]+\S[^\n]*\n?|-[^\n]*\n?)*)",
    re.M,
)
"""The key, a list or table in brackets, or the indented lines below."""
_QUOTED = r"\"[^\"]*\"|'(?:[^']|'')*'"
_ENTRY = re.compile(
    rf"\s*(?:-\s*|(\d+)\s*:\s*)?({_QUOTED}|[^\s#'\"\[\]{{}},][^#,\n]*?)\s*(?:,|\s\#[^\n]*)?\s*$"
)
_IN_BRACKETS = re.compile(rf"(?:\d+\s*:\s*)?(?:{_QUOTED}|[^,\n'\"#]+)")
_COMMENT = re.compile(r"(?m)\s#[^\n]*$")


def names_in(text: str) -> list[str] | None:
    """Return the names in the order of their numbers; None where the file does not plainly say."""
    found = _BLOCK.search(text.replace("\r\n", "\n"))
    if found is None:
        return None
    if found[1]:
        entries = _IN_BRACKETS.findall(_COMMENT.sub("", found[1][1:-1]))
        entries = [each for each in entries if each.strip()]
    else:
        lines = [each for each in found[2].splitlines() if each.strip()]
        entries = [each for each in lines if not each.lstrip().startswith("#")]
    numbered: dict[int, str] = {}
    for place, entry in enumerate(entries):
        read = _ENTRY.match(entry)
        if read is None:
            return None
        numbered[int(read[1]) if read[1] else place] = _unquoted(read[2].strip())
    in_order = [numbered.get(number) for number in range(len(entries))]
    known = [name for name in in_order if name]
    return known if known and len(known) == len(entries) else None


def _unquoted(word: str) -> str:
    if word[0] == "'":
        return word[1:-1].replace("''", "'")
    return word[1:-1] if word[0] == '"' else word
