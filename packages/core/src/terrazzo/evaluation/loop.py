"""Scoring a model on a split: the one evaluate loop, for every backend."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.processes import World, bytes_from
from terrazzo.base.progress import Progress
from terrazzo.base.recipe import DataConfig, LoaderConfig
from terrazzo.data.datasets import Split, SpreadSamples
from terrazzo.data.loader import evaluation_samples
from terrazzo.data.sample import Sample
from terrazzo.evaluation.extra_counts import Counter, ExtraCounts
from terrazzo.evaluation.result import Evaluation, Example
from terrazzo.evaluation.scene_overview import SceneOverviews
from terrazzo.metrics import ConfusionMatrix
from terrazzo.models.contract import Predictor
from terrazzo.models.memory import ForwardPasses
from terrazzo.models.probabilities import cross_entropy_at_size, labels_at_size

_EXAMPLES = 8


def evaluate(
    trainer: Predictor,
    split: Split | SpreadSamples,
    data: DataConfig,
    loader: LoaderConfig,
    *,
    batch_size: int,
    step: int,
    progress: Progress,
    num_examples: int = _EXAMPLES,
    counter: Counter | None = None,
    overviews: SceneOverviews | None = None,
    with_losses: bool = False,
    abandoned: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Score a model on a split: every pixel of every label file counts exactly once.

    Images are brought to the model's size; probabilities are brought back to the size of the
    label file and only then turned into classes, so scores do not depend on the model's size.

    Args:
        trainer: the model.
        split: images and labels.
        data: for the model's image size.
        loader: threads.
        batch_size: images a forward pass; fewer where the memory does not suffice.
        step: optimiser steps behind the weights, for the record.
        progress: told after every batch.
        num_examples: how many images to keep for people, evenly spaced over the split.
        counter: counts more of each image; changes no score.
        overviews: puts the images on maps of their scenes.
        with_losses: compute the cross-entropy as well, from the same forward passes; then `trainer`
            must be a `Trainer`, not only a `Predictor`.
        abandoned: asked while an image is late; yes ends the waiting.

    Raises:
        DataError: an image or a mask is wrong.
        Abandoned: `abandoned` said yes.
        ResourceError: SEG-R002, a file takes longer than `loader.timeout`; SEG-R006, not even one
            image fits into memory; larger batches are halved.
    """
    world, label_map = trainer.world, split.label_map
    num_samples, num_classes = len(split), len(label_map)
    counts_NKK = np.zeros((num_samples, num_classes, num_classes), np.int64)
    ignored_N = np.zeros(num_samples, np.int64)
    losses_N = np.zeros(num_samples, np.int64)
    wanted = set(np.linspace(0, num_samples - 1, min(num_examples, num_samples)).astype(int))
    examples: dict[int, Example] = {}
    forward = ForwardPasses(
        trainer,
        f"scoring {split.name}",
        setting="validation.batch_size",
        smaller="lower data.image_size",
        say=progress.say,
    )
    done = 0
    with closing(
        evaluation_samples(
            split, data, loader, world=world, bands=trainer.bands, abandoned=abandoned
        )
    ) as samples:
        for group in _same_size(samples, batch_size):
            predictions = _predict(
                forward,
                group,
                counter is not None and counter.probabilities,
                label_map.ignore_index if with_losses else None,
            )
            for (index, _, sample), (prediction_HW, probabilities_HWK, loss) in zip(
                group, predictions, strict=True
            ):
                losses_N[index] = round(_finite(loss) / _UNIT)
                matrix = ConfusionMatrix(num_classes, label_map.ignore_index)
                matrix.update(sample.label_HW, prediction_HW)
                assert matrix.counts.sum() + matrix.ignored == sample.label_HW.size
                counts_NKK[index], ignored_N[index] = matrix.counts, matrix.ignored
                if counter is not None:
                    counter.add(index, sample, prediction_HW, probabilities_HWK)
                if overviews is not None:
                    overviews.add(index, sample.label_HW, prediction_HW)
                if index in wanted:
                    examples[index] = Example(
                        sample.name, sample.image_HWC, sample.label_HW, prediction_HW
                    )
            done += len(group)
            progress.advance(done, -(-num_samples // world.size), f"score {split.name}")
    return Evaluation(
        split=split.name,
        step=step,
        names=split.names,
        counts_NKK=world.sum(counts_NKK),
        ignored_N=world.sum(ignored_N),
        examples=tuple(_example(world, index, examples.get(index)) for index in sorted(wanted)),
        extra=ExtraCounts() if counter is None else counter.counted(world),
        maps=() if overviews is None else overviews.maps(world),
        cross_entropy=_cross_entropy(world, losses_N, counts_NKK) if with_losses else None,
    )


_UNIT = 1e-6
"""Nats: whole numbers of it add up to the same sum in any number of processes."""
_LARGEST_LOSS = 1e9
"""Nats of one image; what is above, or no number, counts as this."""


def _finite(loss: float) -> float:
    return loss if loss < _LARGEST_LOSS else _LARGEST_LOSS


def _cross_entropy(
    world: World, losses_N: NDArray[np.int64], counts_NKK: NDArray[np.int64]
) -> float:
    counted = int(world.sum(counts_NKK.sum(keepdims=True)).sum())
    total = int(world.sum(losses_N.sum(keepdims=True)).sum())
    return total * _UNIT / counted if counted else float("nan")


def _example(world: World, index: int, mine: Example | None) -> Example:
    """Give all processes the example that one of them has kept."""
    if world.size == 1:
        assert mine is not None
        return mine
    file = io.BytesIO()
    if mine is not None:
        arrays: dict[str, Any] = {name: getattr(mine, name) for name in _ARRAYS}
        np.savez(file, name=np.array(mine.name), **arrays)
    payload = bytes_from(world, index % world.size, file.getvalue())
    with np.load(io.BytesIO(payload), allow_pickle=False) as stored:
        return Example(str(stored["name"]), *(stored[name] for name in _ARRAYS))


_ARRAYS = ("image_HWC", "label_HW", "prediction_HW")


_Prepared = tuple[int, NDArray[np.generic], Sample]
"""Index in the split, image at the model's size, sample as the files hold it."""


def _same_size(samples: Iterator[_Prepared], most: int) -> Iterator[list[_Prepared]]:
    """Group neighbours of one size, up to `most` of them."""
    group: list[_Prepared] = []
    for item in samples:
        if group and (len(group) == most or item[1].shape != group[0][1].shape):
            yield group
            group = []
        group.append(item)
    if group:
        yield group


_Predicted = tuple[NDArray[np.integer], NDArray[np.float32] | None, float]
"""Labels H×W at the size of the label file; probabilities H×W×K at the model's size; the
cross-entropy summed over the pixels that count, 0 where it is not asked for."""


def _predict(
    forward: ForwardPasses,
    group: list[_Prepared],
    with_probabilities: bool,
    ignore_of_losses: int | None,
) -> Iterator[_Predicted]:
    """Yield what is predicted for each image; the labels are the same with probabilities.

    Args:
        forward: the model.
        group: images of one size.
        with_probabilities: ask for them.
        ignore_of_losses: label that counts in no loss; None: no loss is asked for.
    """
    images_BHWC = np.stack([image for _, image, _ in group])
    size = images_BHWC.shape[1:3]
    if all(sample.label_HW.shape == size for _, _, sample in group):
        # Not the argmax of rounded probabilities, where two classes may have become equal.
        losses_B = np.zeros(len(group))
        if ignore_of_losses is None:
            labels_BHW = forward.predict_labels(images_BHWC)
        else:
            truth_BHW = np.stack([sample.label_HW for _, _, sample in group])
            labels_BHW, losses_B = forward.score(images_BHWC, truth_BHW)
        probabilities = forward.predict(images_BHWC) if with_probabilities else [None] * len(group)
        yield from zip(labels_BHW, probabilities, losses_B.tolist(), strict=True)
        return
    probabilities_BHWK = forward.predict(images_BHWC)
    for probabilities_HWK, (_, _, sample) in zip(probabilities_BHWK, group, strict=True):
        loss = 0.0
        if ignore_of_losses is not None:
            loss = cross_entropy_at_size(probabilities_HWK, sample.label_HW, ignore_of_losses)
        labels_HW = labels_at_size(probabilities_HWK, sample.label_HW.shape)
        yield labels_HW, probabilities_HWK, loss
