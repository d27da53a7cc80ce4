"""One scene of the format ``geotiff``: image rasters, labels and area, checked against each other.

The first image raster gives the grid. All that can be refused from headers is refused on opening.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from terrazzo.base.config_parsing import Frozen
from terrazzo.base.errors import ConfigError, DataError
from terrazzo.data.datasets._guessed_alpha import Alpha, alpha_notes, refuse_guessed_alpha
from terrazzo.data.datasets._paired_files import PlaneChoice
from terrazzo.data.datasets._vector_labels import VectorSettings, draw_area, draw_labels
from terrazzo.data.mask_files import Masks, open_mask
from terrazzo.data.scene_stack import (
    Band,
    ImageFile,
    Placing,
    Raster,
    all_bands,
    bands_unless_named,
    join,
    onto_grid,
)
from terrazzo.io import derived_bands, raster_formats, rasters, sentinel2
from terrazzo.io.derived_bands import Derivation
from terrazzo.io.pixels import ImagePixels, NodataRule, ReadingRules
from terrazzo.io.raster_formats import OptIn
from terrazzo.io.rasters import MaskPart, Part, RasterInfo

Window = tuple[int, int, int, int]
"""First row, first column, rows, columns; in pixels."""


class Scene(Frozen):
    """One scene: its image rasters, where its labels are, and what of it counts."""

    images: Annotated[tuple[ImageFile, ...], Field(min_length=1)]
    label: str
    """A GeoTIFF of class indices, or shapes: GeoJSON, GeoPackage, Shapefile, FlatGeobuf."""
    layer: str | None = None
    """Layer of a GeoPackage of labels that has several."""
    area: str | None = None
    """Polygons; pixels outside are ignored."""
    mask: Masks = ()
    """Files that say which pixels are without data; see `terrazzo.data.mask_files`."""

    @property
    def image_files(self) -> tuple[str, ...]:
        """Names of the image rasters."""
        return tuple(image.file for image in self.images)


class Reading(VectorSettings):
    """How the files of all scenes are read."""

    band_names: tuple[str, ...] = ()
    """Names of all bands of a scene, file by file. Empty: as the files have them."""
    bands: tuple[str, ...] = ()
    """Bands to use, by name, in this order file by file, then derived ones. Empty: all."""
    derived: dict[str, str] = Field(default={})
    """Bands that are computed, by name: ``ndvi = "(nir - red) / (nir + red)"``. The model keeps
    the formulas, and prediction does the same."""
    nan: Literal["nodata", "error"] = "nodata"
    """What NaN in an image means that does not declare it."""
    nodata_rule: NodataRule = "auto"
    """When a pixel is without data that is marked so in some of its bands: ``any`` or ``all`` of
    them; ``auto``: any where the marker is NaN, negative or of a raster of floats, otherwise all.
    What is marked in one band of a pixel that counts is missing there, and the band's mean."""
    apply_scale: bool = False
    """Turn the numbers of the images into value × scale + offset, as their files declare them, for
    scenes whose tags differ. The model keeps this, and prediction does the same."""
    alpha: Alpha | None = None
    """Which band says which pixels count: ``band 4``, or ``none``. None: one that the file marks as
    alpha and does not name, if that takes away 1 % of the labelled pixels at most."""
    resolution: int | None = None
    """Metres of a pixel of scenes that are Sentinel-2 folders: 10, 20 or 60. None: the finest of
    the bands in use. All bands are brought onto that grid."""
    formats: tuple[OptIn, ...] = ()
    """Formats that are read besides GeoTIFF, JPEG 2000 and Sentinel-2: ``ENVI``, ``HFA``."""
    plane: PlaneChoice = Field(default={})
    """Stacks of microscopes and DICOM: which plane is read, ``{ z = 3, t = 0 }``, counted from 0.
    Axes: ``z``, ``t``, ``frame`` of DICOM, and ``series``, the image of a file of several."""
    allow_vrt: bool = False
    """Read VRT, too, if all that they lead to lies below ``data.root``."""


