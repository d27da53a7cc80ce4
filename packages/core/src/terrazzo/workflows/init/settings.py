"""What a recipe says of size, model, loss and length, decided by what the data are like."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from terrazzo.base.config_parsing import assign
from terrazzo.check.scan import Survey
from terrazzo.workflows.init.class_proposal import Classes
from terrazzo.workflows.init.layout import Layout
from terrazzo.workflows.init.measure_step import Measured

_SIDE = {False: 256, True: 512}
"""Longest side of an image as the model sees it, without and with a GPU."""
_SECONDS = {False: 100.0, True: 300.0}
"""Of training for a first model."""
_MOST_BATCH = {False: 8, True: 16}
_RARE = 0.02  # share of a class below which the loss must help it
_MOST_STEPS, _MOST_EPOCHS, _LEAST_EPOCHS = 3000, 100, 3
_ASKED = "asked for with --set"
_FEW = 5  # images of a split whose score says little


@dataclass
class Settings:
    """A recipe in the making.

    Attributes:
        values: its tables and keys.
        reasons: by dotted key.
        unsure: questions to the person.
    """

    values: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    unsure: list[str] = field(default_factory=list)

    def put(self, key: str, value: Any, reason: str) -> None:
        """Set a dotted key, unless another value was asked for."""
        if self.is_asked(key):
            return
        *path, name = key.split(".")
        table = self.values
        for each in path:
            table = table.setdefault(each, {})
        table[name] = value
        self.reasons[key] = reason

    def get(self, key: str) -> Any:
        """Return the value of a dotted key; None where it is not set."""
        table: Any = self.values
        for each in key.split("."):
            table = table.get(each) if isinstance(table, dict) else None
        return table

    def assign(self, assignment: str) -> None:
        """Apply ``key=value`` that was asked for.

        Raises:
            ConfigError: SEG-X007.
        """
        assign(self.values, assignment)
        self.reasons[assignment.partition("=")[0].strip()] = _ASKED

    def assign_all(self, assignments: Sequence[str]) -> None:
        """Apply all that was asked for, and make what depends on it follow.

        Raises:
            ConfigError: SEG-X007.
        """
        for assignment in assignments:
            self.assign(assignment)
        size = self.get("data.image_size")
        if self.is_asked("data.image_size") and not self.is_asked("augment.crop"):
            self.put("augment.crop", size, "what the model sees")
        if self.is_asked("training.steps") and not self.is_asked("training.epochs"):
            self.values["training"].pop("epochs", None)

    def is_asked(self, key: str) -> bool:
        """Tell whether a setting was asked for."""
        return self.reasons.get(key) == _ASKED


def has_gpu() -> bool:
    """Tell whether there is an NVIDIA GPU, without loading a framework."""
    return any(Path(device).exists() for device in ("/dev/nvidia0", "/dev/dxg"))


def decide(
    layout: Layout, survey: Survey, classes: Classes, backend: str, model: str, *, gpu: bool
) -> Settings:
    """Decide on all but what is measured: the batch and the length."""
    settings = Settings()
    put = settings.put
    put("backend", backend, "of the backends that are installed")
    for key, value in layout.options.items():
        put(f"data.options.{key}", value, layout.reasons.get(key, ""))
    _size(settings, layout, survey, gpu=gpu)
    _normalize(settings, survey)
    _augment(settings, layout)
    _model(settings, backend, model, gpu=gpu)
    _loss(settings, classes)
    _few_images(settings, survey)
    settings.unsure += [*layout.unsure, *classes.unsure]
    return settings


def most_batch(survey: Survey, *, gpu: bool) -> int:
    """Return the largest batch worth trying: some steps of an epoch must be left."""
    num_train = sum(scanned.split == "train" for scanned in survey.scanned_images)
    most = min(_MOST_BATCH[gpu], max(2, num_train // 4), max(num_train, 1))
    return 1 << (most.bit_length() - 1)


def set_batch_and_length(
    settings: Settings, survey: Survey, measured: Measured, *, gpu: bool
) -> None:
    """Set what follows from a real step: batch, epochs, warm-up, validations, patience."""
    put = settings.put
    batch_size = measured.batch_size
    memory = f"{measured.peak_bytes / 1e9:.1f} GB" if measured.peak_bytes else "what was free"
    of_free = f" of {measured.free_bytes / 1e9:.1f} GB free" if measured.free_bytes else ""
    put(
        "training.batch_size",
        batch_size,
        f"measured: a step took {measured.seconds:.2g} s and {memory}{of_free}; {measured.limit}",
    )
    num_train = max(sum(scanned.split == "train" for scanned in survey.scanned_images), 1)
    steps = math.ceil(num_train / batch_size)
    epoch = steps * max(measured.seconds, 1e-3)
    epochs = int(_SECONDS[gpu] / epoch)
    epochs = min(max(epochs, _LEAST_EPOCHS), _MOST_EPOCHS, max(_MOST_STEPS // steps, _LEAST_EPOCHS))
    put(
        "training.epochs",
        epochs,
        f"about {_time(epochs * epoch)} of training at {steps} steps an epoch: a first model",
    )
    is_asked = settings.is_asked("training.epochs") or settings.is_asked("training.steps")
    if epochs < _MOST_EPOCHS // 2 and not is_asked:
        settings.unsure.append(
            f"may it take longer? {epochs} epochs are a first look; --set training.epochs="
            f"{5 * epochs} takes about {_time(5 * epochs * epoch)} and scores better"
        )
    if settings.is_asked("training.batch_size"):
        steps = math.ceil(num_train / settings.get("training.batch_size"))
    epochs = settings.get("training.epochs") or 1
    total = settings.get("training.steps") or epochs * steps
    learning_rate = 3e-3 if settings.get("model.name") == "unet" else 1e-3
    put(
        "training.schedule",
        {"name": "cosine", "learning_rate": learning_rate, "warmup_steps": min(50, total // 10)},
        "rises for a tenth of the steps, then falls to 0 along a cosine",
    )
    every = max(1, epochs // 10)
    put("validation.every_epochs", every, f"{math.ceil(epochs / every)} looks at val")
    put("validation.batch_size", batch_size, "as the training's: changes no score")
    if epochs // every >= 8:
        put("validation.patience", 5, "stops after so many validations without a better score")


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _size(settings: Settings, layout: Layout, survey: Survey, *, gpu: bool) -> None:
    if layout.format == "geotiff":
        chip = layout.options.get("chip", 256)
        settings.put("augment.crop", [chip, chip], "a chip of the scene")
        return
    sizes = Counter((p.image.rows, p.image.columns) for p in survey.scanned_images if p.image)
    rows, columns = (median(each[axis] for each in sizes.elements()) for axis in (0, 1))
    factor = min(1.0, _SIDE[gpu] / max(rows, columns))
    common = f"{int(rows)}×{int(columns)}"
    if len(sizes) == 1 and factor == 1:
        settings.put("augment.crop", [int(rows), int(columns)], f"all images are {common}")
        return
    ratios = [r / c for r, c in sizes]
    if max(ratios) > 1.1 * min(ratios):
        side = _multiple(factor * math.sqrt(rows * columns))
        size = [side, side]
        why = f"the images have {len(sizes)} sizes and shapes, {common} in the middle"
    else:
        size = [_multiple(factor * rows), _multiple(factor * columns)]
        why = f"the images are {common}" if len(sizes) == 1 else f"most images are about {common}"
    minutes = "" if gpu else "; small enough to train in minutes without a GPU"
    settings.put(
        "data.image_size",
        size,
        f"what the model sees: {why}{minutes}. Scores are at the size of the masks",
    )
    settings.put("augment.crop", size, "of each image, moved and scaled, what the model sees")
    if factor < 0.5:
        settings.unsure.append(
            f"are thin or small things lost? The model sees the images at {factor:.0%} of their "
            f"size; --set data.image_size=[{2 * size[0]},{2 * size[1]}] --set "
            f"augment.crop=[{2 * size[0]},{2 * size[1]}] shows more and takes four times as long"
        )


def _multiple(side: float) -> int:
    return max(32, 32 * round(side / 32))


def _normalize(settings: Settings, survey: Survey) -> None:
    dtypes = {p.image.dtype for p in survey.scanned_images if p.image is not None}
    if dtypes <= {"uint8"}:
        settings.put(
            "data.normalize", "dataset", "8 bits: mean and deviation of the training images"
        )
    else:
        settings.put(
            "data.normalize",
            "robust",
            f"{', '.join(sorted(dtypes))}: percentiles, which a few extreme pixels do not move",
        )


def _augment(settings: Settings, layout: Layout) -> None:
    put = settings.put
    put("augment.scale", [0.8, 1.25], "things come nearer and farther")
    put("augment.flip_horizontal", 0.5, "0 if left and right mean different classes")
    if layout.format == "geotiff":
        put("augment.turns", True, "seen from above there is no up and down")
    put("augment.brightness", 0.2, "light differs")
    put("augment.contrast", 0.2, "so do cameras")


def _model(settings: Settings, backend: str, model: str, *, gpu: bool) -> None:
    put = settings.put
    put("model.name", model, f"`terrazzo list models` has the others of {backend}")
    if model == "unet":
        width = 32 if gpu else 16
        side = min(settings.get("augment.crop"))
        depth = max(2, min(4, int(math.log2(max(side, 32) / 8))))
        put(
            "model.options",
            {"width": width, "depth": depth},
            f"{'a GPU' if gpu else 'no GPU'}: {width} channels; depth {depth} for {side} pixels",
        )


def _loss(settings: Settings, classes: Classes) -> None:
    rare = [
        f"{name} {share:.2%}"
        for name, share in zip(classes.label_map.names, classes.shares, strict=True)
        if share < _RARE
    ]
    if rare:
        shown = ", ".join(rare[:4]) + (", …" if len(rare) > 4 else "")
        settings.put(
            "training.loss",
            {"cross_entropy": 1.0, "dice": 0.5},
            f"Dice counts each class alike, and some are under {_RARE:.0%}: {shown}",
        )
    else:
        settings.put(
            "training.loss", {"cross_entropy": 1.0}, f"no class is under {_RARE:.0%} of the pixels"
        )
    settings.put("training.clip_norm", 1.0, "one bad batch does not throw the training off")


def _few_images(settings: Settings, survey: Survey) -> None:
    counts = Counter(scanned.split for scanned in survey.scanned_images)
    few = [
        f"{split} is {counts[split]} image{'s' if counts[split] != 1 else ''}"
        for split in ("val", "test")
        if counts[split] < _FEW
    ]
    if few:
        settings.unsure.append(
            f"are there more labelled images? {' and '.join(few)}: scores on so few say little"
        )
