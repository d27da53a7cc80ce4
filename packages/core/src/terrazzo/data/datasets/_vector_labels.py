"""Labels and areas that are drawn from polygons, lines and points, and what to say about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic import Field

from terrazzo.base.config_parsing import Frozen
from terrazzo.base.errors import ConfigError, DataError
from terrazzo.data.ground import pixel_sides
from terrazzo.io import rasters
from terrazzo.io.rasters import Burnt, Features, RasterInfo

_NAMED = 5  # shapes or pairs of classes that a note names
_STRETCH = 0.01  # of a width: less is not worth a word
RawValue = Annotated[int, Field(ge=0, le=65535)]
Width = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class VectorSettings(Frozen):
    """How files are brought onto the grid of a scene, and how shapes are drawn there."""

    align: Literal["exact", "reproject"] = "exact"
    """reproject: files in another CRS or on another grid are brought onto that of the first image,
    images bilinear, labels and masks nearest neighbour, shapes corner by corner."""
    crs_tolerance: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Pixels. A file with another CRS than the image is taken as it lies if no point of the
    scene moves by more than this from one CRS to the other: for files of one place whose CRS are
    written in two ways."""
    burn: RawValue | None = None
    """Shapes: raw value of pixels whose centre is inside one. None: 1, if the shapes have no
    attribute that may tell classes apart."""
    burn_property: str | None = None
    """Shapes: attribute that holds their raw value; takes the place of `burn`."""
    burn_values: dict[str, RawValue] = Field(default_factory=dict)
    """Shapes: raw value for each value of `burn_property`, where these are words."""
    burn_width: Width | dict[str, Width] | None = None
    """Lines and points: their width in map units of the scene, or in metres on the ground where
    these are degrees; for each value of `burn_property` where these differ. None: they are
    refused."""
    priority: tuple[str, ...] = ()
    """Shapes that overlap: values of `burn_property`, the topmost first; all others lie below them.
    Empty: later shapes of the file cover earlier ones, and so do later ones of equal value."""
    all_touched: bool = False
    """Shapes: every pixel that one touches is inside it, and not only those whose centre is."""
    background: RawValue | Literal["ignore"] = 0
    """Shapes: raw value of all other pixels; ``ignore``: they are not labelled."""

    @pydantic.model_validator(mode="after")
    def _values_of_a_property(self) -> VectorSettings:
        if self.burn_property is None:
            for name in ("burn_values", "burn_width"):
                if isinstance(getattr(self, name), dict) and getattr(self, name):
                    msg = f"{name} needs burn_property, the attribute they are of"
                    raise ValueError(msg)
            if self.priority:
                msg = "priority needs burn_property, the attribute it is of"
                raise ValueError(msg)
        unknown = [name for name in self.priority if name not in self.burn_values]
        if self.burn_values and unknown:
            msg = f"priority names {', '.join(unknown)}, and burn_values does not"
            raise ValueError(msg)
        twice = {name for name in self.priority if self.priority.count(name) > 1}
        if twice:
            msg = f"priority names {', '.join(sorted(twice))} twice"
            raise ValueError(msg)
        return self


@dataclass(frozen=True, slots=True)
class Drawn:
    """Shapes on the grid of a scene.

    Attributes:
        label_HW: raw values, or True inside an area.
        labelled_HW: False where no shape labels; None: nowhere.
        notes: what a person should know.
    """

    label_HW: NDArray[Any]
    labelled_HW: NDArray[np.bool_] | None
    notes: tuple[str, ...]


def draw_labels(path: Path, layer: str | None, grid: RasterInfo, settings: VectorSettings) -> Drawn:
    """Draw the labels of a scene.

    Raises:
        ConfigError: as `rasters.read_features` and `rasters.widen_shapes`.
        DataError: the same, and `rasters.rasterize_shapes`; SEG-D012 attributes that may be classes
            and are not used.
    """
    read = _read(path, layer, grid, settings, settings.burn_property)
    shapes = rasters.widen_shapes(read, grid, width=settings.burn_width)
    shapes = rasters.in_order(shapes, settings.priority)
    if settings.burn is None and settings.burn_property is None:
        _refuse_unused_attributes(path, layer)
    burn = 1 if settings.burn is None else settings.burn
    burnt = rasters.rasterize_shapes(
        shapes,
        grid,
        value=burn if settings.burn_property is None else None,
        values=settings.burn_values,
        background=0 if settings.background == "ignore" else settings.background,
        all_touched=settings.all_touched,
    )
    inside_HW = None
    if settings.background == "ignore":
        inside_HW = rasters.inside(shapes, grid, all_touched=settings.all_touched)
    notes = (
        *crs_note(shapes),
        *_width_note(read, grid, settings),
        *_fault_note(read),
        *_overlap_note(shapes, burnt, settings),
        *_lost_note(shapes, burnt, settings),
    )
    return Drawn(burnt.label_HW, inside_HW, notes)


def draw_area(path: Path, grid: RasterInfo, settings: VectorSettings) -> Drawn:
    """Draw the area outside of which nothing counts.

    Raises:
        ConfigError: as `area_shapes`.
        DataError: as `area_shapes`.
    """
    shapes = area_shapes(path, grid, settings)
    return Drawn(rasters.inside(shapes, grid), None, (*crs_note(shapes), *_fault_note(shapes)))


