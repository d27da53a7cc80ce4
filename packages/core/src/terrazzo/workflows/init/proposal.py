"""The whole of `terrazzo init`: look, decide, measure, write."""

from __future__ import annotations

import os
import tempfile
import textwrap
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tomli_w

from terrazzo.base.atomic_write import make_folder, replace_text, replacing
from terrazzo.base.config_parsing import StrPath, assign
from terrazzo.base.errors import ConfigError, DataError, TerrazzoError, unknown_name
from terrazzo.base.progress import Progress, Silent
from terrazzo.base.recipe import DataConfig, load_recipe
from terrazzo.check import coverage, instance_masks, label_values, unusable_files
from terrazzo.check.finding import Finding, Level
from terrazzo.check.scan import Survey, survey
from terrazzo.data import datasets
from terrazzo.data.datasets._annotated_images import OfShapes
from terrazzo.data.labels import load_label_map
from terrazzo.models import backends
from terrazzo.workflows.init import (
    annotation_files,
    class_names,
    class_proposal,
    image_folders,
    known_sets,
    measure_step,
    part_folders,
    scene_files,
    tool_exports,
)
from terrazzo.workflows.init import settings as settings_module
from terrazzo.workflows.init.class_proposal import Classes
from terrazzo.workflows.init.layout import Detector, Layout, find_layout, look
from terrazzo.workflows.init.recipe_writer import recipe_text, toml_value
from terrazzo.workflows.init.settings import Settings

RECIPE, LABELS = "recipe.toml", "labels.toml"
DETECTORS: tuple[Detector, ...] = (
    known_sets.detect,
    scene_files.detect,
    part_folders.detect,
    annotation_files.detect,
    image_folders.detect,
    tool_exports.detect,
)
"""In the order in which they are asked."""
_DEFAULT_MODELS = {"torch": "unet", "keras": "unet", "reference": "pixel_softmax"}
_THREADS = 16
_HALVINGS = 2  # of the image, where a single one does not fit


@dataclass(frozen=True)
class Wishes:
    """What the person has decided already.

    Attributes:
        backend: None: one that is installed.
        model: None: a small one.
        classes: names, see `class_proposal.propose`; empty: none.
        assignments: ``key=value``, as after ``--set``.
    """

    backend: str | None = None
    model: str | None = None
    classes: tuple[str, ...] = ()
    assignments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Proposal:
    """What was decided and written.

    Attributes:
        recipe: the file.
        labels: the label map beside it; None: the format's own is used.
        decided: lines that say what, and why.
        unsure: questions, each with the answer that was taken.
    """

    recipe: Path
    labels: Path | None
    decided: tuple[str, ...]
    unsure: tuple[str, ...]


def init(
    folder: StrPath,
    out: StrPath | None = None,
    wishes: Wishes = Wishes(),
    *,
    progress: Progress | None = None,
) -> Proposal:
    """Look at a folder of images and masks and write a recipe that trains on it.

    Args:
        folder: holds the data set; nothing in it is changed.
        out: where ``recipe.toml`` and ``labels.toml`` are written; None: in `folder`.
        wishes: what is decided already.
        progress: told how far it is; None: shows nothing.

    Returns:
        What was decided. The recipe has been loaded and its splits opened.

    Raises:
        ConfigError: SEG-X126 a recipe is there, SEG-X127 names of classes do not fit, SEG-X128 the
            place cannot be written to, SEG-X129 no backend is installed or no step could be made;
            SEG-X004.
        DataError: SEG-D120 … SEG-D124, each a question; faults of files, as `terrazzo check`.
        ResourceError: SEG-R004, the disk is full or refuses.
    """
    progress = Silent() if progress is None else progress
    folder = Path(folder)
    place = folder if out is None else Path(out)
    backend, model = _backend_and_model(wishes)
    _refuse_place(place, folder)
    gpu = settings_module.has_gpu()
    layout, seen = _look(folder, wishes, progress)
    classes = _classes(layout, seen, wishes, folder)
    if layout.labels is not None and not wishes.classes:
        classes = replace(classes, unsure=())
    classes = replace(classes, unsure=(*classes.unsure, *_of_nodata(layout, seen)))
    settings = settings_module.decide(layout, seen, classes, backend, model, gpu=gpu)
    settings.assign_all(wishes.assignments)
    with tempfile.TemporaryDirectory(prefix="terrazzo-init-") as scratch:
        _measure(settings, layout, classes, seen, wishes, Path(scratch), progress, gpu=gpu)
    labels = _write(settings, layout, classes, place, folder)
    return Proposal(
        place / RECIPE, labels, _told(settings, layout, classes, seen), tuple(settings.unsure)
    )


