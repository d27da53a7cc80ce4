"""Run folders to compare, drawn and scored in a moment: no model and no data set needed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from numpy.typing import NDArray

from terrazzo.base.processes import SingleProcess
from terrazzo.base.recipe import EvaluationConfig
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.data.sample import Sample
from terrazzo.data.scene_placement import PlacedScene
from terrazzo.evaluation import result
from terrazzo.evaluation.extra_counts import Counter
from terrazzo.evaluation.result import Evaluation, Example
from terrazzo.evaluation.scene_overview import SceneOverviews
from terrazzo.metrics import ConfusionMatrix
from terrazzo.testing.memory import MemorySplit

LABEL_MAP = LabelMap(
    "blocks",
    tuple(
        LabelClass(name, colour, (k,))
        for k, (name, colour) in enumerate(
            {
                "road": "#804080",
                "car": "#400080",
                "sky": "#808080",
                "tram & <bus>": "#0080C0",
            }.items()
        )
    ),
)
"""The last class is never drawn, and its name needs care in HTML and LaTeX."""


def write_run(
    folder: Path,
    *,
    error: float,
    seed: int = 0,
    label_map: LabelMap = LABEL_MAP,
    num_images: int = 12,
    size: tuple[int, int] = (24, 32),
    first_image: int = 0,
    num_drawn: int = 3,
    num_examples: int = 4,
    extra: bool = True,
    noisy: bool = False,
    in_folders: bool = False,
) -> Path:
    """Write a finished run whose predictions err in blocks.

    Args:
        folder: of the run.
        error: share of blocks with another class.
        seed: of the run; the truth depends on the number of the image alone.
        label_map: at least three classes.
        num_images: of the test split.
        size: rows and columns of the labels.
        first_image: number of the first image.
        num_drawn: classes that occur.
        num_examples: images to look at.
        extra: count borders and probabilities as well, and draw a map.
        noisy: enlarge the images to look at four times, and make them as heavy as photographs.
        in_folders: call the images ``scene0/00``, ``scene1/00``: names whose last parts are equal.
    """
    folder.mkdir(parents=True)
    numbers = range(first_image, first_image + num_images)
    examples = tuple(_image(number, error, seed, size, label_map, num_drawn) for number in numbers)
    if in_folders:
        examples = tuple(
            replace(each, name=f"scene{number // 4}/{number % 4:02d}")
            for number, each in zip(numbers, examples, strict=True)
        )
    shown = examples[:num_examples]
    if noisy:
        shown = tuple(_photographed(example, number) for number, example in enumerate(shown))
    matrices = []
    for example in examples:
        matrices.append(ConfusionMatrix(len(label_map), label_map.ignore_index))
        matrices[-1].update(example.label_HW, example.prediction_HW)
    scored = Evaluation(
        "test",
        40,
        tuple(example.name for example in examples),
        np.stack([matrix.counts for matrix in matrices]),
        np.array([matrix.ignored for matrix in matrices]),
        shown,
        **(_extra(examples, error, label_map) if extra else {}),
    )
    table = {
        "backend": "torch",
        "name": folder.name,
        "seed": seed,
        "data": {"format": "camvid", "root": "data"},
        "model": {"name": "unet", "options": {"width": 16}},
        "training": {"epochs": 4},
    }
    (folder / "config.toml").write_text(tomli_w.dumps(table), encoding="utf-8")
    (folder / "labels.toml").write_text(tomli_w.dumps(label_map.as_toml()), encoding="utf-8")
    (folder / "run.json").write_text(json.dumps({"num_parameters": 1234}), encoding="utf-8")
    _write_lines(folder / "log.jsonl", [_logged(step, error) for step in range(5, 45, 5)])
    timing: list[dict[str, object]] = [
        {"step": s, "seconds": s / 2, "steps_per_second": 2.0, "peak_memory_bytes": s << 26}
        for s in range(5, 45, 5)
    ]
    _write_lines(folder / "timing.jsonl", timing)
    result.write(scored, label_map, folder / "evaluation")
    return folder


def _extra(examples: tuple[Example, ...], error: float, label_map: LabelMap) -> dict[str, Any]:
    labels = tuple(example.label_HW for example in examples)
    split = MemorySplit("test", labels, labels, label_map)
    wanted = EvaluationConfig(calibration=True, boundary=True, boundary_width=0.03)
    counter, overviews = (
        Counter(split, wanted),
        SceneOverviews(_Mosaic(labels[0].shape, len(examples))),
    )
    for index, example in enumerate(examples):
        sample = Sample(example.name, example.image_HWC, example.label_HW, "")
        probabilities_HWK = _probabilities(index, example, error, len(label_map))
        prediction_HW: NDArray[Any] = example.prediction_HW
        counter.add(index, sample, prediction_HW, probabilities_HWK)
        overviews.add(index, example.label_HW, example.prediction_HW)
    world = SingleProcess()
    return {"extra": counter.counted(world), "maps": overviews.maps(world)}


def _probabilities(
    index: int, example: Example, error: float, num_classes: int
) -> NDArray[np.float32]:
    """Probabilities of a model that is the more overconfident the more it errs."""
    drawing = np.random.default_rng(index)
    prediction_HW: NDArray[Any] = example.prediction_HW
    sure_HW1 = drawing.uniform(0.5 + error, 1, (*prediction_HW.shape, 1))
    others_HWK = np.broadcast_to(
        (1 - sure_HW1) / (num_classes - 1), (*sure_HW1.shape[:2], num_classes)
    )
    chosen_HWK = np.eye(num_classes, dtype=bool)[prediction_HW]
    return np.where(chosen_HWK, sure_HW1, others_HWK).astype(np.float32)


class _Mosaic:
    """Images side by side in one scene, every other place empty."""

    def __init__(self, size: tuple[int, ...], num_images: int) -> None:
        self._rows, self._columns = size
        self._across = math.isqrt(2 * num_images) + 1
        down = -(-2 * num_images // self._across)
        self.scenes = (
            PlacedScene(
                "town <north>",
                down * self._rows,
                self._across * self._columns,
                "EPSG:32633",
                (0.5, 0.0, 392_000.0, 0.0, -0.5, 5_820_000.0),
                "",
                (0, 1, 2),
            ),
        )

    def place(self, index: int) -> tuple[int, int, int]:
        row, column = divmod(2 * index, self._across)
        return 0, row * self._rows, column * self._columns


def _image(
    number: int,
    error: float,
    seed: int,
    size: tuple[int, int],
    label_map: LabelMap,
    num_drawn: int,
) -> Example:
    rows, columns = size
    drawing = np.random.default_rng(number)
    label_HW = _enlarged(drawing.integers(0, num_drawn, (3, 4)), size)
    erring = np.random.default_rng([number, seed])
    wrong_HW = _enlarged(erring.random((6, 8)) < error, size).astype(bool)
    prediction_HW = np.where(wrong_HW, (label_HW + 1) % num_drawn, label_HW).astype(label_map.dtype)
    label_HW = label_HW.astype(label_map.dtype)
    label_HW[: rows // 12] = label_map.ignore_index
    image_HWC = np.zeros((rows, columns, 3), np.uint8) + drawing.integers(0, 256, 3, np.uint8)
    return Example(f"scene{number // 4}_{number:03d}", image_HWC, label_HW, prediction_HW)


def _photographed(example: Example, number: int) -> Example:
    """Enlarge an image four times, with a camera's noise and ragged predictions."""
    label_HW, prediction_HW = (
        np.repeat(np.repeat(ids, 4, axis=0), 4, axis=1)
        for ids in (example.label_HW, example.prediction_HW)
    )
    drawing = np.random.default_rng(number)
    shades_HW1 = 40.0 * (label_HW % 6)[..., None]
    noise_HWC = drawing.normal(0, 12, (*label_HW.shape, 3))
    image_HWC = np.clip(shades_HW1 + noise_HWC, 0, 255).astype(np.uint8)
    height, width = label_HW.shape
    shifts_H = drawing.integers(-1, 2, height).cumsum()
    bent_HW = (np.arange(width) + shifts_H[:, None]) % width
    ragged_HW = np.take_along_axis(prediction_HW, bent_HW, axis=1)
    return Example(example.name, image_HWC, label_HW, ragged_HW)


def _enlarged(blocks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    factors = size[0] // blocks.shape[0], size[1] // blocks.shape[1]
    return np.kron(blocks, np.ones(factors, dtype=np.int64))


def _logged(step: int, error: float) -> dict[str, object]:
    if step % 20 == 0:
        iou = 1 - error - 1 / step
        return {"kind": "validation", "step": step, "epoch": step // 10, "mean_iou": iou,
                "pixel_accuracy": iou, "best": True}  # fmt: skip
    return {"kind": "train", "step": step, "epoch": step // 10, "loss": 10 / step,
            "learning_rate": 1e-3}  # fmt: skip


def _write_lines(path: Path, entries: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