def area_shapes(
    path: Path,
    grid: RasterInfo,
    settings: VectorSettings,
    *,
    edges: bool = False,
    layer: str | None = None,
) -> Features:
    """Read the polygons of an area.

    Args:
        path: a vector file.
        grid: of the scene.
        settings: how it is brought there.
        edges: bring it there along its edges, and not by its corners alone.
        layer: of a GeoPackage with several.

    Raises:
        ConfigError: SEG-X011 it is a raster; as `rasters.read_features`.
        DataError: as `rasters.read_features`; SEG-D012 lines or points.
    """
    if not rasters.is_vector(path):
        raise ConfigError(
            "SEG-X011",
            "an area is given as polygons",
            file=path,
            allowed="GeoJSON, GeoPackage, Shapefile or FlatGeobuf",
            next_step="export its outline as polygons",
        )
    shapes = _read(path, layer, grid, settings, None, edges=edges)
    rasters.refuse_lines(shapes)
    return shapes


def _read(
    path: Path,
    layer: str | None,
    grid: RasterInfo,
    settings: VectorSettings,
    attribute: str | None,
    *,
    edges: bool = False,
) -> Features:
    return rasters.read_features(
        path,
        grid,
        attribute=attribute,
        layer=layer,
        reproject=settings.align == "reproject",
        edges=edges,
        tolerance=settings.crs_tolerance,
    )


def _refuse_unused_attributes(path: Path, layer: str | None) -> None:
    """Refuse to draw shapes of several kinds as one class that nobody has named."""
    found = rasters.attributes(path, layer)
    may_be_classes = [name for name, may in found.items() if may]
    if may_be_classes:
        raise DataError(
            "SEG-D012",
            "the shapes have attributes that may tell classes apart, and none is named",
            file=path,
            observed=f"attributes {', '.join(found)}; all shapes would become 1",
            allowed="burn_property = the attribute that holds the class, or burn = the one raw "
            "value of all shapes",
            next_step=f'set data.options.burn_property = "{may_be_classes[0]}" (with burn_values '
            "where it holds words), or burn = 1 if all shapes are of one class",
        )


def crs_note(shapes: Features) -> Iterator[str]:
    """Say what is taken for granted of the CRS of shapes."""
    if shapes.crs_taken:
        yield f"{shapes.path} names no CRS: it is taken for {shapes.crs_taken}"


def _width_note(shapes: Features, grid: RasterInfo, settings: VectorSettings) -> Iterator[str]:
    """Say what a width in map units is on the ground, where a projection stretches."""
    if settings.burn_width is None or grid.crs is None or grid.crs.is_geographic:
        return
    sides = pixel_sides(grid)
    if sides is None or not rasters.has_lines(shapes):
        return
    metres = sides[0] / grid.pixel_size[1]  # of one map unit
    if abs(metres - 1) > _STRETCH:
        yield (
            f"{shapes.path}: burn_width is in map units of {grid.crs.to_string()}, each of which "
            f"is {metres:.4g} m on the ground in the middle of the scene"
        )


def _fault_note(shapes: Features) -> Iterator[str]:
    """Name polygons that cross themselves, and say how they are drawn."""
    faults = rasters.faults_of(shapes)
    if not faults:
        return
    named = [f"shape {number}: {fault}" for number, fault in list(faults.items())[:_NAMED]]
    more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
    yield (
        f"{shapes.path}: {len(faults)} of {len(shapes.geometries)} shapes cross themselves or have "
        f"rings within rings (the first shape is 0): {'; '.join(named)}{more}. They are drawn as "
        "they are: a pixel is inside a polygon where an odd number of its rings go around it, so "
        "what its outline goes around twice is left out, and polygons of one shape are joined; "
        "repair them in a GIS if that is not meant"
    )


def _overlap_note(shapes: Features, burnt: Burnt, settings: VectorSettings) -> Iterator[str]:
    """Say how many pixels several classes claim, and which one gets them."""
    total = sum(burnt.claimed.values())
    if total == 0:
        return
    pairs = sorted(burnt.claimed.items(), key=lambda pair: -pair[1])
    named = [
        f"{count} px with raw values {_named(least, settings)} to {_named(largest, settings)}"
        for (least, largest), count in pairs[:_NAMED]
    ]
    more = f"; and {len(pairs) - _NAMED} more pairs" if len(pairs) > _NAMED else ""
    rule = (
        f"priority = {list(settings.priority)} says which counts there"
        if settings.priority
        else "the later shape of the file counts there; priority = [...] sets another order"
    )
    yield (
        f"{shapes.path}: {total} pixels lie in shapes of several classes: "
        f"{'; '.join(named)}{more}; {rule}"
    )


def _named(value: int, settings: VectorSettings) -> str:
    words = [word for word, each in settings.burn_values.items() if each == value]
    return f"{value} ({', '.join(words)})" if words else str(value)


def _lost_note(shapes: Features, burnt: Burnt, settings: VectorSettings) -> Iterator[str]:
    """Say how many shapes left no pixel, class by class."""
    num_lost = sum(gone for gone, _ in burnt.lost.values()) + shapes.num_empty
    if num_lost == 0:
        return
    by_class = [
        f"{gone} of {total} with raw value {_named(value, settings)}"
        for value, (gone, total) in burnt.lost.items()
    ]
    if shapes.num_empty:
        by_class.append(f"{shapes.num_empty} without a geometry")
    total = len(shapes.geometries) + shapes.num_empty - burnt.beside
    hint = "" if settings.all_touched else "; all_touched = true draws every pixel they touch"
    yield (
        f"{shapes.path}: {num_lost} of {total} shapes left no pixel, since they cover no pixel's "
        f"centre or later shapes cover them: {'; '.join(by_class)}{hint}"
    )