def _backend_and_model(wishes: Wishes) -> tuple[str, str]:
    """Return the backend and the model.

    Raises:
        ConfigError: SEG-X129; SEG-X003 and SEG-X004.
    """
    backend = wishes.backend
    if backend is None:
        backend = next((name for name in ("torch", "keras") if name in backends.installed()), None)
    if backend is None:
        raise ConfigError(
            "SEG-X129",
            "no backend is installed, so nothing could train by a recipe",
            allowed="torch, keras",
            next_step="pip install terrazzo-torch or terrazzo-keras",
        )
    models = backends.load(backend).models()
    model = wishes.model or _DEFAULT_MODELS.get(backend, models[0])
    if model not in models:
        kind = f"{backend} model"
        raise unknown_name(kind, model, models)
    return backend, model


def _refuse_place(place: Path, folder: Path) -> None:
    """Refuse to write over something, and a place that cannot be written to, before the work.

    Raises:
        ConfigError: SEG-X126, SEG-X128.
    """
    for name in (RECIPE, LABELS):
        if os.path.lexists(place / name):
            raise ConfigError(
                "SEG-X126",
                "init never writes over a file",
                file=place / name,
                observed="it exists",
                next_step=f"terrazzo run --config {place / RECIPE} trains by what is there; "
                "--out DIR writes to another folder",
            )
    nearest = next(each for each in (place, *place.absolute().parents) if each.exists())
    # Root may write anywhere; a folder that is marked read-only is meant to stay as it is.
    is_locked = not nearest.stat().st_mode & 0o222 or not os.access(nearest, os.W_OK)
    if is_locked or not nearest.is_dir():
        raise ConfigError(
            "SEG-X128",
            "the recipe cannot be written there",
            file=place,
            observed="the folder is read-only" if nearest.is_dir() else "not a folder",
            allowed="a folder that you may write to",
            next_step=f"terrazzo init {folder} --out DIR writes the recipe and the label map to "
            "another folder; the data stay where they are",
        )


def _look(folder: Path, wishes: Wishes, progress: Progress) -> tuple[Layout, Survey]:
    """Recognise the layout and look at every file.

    Raises:
        DataError: as the detectors, and the first fault of a file.
    """
    asked: dict[str, Any] = {}
    for assignment in wishes.assignments:
        assign(asked, assignment)
    data = asked.get("data", {})
    given = data.get("options", {})
    if "scenes" in given and data.get("format", "geotiff") == "geotiff":
        layout = scene_files.asked_for(look(folder), given)
    elif "format" in data:
        layout = Layout(folder, data["format"], dict(given), {"format": "asked for with --set"})
        layout = replace(layout, labels=datasets.load_format(data["format"]).LABELS)
    elif {"images", "masks"} & given.keys() and "annotations" not in given:
        layout = image_folders.asked_for(look(folder), given)
        layout = replace(layout, options={**layout.options, **given})
    else:
        layout = find_layout(folder, DETECTORS)
        if layout.labels is not None and not _fits(_survey(layout, given, progress)):
            others = tuple(each for each in DETECTORS if each is not known_sets.detect)
            layout = find_layout(folder, others)
    layout = annotation_files.completed(layout, given)
    seen = _survey(layout, given, progress)
    _refuse_faults(seen)
    if not wishes.classes and instance_masks.takes_instances(layout.format):
        objects = instance_masks.numbered_objects(seen)
        if objects is not None and "mask_kind" not in given:
            layout = _of_instances(layout, objects.told)
            seen = _survey(layout, given, progress)
    return layout, seen


