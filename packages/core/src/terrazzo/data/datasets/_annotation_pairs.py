"""Which file of shapes, or which entry of one, belongs to which image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Protocol, TypeVar

from terrazzo.base.errors import DataError
from terrazzo.data.datasets._faults import refuse
from terrazzo.data.datasets._pairing import Pair, files_by_name, list_names
from terrazzo.data.datasets._shape_options import PerImageOptions, ShapeOptions
from terrazzo.io import images
from terrazzo.io.folders import walk_files
from terrazzo.io.raster_formats import RASTER_SUFFIXES, is_folder_raster

SUFFIXES = (*images.IMAGE_SUFFIXES, *RASTER_SUFFIXES)
"""Of the images that are labelled."""


class Entry(Protocol):
    """What one file says of one image of many."""

    @property
    def path(self) -> str:
        """Of the image, as the tool wrote it."""
        ...


AnEntry = TypeVar("AnEntry", bound=Entry)


def pair_entries(
    root: Path, split: str, options: ShapeOptions, entries: Sequence[AnEntry]
) -> tuple[dict[Pair, AnEntry], tuple[str, ...]]:
    """Match the images of a file that holds the shapes of many.

    Args:
        root: of the data set.
        split: ``train``, ``val`` or ``test``.
        options: where they lie.
        entries: of the file.

    Returns:
        Pairs sorted by name with what the file says of each, and what is left out.

    Raises:
        DataError: as `names_of` and `match_images`.
    """
    path = file_of(root, split, options)
    folder = root / options.images.replace("{split}", split)
    stated = names_of([entry.path for entry in entries], path)
    there, notes = match_images(folder, stated, path, root)
    by_name = {name_of(entry.path): entry for entry in entries}
    found = {Pair(name, image, path): by_name[name] for name, image in sorted(there.items())}
    return found, notes


def file_of(root: Path, split: str, options: ShapeOptions) -> Path:
    """Return the file that holds the shapes of all images of a split."""
    return root / options.annotations.replace("{split}", split)


def pair_annotations(
    root: Path,
    split: str,
    options: PerImageOptions,
    suffixes: Sequence[str] = (".json",),
    *,
    after_suffix: bool = False,
) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """Match images and files of shapes by name, and say what is left out.

    Args:
        root: of the data set.
        split: ``train``, ``val`` or ``test``.
        options: where they lie.
        suffixes: of files of shapes.
        after_suffix: they stand behind the image's own suffix, as in ``a.jpg.json``.

    Raises:
        DataError: SEG-D013 a folder is missing; SEG-D014 missing images or files, and names that
            occur twice, all in one message; SEG-D042 a link leads out of the data set.
    """
    folder, shapes = (
        root / text.replace("{split}", split) for text in (options.images, options.annotations)
    )
    found = files_by_name(folder, SUFFIXES, options.image_suffix, root=root)
    files = files_by_name(shapes, suffixes, options.annotation_suffix, root=root)
    if after_suffix:
        name_by_file = {
            PurePosixPath(name).with_name(file.name).as_posix(): name
            for name, several in found.items()
            for file in several
        }
        files = {name_by_file.get(name, name): several for name, several in files.items()}
    bare = sorted(found.keys() - files.keys())
    faults = {
        "images without a file of shapes": bare if options.unannotated == "refuse" else [],
        "files of shapes without an image": sorted(files.keys() - found.keys()),
        "images of one name": [name for name, paths in found.items() if len(paths) > 1],
        "files of shapes of one name": [name for name, paths in files.items() if len(paths) > 1],
    }
    if any(faults.values()):
        error = DataError(
            "SEG-D014",
            "images and files of shapes do not pair up",
            file=folder,
            observed="; ".join(
                list_names(title, names) for title, names in faults.items() if names
            ),
            allowed=f"one file of shapes for every image, by name, in {shapes}",
            next_step="add, rename or remove the files named"
            + (
                '; data.options.unannotated = "leave_out" goes on without these images' * bool(bare)
            ),
        )
        refuse(error)
    notes: tuple[str, ...] = ()
    if bare and options.unannotated == "leave_out":
        notes = (f"left out: {list_names('images without a file of shapes', bare)}",)
    names = sorted(found.keys() & files.keys())
    return tuple(Pair(name, found[name][0], files[name][0]) for name in names), notes


def refuse_other_image(pair: Pair, named: str, key: str) -> None:
    """Refuse a file of shapes that names another image than the one it is called after.

    Args:
        pair: the image and the file.
        named: path of the image in the file.
        key: where it stands there.

    Raises:
        DataError: SEG-D014.
    """
    name = PureWindowsPath(named).name
    if name != pair.image.name:
        raise DataError(
            "SEG-D014",
            "the file of shapes is of another image",
            file=pair.mask,
            observed=f"{key} is {name!r}",
            allowed=pair.image.name,
            next_step=f"rename the file, or correct {key}",
        )


def match_images(
    folder: Path, stated: Mapping[str, str], file: Path, root: Path
) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Find the images that a file names.

    Args:
        folder: of the images.
        stated: path below the folder by a name without suffix, as `pair_names` gives it.
        file: where they are named.
        root: of the data set.

    Returns:
        The image of each name that is there, and a note on images that the file does not name.

    Raises:
        DataError: SEG-D013 the folder is missing; SEG-D014 images are missing.
    """
    if not folder.is_dir():
        raise DataError(
            "SEG-D013",
            "not a folder" if folder.exists() else "no such folder",
            file=folder,
            next_step="check data.root and data.options.images",
        )
    there = {name: folder / path for name, path in stated.items() if _is_image(folder / path)}
    missing = sorted(path for name, path in stated.items() if name not in there)
    if missing:
        error = DataError(
            "SEG-D014",
            "images that the file names are missing",
            file=file,
            observed=list_names("images", missing),
            allowed=f"files below {folder}",
            next_step="bring the images, or set data.options.images to the folder they lie in",
        )
        refuse(error)
    return there, _unnamed(folder, there, root)


