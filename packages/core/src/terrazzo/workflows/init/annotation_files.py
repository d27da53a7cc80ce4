"""Images whose labels are shapes in the files of a labelling tool, read by their formats."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from terrazzo.base.errors import DataError
from terrazzo.base.recipe import DataConfig
from terrazzo.data import datasets
from terrazzo.data.datasets import Source
from terrazzo.data.datasets._annotated_images import OfShapes
from terrazzo.data.datasets._shape_options import PerImageOptions, ShapeOptions
from terrazzo.data.datasets._split_folders import split_of
from terrazzo.workflows.init import (
    class_names,
    folder_words,
    image_folders,
    tool_exports,
    yolo_names,
)
from terrazzo.workflows.init.layout import Layout, Tree

_MOST_CANDIDATES = 64
_YOLO_LINE = re.compile(r"\d+( -?[\d.]+(e-?\d+)?){4,}")
_OME = ".ome"
_SUFFIXES: dict[str, tuple[dict[str, str], ...]] = {
    "cityscapes_polygons": ({}, {"image_suffix": "", "annotation_suffix": ""}),
    "imagej_roi": ({}, *({"annotation_suffix": each} for each in ("_rois", "_roi", "_RoiSet"))),
}


def detect(tree: Tree) -> Layout | None:
    """Recognise the files of a labelling tool; masks that pair up with images go before them.

    Raises:
        DataError: SEG-D120, there are no images; SEG-D121, it is not clear which file holds the
            labels.
    """
    found = {path: tool for path, tool in tool_exports.tools(tree).items() if " " not in tool}
    found = found or dict.fromkeys(_yolo_files(tree), "yolo")
    if not found:
        return None
    first, tool = next(iter(found.items()))
    if not tree.pictures:
        raise DataError(
            "SEG-D120",
            f"there are files of {tool}, and no images",
            file=tree.root,
            observed=tree.described(),
            allowed="the images (PNG, JPEG, TIFF) that were labelled, below this folder",
            next_step="where are they? Bring them; exports often leave them out",
        )
    masks = _masks(tree)
    if masks is not None:
        asked = f"are the masks the labels, and not {first}? They are taken: --set data.format="
        return replace(masks, unsure=(*masks.unsure, f"{asked}{tool} reads the files of shapes"))
    files = [path for path, each in found.items() if each == tool]
    is_per_image = issubclass(datasets.load_format(tool).Options, PerImageOptions)
    candidates = _of_folders(tree, files) if is_per_image else _of_files(tree, tool, files)
    options = _best(tree, tool, files, candidates)
    if options is None:
        return None
    if _left_out(files, options):
        raise _divided(tree, tool, files)
    if tool == "yolo":
        options |= _yolo_names(tree)
    reasons = {
        "format": f"{first} is a file of {tool}",
        "images": "folder of the images",
        "annotations": "where the shapes are",
        "classes": "names in data.yaml or a file of names, in their order",
        "split_words": "what stands for {split} in the paths",
    }
    others = {each: path for path, each in found.items() if each != tool}
    unsure = tuple(
        f"are the labels in {first}, and not in {path}? --set data.format={each} reads the other"
        for each, path in others.items()
    )
    return Layout(tree.root, tool, options, reasons, unsure)


def completed(layout: Layout, given: Mapping[str, Any]) -> Layout:
    """Add what the files of shapes tell: the classes, and how to divide.

    Args:
        layout: of any format; one without shapes is returned as it is.
        given: options that were asked for.
    """
    if not issubclass(datasets.load_format(layout.format).Options, ShapeOptions):
        return layout
    sources = _opened(layout.root, layout.format, {**layout.options, **given})
    options, reasons, unsure = dict(layout.options), dict(layout.reasons), list(layout.unsure)
    of_shapes = [source for source in sources if isinstance(source, OfShapes)]
    if not {"classes"} & {*options, *given}:
        classes = dict.fromkeys(name for source in of_shapes for name in source.class_names)
        options["classes"] = list(classes)
        reasons["classes"] = "as the files name them: raw values 1, 2, 3 … in this order"
        if layout.format == "yolo":
            unsure.append(
                "what are the classes called? No data.yaml or classes.txt says it; name them by "
                f"--set 'data.options.classes=[…]', {len(classes)} of them in the order of their "
                "numbers"
            )
    names = sorted({name for source in sources for name in source.names})
    if not {"split", "split_file"} & given.keys():
        _divide(names, options, {**options, **given}, reasons, unsure)
    return replace(layout, options=options, reasons=reasons, unsure=tuple(unsure))


def _divide(
    names: Sequence[str],
    options: dict[str, Any],
    used: Mapping[str, Any],
    reasons: dict[str, str],
    unsure: list[str],
) -> None:
    named = {split_of(name) for name in names} - {None}
    if len(used.get("split_words", {})) == 2:
        options["split"] = image_folders.draw_of(names, {*used["split_words"]}, reasons, unsure)
    elif any("{split}" in str(used.get(key)) for key in ("images", "annotations")):
        reasons["split"] = "as the paths name them"
    elif len(named) == 3:
        reasons["split"] = "folders named after the splits are taken for them"
    else:
        options["split"] = image_folders.draw_of(names, named, reasons, unsure)


def _masks(tree: Tree) -> Layout | None:
    try:
        return image_folders.detect(tree)
    except DataError:
        return None


def _best(
    tree: Tree, tool: str, files: Sequence[str], candidates: Iterable[dict[str, Any]]
) -> dict[str, Any] | None:
    """Return the first places that are whole and hold all files, else those that hold most."""
    tried: list[tuple[int, dict[str, Any]]] = []
    endings = _endings(tree, tool)
    for places in itertools.islice(candidates, _MOST_CANDIDATES):
        for suffixes in endings:
            options = {**places, **suffixes}
            faults: list[DataError] = []
            sources = _opened(tree.root, tool, options, faults)
            if sources and not faults and not _left_out(files, options):
                return options
            tried.append((sum(len(source.names) for source in sources), options))
    most = max(tried, key=lambda each: each[0], default=(0, None))
    # A tool's file without its images is told so by the format; texts of numbers may be anything.
    return None if tool == "yolo" and not most[0] else most[1]


def _endings(tree: Tree, tool: str) -> list[dict[str, str]]:
    """Return what the names of images and of files of shapes may have beyond those of the others.

    The images of microscopes may all be called ``1.ome.tif``, beside ``1.zip``.
    """
    found = list(_SUFFIXES.get(tool, ({},)))
    stems = [PurePosixPath(name).stem for names in tree.pictures.values() for name in names]
    is_per_image = issubclass(datasets.load_format(tool).Options, PerImageOptions)
    if is_per_image and all(stem.endswith(_OME) for stem in stems):
        found += [{**each, "image_suffix": _OME} for each in found]
    return found


def _left_out(files: Iterable[str], options: Mapping[str, Any]) -> bool:
    """Tell whether files lie outside of a folder, or are not that file; with ``{split}``, all."""
    place = options["annotations"]
    words = options.get("split_words", {}).values() or datasets.SPLITS
    used = [place.replace("{split}", word) for word in words]
    inside = tuple(f"{each}/" for each in used)
    return place != "." and not all(file in used or file.startswith(inside) for file in files)


def _opened(
    root: Path, tool: str, options: Mapping[str, Any], faults: list[DataError] | None = None
) -> list[Source]:
    """Open the splits as far as they can be, and add what is wrong to `faults`."""
    path = os.path.abspath(root)  # noqa: PTH100 - links in it are the user's
    data = DataConfig(format=tool, root=path, options=dict(options))
    sources = []
    for split in datasets.SPLITS:
        with datasets.noting() as noted:
            try:
                sources.append(datasets.open_source(data, split))
            except DataError as error:
                if error.code != "SEG-D016":  # a split may be empty here
                    noted.append(error)
        if faults is not None:
            faults += noted
    return sources


def _of_folders(tree: Tree, files: list[str]) -> Iterator[dict[str, Any]]:
    """Yield folders of images and of files of shapes."""
    images = list(tree.pictures)
    shapes = list(dict.fromkeys(path.rpartition("/")[0] for path in files))
    both = [lead for lead in images if lead in shapes]
    if both:
        yield {"images": _common(both) or ".", "annotations": _common(both) or "."}
    for of_images in _templates(images):
        yield from (
            {"images": of_images, "annotations": of_shapes} for of_shapes in _templates(shapes)
        )
    by_role = sorted(images, key=lambda lead: folder_words.base_of(lead) is None)
    for of_images in dict.fromkeys([_common(images), *map(_base, by_role), *by_role]):
        for of_shapes in dict.fromkeys([_common(shapes), *map(_base, shapes)]):
            yield {"images": of_images or ".", "annotations": of_shapes or "."}
    yield from _by_words(images, shapes)


def _divided(tree: Tree, tool: str, files: Sequence[str]) -> DataError:
    """Compose the question where a format would read a part of the files."""
    return DataError(
        "SEG-D121",
        f"the files of {tool} lie in several folders that do not belong together by name",
        file=tree.root,
        observed=", ".join(dict.fromkeys(path.rpartition("/")[0] or "." for path in files)),
        allowed="one folder of images and one of their files, with equal sub-folders; or "
        "folders of train, val and test whose paths differ by that word",
        next_step="how are they divided? Rename or move them (e.g. valid to val), or choose by "
        f"--set data.format={tool} --set data.options.annotations=FOLDER --set "
        "data.options.images=FOLDER",
    )


def _of_files(tree: Tree, tool: str, files: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the file, and folders of images.

    Raises:
        DataError: SEG-D121, there are several files that are not those of the splits.
    """
    templates = list(_templates(files))
    leads = sorted(tree.pictures, key=lambda lead: folder_words.base_of(lead) is None)
    by_words = list(_by_words(leads, files))
    if len(files) > 1 and any(not _left_out(files, each) for each in by_words):
        if not templates or len(files) != len(datasets.SPLITS):
            yield from by_words
            return
    elif len(files) > 1 and (not templates or len(files) != len(datasets.SPLITS)):
        raise DataError(
            "SEG-D121",
            f"it is not clear which file holds the labels: there are several of {tool}",
            file=tree.root,
            observed=", ".join(files),
            allowed="one file, or one each of train, val and test, whose paths differ by that word",
            next_step=f"which is it? --set data.format={tool} --set data.options.annotations=FILE "
            "--set data.options.images=FOLDER; or rename the files to those words, e.g. valid to "
            "val",
        )
    parents = [str(parent) for lead in leads for parent in PurePosixPath(lead).parents]
    parents.sort(key=len, reverse=True)
    places = dict.fromkeys([*_templates(leads), *leads, *parents, "."] if templates else ())
    for place in places or dict.fromkeys([_common(leads), *leads, *parents, "."]):
        yield {"images": place or ".", "annotations": templates[0] if templates else files[0]}


