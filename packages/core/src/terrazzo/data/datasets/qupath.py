"""QuPath: the objects of each image as GeoJSON, in pixels of the whole image.

    images/slide.tif …
    annotations/slide.geojson …

    [data.options]
    classes = ["Tumor", "Stroma"]

Polygons with holes and multi-polygons of classified objects are read, lines and points once they
have a ``line_width``. An object without a class is called ``unclassified``: it is refused, unless
that is among ``classes`` or ``undrawn``. Objects are drawn in the order of the file, the last one
on top; those of another plane than the one that is read (``plane``, else the first) are refused.
The files state no size of their image.
Source: qupath.readthedocs.io, "Exporting annotations".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from terrazzo.data.datasets._annotated_images import AnnotatedImages, open_per_image
from terrazzo.data.datasets._annotation_files import Fields, kind_not_read, points_of, read_json
from terrazzo.data.datasets._pairing import Pair
from terrazzo.data.datasets._planes_of_shapes import ReadPlane
from terrazzo.data.datasets._shape_options import PerImageOptions
from terrazzo.io.annotations.draw import undrawable
from terrazzo.io.annotations.shapes import AnnotatedImage, Geometry, Line, Part, Polygon, Shape

LABELS = None
_NO_CLASS = "unclassified"


class Options(PerImageOptions):
    """Where images and files lie."""


def open_split(root: Path, split: str, options: Options) -> AnnotatedImages:
    """Find the images of one split below `root`.

    Raises:
        ConfigError: see `open_per_image`.
        DataError: see `open_per_image`.
    """

    def load(pair: Pair, size: tuple[int, int]) -> AnnotatedImage:  # noqa: ARG001
        plane = ReadPlane.of(pair.image, options.plane)
        return AnnotatedImage(None, tuple(_shape(each, plane) for each in _features(pair.mask)))

    return open_per_image(root, split, options, load, _names_in, (".geojson", ".json"))


def _features(path: Path) -> list[Fields]:
    value = read_json(path, "qupath")
    whole = {"features": value} if isinstance(value, list) else value
    return Fields(whole, path, "").tables("features")


def _names_in(path: Path) -> list[str]:
    return [_class_of(each) for each in _features(path)]


def _class_of(feature: Fields) -> str:
    properties = feature.table("properties")
    if "classification" not in properties:
        return _NO_CLASS
    return properties.table("classification").text("name")


def _shape(feature: Fields, read: ReadPlane) -> Shape:
    geometry = feature.table("geometry")
    kind = geometry.text("type")
    places = {"z": 0.0, "t": 0.0}  # QuPath leaves out the first plane
    if "plane" in geometry:
        plane = geometry.table("plane")
        places |= {axis: plane.number(axis) for axis in places if axis in plane}
    if read.other_axis(places) is not None:
        raise kind_not_read(feature, f"{kind} in plane {places}", f"objects of {read.told}")
    return Shape(_class_of(feature), kind, _geometry(geometry, kind), feature.place)


def _geometry(geometry: Fields, kind: str) -> Geometry:
    if kind not in ("Polygon", "MultiPolygon", "LineString", "Point", "MultiPoint"):
        raise kind_not_read(
            geometry,
            kind,
            "Polygon, MultiPolygon; LineString and Point with data.options.line_width",
        )
    numbers = geometry.list_of("coordinates")
    match kind:
        case "Polygon":
            return Polygon((_part(numbers, geometry),))
        case "MultiPolygon":
            return Polygon(tuple(_part(rings, geometry) for rings in numbers))
        case "LineString":
            return Line(points_of(numbers, geometry.path, geometry.place))
        case "Point":
            return Line(points_of([numbers], geometry.path, geometry.place))
    raise kind_not_read(geometry, kind, "one point an object")


def _part(rings: Any, geometry: Fields) -> Part:
    if not isinstance(rings, list) or not rings or not all(isinstance(r, list) for r in rings):
        raise undrawable(
            "a polygon is a list of rings",
            f"{str(rings)[:80]} at {geometry.place}",
            "an outline, and its holes",
            str(geometry.path),
        )
    outline, *holes = (points_of(ring, geometry.path, geometry.place) for ring in rings)
    return Part(outline, tuple(holes))
