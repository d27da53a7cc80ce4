"""What ImageJ and OME note in the description of a TIFF: axes, channels, the size of a pixel.

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

from terrazzo.base.errors import DataError
from terrazzo.io import image_headers, safe_xml
from terrazzo.io.microscopy.image import named
from terrazzo.io.remote_paths import RemotePath
from terrazzo.io.safe_xml import Element, XmlError

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
    return [pixels.attributes for pixels in _all_pixels(description)]


def tells_sizes(description: str) -> bool:
    """Tell whether OME says of each image how many rows, columns, channels and planes it has."""
    found = ome_pixels(description)
    return bool(found) and all(
        "DimensionOrder" in each and all(each.get(f"Size{a}", "").isdecimal() for a in "XYCZT")
        for each in found
    )


def _all_pixels(description: str) -> list[Element]:
    root = _ome_root(description)
    return [] if root is None else root.all("Pixels")


def _ome_root(description: str) -> Element | None:
    # Its bytes are no longer in the encoding that the XML declares.
    text = re.sub(r"^\s*<\?xml[^>]*\?>", "", description)
    try:
        return safe_xml.parse(text.encode())
    except (XmlError, UnicodeEncodeError):
        return None


def ome_channels(description: str, image: int) -> list[tuple[str | None, int]]:
    """Return name and samples of each channel of an image; none where OME names none.

    Args:
        description: of the first page.
        image: number of the image, from 0.
    """
    found = _all_pixels(description) if is_ome(description) else []
    if image >= len(found):
        return []
    channels = [child for child in found[image].children if child.name == "Channel"]
    return [(each.attributes.get("Name"), _samples(each)) for each in channels]


def _samples(channel: Element) -> int:
    told = channel.attributes.get("SamplesPerPixel", "1")
    return int(told) if re.fullmatch(r"[1-9]\d{0,3}", told) else 1


def channel_names(description: str, bands: int, image: int = 0) -> tuple[str, ...]:
    """Return the names that OME gives to the bands of an image, ``band N`` where it gives none."""
    told = [name for name, samples in ome_channels(description, image) if samples == 1]
    return named(told, bands)


def refuse_other_files(path: Path, description: str) -> None:
    """Refuse an OME-TIFF whose pixels, or description, lie in other files.

    Raises:
        DataError: SEG-D130.
    """
    root = _ome_root(description) if is_ome(description) else None
    if root is None:
        return
    own = root.attributes.get("UUID")
    others = [
        each.attributes.get("FileName", each.text)
        for each in root.all("UUID")
        if own is None or each.text.casefold() != own.casefold()
    ]
    others += [each.attributes.get("MetadataFile", "?") for each in root.all("BinaryOnly")]
    others = [each for each in dict.fromkeys(others) if own is not None or each != path.name]
    if others:
        raise DataError(
            "SEG-D130",
            "the OME-TIFF is one of several files that are one image",
            file=path,
            observed=f"{len(others)} other files, the first {others[0][:200]!r}",
            allowed="all planes in one file",
            next_step="write them as one file, e.g. `bfconvert IN OUT.ome.tif`",
        )


def physical_sides(path: Path, dataset: Any) -> tuple[float, float] | None:
    """Return width and height of a pixel in metres, as ImageJ or OME note them.

    None where neither does, the file lies on the ground, or its images are of several sizes.

    Args:
        path: a TIFF file.
        dataset: the same as a rasterio data set.
    """
    if dataset.crs is not None or not dataset.transform.is_identity:
        return None
    per_unit = [dataset.tags().get(f"TIFFTAG_{axis}RESOLUTION") for axis in "XY"]
    return sides_told(description_of(path, dataset), *per_unit)


def sides_told(
    description: str, across: str | None, down: str | None, image: int | None = None
) -> tuple[float, float] | None:
    """Return width and height of a pixel in metres; see `physical_sides`.

    Args:
        description: of the first page.
        across: the TIFF's pixels per unit along a row, as text.
        down: the same along a column.
        image: number of the image of OME; None: all are meant.
    """
    if is_ome(description):
        told = ome_pixels(description)
        found = {_ome_sides(pixels) for pixels in (told if image is None else told[image:][:1])}
        return found.pop() if len(found) == 1 else None
    return _imagej_sides(imagej_notes(description), across, down)


def _imagej_sides(
    notes: Mapping[str, str], across: str | None, down: str | None
) -> tuple[float, float] | None:
    unit = notes.get("unit", "")
    sides = [
        _IMAGEJ_METRES.get(_micro(name), 0.0) / (_positive(per_unit) or math.inf)
        for name, per_unit in ((unit, across), (notes.get("yunit", unit), down))
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
