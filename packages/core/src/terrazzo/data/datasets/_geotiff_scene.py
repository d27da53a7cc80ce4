"""One scene of the format ``geotiff``: image rasters, labels and area, checked against each other.

The first image raster gives the grid. All that can be refused from headers is refused on opening.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from terrazzo.base.config_parsing import Frozen
from terrazzo.base.errors import ConfigError, DataError
from terrazzo.data.datasets._guessed_alpha import Alpha, alpha_notes, refuse_guessed_alpha
from terrazzo.data.datasets._vector_labels import VectorSettings, draw_area, draw_labels
from terrazzo.io import raster_formats, rasters, sentinel2
from terrazzo.io.pixels import ImagePixels, NodataRule, ReadingRules
from terrazzo.io.raster_formats import OptIn
from terrazzo.io.rasters import Part, RasterInfo

Window = tuple[int, int, int, int]
"""First row, first column, rows, columns; in pixels."""


class Scene(Frozen):
    """One scene: its image rasters, where its labels are, and what of it counts."""

    images: Annotated[tuple[str, ...], Field(min_length=1)]
    label: str
    """A GeoTIFF of class indices, or shapes: GeoJSON, GeoPackage, Shapefile."""
    layer: str | None = None
    """Layer of a GeoPackage of labels that has several."""
    area: str | None = None
    """Polygons; pixels outside are ignored."""


class Reading(VectorSettings):
    """How the files of all scenes are read."""

    band_names: tuple[str, ...] = ()
    """Names of all bands of a scene, file by file. Empty: as the files have them."""
    bands: tuple[str, ...] = ()
    """Bands to use, by name, in this order file by file. Empty: all."""
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
    allow_vrt: bool = False
    """Read VRT, too, if all that they lead to lies below ``data.root``."""


class Image(NamedTuple):
    """One image raster of a scene.

    Attributes:
        path: the file.
        bands: positions of the bands used.
        onto: the grid it must be brought onto; None: it lies there.
    """

    path: Path
    bands: tuple[int, ...]
    onto: RasterInfo | None


@dataclass(frozen=True)
class OpenScene:
    """A scene that has been looked at.

    Attributes:
        name: unique within the data set.
        images: those with bands in use.
        band_names: C names.
        dtype: of the pixels read; float32 where the rasters differ.
        grid: of the first image.
        label: the label file.
        label_onto: the grid a label raster must be brought onto; None: it lies there.
        label_HW: rasterised polygons; None for a label raster, which is read by window.
        counted_HW: False outside the area, or where no polygon labels; None: nowhere.
        refuse_nan: see `Reading.nan`.
        rules: see `Reading`.
        notes: what a person should know of these files.
    """

    name: str
    images: tuple[Image, ...]
    band_names: tuple[str, ...]
    dtype: str
    grid: RasterInfo
    label: Path
    label_onto: RasterInfo | None
    label_HW: NDArray[Any] | None
    counted_HW: NDArray[np.bool_] | None
    refuse_nan: bool
    rules: ReadingRules
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
        return any(
            image.onto is not None or rasters.may_lack_pixels(image.path, alpha=self.rules.alpha)
            for image in self.images
        )

    @cached_property
    def other_files(self) -> tuple[Path, ...]:
        """What its rasters depend on besides the files of their bands."""
        rasters_of_it = [image.path for image in self.images]
        if self.label_HW is None:
            rasters_of_it.append(self.label)
        return tuple(file for path in rasters_of_it for file in rasters.other_files(path))

    def read_image(self, window: Window) -> ImagePixels:
        """Read the image alone; however its bands lie in files, the result is the same."""
        return rasters.read_stack(
            [Part(*image) for image in self.images],
            window,
            dtype=self.dtype,
            refuse_nan=self.refuse_nan,
            rules=self.rules,
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
        ConfigError: SEG-X011, a band or layer is not there.
        DataError: as `rasters.info` and `rasters.read_features`; SEG-D009, SEG-D025 or SEG-D026 the
            files differ in size, CRS or transform; SEG-D046 a band that is read as alpha takes
            labelled pixels away.
    """
    sentinel2.require_resolution(reading.resolution)
    files = [_raster(root, image, reading) for image in scene.images]
    files = [behind for file in files if file.exists() for behind in rasters.files_behind(file)]
    files += [root / each for each in (scene.label, scene.area) if each]
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
        files = (_raster(root, file, reading) for file in (*scene.images, scene.label))
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
    paths = [_raster(root, image, reading) for image in scene.images]
    infos = [rasters.info(path, alpha=reading.alpha) for path in paths]
    grid = _grid_of(paths[0], infos[0], reading)
    same = (grid.rows, grid.columns) == (infos[0].rows, infos[0].columns)
    ontos = [
        None if same else grid,
        *(_onto(paths[0], grid, path, reading) for path in paths[1:]),
    ]
    chosen = _choose_bands(paths[0], infos, reading.band_names, reading.bands)
    # Bands are read file by file, so their order is that of the files.
    images = tuple(
        Image(path, tuple(band for _, file, band in chosen if file == at), ontos[at])
        for at, path in enumerate(paths)
        if any(file == at for _, file, _ in chosen)
    )
    dtypes = {"float32" if reading.apply_scale else infos[file].dtype for _, file, _ in chosen}
    label = _raster(root, scene.label, reading)
    is_vector = rasters.is_vector(label)
    drawn = draw_labels(label, scene.layer, grid, reading) if is_vector else None
    area = None if scene.area is None else draw_area(root / scene.area, grid, reading)
    counted = [] if drawn is None or drawn.labelled_HW is None else [drawn.labelled_HW]
    counted += [] if area is None else [area.label_HW]
    return OpenScene(
        name,
        images,
        tuple(name for name, _, _ in chosen),
        dtypes.pop() if len(dtypes) == 1 else "float32",
        grid,
        label,
        None if is_vector else _onto(paths[0], grid, label, reading),
        None if drawn is None else drawn.label_HW,
        np.logical_and.reduce(counted) if counted else None,
        reading.nan == "error",
        ReadingRules(reading.nodata_rule, reading.apply_scale, reading.alpha),
        (
            *_notes_of_images(paths, infos),
            *(() if drawn is None else drawn.notes),
            *(() if area is None else area.notes),
        ),
    )


