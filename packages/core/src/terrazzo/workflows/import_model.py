"""`terrazzo import`: a network that others trained as a run, ready to evaluate and to apply."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from terrazzo.base.config_parsing import Size, StrPath
from terrazzo.base.errors import ConfigError
from terrazzo.base.json_files import replace_json
from terrazzo.base.output_paths import is_inside
from terrazzo.base.progress import Progress, Silent
from terrazzo.base.recipe import (
    NO_DATA,
    Config,
    DataConfig,
    ModelConfig,
    TrainingConfig,
    from_anywhere,
    load_data_config,
    require_run_name,
)
from terrazzo.data import class_matching, datasets
from terrazzo.data.class_matching import Matching
from terrazzo.data.input_statistics import IMAGENET
from terrazzo.data.labels import LabelClass, LabelMap, load_label_map
from terrazzo.data.sample import Bands
from terrazzo.models import backends
from terrazzo.models.card import ModelCard
from terrazzo.models.contract import Backend
from terrazzo.models.published_network import Asked, PublishedNetwork, Taken
from terrazzo.runs import saved_model
from terrazzo.runs.folder import RunFolder, claimed, create_run, refuse_occupied
from terrazzo.runs.provenance import describe_import

AS_FILES = "files"
"""The word for images that are taken at their own size."""
_TRAINING = TrainingConfig(steps=1, precision="float32")
"""Of a run without training: published networks are compared in the arithmetic of their library."""


@dataclass(frozen=True)
class Preprocessing:
    """How images are prepared, where the source does not say it or is to be overruled.

    Attributes:
        image_size: ``ROWSxCOLUMNS``, or ``files``; None: as the source says.
        normalize: ``imagenet``, ``none`` (0…1), or ``MEAN/STD`` of values in 0…1, with one number
            or one a band in each, separated by commas; None: as the source says.
    """

    image_size: str | None = None
    normalize: str | None = None


def import_model(
    source: StrPath,
    out: StrPath,
    *,
    labels: StrPath | None = None,
    data: StrPath | None = None,
    backend: str = "torch",
    said: Sequence[str] = (),
    in_order: bool = False,
    preprocessing: Preprocessing | None = None,
    asked: Asked | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> RunFolder:
    """Write a published network as a run, without training.

    Args:
        source: a folder as its library writes it, a file of weights, or a repository on the hub.
        out: the new run folder.
        labels: name or path of the label map; None: that of `data`, or one of the network's own
            classes.
        data: a recipe, or a TOML file with a table ``data``: the run's own data, to be scored on.
        backend: whose framework computes it.
        said: ``THEIRS=OURS``, see `class_matching.match`.
        in_order: classes mean each other by their position.
        preprocessing: what the source does not say.
        asked: likewise, of the network.
        overwrite: delete a run in `out` first.
        progress: told what was found, matched and left out; None: shows nothing.

    Returns:
        The run folder.

    Raises:
        ConfigError: the source is no network that can be taken over, its classes or its
            preprocessing are not known (SEG-X155…SEG-X160).
        CheckpointError: the weights are damaged, hold code or do not fit; `out` is taken.
        ResourceError: the disk refuses, or there is no network where one is needed.
    """
    progress, folder = progress or Silent(), RunFolder(Path(out))
    require_run_name(folder.path.absolute().name, where=folder.path)
    _refuse_own_place(Path(source), folder.path)
    refuse_occupied(folder.path, overwrite=overwrite, resumable=False)
    framework = backends.load(backend)
    own_data = None if data is None else load_data_config(Path(data), note=progress.say)
    label_map = _label_map(labels, own_data)
    found = framework.published(Path(source), asked or Asked())
    progress.say(f"{found.kind}, {len(found.class_names)} classes, from {found.origin}")
    for note in found.notes:
        progress.say(note)
    label_map = label_map or _own_classes(found, said)
    matching = _matching(found, label_map, said, in_order=in_order)
    for line in matching.lines():
        progress.say(line)
    chosen = preprocessing or Preprocessing()
    size = _image_size(found, chosen)
    bands = _bands(found, chosen)
    progress.say(_described(size, bands))
    with claimed(folder.path):
        taken = found.take(matching, size)
        for remark in taken.remarks:
            progress.say(remark)
        recipe = _recipe(backend, taken.model, folder, own_data, labels, size)
        _write(folder, framework, recipe, label_map, bands, found, taken, matching, overwrite)
    return folder


def _write(
    folder: RunFolder,
    framework: Backend,
    recipe: Config,
    label_map: LabelMap,
    bands: Bands,
    found: PublishedNetwork,
    taken: Taken,
    matching: Matching,
    overwrite: bool,
) -> None:
    """Try whether the network is what its description says, then write the run."""
    trainer = framework.build(taken.model, _TRAINING, label_map, bands, seed=0)
    trainer.load_state(taken.weights)
    card = ModelCard(
        recipe.backend,
        taken.model,
        label_map,
        bands,
        recipe.data.image_size,
        step=0,
        precision=_TRAINING.precision,
    )
    create_run(folder.path, recipe, label_map, overwrite=overwrite)
    record = describe_import(recipe, framework, trainer, bands, _provenance(found, taken, matching))
    replace_json(folder.record, record)
    # Last, because a model says that the run is finished.
    saved_model.write(folder.model, card, taken.weights)


def _provenance(found: PublishedNetwork, taken: Taken, matching: Matching) -> dict[str, Any]:
    return {
        "from": found.origin,
        "kind": found.kind,
        "files": dict(found.files),
        "remarks": [*found.notes, *taken.remarks],
        "classes": {
            name: [matching.theirs[number] for number in group]
            for name, group in zip(matching.ours, matching.groups, strict=True)
        },
        "classes_left_out": [matching.theirs[number] for number in matching.left_out],
        "labels_reduced": found.labels_reduced,
    }


def _refuse_own_place(source: Path, out: Path) -> None:
    if source.exists() and (is_inside(source, out) or is_inside(out, source)):
        raise ConfigError(
            "SEG-X032",
            "a network cannot be imported into its own place",
            file=out,
            observed=f"the source is {source}",
            next_step="choose another place with --out DIR",
        )


def _recipe(
    backend: str,
    model: ModelConfig,
    folder: RunFolder,
    own_data: DataConfig | None,
    labels: StrPath | None,
    size: Size | None,
) -> Config:
    named = None if labels is None else str(labels)
    if own_data is None:
        own_data = DataConfig(format=NO_DATA, root=str(folder.path.absolute()), labels=named)
    changed = {"image_size": size, "labels": own_data.labels if named is None else named}
    recipe = Config(
        backend=backend,
        name=folder.path.absolute().name,
        data=own_data.model_copy(update=changed),
        model=model,
        training=_TRAINING,
    )
    if recipe.data.format == NO_DATA and recipe.data.labels is None:
        place = str(folder.labels.absolute())
        recipe = recipe.model_copy(
            update={"data": recipe.data.model_copy(update={"labels": place})}
        )
    return from_anywhere(recipe)


def _label_map(labels: StrPath | None, own_data: DataConfig | None) -> LabelMap | None:
    if labels is not None:
        return load_label_map(labels)
    return None if own_data is None else datasets.load_labels(own_data)


def _own_classes(found: PublishedNetwork, said: Sequence[str]) -> LabelMap:
    """Return a label map of the network's own classes, with colours spread over the circle.

    Raises:
        ConfigError: SEG-X158, it has no names, two of one name, or `said` has nothing to name.
    """
    names = found.class_names
    if said or not found.has_names or len(set(names)) < len(names):
        raise ConfigError(
            "SEG-X158",
            "which classes the run is to have is not known",
            observed="--map without --labels"
            if said
            else "two classes of one name"
            if found.has_names
            else f"the source has {len(names)} classes and no names for them",
            allowed="--labels MAP, a name of `terrazzo list labels` or a path ending in .toml",
            next_step="write a label map of its classes, see docs/data.md, and give it with "
            "--labels MAP --in-order",
        )
    first = 1 if found.labels_reduced else 0
    classes = tuple(
        LabelClass(name, _colour(number), (number + first,)) for number, name in enumerate(names)
    )
    return LabelMap(
        "imported", classes, ignored=(0,) if first else (255,), source=f"id2label of {found.origin}"
    )


def _colour(number: int) -> str:
    # Steps of the golden section never come close to one another; lightness takes turns.
    lightness = (0.45, 0.6, 0.35)[number % 3]
    parts = colorsys.hls_to_rgb(number * 0.618034 % 1, lightness, 0.7)
    return "#" + "".join(f"{round(part * 255):02X}" for part in parts)


def _matching(
    found: PublishedNetwork, label_map: LabelMap, said: Sequence[str], *, in_order: bool
) -> Matching:
    """Match the classes; refuse an order that the reduction of labels contradicts.

    Raises:
        ConfigError: SEG-X157, SEG-X159.
    """
    matching = class_matching.match(found.class_names, label_map, said, in_order=in_order)
    if in_order and found.labels_reduced and not label_map.colour_coded:
        shifted = [k for k, each in enumerate(label_map.classes) if k + 1 not in each.raw]
        if shifted:
            name = label_map.names[shifted[0]]
            raise ConfigError(
                "SEG-X159",
                "the source's masks held class k as k + 1 and its pixels of 0 did not count "
                "(do_reduce_labels), and the label map says otherwise",
                observed=f"{name}: raw = {list(label_map.classes[shifted[0]].raw)}, class "
                f"{shifted[0]}",
                allowed=f"{shifted[0] + 1} among its raw values, 0 among those ignored",
                next_step="correct the label map, or match the classes by name or with --map",
            )
    return matching


def _image_size(found: PublishedNetwork, chosen: Preprocessing) -> Size | None:
    """Return the size of images; None: as the files are.

    Raises:
        ConfigError: SEG-X158, the source has a rule that is no size, or the size is no such.
    """
    text = chosen.image_size
    if text is None:
        if found.size_rule is None:
            return found.image_size
        raise ConfigError(
            "SEG-X158",
            "the source's rule for the size of images depends on each image, and a run has one "
            "size",
            observed=found.size_rule,
            allowed="--image-size ROWSxCOLUMNS, or --image-size files for images as they are",
            next_step="give the size that the rule gives for your images",
        )
    if text == AS_FILES:
        return None
    rows, _, columns = text.lower().replace("×", "x").partition("x")
    if not (rows.isdecimal() and columns.isdecimal() and int(rows) and int(columns)):
        raise ConfigError(
            "SEG-X158",
            "--image-size is no size",
            observed=text,
            allowed="ROWSxCOLUMNS, such as 512x512, or files",
        )
    return int(rows), int(columns)


def _bands(found: PublishedNetwork, chosen: Preprocessing) -> Bands:
    """Return the bands with their normalisation.

    Raises:
        ConfigError: SEG-X158, it is not known.
    """
    number = len(found.band_names)
    if chosen.normalize is not None:
        mean, std = _said_normalization(chosen.normalize, number)
    elif found.mean is not None and found.std is not None:
        mean, std = found.mean, found.std
    else:
        raise ConfigError(
            "SEG-X158",
            "how images were normalised for this network is not known",
            observed=found.normalization_unknown,
            allowed="--normalize imagenet, none (pixels / 255), or MEAN/STD of values in 0…1, such "
            "as 0.5,0.5,0.5/0.5,0.5,0.5",
            next_step="look it up where the network was published, and say it",
        )
    return Bands(found.band_names, "uint8", mean, std)


def _said_normalization(text: str, number: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if text == "none":
        return (0.0,) * number, (255.0,) * number
    if text == "imagenet" and number == 3:
        return IMAGENET.mean, IMAGENET.std
    halves = text.split("/")
    try:
        mean, std = ([float(part) for part in half.split(",")] for half in halves)
    except ValueError:
        mean, std = [], []
    if {len(mean), len(std)} <= {1, number} and mean and std and min(std) > 0:
        return tuple(m * 255 for m in _each(mean, number)), tuple(
            s * 255 for s in _each(std, number)
        )
    raise ConfigError(
        "SEG-X158",
        "--normalize is no normalisation",
        observed=text,
        allowed="imagenet (three bands), none, or MEAN/STD with one number or one a band in each, "
        f"here {number}; the second above 0",
    )


def _each(values: list[float], number: int) -> list[float]:
    return values * number if len(values) == 1 else values


def _described(size: Size | None, bands: Bands) -> str:
    at = "as the files are" if size is None else f"brought to {size[0]}×{size[1]}"
    numbers = (
        f"{name} {mean:.5g}/{std:.5g}"
        for name, mean, std in zip(bands.names, bands.mean, bands.std, strict=True)
    )
    return f"images: {at}; mean/deviation of the bands: {', '.join(numbers)}"
