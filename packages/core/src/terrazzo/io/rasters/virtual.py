"""VRT files of others, where a person allowed them: read, checked, and written anew.

GDAL never sees the file itself. What is on the list below is copied into a VRT of our own in
memory, with every source as an absolute path; anything else, such as a pixel function, a warped or
pansharpened data set, raw bytes of a file or a path to the network, is refused by its name. Sources
must lie below a folder and be GeoTIFF, JPEG 2000 or VRT that pass the same check.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from rasterio.io import MemoryFile

from terrazzo.base.errors import DataError
from terrazzo.io import image_headers, safe_xml
from terrazzo.io.raster_formats import PermittedPath
from terrazzo.io.rasters import drivers
from terrazzo.io.remote_paths import is_remote
from terrazzo.io.safe_xml import Element, XmlError

_SOURCES = ("SimpleSource", "ComplexSource")
_ALLOWED: dict[str, frozenset[str]] = {
    "VRTDataset": frozenset({"rasterXSize", "rasterYSize"}),
    "SRS": frozenset({"dataAxisToSRSAxisMapping", "coordinateEpoch"}),
    "GeoTransform": frozenset(),
    "VRTRasterBand": frozenset({"dataType", "band", "blockXSize", "blockYSize"}),
    "MaskBand": frozenset(),
    "Description": frozenset(),
    "NoDataValue": frozenset(),
    "ColorInterp": frozenset(),
    "ColorTable": frozenset(),
    "Entry": frozenset({"c1", "c2", "c3", "c4"}),
    "Scale": frozenset(),
    "Offset": frozenset(),
    "UnitType": frozenset(),
    "CategoryNames": frozenset(),
    "Category": frozenset(),
    "SimpleSource": frozenset(),
    "ComplexSource": frozenset(),
    "SourceFilename": frozenset(),
    "SourceBand": frozenset(),
    "SourceProperties": frozenset(
        {"RasterXSize", "RasterYSize", "DataType", "BlockXSize", "BlockYSize"}
    ),
    "SrcRect": frozenset({"xOff", "yOff", "xSize", "ySize"}),
    "DstRect": frozenset({"xOff", "yOff", "xSize", "ySize"}),
    "NODATA": frozenset(),
    "ScaleOffset": frozenset(),
    "ScaleRatio": frozenset(),
    "LUT": frozenset(),
    "ColorTableComponent": frozenset(),
    "UseMaskBand": frozenset(),
}  # fmt: skip
"""Elements that are copied, with the attributes that are."""
_DROPPED = frozenset({"Metadata", "Histograms", "OverviewList", "Overview", "GCPList"})
"""Elements that change no pixel, or that are not read of any file."""
_DROPPED_ATTRIBUTES = frozenset({"relativeToVRT", "shared", "resampling"})
_PLAIN_BANDS = ("", "VRTRasterBand", "VRTSourcedRasterBand")
_DEEPEST = 4  # VRT in VRT
_MOST_FILES = 10_000


@dataclass(frozen=True)
class CheckedVrt:
    """A VRT of our own in memory.

    Attributes:
        name: by which GDAL knows it.
        sources: the rasters it leads to, VRT inside it not among them.
        memory: frees it.
    """

    name: str
    sources: tuple[Path, ...]
    memory: ExitStack


@dataclass
class _Writing:
    below: Path
    memory: ExitStack = field(default_factory=ExitStack)
    sources: dict[Path, None] = field(default_factory=dict)


def checked(path: PermittedPath) -> CheckedVrt:
    """Check a VRT with all it leads to, and write it anew in memory.

    Raises:
        DataError: SEG-D098, naming what in it is not read; as `drivers.driver_of` of a source.
    """
    assert path.below is not None
    writing = _Writing(path.below.resolve())
    with writing.memory:
        name = _written(Path(str(path)), writing, 0)
        return CheckedVrt(name, tuple(writing.sources), writing.memory.pop_all())
    raise AssertionError  # the context above swallows nothing


def files_behind(path: PermittedPath) -> tuple[Path, ...]:
    """Return the rasters that a VRT leads to.

    Raises:
        DataError: as `checked`.
    """
    found = checked(path)
    found.memory.close()
    return found.sources


def _written(path: Path, writing: _Writing, depth: int) -> str:
    if depth > _DEEPEST:
        raise _refused(path, f"VRT inside VRT, more than {_DEEPEST} deep")
    try:
        root = safe_xml.parse(path.read_bytes())
    except (OSError, XmlError) as error:
        raise _refused(path, str(error)) from None
    if root.name != "VRTDataset":
        raise _refused(path, f"element {root.name}")
    _refuse_resampled(path, root)
    _refuse_holes(path, root)
    text = "".join(_copy(path, root, writing, depth))
    file = writing.memory.enter_context(MemoryFile(text.encode(), ext=".vrt"))
    return str(file.name)


def _copy(path: Path, element: Element, writing: _Writing, depth: int) -> Iterator[str]:
    name = element.name
    if name in _DROPPED:
        return
    if name not in _ALLOWED:
        raise _refused(path, f"element {name}")
    kind = element.attributes.get("subClass", "")
    if kind and not (name == "VRTRasterBand" and kind in _PLAIN_BANDS):
        raise _refused(path, f"{name} of the kind {kind}")
    attributes = {k: v for k, v in element.attributes.items() if k in _ALLOWED[name]}
    unknown = element.attributes.keys() - _ALLOWED[name] - _DROPPED_ATTRIBUTES - {"subClass"}
    if unknown:
        raise _refused(path, f"attribute {min(unknown)} of {name}")
    yield f"<{name}{''.join(f' {k}={quoteattr(v)}' for k, v in attributes.items())}>"
    if name == "SourceFilename":
        yield escape(_source(path, element, writing, depth))
    else:
        yield escape(element.text)
        for child in element.children:
            yield from _copy(path, child, writing, depth)
    yield f"</{name}>"


def _source(path: Path, element: Element, writing: _Writing, depth: int) -> str:
    """Check a source, and return its absolute path, or our own name of a VRT."""
    name = element.text
    if is_remote(name) or not name or name.startswith("<"):
        raise _refused(path, f"source {name[:200]!r}", "files of this machine")
    relative = element.attributes.get("relativeToVRT", "0") == "1"
    # As GDAL does: from the folder of the VRT where it says so, and from where one stands if not.
    place = (path.resolve().parent / name if relative else Path(name)).resolve()
    if not place.is_relative_to(writing.below):
        raise _refused(path, f"source {name!r}, which is {place}", f"files below {writing.below}")
    if not place.is_file():
        raise _refused(path, f"source {name!r}, which is not there", "files that can be read")
    with place.open("rb") as file:
        head = file.read(100)
    if image_headers.content_name(head) == "VRT":
        return _written(place, writing, depth + 1)
    driver = drivers.driver_of(place, head)
    drivers.require_whole(place, driver)
    writing.sources[place] = None
    if len(writing.sources) > _MOST_FILES:
        raise _refused(path, f"more than {_MOST_FILES} sources")
    return str(place)


def _refuse_resampled(path: Path, root: Element) -> None:
    """Refuse sources of other pixels: what GDAL makes of them depends on the window it reads."""
    for source in (each for name in _SOURCES for each in root.all(name)):
        rects = [each for name in ("SrcRect", "DstRect") for each in source.all(name)]
        if len(rects) != 2:
            continue
        try:
            (x, y, *size), (to_x, to_y, *to_size) = (
                [float(rect.attributes[key]) for key in ("xOff", "yOff", "xSize", "ySize")]
                for rect in rects
            )
        except (KeyError, ValueError):
            raise _refused(path, "a SrcRect or DstRect without its four numbers") from None
        scaled = max(abs(one - other) for one, other in zip(size, to_size, strict=True)) > 1e-3
        whole = all(abs(each - round(each)) < 1e-3 for each in (x, y, to_x, to_y))
        method = source.attributes.get("resampling", "nearest").lower()
        if scaled or (method not in ("near", "nearest") and not whole):
            raise _refused(
                path,
                "a source that is resampled",
                'sources of the same pixels; a scene of several files with align = "reproject" '
                "brings others onto one grid",
            )


def _refuse_holes(path: Path, root: Element) -> None:
    """Refuse a band without a nodata value whose sources leave pixels out: they would be 0."""
    size = [int(root.attributes.get(side, "0") or 0) for side in ("rasterXSize", "rasterYSize")]
    if any(child.name == "MaskBand" for child in root.children):
        return
    for band in (child for child in root.children if child.name == "VRTRasterBand"):
        if any(child.name in ("NoDataValue", "MaskBand") for child in band.children):
            continue
        boxes = [_box(path, child, size) for child in band.children if child.name in _SOURCES]
        if _uncovered(boxes, size):
            raise _refused(
                path,
                f"band {band.attributes.get('band', '?')} has pixels that no source covers, and no "
                "NoDataValue",
                "sources that cover the raster, or a NoDataValue",
            )


def _box(path: Path, source: Element, size: list[int]) -> tuple[float, ...]:
    rect = next((child for child in source.children if child.name == "DstRect"), None)
    if rect is None:
        return (0, 0, *size)
    try:
        x, y, w, h = (float(rect.attributes[key]) for key in ("xOff", "yOff", "xSize", "ySize"))
    except (KeyError, ValueError):
        raise _refused(path, f"DstRect {rect.attributes}") from None
    return (x, y, x + w, y + h)


def _uncovered(boxes: list[tuple[float, ...]], size: list[int]) -> bool:
    """Tell whether boxes leave a part of the raster out, strip by strip between their edges."""
    slack = 0.5  # pixels: a box may end between two centres
    edges = sorted({0.0, float(size[1]), *(y for box in boxes for y in (box[1], box[3]))})
    for top, bottom in itertools.pairwise(edges):
        if bottom <= 0 or top >= size[1] or bottom - top < slack:
            continue
        reached = 0.0
        middle = (max(top, 0.0) + min(bottom, size[1])) / 2
        for left, _, right, _ in sorted(b for b in boxes if b[1] <= middle <= b[3]):
            if left > reached + slack:
                return True
            reached = max(reached, right)
        if reached < size[0] - slack:
            return True
    return False


def _refused(path: Path, observed: str, allowed: str = "") -> DataError:
    return DataError(
        "SEG-D098",
        "the VRT holds what is not read",
        file=path,
        observed=observed,
        allowed=allowed
        or "mosaics and stacks of GeoTIFF and JPEG 2000, as gdalbuildvrt writes them",
        next_step="write what it stands for into a file with a GDAL you trust it with: "
        f"`gdal_translate -of GTiff {path.name} {path.stem}.tif`",
    )
