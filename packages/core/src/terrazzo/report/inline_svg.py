"""Figures as SVG elements that take their colours and fonts from the page around them."""

from __future__ import annotations

import io
import warnings
import xml.etree.ElementTree as ET

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from terrazzo.base import printable
from terrazzo.report.palettes import PAGE_VARIABLES


def render(figure: Figure, name: str, description: str) -> str:
    """Return the figure as an ``<svg>`` element.

    Args:
        figure: drawn in `palettes.PAGE_PALETTE`.
        name: prefix of the ids in the element; unique on the page.
        description: text for screen readers.
    """
    buffer = io.StringIO()
    for patch in (figure.patch, *(axes.patch for axes in figure.axes)):
        patch.set_visible(False)  # the page is behind it, light or dark
    with (
        mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "terrazzo"}),
        warnings.catch_warnings(),
    ):
        # The letters are drawn in the fonts of the page, which has them all.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    root = ET.fromstring(buffer.getvalue())  # noqa: S314 - our own figure
    for element in root.iter():
        element.tag = _local(element.tag)
        for key, value in list(element.attrib.items()):
            del element.attrib[key]
            element.set(_local(key), value)
    _drop(root, {"metadata", "style"})
    for element in root.iter():
        _adapt(element, name)
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "role": "img",
        "class": "figure",
    }
    for element in root.iter():
        element.attrib = {key: _in_page_colours(value) for key, value in element.attrib.items()}
    root.set("aria-label", printable.one_line(description))  # a name may look like a colour
    return ET.tostring(root, encoding="unicode")


def _in_page_colours(value: str) -> str:
    for colour, variable in PAGE_VARIABLES.items():
        value = value.replace(colour, variable)
    return value


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _drop(root: ET.Element, tags: set[str]) -> None:
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag in tags]:
            parent.remove(child)


def _adapt(element: ET.Element, figure_name: str) -> None:
    """Keep only the ids that are referred to, apart from those of other figures; drop the font."""
    attributes = element.attrib
    if "id" in attributes:
        if attributes["id"].startswith("run-"):
            attributes["data-run"] = attributes["id"].removeprefix("run-")
        if element.tag in {"path", "clipPath"}:
            attributes["id"] = f"{figure_name}-{attributes['id']}"
        else:
            del attributes["id"]
    for key in ("href", "clip-path"):
        if key in attributes:
            attributes[key] = attributes[key].replace("#", f"#{figure_name}-")
    if "style" in attributes:
        attributes["style"] = _without_font_family(attributes["style"])


def _without_font_family(style: str) -> str:
    kept = []
    for declaration in style.split(";"):
        key, _, value = declaration.strip().partition(":")
        if key == "font":  # "11px 'DejaVu Sans', ..." until matplotlib 3.10
            kept.append(f"font-size: {value.split()[0]}")
        elif key != "font-family":
            kept.append(declaration.strip())
    return "; ".join(kept)