def _is_image(path: Path) -> bool:
    """Tell whether an image is there: a file, or a folder that is one, such as OME-Zarr."""
    return path.is_file() or is_folder_raster(path)


def _unnamed(folder: Path, there: Mapping[str, Path], root: Path) -> tuple[str, ...]:
    named = {str(path) for path in there.values()}
    unnamed = [
        f"{lead}/{name}" if lead else name
        for lead, names in walk_files(folder, root)
        for name in names
        if name.lower().endswith(SUFFIXES)
        and str(folder / lead / name) not in named
        and _is_image(folder / lead / name)
    ]
    if not unnamed:
        return ()
    return (f"left out, since the file does not name them: {list_names('images', unnamed)}",)


def name_of(text: str) -> str:
    """Return the name of an image: its path, as a tool wrote it, without the suffix."""
    path = PureWindowsPath(text)
    return path.with_suffix("").as_posix() if path.name else ""


def names_of(paths: Sequence[str], file: Path) -> dict[str, str]:
    """Return the paths of images by name: the path without its suffix.

    Args:
        paths: as the tool wrote them; backslashes and a leading ``./`` are taken for what they are.
        file: where they are written.

    Raises:
        DataError: SEG-D014 two images of one name; SEG-D042 a path that leads out of the folder.
    """
    found: dict[str, str] = {}
    twice: list[str] = []
    for text in paths:
        path = PureWindowsPath(text)
        if path.is_absolute() or path.drive or path.root or ".." in path.parts:
            raise DataError(
                "SEG-D042",
                "the path of an image leads out of its folder",
                file=file,
                observed=repr(text),
                allowed="a path below data.options.images",
                next_step="export again with relative names, or correct the path",
            )
        name = name_of(text)
        if not name or "\0" in text:
            raise DataError(
                "SEG-D111",
                "an image has no file name",
                file=file,
                observed=repr(text),
                next_step="export again",
            )
        if name in found:
            twice.append(f"{found[name]} and {text}")
        found[name] = path.as_posix()
    if twice:
        error = DataError(
            "SEG-D014",
            "two images have one name",
            file=file,
            observed=list_names("images of one name", sorted(twice)),
            next_step="remove one entry; where two people labelled the same images, export the "
            "work of one of them",
        )
        refuse(error)
    return found
