"""XML of others, parsed without what XML can be abused for.

A document type, and with it every entity, is refused before anything is expanded; nothing is
fetched, and a size is the limit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn
from xml.parsers import expat

_MOST_BYTES = 32 << 20
_DEEPEST = 64


class XmlError(Exception):
    """The text is no XML that is read here; the message says why."""


@dataclass(slots=True)
class Element:
    """An element: its name without prefix, what it says, and what is in it."""

    name: str
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Its own text, without the blanks around it."""
        return "".join(self.pieces).strip()

    def all(self, name: str) -> list[Element]:
        """Return every element of that name inside, at any depth, in their order."""
        found = []
        for child in self.children:
            if child.name == name:
                found.append(child)
            found += child.all(name)
        return found

    def first_text(self, *names: str) -> str | None:
        """Return the text of the first element inside that has one of the names."""
        for name in names:
            for element in self.all(name):
                return element.text
        return None


def parse(data: bytes) -> Element:
    """Return the root element.

    Raises:
        XmlError: it is not well formed, has a document type, or is too large or too deep.
    """
    if len(data) > _MOST_BYTES:
        msg = f"{len(data)} bytes of XML, of {_MOST_BYTES} that are read at most"
        raise XmlError(msg)
    top = Element("", {})
    stack = [top]

    def begin(name: str, attributes: dict[str, str]) -> None:
        if len(stack) > _DEEPEST:
            msg = f"elements inside each other more than {_DEEPEST} deep"
            raise XmlError(msg)
        element = Element(name.rpartition(":")[2], attributes)
        stack[-1].children.append(element)
        stack.append(element)

    def end(_: str) -> None:
        stack.pop()

    def text(piece: str) -> None:
        stack[-1].pieces.append(piece)

    def refuse(*_: object) -> NoReturn:
        raise XmlError("a document type (DOCTYPE), which may hold entities")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = begin, end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise XmlError(str(error)) from None
    return top.children[0]