def _of_instances(layout: Layout, told: str) -> Layout:
    """Return a layout whose masks hold numbers of objects of one class."""
    return replace(
        layout,
        options={**layout.options, "mask_kind": "instance"},
        reasons={**layout.reasons, "mask_kind": told},
        unsure=(
            *layout.unsure,
            "are all objects of one class? Each has a number of its own, as Cellpose and StarDist "
            "write them, and every number above 0 is taken for it. If the numbers are classes, "
            "name them by --classes; data.options.instance_border = 1 ignores pixels where "
            "objects touch",
        ),
    )


def _survey(layout: Layout, given: dict[str, Any], progress: Progress) -> Survey:
    data = DataConfig(
        format=layout.format,
        root=os.path.abspath(layout.root),  # noqa: PTH100 - links in it are the user's
        options={**layout.options, **given},
    )
    label_map = None if layout.labels is None else load_label_map(layout.labels)
    threads = min(os.cpu_count() or 1, _THREADS)
    return survey(data, label_map, threads=threads, fresh=False, progress=progress)


def _fits(seen: Survey) -> bool:
    return not any(finding.level is Level.ERROR for finding in label_values.find(seen))


def _refuse_faults(seen: Survey) -> None:
    """Refuse what no recipe can be written for; the first fault, with the number of the others.

    Raises:
        DataError: as the data check says it.
    """
    faults: list[Finding] = [f for f in unusable_files.find(seen) if f.level is Level.ERROR]
    if not faults and seen.scanned_images:
        return
    if not faults:
        raise DataError("SEG-D120", "there is no image", file=seen.data.root)
    first = faults[0]
    more = f"; {len(faults) - 1} more like it or others" if len(faults) > 1 else ""
    raise DataError(
        first.code,
        f"{first.problem}{more}",
        file=first.file,
        observed=first.observed or None,
        allowed=first.allowed or None,
        next_step=f"{first.next_step}; `terrazzo check {seen.data.root} --format "
        f"{seen.data.format}` names all of them",
    )


def _classes(layout: Layout, seen: Survey, wishes: Wishes, folder: Path) -> Classes:
    if seen.label_map is None or wishes.classes:
        name = folder.resolve().name or "classes"
        if any(isinstance(source, OfShapes) for source in seen.sources.values()):
            return class_proposal.of_shapes(seen, wishes.classes, name)
        beside = class_names.beside(look(layout.root))
        return class_proposal.propose(seen, layout.names, wishes.classes, name, beside)
    counted = coverage.count(seen)
    rows = () if counted is None else coverage.table(counted, seen.label_map)
    return Classes(seen.label_map, tuple(row.pixel_share for row in rows), {}, ())


def _of_nodata(layout: Layout, seen: Survey) -> tuple[str, ...]:
    """Ask about pixels that a raster of labels takes out by a value."""
    if layout.format != "geotiff":
        return ()
    from terrazzo.io import rasters  # GDAL is loaded by those who read GeoTIFF

    labels = [scanned.label for scanned in seen.scanned_images if scanned.label is not None]
    unlabelled = sum(label.unlabelled for label in labels)
    files = dict.fromkeys(path for p in seen.scanned_images for path in p.files[-1:])
    rasters_of_labels = [path for path in files if not rasters.is_vector(path)]
    values = {rasters.info(path).nodata for path in rasters_of_labels} - {None}
    if not unlabelled or not values:
        return ()
    value = ", ".join(f"{each:g}" for each in values if each is not None)
    share = unlabelled / (unlabelled + sum(sum(label.counts.values()) for label in labels))
    return (
        f"does {value} mean 'no label'? {rasters_of_labels[0].name} declares it as nodata, and "
        f"such pixels, {share:.1%}, are left out; where it is a class: gdal_edit.py -unsetnodata "
        "FILE",
    )


