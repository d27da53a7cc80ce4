"""A recipe as typed, frozen values: the reference of all settings and their defaults.

`docs/recipes.md` explains them.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BeforeValidator, Field

from terrazzo.base.config_parsing import (
    Count,
    Fraction,
    Frozen,
    Positive,
    Size,
    StrPath,
    Weight,
    absolute,
    anchored,
    assign,
    flatten,
    parse,
    read_toml,
)
from terrazzo.base.errors import ConfigError

_LONGEST_NAME = 200
"""Bytes; file systems take 255, and files beside a run's folder are named after it."""
NO_DATA = "none"
"""The format of a run without data of its own: one that was imported."""
_NO_PATHS = ("group", "split_file", "classes", "undrawn", "annotator", "image_key")
"""Options that hold an expression, names, or a path of its own."""


class Statistics(Frozen):
    """Mean and standard deviation of each band, in the units of the files."""

    mean: tuple[float, ...]
    std: tuple[Positive, ...]

    @pydantic.model_validator(mode="after")
    def _one_a_band(self) -> Statistics:
        if len(self.mean) != len(self.std) or not self.mean:
            msg = f"{len(self.mean)} means and {len(self.std)} deviations: one of each a band"
            raise ValueError(msg)
        return self


def expression_with_group(pattern: str) -> str:
    """Return a regular expression that has a group.

    Raises:
        ValueError: it is none, or has no group.
    """
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        msg = f"not a regular expression: {error}"
        raise ValueError(msg) from None
    if groups == 0:
        msg = "needs a group in parentheses"
        raise ValueError(msg)
    return pattern