def _templates(paths: Iterable[str]) -> Iterator[str]:
    """Yield paths with ``{split}`` that stand for all three splits."""
    found: dict[str, set[str]] = {}
    for path in paths:
        made = folder_words.with_split(path)
        if made is not None:
            found.setdefault(made[0], set()).add(made[1])
    yield from (template for template, splits in found.items() if len(splits) == 3)


def _by_words(images: Iterable[str], shapes: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield paths with ``{split}`` and the words that stand there, where they are not all three."""
    of_images = _words(images)
    for template, words in _words(shapes).items():
        if "train" not in words or len(words) < 2:
            continue
        options: dict[str, Any] = {"annotations": template, "split_words": words}
        if len(words) < len(datasets.SPLITS):
            options["split"] = image_folders.draw_of((), {*words}, {}, [])
        for images_template, image_words in of_images.items():
            if words.items() <= image_words.items():
                yield {"images": images_template or ".", **options}
        for lead in dict.fromkeys([_common(list(images)), *images]):
            yield {"images": lead or ".", **options}


def _words(paths: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the word for each split by the paths with ``{split}`` in its place."""
    found: dict[str, dict[str, str]] = {}
    for path in paths:
        made = folder_words.split_words(path)
        if made is not None:
            template, split, word = made
            found.setdefault(template, {}).setdefault(split, word)
    return found


def _common(leads: Sequence[str]) -> str:
    """Return the folder that all lie in, or are."""
    return os.path.commonpath(leads) if leads and "" not in leads else ""


def _base(lead: str) -> str:
    found = folder_words.base_of(lead)
    return lead if found is None else found[1]


def _yolo_files(tree: Tree) -> list[str]:
    """Return the first text file of each folder whose lines are those of YOLO."""
    stems = {PurePosixPath(name).stem for names in tree.pictures.values() for name in names}
    found = []
    for lead, names in tree.files.items():
        texts = [name for name in names if name.endswith(".txt") and name[:-4] in stems]
        for name in texts[:8]:
            try:
                lines = (tree.root / lead / name).read_text("utf-8").splitlines()
            except (OSError, UnicodeDecodeError):
                continue
            if lines and all(_YOLO_LINE.fullmatch(line.strip()) for line in lines if line.strip()):
                found.append(f"{lead}/{name}" if lead else name)
                break
    return found


def _yolo_names(tree: Tree) -> dict[str, Any]:
    """Return the option of the classes that ``data.yaml`` or another file plainly names."""
    for name in ("data.yaml", "data.yml", "dataset.yaml"):
        if name not in tree.files.get("", ()):
            continue
        try:
            found = yolo_names.names_in((tree.root / name).read_text("utf-8"))
        except (OSError, UnicodeDecodeError):
            continue
        if found is not None:
            return {"classes": found}
    beside = class_names.beside(tree)
    if beside is None:
        return {}
    by_value = beside.by_value or dict(enumerate(beside.in_order))
    in_order = [by_value.get(number, "") for number in range(len(by_value))]
    return {"classes": in_order} if in_order and all(in_order) else {}
