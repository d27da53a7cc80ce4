"""What the headers of an image's files tell: cheap enough to ask before every run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from terrazzo.base.errors import DataError
from terrazzo.check.finding import Finding, of_error
from terrazzo.check.scan import Survey
from terrazzo.data.datasets import Source
from terrazzo.io import images
from terrazzo.io.annotations import SUFFIXES as SHAPE_SUFFIXES
from terrazzo.io.raster_formats import is_raster

_NAMELESS = re.compile(r"band \d+")


@dataclass(frozen=True, slots=True)
class Looked:
    """What the headers of one image's files tell.

    Attributes:
        file: the image.
        dtype: NumPy dtype name of its pixels; empty where it cannot be read.
        band_names: its own; empty where a band has none.
        faults: what is wrong with it by itself; at most one.
    """

    file: Path
    dtype: str = ""
    band_names: tuple[str, ...] = ()
    faults: tuple[DataError, ...] = ()


@dataclass(frozen=True, slots=True)
class _Shape:
    rows: int
    columns: int
    bands: int
    dtype: str
    band_names: tuple[str, ...]


def look(files: tuple[Path, ...], band_names: tuple[str, ...]) -> Looked:
    """Look at the headers of one image.

    Args:
        files: the image file and the label file or files.
        band_names: of the data set.
        first_raster: the GeoTIFF whose bands all others must have in the same order; None: none.
    """
    # Files of labelling tools have no header; the sizes in them are looked at where they are drawn.
    of_shapes = len(files) > 1 and not all(map(_has_header, files[1:]))
    files = files[:1] + tuple(file for file in files[1:] if _has_header(file))
    try:
        # What is drawn on a photo tells which way it lies; that was asked where it was read.
        image = _shape(files[0], any_orientation=of_shapes)
        labels = [_shape(file) for file in files[1:]]
    except DataError as error:
        return Looked(files[0], faults=(error,))
    fault = _fault(files, image, labels, band_names)
    names = () if any(map(_NAMELESS.fullmatch, image.band_names)) else image.band_names
    return Looked(files[0], image.dtype, names, () if fault is None else (fault,))


def _fault(
    files: tuple[Path, ...], image: _Shape, labels: Sequence[_Shape], band_names: tuple[str, ...]
) -> DataError | None:
    if image.bands != len(band_names):
        return DataError(
            "SEG-D020",
            "the image has another number of bands than the data set",
            file=files[0],
            observed=f"{image.bands} bands",
            allowed=f"{len(band_names)} ({', '.join(band_names)})",
            next_step="convert the image, or move it out of the folder",
        )
    for file, label in zip(files[1:], labels, strict=True):
        if (label.rows, label.columns) != (image.rows, image.columns):
            return DataError(
                "SEG-D009",
                "image and mask differ in size",
                file=file,
                observed=f"mask {label.rows}×{label.columns} (rows×columns), image "
                f"{image.rows}×{image.columns} in {files[0]}",
                allowed="the same rows and columns",
                next_step="export the mask again at the size of its image",
            )
    return None


def differences(sources: Mapping[str, Source], seen: Sequence[Looked]) -> list[DataError]:
    """Return what is wrong with images of all splits side by side.

    Args:
        sources: the splits by name; the first one says which bands there are.
        seen: of all their images.
    """
    return [*_other_bands(sources), *_other_names(seen), *_other_types(seen)]


def find(survey: Survey) -> Iterator[Finding]:
    """Yield splits with other bands than the first one, and images whose bands lie otherwise."""
    seen = [
        look(scanned.files[:1], survey.sources[scanned.split].band_names)
        for scanned in survey.scanned_images
        if is_raster(scanned.files[0])
        and scanned.image is not None
        and not survey.sources[scanned.split].is_cut_from_scenes
    ]
    for error in (*_other_bands(survey.sources), *_other_names(seen)):
        yield of_error(error)


def _other_bands(sources: Mapping[str, Source]) -> Iterator[DataError]:
    known = {name: source.band_names for name, source in sources.items() if source.band_names}
    first, wanted = next(iter(known.items()), ("", ()))
    for name, found in known.items():
        if len(found) != len(wanted):
            yield DataError(
                "SEG-D020",
                "the splits have different numbers of bands",
                file=sources[name].files(0)[0],
                observed=f"{len(found)} ({', '.join(found)}) in {name}",
                allowed=f"{len(wanted)} ({', '.join(wanted)}), as in {first}",
                next_step="convert the images of one of them",
            )


def _other_names(seen: Sequence[Looked]) -> Iterator[DataError]:
    named = [each for each in seen if each.band_names]
    for each in named[1:]:
        if each.band_names != named[0].band_names:
            yield DataError(
                "SEG-D020",
                "the bands of the image have other names, or another order, than the others'",
                file=each.file,
                observed=", ".join(each.band_names),
                allowed=f"{', '.join(named[0].band_names)}, as in {named[0].file}",
                next_step="write its bands in the order of the others, or correct their names",
            )


def _other_types(seen: Sequence[Looked]) -> Iterator[DataError]:
    types = Counter(each.dtype for each in seen if each.dtype)
    usual = types.most_common(1)[0][0] if types else ""
    for each in seen:
        if each.dtype and each.dtype != usual:
            yield DataError(
                "SEG-D021",
                "the images have different types",
                file=each.file,
                observed=each.dtype,
                allowed=f"{usual}, as in {types[usual]} other images",
                next_step="convert the image from its original again; one that was clipped to 8 "
                "bits has lost its bright values",
            )


def _has_header(path: Path) -> bool:
    return path.suffix.lower() not in SHAPE_SUFFIXES


def _shape(path: Path, *, any_orientation: bool = False) -> _Shape:
    if is_raster(path):
        from terrazzo.io import rasters  # GDAL is loaded by those who read GeoTIFF

        info = rasters.info(path)
        return _Shape(info.rows, info.columns, info.bands, info.dtype, info.band_names)
    header = images.image_info(path, any_orientation=any_orientation)
    # PNG and JPEG have one order of bands each, so their names can tell nothing.
    return _Shape(header.rows, header.columns, header.bands, header.dtype, ())