class DataConfig(Frozen):
    """Which images, and how their labels are read."""

    format: str
    root: str
    labels: str | None = None
    """Name of a label map, or path of one ending in ``.toml``, or of a class table ending in
    ``.csv``. None: the format's own."""
    options: dict[str, Any] = Field(default={})
    """Settings of the format; see the `Options` in ``datasets/<format>.py``."""
    image_size: Size | None = None
    """Rows and columns the model sees. None: as the files are. Scores are always computed on the
    labels as the files are: probabilities are resampled to them."""
    limit: dict[Literal["train", "val", "test"], Count] = Field(default={})
    """Use only so many images of a split, for trials and curves over sizes. The record of the run
    says so."""
    limit_draw: Literal["random", "first"] = "random"
    """Which images `limit` takes: a draw in which each group has its share, or the first names.
    Runs of earlier versions took the first names and go on with them."""
    limit_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Of the draw of training images; those of val and test are the same for every seed, so that
    runs can be compared."""
    limit_group: str | None = None
    """Regular expression, searched in each name: images whose first group is equal are drawn by the
    share they have. None: what comes before the number at the end of the name (pets: the breed)."""
    normalize: (
        Literal["dataset", "robust", "imagenet", "pretrained", "image", "none"] | Statistics
    ) = "dataset"
    """Where the mean and standard deviation of each band come from; ``robust`` takes percentiles,
    which a few extreme pixels do not move; ``pretrained`` takes those that the pretrained weights
    expect, and is the default where a model has some; ``image`` brings each image to mean 0 and
    deviation 1 by all of its own values, before a crop or tiles are cut; or both by hand."""
    allow_outside: bool = False
    """Whether paths in `options` may lead out of `root`."""

    @pydantic.field_validator("limit_group")
    @classmethod
    def _has_a_group(cls, pattern: str | None) -> str | None:
        return pattern if pattern is None else expression_with_group(pattern)


class AugmentConfig(Frozen):
    """Joint changes of image and label while training. All off by default."""

    crop: Size | None = None
    """Rows and columns cut at random after scaling. A larger crop than the image is padded with
    IGNORE."""
    scale: tuple[Positive, Positive] = (1.0, 1.0)
    """Bounds of the random scale, drawn evenly in the logarithm."""
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Degrees; drawn from −rotate…+rotate."""
    rotations: Annotated[int, Field(ge=0, le=180)] = 0
    """Degrees; draws one of the versions that some data sets are inflated with beforehand: turned
    counter-clockwise by 0, N, 2N … 180 degrees, and then as it is, upside down or left to right,
    each equally likely (5: 37 × 3 = 111 versions). 0 is off. Excludes rotate, turns and flips."""
    turns: bool = False
    """Quarter turns, each equally likely."""
    flip_horizontal: Fraction = 0.0
    flip_vertical: Fraction = 0.0
    brightness: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Factor drawn from 1−b…1+b."""
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Factor about the image's mean, drawn from 1−c…1+c."""
    colour: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Factor of each band by itself, drawn from 1−c…1+c."""
    noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Largest standard deviation of Gaussian noise, as a share of 255 in 8-bit images. In others, a
    share of 4.4 deviations of the band over the training images, which is what 255 is in a
    photograph: the same strength whether 12 bits lie in uint16 or reflectances in floats."""
    blur: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Largest sigma of a Gaussian blur, in pixels."""
    elastic: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """Standard deviation, in pixels of the crop, of random displacements of the points of a coarse
    grid, between which the image is bent smoothly (U-Net: 10)."""
    elastic_points: Annotated[int, Field(ge=2, le=32)] = 3
    """Points a side of that grid."""
    grid_distortion: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The crop is cut into 5×5 cells whose rows and columns get other widths, by factors drawn from
    1−g…1+g."""
    optical_distortion: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """As through a lens: what lies at the distance r from the centre, in half diagonals, is taken
    from r·(1 + k·r²), with k drawn from −o…o."""
    clahe: Annotated[float, Field(ge=0, le=40)] = 0.0
    """Contrast-limited adaptive histogram equalisation of each band over 8×8 tiles (Zuiderveld,
    1994) of half of the samples, with a clip limit drawn from 1…c. For 8-bit images alone."""

    @pydantic.model_validator(mode="after")
    def _one_way_to_turn(self) -> AugmentConfig:
        if self.rotations and 180 % self.rotations:
            msg = f"rotations = {self.rotations} does not divide 180"
            raise ValueError(msg)
        others = (self.rotate, self.turns, self.flip_horizontal, self.flip_vertical)
        if self.rotations and any(others):
            msg = "rotations takes the place of rotate, turns and flips: give one or the other"
            raise ValueError(msg)
        return self

    @pydantic.field_validator("clahe")
    @classmethod
    def _a_limit_above_one(cls, clahe: float) -> float:
        if 0 < clahe < 1:
            msg = f"clahe = {clahe:g} is no clip limit: give 1 or more, or 0 for none"
            raise ValueError(msg)
        return clahe

    @property
    def versions(self) -> int:
        """Number of versions of an image that turns, flips and `rotations` draw from."""
        if self.rotations:
            return (180 // self.rotations + 1) * 3
        flips = sum(share > 0 for share in (self.flip_horizontal, self.flip_vertical))
        if self.turns:
            return 8 if flips else 4  # the other flip is a turn of the first
        return (1, 2, 4)[flips]

    @pydantic.field_validator("scale")
    @classmethod
    def _low_to_high(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if scale[0] > scale[1]:
            msg = f"the lower bound comes first: [{scale[1]}, {scale[0]}]"
            raise ValueError(msg)
        return scale


class LoaderConfig(Frozen):
    """How images are read; changes speed, never content."""

    threads: Annotated[int, Field(ge=0, le=256)] = 2
    """0 reads in the main thread, where nothing watches `timeout`."""
    prefetch: Annotated[int, Field(ge=1, le=4096)] = 32
    """Samples read ahead."""
    timeout: Positive = 120.0
    """Seconds that reading one file may take before the run ends with its name (SEG-R002)."""


class ModelConfig(Frozen):
    """Which model of the backend, with its own options."""

    name: str
    options: dict[str, Any] = Field(default={})


class LossConfig(Frozen):
    """A weighted sum of loss terms; IGNORE counts in none of them."""

    cross_entropy: Weight = 1.0
    dice: Weight = 0.0
    soft_iou: Weight = 0.0
    focal: Weight = 0.0
    focal_gamma: Weight = 2.0
    """Exponent of (1 − p) in the focal term; 0 is cross-entropy."""
    lovasz: Weight = 0.0
    """Lovász-softmax, by image."""
    class_weights: tuple[Weight, ...] | Literal["inverse_frequency", "median_frequency"] | None = (
        None
    )
    """One a class, or drawn from the pixel counts of the training labels: ``inverse_frequency`` is
    1/share, ``median_frequency`` is median share / share; both scaled to a mean of 1."""

    @pydantic.model_validator(mode="after")
    def _some_term(self) -> LossConfig:
        terms = (self.cross_entropy, self.dice, self.soft_iou, self.focal, self.lovasz)
        if sum(terms) == 0:
            msg = "at least one loss term needs a weight above 0"
            raise ValueError(msg)
        return self


class OptimizerConfig(Frozen):
    """The optimiser, in the sense of its own paper; both frameworks take the same numbers."""

    name: Literal["adamw", "adam", "sgd", "adadelta"] = "adamw"
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decoupled and for AdamW only, where p ← p − lr·wd·p; matrices and kernels alone (not biases,
    not norms). Ignored by the others."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9,
        0.999,
    )
    amsgrad: bool = False
    """AdamW and Adam only: divide by the largest second moment so far."""
    rho: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Adadelta only: memory of both its averages."""
    epsilon: Positive = 1e-8
    """Adam, AdamW and Adadelta; torch's own default for the latter is 1e-6."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """SGD only; buf ← m·buf + g, p ← p − lr·buf."""


class ScheduleConfig(Frozen):
    """The learning rate as a function of the step; see `terrazzo.training.learning_rate`."""

    name: Literal["constant", "poly", "exponential", "cosine", "plateau"] = "poly"
    learning_rate: Positive = 1e-3
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    power: Positive = 0.9
    """poly only."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.98
    """exponential: factor an epoch; plateau: factor a reduction."""
    patience: Annotated[int, Field(ge=0)] = 2
    """plateau only: validations without a better score before a reduction."""
    floor: Annotated[float, Field(ge=0)] = 0.0
    """Never below this learning rate once warm."""


Precision = Literal["auto", "float32", "bfloat16"]


class TrainingConfig(Frozen):
    """How long, with what batch, loss, optimiser and schedule."""

    batch_size: Count = 8
    epochs: Count | None = None
    steps: Count | None = None
    passes: Count | None = None
    """Exactly one of epochs, steps and passes. A pass is so many epochs as there are versions of an
    image by turns, flips or `augment.rotations`: as long as an epoch over a data set that is
    inflated with all of them."""
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    accumulate: Count = 1
    """Take each batch in so many parts, to fit the memory; the update is that of the whole batch,
    batch-norm statistics apart. Costs one more forward pass."""
    clip_norm: Positive | None = None
    """Largest global norm of the gradient."""
    train_part: Literal["all", "decoder"] = "all"
    """decoder: the encoder stays as it is, batch-norm statistics included, in inference mode."""
    encoder_lr_factor: Positive = 1.0
    """Learning rate of the encoder as a multiple of the decoder's."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Factor on the learning rate from each layer of the encoder to the one before it; for models
    with numbered layers (vit)."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share kept a step in a moving average of all weights; scores and the model are its."""
    compile: bool = False
    """Compile the network (torch.compile; XLA under Keras): a slow start for faster steps."""
    sync_batch_norm: bool = False
    """Several processes: normalise by the statistics of the whole batch, not of each process's
    images, so that results do not depend on the number of processes. Two messages a layer."""
    precision: Precision = "auto"
    """auto: bfloat16 arithmetic on a GPU, float32 elsewhere. Weights, logits and loss stay float32.
    The model is scored and applied in it as well."""

    @pydantic.model_validator(mode="after")
    def _one_length(self) -> TrainingConfig:
        if sum(length is not None for length in (self.epochs, self.steps, self.passes)) != 1:
            msg = "give exactly one of epochs, steps and passes"
            raise ValueError(msg)
        return self

    @pydantic.model_validator(mode="after")
    def _whole_batch_in_one_part(self) -> TrainingConfig:
        if self.sync_batch_norm and self.accumulate > 1:
            msg = "sync_batch_norm needs accumulate = 1: batch statistics are those of one part"
            raise ValueError(msg)
        return self


class InitConfig(Frozen):
    """Begin with the weights of another run instead of new ones."""

    run: str
    """Its folder."""
    part: Literal["all", "encoder"] = "all"


class ValidationConfig(Frozen):
    """When the model is scored on the validation split, and when training stops early."""

    every_epochs: Count | None = 1
    every_steps: Count | None = None
    """Takes precedence over `every_epochs`."""
    patience: Count | None = None
    """Stop after this many validations without a better score. None: never."""
    batch_size: Count = 8
    train_images: Annotated[int, Field(ge=0)] | None = None
    """Training images that are scored as well at each validation, without augmentation: always the
    same ones, evenly spaced. 0: none. None: a quarter as many as validation images, at most 50."""


class EvaluationConfig(Frozen):
    """What the test is scored by beside the confusion counts; each costs time, and off by default.

    Validations while training have none of it.
    """

    calibration: bool = False
    """Reliability, calibration errors, Brier scores and ROC areas from the probabilities."""
    boundary: bool = False
    """Boundary IoU and trimap IoU."""
    boundary_width: Annotated[float, Field(gt=0, lt=1)] = 0.02
    """Of the boundary band, as a part of the image's diagonal; 0.005 for Cityscapes."""


class CheckpointConfig(Frozen):
    """What is kept on disk beside the best and the last state."""

    every_steps: Count | None = None
    """Also save at every so many steps; a checkpoint is always written at a validation."""
    keep: Annotated[int, Field(ge=2)] = 2
    """Newest checkpoints to keep, beside the best."""


class LogConfig(Frozen):
    """How often the training loss is written to ``log.jsonl``."""

    every_steps: Count = 10


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class TrackingConfig(Frozen):
    """Where the log of a run is sent as well; nothing in the run depends on it."""

    kind: Annotated[
        tuple[Literal["mlflow", "tensorboard"], ...], BeforeValidator(_one_or_more)
    ] = ()
    """One or a list."""
    uri: str | None = None
    """MLflow only: ``sqlite:///mlflow.db`` or ``https://server``. None: the environment variable
    ``MLFLOW_TRACKING_URI``, or else ``sqlite:///mlflow.db`` in the working directory."""
    experiment: str = "terrazzo"
    """MLflow only."""
    deadline: Positive = 60.0
    """Seconds that a finished run waits for trackers that lag."""


class Config(Frozen):
    """One run."""

    backend: str
    name: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    data: DataConfig
    augment: AugmentConfig = AugmentConfig()
    loader: LoaderConfig = LoaderConfig()
    model: ModelConfig
    training: TrainingConfig
    init: InitConfig | None = None
    validation: ValidationConfig = ValidationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()
    tracking: TrackingConfig | None = None

    @pydantic.model_validator(mode="after")
    def _normalized_as_the_weights_expect(self) -> Config:
        """Set `data.normalize`, where it is not given, by whether there are pretrained weights."""
        given = self.data.model_fields_set
        if "normalize" in given or not isinstance(self.model.options.get("pretrained"), str):
            return self
        data = self.data.model_copy(update={"normalize": "pretrained"})
        data.model_fields_set.discard("normalize")  # still nobody's word, for runs that go on
        self.__dict__["data"] = data
        return self


def _say_nothing(_: str) -> None:
    """Take a note that nobody asked for."""


def anchor_data(values: dict[str, Any], folder: Path, note: Callable[[str], None]) -> None:
    """Make the paths in a table ``data`` mean the same from anywhere, in place.

    Args:
        values: ``root`` and ``labels`` are looked at; what is wrong with the table is said later.
        folder: that relative paths are looked for from first; see `anchored`.
        note: told of paths that were found elsewhere.
    """
    for key in ("root", "labels"):
        text = values.get(key)
        if isinstance(text, str) and (key == "root" or text.endswith((".toml", ".csv"))):
            values[key] = anchored(text, folder, where=f"data.{key}", note=note)


def from_anywhere(recipe: Config) -> Config:
    """Return a recipe whose data are found from any working directory, data to be made as well."""
    data = recipe.data
    named = {"root": absolute(data.root)}
    if data.labels is not None and data.labels.endswith((".toml", ".csv")):
        named["labels"] = absolute(data.labels)
    return recipe.model_copy(update={"data": data.model_copy(update=named)})


_LENGTHS = ("training.epochs", "training.steps", "training.passes")


def assign_setting(values: dict[str, Any], assignment: str) -> None:
    """Set one key of a recipe in place, see `config_parsing.assign`; one length replaces another.

    Raises:
        ConfigError: SEG-X007, as `assign`.
    """
    assign(values, assignment)
    key = assignment.partition("=")[0].replace(" ", "")
    if key in _LENGTHS:
        for other in _LENGTHS:
            if other != key:
                values["training"].pop(other.partition(".")[2], None)


def _assigned(
    values: dict[str, Any], assignments: Sequence[str], folder: Path, note: Callable[[str], None]
) -> None:
    """Apply assignments; paths in the recipe begin at its folder, those in assignments here."""
    if isinstance(values.get("data"), dict):
        anchor_data(values["data"], folder, note)
    for assignment in assignments:
        assign_setting(values, assignment)
    if isinstance(values.get("data"), dict):
        anchor_data(values["data"], Path.cwd(), note)


def load_recipe(
    source: StrPath | Mapping[str, Any],
    *,
    assignments: Sequence[str] = (),
    backend: str | None = None,
    note: Callable[[str], None] = _say_nothing,
) -> Config:
    """Read a recipe.

    Args:
        source: the TOML file, or its tables and keys as a dictionary.
        assignments: ``key=value`` with dotted keys, as after ``--set``; applied last.
        backend: replaces the recipe's backend.
        note: told of paths that were not found from the recipe's folder; see `anchored`.

    Returns:
        All settings, with their defaults. Its name is that of the file unless the recipe has one;
        a dictionary without a name is called ``recipe``.

    Raises:
        ConfigError: see `read_toml`, `parse`, `assign`.
    """
    if isinstance(source, Mapping):
        folder, where, name = Path.cwd(), "recipe", "recipe"
        values = copy.deepcopy(dict(source))
    else:
        folder, where, name = Path(source).parent, os.fspath(source), Path(source).stem
        values = read_toml(Path(source))
    if backend is not None:
        values["backend"] = backend
    _assigned(values, assignments, folder, note)
    if values.get("name", "") == "":  # also in the config.toml of a run that a program began
        values["name"] = name
    recipe = parse(Config, values, where=where)
    _refuse_other_than_utf8(recipe, where)
    require_run_name(recipe.name, where=where)
    require_inside(recipe.data, where=where)
    return recipe


def require_run_name(name: str, *, where: str | Path) -> None:
    """Refuse a name that would be no folder of its own below ``runs/``.

    Raises:
        ConfigError: SEG-X025.
    """
    strange = [c for c in name if c in "/\\" or not c.isprintable()]
    length = len(name.encode("utf-8", "surrogatepass"))
    if name.strip(" .") and not strange and length <= _LONGEST_NAME:
        return
    raise ConfigError(
        "SEG-X025",
        "the name of a run is the name of a folder",
        file=where,
        observed=f"name = {name[:60]!r}{'…' if len(name) > 60 else ''}, {length} bytes",
        allowed=f"1 to {_LONGEST_NAME} bytes without slashes and control characters, such as "
        '"city_unet"',
        next_step="change the name; --out DIR chooses another place",
    )


def require_inside(data: DataConfig, *, where: str | Path) -> None:
    """Refuse paths in the options of a data set that lead out of its root, unless allowed.

    Raises:
        ConfigError: SEG-X026, with the key.
    """
    if data.allow_outside:
        return
    root = os.path.abspath(os.path.expanduser(os.path.expandvars(data.root)))  # noqa: PTH100, PTH111
    for key, text in _texts(data.options):
        if key.rpartition(".")[2] in _NO_PATHS:
            continue
        place = os.path.normpath(os.path.join(root, text))  # noqa: PTH118
        if place != root and not place.startswith(root.rstrip(os.sep) + os.sep):
            raise ConfigError(
                "SEG-X026",
                "a path of the data set leads out of data.root",
                file=where,
                observed=f"data.options.{key} = {text!r}",
                allowed=f"a path below {data.root}",
                next_step="name the folder that holds all of it in data.root, or set "
                "data.allow_outside = true",
            )


def _texts(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield all texts in nested tables and lists, by dotted key."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from _texts(each, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each, key)


def _refuse_other_than_utf8(recipe: Config, where: str) -> None:
    """Refuse what ``config.toml`` of a run could not hold.

    Raises:
        ConfigError: SEG-X034.
    """
    for key, value in flatten(recipe.model_dump(mode="python")).items():
        if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ConfigError(
                "SEG-X034",
                f"{key} is not in UTF-8",
                file=where,
                observed=value,
                allowed="UTF-8: a run keeps its recipe as TOML, which holds nothing else",
                next_step="rename the file or folder, or reach it by a link with another name",
            )


def data_config(
    data: Config | DataConfig | StrPath,
    root: StrPath | None = None,
    *,
    labels: StrPath | None = None,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> DataConfig:
    """Return which data set is meant.

    Args:
        data: a recipe or its data table, the path of a recipe, or with `root` the name of a format.
        root: folder of the data set, where `data` is the name of a format.
        labels: name or path of a label map, in place of the recipe's or the format's own.
        options: settings of the format, in place of the recipe's.

    Raises:
        ConfigError: SEG-X013, neither a recipe nor a format with its folder; see `read_toml` and
            `parse`.
    """
    given: dict[str, Any] = {"options": dict(options)} if options else {}
    if labels is not None:
        given["labels"] = os.fspath(labels)
    if root is not None:
        values = {"format": data, "root": os.fspath(root), **given}
        return parse(DataConfig, values, where="the arguments")  # by a program, not a recipe
    if isinstance(data, Config):
        data = data.data
    if not isinstance(data, DataConfig):
        if Path(data).suffix != ".toml":
            raise ConfigError(
                "SEG-X013",
                "name a data set",
                observed=f"{os.fspath(data)!r} and no root",
                allowed="a recipe, the path of one, or the name of a format and its folder",
                next_step='for example ("recipe.toml"), or ("folder", root="data/mine", labels=…)',
            )
        data = load_data_config(Path(data))
    return data.model_copy(update=given)


def load_data_config(
    recipe: Path | None,
    root: Path | None = None,
    format_name: str = "folder",
    label_map: str | None = None,
    *,
    assignments: tuple[str, ...] = (),
    note: Callable[[str], None] = _say_nothing,
) -> DataConfig:
    """Read the data table of a recipe, or make one for a folder.

    Args:
        recipe: the TOML file; or else
        root: the folder of a data set.
        format_name: how `root` is read.
        label_map: takes the place of the recipe's, or of the format's own.
        assignments: as for `load_recipe`, e.g. ``data.options.mask_kind=colour``; applied last.
        note: as for `load_recipe`.

    Raises:
        ConfigError: SEG-X013, both or none of recipe and root; see `read_toml`, `parse`, `assign`.
    """
    if (recipe is None) == (root is None):
        raise ConfigError(
            "SEG-X013",
            "name either a recipe or a folder",
            observed="a recipe and a folder" if recipe else "neither a recipe nor a folder",
            allowed="--config RECIPE, or ROOT --format FORMAT --labels LABELS",
            next_step="see `terrazzo check --help`",
        )
    values = read_toml(recipe) if recipe else {"data": {"format": format_name, "root": str(root)}}
    given = () if label_map is None else (f'data.labels="{label_map}"',)
    _assigned(values, (*given, *assignments), recipe.parent if recipe else Path.cwd(), note)
    data = parse(DataConfig, values.get("data", {}), where=recipe or "command line")
    require_inside(data, where=recipe or "command line")
    return data
