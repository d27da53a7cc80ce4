"""A random forest over single pixels beside networks on the Landsat scene.

    TERRAZZO_DATA=… python benchmarks/landsat_forest.py                       the forest alone
    TERRAZZO_DATA=… python benchmarks/landsat_forest.py runs/landsat_unet_*   beside finished runs

The forest (scikit-learn) is fitted to the pixels that the recipe's training split labels, all bands
of one pixel at a time, and scored on the same test blocks. Its leaf size and class weights are
those with the best mean IoU on the val split, as the epoch of a network is. Intervals: bootstrap
over the test blocks, paired where two are compared.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from terrazzo.base.recipe import load_recipe
from terrazzo.data import datasets
from terrazzo.evaluation import result
from terrazzo.metrics import ConfusionMatrix
from terrazzo.metrics.confidence_intervals import paired_intervals, run_intervals

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "landsat" / "unet_torch.toml"
TREES = 200
LEAVES = (1, 5, 20)
WEIGHTS = (None, "balanced")


def splits_of(recipe):
    """Open the splits with the chips of training side by side, each pixel once."""
    options = {**recipe.data.options, "chips": "grid"}
    data = recipe.data.model_copy(update={"options": options})
    return {name: datasets.open_split(data, name) for name in datasets.SPLITS}


def pixels(split):
    """Return bands P×C and classes P of all labelled pixels."""
    samples = [split.read(index) for index in range(len(split))]
    kept = [sample.label_HW != split.label_map.ignore_index for sample in samples]
    bands = [s.image_HWC[keep] for s, keep in zip(samples, kept, strict=True)]
    classes = [s.label_HW[keep] for s, keep in zip(samples, kept, strict=True)]
    return np.concatenate(bands), np.concatenate(classes)


def counts(forest, split):
    """Return N×K×K confusion counts of every block."""
    found = []
    for index in range(len(split)):
        sample = split.read(index)
        bands_PC = sample.image_HWC.reshape(-1, sample.image_HWC.shape[2])
        labels_HW = forest.predict(bands_PC).astype(np.uint8).reshape(sample.label_HW.shape)
        matrix = ConfusionMatrix(len(split.label_map), ignore_index=split.label_map.ignore_index)
        matrix.update(sample.label_HW, labels_HW)
        found.append(matrix.counts)
    return np.stack(found)


def mean_iou(counts_NKK):
    return ConfusionMatrix.from_counts(counts_NKK.sum(axis=0)).scores().mean_iou


def best_forest(splits):
    """Fit the forests and return the one that is best on val."""
    bands_PC, classes_P = pixels(splits["train"])
    print(f"{len(classes_P)} training pixels of {bands_PC.shape[1]} bands")
    fitted = []
    for leaf in LEAVES:
        for weight in WEIGHTS:
            forest = RandomForestClassifier(
                TREES, min_samples_leaf=leaf, class_weight=weight, random_state=0, n_jobs=1
            ).fit(bands_PC, classes_P)
            score = mean_iou(counts(forest, splits["val"]))
            print(f"leaf {leaf:2}, class weights {weight}: val mean IoU {score:.4f}", flush=True)
            fitted.append((score, leaf, weight, forest))
    _, leaf, weight, forest = max(fitted, key=lambda each: each[0])
    print(f"chosen: leaf {leaf}, class weights {weight}")
    return forest


def tell(name, counts_NKK, minus=None):
    """Print scores with their intervals, or their paired differences from other counts."""
    found = run_intervals(counts_NKK) if minus is None else paired_intervals(counts_NKK, minus)
    told = [
        f"{score.replace('_', ' ')} {i.estimate:+.3f} [{i.low:+.3f}, {i.high:+.3f}]"
        for score, i in ((s, found.scalars[s]) for s in ("mean_iou", "pixel_accuracy"))
    ]
    ious = " ".join(f"{i.estimate:+.2f}" for i in found.per_class["iou"])
    print(f"{name:<20}{'  '.join(told)}  IoU {ious}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="*", help="folders of finished runs")
    arguments = parser.parse_args()
    splits = splits_of(load_recipe(RECIPE))
    begun = time.perf_counter()
    forest = best_forest(splits)
    print(f"{time.perf_counter() - begun:.0f} s for {len(LEAVES) * len(WEIGHTS)} forests")
    forest_NKK = counts(forest, splits["test"])
    names = ", ".join(splits["test"].label_map.names)
    print(f"test: {len(forest_NKK)} blocks, {forest_NKK.sum()} pixels; {names}")
    tell("forest", forest_NKK)
    for run in arguments.runs:
        run_NKK, _ = result.read_counts(run / "evaluation", "test")
        tell(run.name, run_NKK)
        tell("  minus the forest", run_NKK, minus=forest_NKK)


if __name__ == "__main__":
    main()