def _raster(root: Path, name: str, reading: Reading) -> Path:
    return raster_formats.permit(
        root / name, reading.formats, allow_vrt=reading.allow_vrt, root=root
    )


def _grid_of(path: Path, info: RasterInfo, reading: Reading) -> RasterInfo:
    """Return the grid of a raster; of a product, that of the finest of the bands in use."""
    if not sentinel2.is_product(path):
        return info
    return rasters.grid_for(path, reading.bands, reading.resolution)


def _notes_of_images(paths: list[Path], infos: list[RasterInfo]) -> Iterator[str]:
    for path, info in zip(paths, infos, strict=True):
        yield from alpha_notes(path, info)
        unused = rasters.unused_georeferencing(path)
        if unused is not None:
            yield unused


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


def _onto(image: Path, grid: RasterInfo, path: Path, reading: Reading) -> RasterInfo | None:
    """Return the grid a raster must be brought onto, or None where it lies on it."""
    found = rasters.info(path)
    finest = (found.rows, found.columns)
    if sentinel2.is_product(path):  # at whichever resolution the others have
        found = rasters.product_info(path, rasters.resolution_of(grid))
    try:
        rasters.require_same_grid(image, grid, path, found, tolerance=reading.crs_tolerance)
    except DataError as error:
        if reading.align == "exact" or error.code not in ("SEG-D009", "SEG-D025", "SEG-D026"):
            raise
        return grid
    return None if (found.rows, found.columns) == finest else grid


def _choose_bands(
    path: Path, infos: list[RasterInfo], names: tuple[str, ...], wanted: tuple[str, ...]
) -> list[tuple[str, int, int]]:
    """Return name, file and position of every band in use, file by file."""
    known = _all_bands(path, infos, names)
    chosen = []
    for name in wanted:
        found = [band for band in known if band[0] == name]
        if len(found) != 1:
            raise ConfigError(
                "SEG-X011",
                f"data.options.bands: the scene has {len(found) or 'no'} bands {name!r}",
                file=path,
                observed=name,
                allowed=", ".join(name for name, _, _ in known),
                next_step="use a name that one band has, or leave bands empty for all",
            )
        chosen += found
    if wanted:
        return sorted(chosen, key=lambda band: band[1])
    return [band for band in known if band[2] not in infos[band[1]].by_name_only]


def _all_bands(
    path: Path, infos: list[RasterInfo], names: tuple[str, ...]
) -> list[tuple[str, int, int]]:
    """Return name, file and position of every band; nameless ones are numbered file by file."""
    places = [(at, band) for at, info in enumerate(infos) for band in range(info.bands)]
    if not names:
        told = [infos[at].band_names[band] for at, band in places]
        names = tuple(
            f"band {number}" if name == f"band {band + 1}" else name
            for number, (name, (_, band)) in enumerate(zip(told, places, strict=True), 1)
        )
    if len(names) != len(places):
        raise ConfigError(
            "SEG-X011",
            "data.options.band_names does not name every band",
            file=path,
            observed=f"{len(names)} names for {len(places)} bands",
            allowed="a name for each band of each image raster of a scene, file by file",
            next_step="name them all, and choose among them with data.options.bands",
        )
    return [(name, *place) for name, place in zip(names, places, strict=True)]


def _cut(array_HW: NDArray[Any], window: Window) -> NDArray[Any]:
    row, column, rows, columns = window
    return array_HW[row : row + rows, column : column + columns]