@dataclass(frozen=True)
class OpenScene:
    """A scene that has been looked at.

    Attributes:
        name: unique within the data set.
        images: the rasters with bands in use, in their order.
        band_names: C names.
        dtype: of the pixels read; float32 where the rasters differ.
        grid: of the first image.
        label: the label file.
        label_onto: the grid a label raster must be brought onto; None: it lies there.
        label_HW: rasterised polygons; None for a label raster, which is read by window.
        counted_HW: False outside the area, or where no polygon labels; None: nowhere.
        refuse_nan: see `Reading.nan`.
        rules: see `Reading`.
        masks: files that say which pixels count.
        notes: what a person should know of these files.
    """

    name: str
    images: tuple[Part, ...]
    band_names: tuple[str, ...]
    dtype: str
    grid: RasterInfo
    label: Path
    label_onto: RasterInfo | None
    label_HW: NDArray[Any] | None
    counted_HW: NDArray[np.bool_] | None
    refuse_nan: bool
    rules: ReadingRules
    masks: tuple[MaskPart, ...]
    notes: tuple[str, ...]

    def read(self, window: Window) -> tuple[ImagePixels, NDArray[Any], NDArray[np.bool_]]:
        """Read the image, the raw label H×W and where both count, H×W.

        Raises:
            DataError: see `rasters.read_window` and `rasters.read_label_with_mask`.
        """
        pixels = self.read_image(window)
        label_HW, labelled_HW = self.read_label_in_area(window)
        counts_HW = labelled_HW if pixels.valid_HW is None else labelled_HW & pixels.valid_HW
        return pixels, label_HW, counts_HW

    def read_counted_label(
        self, window: Window
    ) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]]:
        """Read the raw label H×W, where it counts, and where there is a label, both H×W bool.

        The image is read only where its header says that pixels of it may be without data.

        Raises:
            DataError: as `read`.
        """
        label_HW, labelled_HW = self.read_label_in_area(window)
        if not self._may_lack_pixels:
            return label_HW, labelled_HW, labelled_HW
        valid_HW = self.read_image(window).valid_HW
        counts_HW = labelled_HW if valid_HW is None else labelled_HW & valid_HW
        return label_HW, counts_HW, labelled_HW

    @cached_property
    def _may_lack_pixels(self) -> bool:
        if self.masks or self.rules.derivation is not None:  # which may have no result
            return True
        return any(
            image.onto is not None or rasters.may_lack_pixels(image.path, alpha=self.rules.alpha)
            for image in self.images
        )

    @cached_property
    def other_files(self) -> tuple[Path, ...]:
        """What its rasters depend on besides the files of their bands."""
        rasters_of_it = [image.path for image in self.images]
        rasters_of_it += [mask.path for mask in self.masks]
        if self.label_HW is None:
            rasters_of_it.append(self.label)
        return tuple(file for path in rasters_of_it for file in rasters.other_files(path))

    @property
    def shown(self) -> Part | None:
        """A raster with bands in use that lies on the grid of the scene, for people to look at.

        Permission to read other formats ends with the data set: none of these is shown.
        """
        return next((image for image in self.images if self._may_be_shown(image)), None)

    def _may_be_shown(self, image: Part) -> bool:
        if rasters.needs_permission(image.path):
            return False
        rows, columns = self.grid.rows, self.grid.columns
        return image.onto is None or rasters.info_of_size(image.path, rows, columns) == image.onto

    def read_image(self, window: Window) -> ImagePixels:
        """Read the image alone; however its bands lie in files, the result is the same."""
        return rasters.read_stack(
            self.images,
            window,
            dtype=self.dtype,
            refuse_nan=self.refuse_nan,
            rules=self.rules,
            masks=self.masks,
        )

    def labelled(self, window: Window) -> NDArray[np.bool_]:
        """Return H×W bool: where there is a label, whatever the image holds.

        Raises:
            DataError: see `rasters.read_label_with_mask`.
        """
        return self.read_label_in_area(window)[1]

    def read_label_in_area(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read raw labels H×W and where there are any inside the area."""
        label_HW, labelled_HW = self.read_label(window)
        if self.counted_HW is not None:
            labelled_HW = labelled_HW & _cut(self.counted_HW, window)
        return label_HW, labelled_HW

    def read_label(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read raw labels H×W and where there are any."""
        if self.label_HW is not None:
            label_HW = _cut(self.label_HW, window).copy()
            return label_HW, np.ones(label_HW.shape, bool)
        return rasters.read_label_with_mask(self.label, *window, onto=self.label_onto)


_STRIP = 256  # rows looked at together

_shared: WeakValueDictionary[tuple[object, ...], OpenScene] = WeakValueDictionary()
"""Scenes that are open: the splits of a data set share their polygons, which may be large."""


def open_scene(root: Path, scene: Scene, name: str, reading: Reading) -> OpenScene:
    """Check the files of one scene against each other.

    Raises:
        ConfigError: SEG-X011, a band or layer is not there; SEG-X105, a band of a mask is not;
            SEG-X106 or SEG-X107, a formula of a derived band.
        DataError: as `rasters.info`, `rasters.read_features` and `open_mask`; SEG-D009, SEG-D025
            or SEG-D026 the files differ in size, CRS or transform; SEG-D046 a band that is read as
            alpha takes labelled pixels away.
    """
    sentinel2.require_resolution(reading.resolution)
    files = [_raster(root, image, reading) for image in scene.image_files]
    files = [behind for file in files if file.exists() for behind in rasters.files_behind(file)]
    files += [root / each for each in (scene.label, scene.area) if each]
    masks = [_raster(root, mask.file, reading) for mask in scene.mask]
    files += [each for mask in masks if mask.is_file() for each in rasters.files_behind(mask)]
    times = tuple(file.stat().st_mtime_ns for file in files if file.exists())
    rules = reading.model_dump_json(include=set(Reading.model_fields))
    key = (root, times, scene.model_dump_json(), name, rules)
    found = _shared.get(key)
    if found is None:
        with _naming_unused_places(root, scene, reading):
            found = _shared[key] = _look_at(root, scene, name, reading)
        if reading.alpha is None:
            _refuse_alpha_losses(found)
    return found


_OF_PLACES = ("SEG-D009", "SEG-D025", "SEG-D026", "SEG-D027", "SEG-D028")


@contextmanager
def _naming_unused_places(root: Path, scene: Scene, reading: Reading) -> Iterator[None]:
    """Say in an error about grids what places a raster of the scene and is not used."""
    try:
        yield
    except DataError as error:
        if error.code not in _OF_PLACES:
            raise
        files = (_raster(root, file, reading) for file in (*scene.image_files, scene.label))
        told = [rasters.unused_georeferencing(f) for f in files if not rasters.is_vector(f)]
        unused = [text for text in told if text is not None]
        if not unused:
            raise
        raise DataError(
            error.code,
            error.problem,
            file=error.file,
            observed=error.observed,
            allowed=error.allowed,
            next_step="; ".join([*unused, f"otherwise {error.next_step}"]),
        ) from None


def _look_at(root: Path, scene: Scene, name: str, reading: Reading) -> OpenScene:
    images = [
        Raster(path, rasters.info(path, alpha=reading.alpha), image.resampling)
        for image in scene.images
        for path in [_image(root, image.file, reading)]
    ]
    first = images[0].path
    if sentinel2.is_product(first):
        images[0] = images[0]._replace(
            info=rasters.grid_for(first, reading.bands, reading.resolution)
        )
    grid = images[0].info
    placing = Placing(align=reading.align, crs_tolerance=reading.crs_tolerance)
    kept, others, formulas = _choose_bands(images, reading)
    stack = join(images, [*kept, *others], placing, apply_scale=reading.apply_scale)
    derivation = None
    if formulas:
        derivation = Derivation(stack.band_names, stack.dtype, len(kept), tuple(formulas.items()))
    label = _raster(root, scene.label, reading)
    is_vector = rasters.is_vector(label)
    drawn = draw_labels(label, scene.layer, grid, reading) if is_vector else None
    area = None if scene.area is None else draw_area(root / scene.area, grid, reading)
    counted = [] if drawn is None or drawn.labelled_HW is None else [drawn.labelled_HW]
    counted += [] if area is None else [area.label_HW]
    return OpenScene(
        name,
        stack.parts,
        stack.band_names if derivation is None else derivation.names,
        stack.dtype if derivation is None else "float32",
        grid,
        label,
        None if is_vector else onto_grid(first, grid, label, rasters.info(label), placing),
        None if drawn is None else drawn.label_HW,
        np.logical_and.reduce(counted) if counted else None,
        reading.nan == "error",
        ReadingRules(reading.nodata_rule, reading.apply_scale, reading.alpha, derivation),
        tuple(
            open_mask(_raster(root, mask.file, reading), mask, first, grid, placing)
            for mask in scene.mask
        ),
        (
            *_notes_of_images(images, [root / mask.file for mask in scene.mask]),
            *(() if is_vector else rasters.unused_side_files(label, of_labels=True)),
            *(() if drawn is None else drawn.notes),
            *(() if area is None else area.notes),
        ),
    )


def _raster(root: Path, name: str, reading: Reading) -> Path:
    return raster_formats.permit(
        root / name, reading.formats, allow_vrt=reading.allow_vrt, root=root
    )


def _image(root: Path, name: str, reading: Reading) -> Path:
    return raster_formats.at_plane(_raster(root, name, reading), reading.plane.items())


def _notes_of_images(images: Sequence[Raster], masks: Sequence[Path]) -> Iterator[str]:
    for path, info, _ in images:
        yield from alpha_notes(path, info)
        unused = rasters.unused_georeferencing(path)
        if unused is not None:
            yield unused
        yield from rasters.unused_side_files(path, used=masks)


def _refuse_alpha_losses(scene: OpenScene) -> None:
    """Refuse a band that is guessed to be alpha where that would take many labels away.

    Raises:
        DataError: SEG-D046.
    """
    guessed = [image for image in scene.images if rasters.info(image.path).alpha_bands]
    if not guessed:
        return
    lost, labelled = dict.fromkeys(guessed, 0), 0
    for row in range(0, scene.grid.rows, _STRIP):
        window = (row, 0, min(_STRIP, scene.grid.rows - row), scene.grid.columns)
        labelled_HW = scene.labelled(window)
        labelled += int(np.count_nonzero(labelled_HW))
        for image in guessed:
            shown_HW = rasters.read_mask_window(image.path, *window, onto=image.onto)
            lost[image] += int(np.count_nonzero(labelled_HW & ~shown_HW))
    for image in guessed:
        refuse_guessed_alpha(image.path, lost[image] / max(labelled, 1))


def _choose_bands(
    images: Sequence[Raster], reading: Reading
) -> tuple[list[Band], list[Band], dict[str, str]]:
    """Return the bands that stay, file by file, others that formulas need, and the formulas."""
    known = all_bands(images, reading.band_names)
    names = [band.name for band in known]
    path, formulas = images[0].path, reading.derived
    derived_bands.operands(formulas, names, path)  # of all: what is wrong is said
    if len(set(reading.bands)) < len(reading.bands) and formulas:
        raise ConfigError(
            "SEG-X011",
            "data.options.bands names a band twice",
            file=path,
            observed=", ".join(reading.bands),
            next_step="name each band once",
        )
    if not reading.bands:
        kept = bands_unless_named(images, known)
    else:
        kept = _named_bands(path, known, [name for name in reading.bands if name not in formulas])
        formulas = {name: formulas[name] for name in reading.bands if name in formulas}
    needed = derived_bands.operands(formulas, names, path)
    kept_names = [band.name for band in kept]
    others = [known[names.index(name)] for name in needed if name not in kept_names]
    return kept, others, formulas


def _named_bands(path: Path, known: Sequence[Band], wanted: Sequence[str]) -> list[Band]:
    """Return bands by name, file by file."""
    chosen: list[Band] = []
    for name in wanted:
        found = [band for band in known if band.name == name]
        if len(found) != 1:
            raise ConfigError(
                "SEG-X011",
                f"data.options.bands: the scene has {len(found) or 'no'} bands {name!r}",
                file=path,
                observed=name,
                allowed=", ".join(band.name for band in known),
                next_step="use a name that one band has, or leave bands empty for all",
            )
        chosen += found
    return sorted(chosen, key=lambda band: band.file)


def _cut(array_HW: NDArray[Any], window: Window) -> NDArray[Any]:
    row, column, rows, columns = window
    return array_HW[row : row + rows, column : column + columns]