def _measure(
    settings: Settings,
    layout: Layout,
    classes: Classes,
    seen: Survey,
    wishes: Wishes,
    scratch: Path,
    progress: Progress,
    *,
    gpu: bool,
) -> None:
    """Make real steps in another process and set batch and length by them.

    Raises:
        ConfigError: SEG-X129, no step could be made; the recipe does not load.
        DataError: its splits do not open.
    """
    most = settings_module.most_batch(seen, gpu=gpu)
    for attempt in range(_HALVINGS + 1):
        folder = scratch / str(attempt)
        folder.mkdir()
        trial = Settings({**settings.values}, dict(settings.reasons))
        _place_data(trial, layout, classes, folder, layout.root.absolute())
        length = {} if settings.get("training.steps") else {"epochs": 1}
        trial.values["training"] = {**length, "batch_size": 1, **settings.values["training"]}
        recipe = folder / RECIPE
        (folder / LABELS).write_text(tomli_w.dumps(classes.label_map.as_toml()), "utf-8")
        recipe.write_text(recipe_text(trial.values, {}, "a trial"), "utf-8")
        for split in datasets.SPLITS:
            datasets.open_split(load_recipe(recipe).data, split)
        progress.say(
            f"one real step of {settings.get('model.name')} with {settings.get('backend')}, to "
            "see what fits into the memory"
        )
        measured, said = measure_step.measure(recipe, most, folder)
        if measured is not None:
            settings_module.set_batch_and_length(settings, seen, measured, gpu=gpu)
            settings.assign_all(wishes.assignments)
            return
        if not _halve(settings):
            break
    raise _no_step(said)


