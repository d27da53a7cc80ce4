"""The labelling programs that predictions are written for: their files, and who writes them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from terrazzo.base.atomic_write import flush_file, replacing
from terrazzo.base.errors import ConfigError, unknown_name
from terrazzo.data.labels import LabelMap
from terrazzo.inference.labelling import cvat, label_studio
from terrazzo.inference.labelling.source import PredictedImage

_FILES = {
    "cvat": (cvat.LABELS, cvat.ANNOTATIONS),
    "labelstudio": (label_studio.CONFIG, label_studio.TASKS),
}
NAMES = tuple(_FILES)
SCORED = frozenset({"labelstudio"})
"""Programs that are told how sure the model was."""


def files(program: str, out: Path) -> tuple[Path, ...]:
    """Return the files of a program, which `write` will write.

    Raises:
        ConfigError: SEG-X004, no such program.
    """
    if program not in _FILES:
        raise unknown_name("labelling program", program, NAMES)
    return tuple(out / name for name in _FILES[program])


def refuse_scene(source: Path) -> None:
    """Refuse a GeoTIFF, which neither program shows.

    Raises:
        ConfigError: SEG-X087.
    """
    raise ConfigError(
        "SEG-X087",
        "--labels-for is for PNG and JPEG images",
        file=source,
        observed="a GeoTIFF",
        allowed="images that a browser shows: .png, .jpg, .jpeg",
        next_step="correct the map of a scene in a GIS (--polygons OUT.gpkg), or leave GeoTIFF out",
    )


def refuse_unfit(program: str, label_map: LabelMap, images: Sequence[PredictedImage]) -> None:
    """Refuse before any work the names that a program would not take.

    Raises:
        ConfigError: SEG-X087.
    """
    if program == "cvat":
        cvat.refuse_names(label_map)
        for image in images:
            cvat.refuse_unwritable(image.name, image.source)


def write(
    program: str,
    out: Path,
    images: Sequence[PredictedImage],
    label_map: LabelMap,
    version: str,
    say: Callable[[str], None],
) -> None:
    """Write the files of a program; each is complete or not there.

    Args:
        program: one of `NAMES`.
        out: folder of the maps.
        images: whose maps are there.
        label_map: of the maps.
        version: of the model.
        say: told what to do with the files.

    Raises:
        ConfigError, CheckpointError, DataError: as `files` and `PredictedImage`.
        ResourceError: SEG-R004, the disk is full or refuses.
    """
    classes, predictions = files(program, out)
    if program == "cvat":
        _write(classes, iter([cvat.labels_text(label_map)]))
        _write(predictions, cvat.annotation_text(images, label_map))
        say(f"images for CVAT: {len(images)} → {predictions}; labels of its task: {classes}")
    else:
        root = common_folder([_folder_of(image) for image in images])
        _write(classes, iter([label_studio.config_text(label_map)]))
        _write(predictions, label_studio.task_text(images, label_map, root, version))
        say(
            f"images for Label Studio: {len(images)} → {predictions}; its labelling interface: "
            f"{classes}; it finds them with {label_studio.ROOT_VARIABLE}={root}"
        )


def common_folder(folders: Sequence[Path]) -> Path:
    """Return the folder that holds all of some folders, none of them itself."""
    return Path(os.path.commonpath([folder.parent for folder in folders]))


def _folder_of(image: PredictedImage) -> Path:
    """Return the folder that was named on the command line, or that of the file that was."""
    path = Path(os.path.normpath(image.source.absolute()))
    return path.parents[image.name.count("/")]


def _write(path: Path, pieces: Iterator[str]) -> None:
    with replacing(path) as temporary:
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(pieces)
        flush_file(temporary)
