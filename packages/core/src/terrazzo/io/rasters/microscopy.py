"""What ImageJ and OME note in the description of a TIFF: axes, and the physical size of a pixel.

Resolution tags alone (dots per inch of scanners and cameras) are no physical size; with ImageJ's
description they are pixels per unit, and the description names the unit.

Sources: ImageJ 1.54, FileInfo and FileOpener.decodeDescriptionString; OME schema 2016-06, Pixels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from terrazzo.io import image_headers
from terrazzo.io.remote_paths import RemotePath

_MOST_XML = 1 << 20  # characters of an OME description that are parsed
_IMAGEJ_METRES = {"micron": 1e-6, "um": 1e-6, "µm": 1e-6, "nm": 1e-9, "mm": 1e-3}
"""Without inch and cm: ImageJ notes these for the resolution of scanners and cameras."""
_OME_METRES = {"nm": 1e-9, "µm": 1e-6, "mm": 1e-3, "cm": 1e-2, "m": 1.0}


def description_of(path: Path, dataset: Any) -> str:
    """Return the ImageDescription of the first page; empty where it has none.

    Args:
        path: a TIFF file.
        dataset: the same as a rasterio data set.
    """
    told = dataset.tags().get("TIFFTAG_IMAGEDESCRIPTION")
    is_tiff = dataset.driver == "GTiff" and not isinstance(path, RemotePath)
    if told is None and is_tiff:  # rasterio drops what is not UTF-8
        told = image_headers.tiff_description(path)
    return told or ""


def imagej_notes(description: str) -> dict[str, str]:
    """Return ImageJ's words by their keys; empty where the description is not ImageJ's."""
    if not description.startswith("ImageJ="):
        return {}
    return dict(line.strip().split("=", 1) for line in description.splitlines() if "=" in line)


def is_ome(description: str) -> bool:
    """Tell whether a description is OME-XML, of a length that is parsed."""
    return "<OME" in description[:4096] and len(description) <= _MOST_XML


def ome_pixels(description: str) -> list[Mapping[str, str]]:
    """Return the attributes of each ``Pixels`` element; none where the XML is not sound."""
    if "<!DOCTYPE" in description or "<!ENTITY" in description:  # none of OME's, and can be abused
        return []
    try:
        tree = ElementTree.fromstring(description)  # noqa: S314 - no entities, see above
    except ElementTree.ParseError:
        return []
    return [element.attrib for element in tree.iter() if element.tag.endswith("Pixels")]


def physical_sides(path: Path, dataset: Any) -> tuple[float, float] | None:
    """Return width and height of a pixel in metres, as ImageJ or OME note them.

    None where neither does, the file lies on the ground, or its images are of several sizes.

    Args:
        path: a TIFF file.
        dataset: the same as a rasterio data set.
    """
    if dataset.crs is not None or not dataset.transform.is_identity:
        return None
    description = description_of(path, dataset)
    if is_ome(description):
        found = {_ome_sides(pixels) for pixels in ome_pixels(description)}
        return found.pop() if len(found) == 1 else None
    return _imagej_sides(imagej_notes(description), dataset.tags())


def _imagej_sides(notes: Mapping[str, str], tags: Mapping[str, str]) -> tuple[float, float] | None:
    unit = notes.get("unit", "")
    sides = [
        _IMAGEJ_METRES.get(_micro(name), 0.0) / (_positive(tags.get(tag)) or math.inf)
        for name, tag in (
            (unit, "TIFFTAG_XRESOLUTION"),
            (notes.get("yunit", unit), "TIFFTAG_YRESOLUTION"),
        )
    ]
    return (sides[0], sides[1]) if all(sides) else None


def _ome_sides(pixels: Mapping[str, str]) -> tuple[float, float] | None:
    sides = [
        (_positive(pixels.get(f"PhysicalSize{axis}")) or 0.0)
        * _OME_METRES.get(_micro(pixels.get(f"PhysicalSize{axis}Unit", "µm")), 0.0)
        for axis in "XY"
    ]
    return (sides[0], sides[1]) if all(sides) else None


def _micro(unit: str) -> str:
    """Return a unit with the micro sign, which Java escapes and others write as a Greek letter."""
    return re.sub(r"\\u00b5|μ", "µ", unit.strip(), flags=re.IGNORECASE)


def _positive(text: str | None) -> float | None:
    """Return a finite number above 0; None where the text is none."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 < number < math.inf else None