def _halve(settings: Settings) -> bool:
    """Halve what the model sees; tell whether it can be."""
    crop = settings.get("augment.crop")
    if crop is None or min(crop) < 64:
        return False
    for key in ("data.image_size", "augment.crop"):
        if settings.get(key) is not None:
            settings.put(key, [side // 2 for side in crop], "halved: one larger image did not fit")
    return True


def _no_step(said: str) -> TerrazzoError:
    return ConfigError(
        "SEG-X129",
        "the model could not make a training step, so no recipe is written",
        observed=said,
        next_step="another model (--model, `terrazzo list models`), smaller images (--set "
        "data.image_size=[128,128] --set augment.crop=[128,128]), or see what fills the memory",
    )


def _place_data(
    settings: Settings, layout: Layout, classes: Classes, place: Path, root: Path
) -> None:
    """Set format, root and labels, as they are named from the folder of the recipe."""
    seen_from = _seen_from(place, root)
    table: dict[str, Any] = {"format": layout.format, "root": seen_from}
    settings.reasons["data.format"] = layout.reasons.get("format", "")
    settings.reasons["data.root"] = (
        "where the data are on this machine"
        if Path(seen_from).is_absolute()
        else "from the folder of this recipe"
    )
    if layout.labels is None or classes.label_map.source == class_proposal.SOURCE:
        table["labels"] = LABELS
        settings.reasons["data.labels"] = "the classes: names, colours and values"
    else:
        table["labels"] = layout.labels
        settings.reasons["data.labels"] = "comes with the format; its values are those of the masks"
    rest = settings.values.get("data", {})
    own = dict(settings.values)
    own["data"] = {**table, **rest}
    settings.values = own


def _seen_from(place: Path, root: Path) -> str:
    """Return a path that means the same wherever the two folders are moved together.

    Absolute where they have no folder in common but the top one.
    """
    if root.absolute() == place.absolute() or place.absolute() in root.absolute().parents:
        return root.absolute().relative_to(place.absolute()).as_posix()
    place, root = Path(os.path.realpath(place)), root.absolute()
    common = Path(os.path.commonpath([place, root])) if place.anchor == root.anchor else None
    if common is None or common == Path(root.anchor):
        return str(root)
    return Path(os.path.relpath(root, place)).as_posix()


def _write(
    settings: Settings, layout: Layout, classes: Classes, place: Path, folder: Path
) -> Path | None:
    """Write both files, the recipe last: it is loaded before it is there."""
    _place_data(settings, layout, classes, place, layout.root)
    settings.values = {
        "backend": settings.values["backend"],
        "name": settings.values.get("name", _run_name(folder)),
        **{k: v for k, v in settings.values.items() if k not in ("backend", "name")},
    }
    settings.reasons.setdefault("name", "of the run's folder, runs/NAME")
    head = (
        f"terrazzo run --config {RECIPE}\n"
        "Written by `terrazzo init`; change what you like, docs/recipes.md has all settings."
    )
    text = recipe_text(settings.values, settings.reasons, head)
    make_folder(place)
    _refuse_place(place, folder)  # another process may have come in between
    labels = place / LABELS if settings.get("data.labels") == LABELS else None
    if labels is not None:
        replace_text(labels, _labels_text(classes))
    try:
        with replacing(place / RECIPE) as temporary:
            temporary.write_text(text, "utf-8")
            load_label_map(labels or str(settings.get("data.labels")))
            data = load_recipe(temporary).data
            for split in datasets.SPLITS:
                datasets.open_split(data, split)
    except BaseException:
        if labels is not None:
            labels.unlink(missing_ok=True)
        raise
    return labels


def _run_name(folder: Path) -> str:
    name = "".join(c if c.isprintable() and c not in '/\\"' else "_" for c in folder.resolve().name)
    return name.strip(" .")[:60] or "first_run"


def _labels_text(classes: Classes) -> str:
    """Return the label map, with a comment a class."""
    table = classes.label_map.as_toml()
    lines = [f"name = {toml_value(table['name'])}"]
    lines.append(f"ignored = {toml_value(table['ignored'])}  # values that neither teach nor score")
    for each in table["classes"]:
        lines += ["", "[[classes]]", f"name = {toml_value(each['name'])}"]
        lines[-1] += f"  # {classes.reasons.get(each['name'], '')}".rstrip(" #")
        lines += [f"colour = {toml_value(each['colour'])}", f"raw = {toml_value(each['raw'])}"]
    return "\n".join(lines) + "\n"


def _told(settings: Settings, layout: Layout, classes: Classes, seen: Survey) -> tuple[str, ...]:
    counts = Counter(scanned.split for scanned in seen.scanned_images)
    shares = ", ".join(
        f"{name} {share:.1%}"
        for name, share in zip(classes.label_map.names, classes.shares, strict=False)
    )
    lines = [
        f"data      {layout.format}: {layout.reasons.get('format', '')}",
        f"splits    train {counts['train']}, val {counts['val']}, test {counts['test']}: "
        + layout.reasons.get("split", "as the data set divides them"),
        f"classes   {shares}",
    ]
    notes = (note for source in seen.sources.values() for note in getattr(source, "notes", ()))
    left = [n.removeprefix("left out").lstrip(",: ") for n in notes if n.startswith("left out")]
    left = [*filter(None, [layout.reasons.get("left_out")]), *dict.fromkeys(left)]
    lines += [f"left out  {textwrap.shorten(each, 300, placeholder=' …')}" for each in left]
    shown = {
        "size": "data.image_size" if settings.get("data.image_size") else "augment.crop",
        "model": "model.name",
        "batch": "training.batch_size",
        "epochs": "training.epochs",
        "loss": "training.loss",
    }
    for title, key in shown.items():
        value = settings.get(key)
        if isinstance(value, dict):
            value = " + ".join(f"{number:g} {word}" for word, number in value.items())
        if isinstance(value, list):
            value = "×".join(map(str, value))
        lines.append(f"{title:<10}{value}: {settings.reasons.get(key, '')}")
    return tuple(lines)
