"""iIoU of Cityscapes against its definition, instance by instance and pixel by pixel."""

import numpy as np
import pytest
from PIL import Image

from terrazzo.base.processes import SingleProcess
from terrazzo.base.recipe import DataConfig, EvaluationConfig
from terrazzo.data import datasets, labels
from terrazzo.data.sample import IGNORE, Sample
from terrazzo.evaluation.extra_counts import Counter
from terrazzo.metrics import cityscapes
from terrazzo.metrics.confusion import ConfusionMatrix
from terrazzo.metrics.image_counts import ImageCounts
from terrazzo.metrics.iou_definitions import explain
from terrazzo.testing.memory import MemorySplit

MAP = labels.load_label_map("cityscapes_19")
RAW = {each.name: each.raw[0] for each in MAP.classes}
THINGS = tuple(cityscapes.INSTANCE_PIXELS)


def street(seed, size=(24, 30)):
    """Label ids, instance ids and a prediction: things in a road, some of them as groups."""
    draw = np.random.default_rng(seed)
    raw = np.full(size, RAW["road"])
    instances = np.full(size, RAW["road"])
    for number in range(9):
        name = THINGS[draw.integers(len(THINGS))]
        row, column = draw.integers(0, 20, 2)
        here = np.s_[row : row + draw.integers(2, 9), column : column + draw.integers(2, 9)]
        raw[here] = RAW[name]
        group = draw.random() < 0.2
        instances[here] = RAW[name] if group else RAW[name] * 1000 + number
    raw[0] = 4  # static: not scored
    instances[0] = 29 * 1000  # a caravan in front of it: an instance that is not scored
    label = MAP.remap(raw, file="")
    wrong = draw.random(size) < 0.3
    prediction = np.where(wrong, draw.integers(0, 19, size), np.where(label == IGNORE, 0, label))
    return label, instances.astype(np.int32), prediction.astype(np.uint8)


def iiou_written_out(images, members):
    """For each group of classes: weighted true positives over all, as the benchmark's script."""
    found = {}
    for group, names in members.items():
        ids = {MAP.names.index(name) for name in names}
        right = missed = 0.0
        false_alarms = 0
        for label, instances, prediction in images:
            for instance in np.unique(instances[instances > 1000]):
                name = {v: k for k, v in RAW.items()}.get(int(instance) // 1000)
                if name not in names:
                    continue
                weight = cityscapes.INSTANCE_PIXELS[name] / (instances == instance).sum()
                for one in prediction[instances == instance]:
                    right += weight * (one in ids)
                    missed += weight * (one not in ids)
            for truth, one in zip(label.ravel(), prediction.ravel(), strict=True):
                false_alarms += one in ids and truth not in ids and truth != IGNORE
        whole = right + missed + false_alarms
        found[group] = right / whole if whole else np.nan
    return found


def counted(images):
    split = MemorySplit(
        "test",
        tuple(np.zeros((*label.shape, 3), np.uint8) for label, _, _ in images),
        tuple(label for label, _, _ in images),
        MAP,
        tuple(instances for _, instances, _ in images),
    )
    counter = Counter(split, EvaluationConfig())
    matrices = []
    for index, (label, _, prediction) in enumerate(images):
        matrices.append(ConfusionMatrix(19))
        matrices[-1].update(label, prediction)
        counter.add(index, Sample("", split.images[index], label, ""), prediction, None)
    return ImageCounts(
        np.stack([each.counts for each in matrices]),
        np.array([each.ignored for each in matrices]),
        MAP.names,
        counter.counted(SingleProcess()).instances_N3K,
    )


def test_iiou_by_definition():
    images = [street(seed) for seed in range(4)]
    found = counted(images)
    expected = iiou_written_out(images, {name: (name,) for name in THINGS})
    values = dict(zip(MAP.names, cityscapes.class_iiou(found), strict=True))
    for name in MAP.names:
        assert values[name] == pytest.approx(expected.get(name, np.nan), abs=1e-12, nan_ok=True)
    assert profiles_by_name(found)["cityscapes iIoU"] == pytest.approx(
        np.nanmean(list(expected.values())), abs=1e-12
    )
    groups = {name: cityscapes.CITYSCAPES_CATEGORIES[name] for name in ("human", "vehicle")}
    expected = iiou_written_out(images, groups)
    mean = profiles_by_name(found)["cityscapes iIoU categories"]
    assert mean == pytest.approx(np.mean(list(expected.values())), abs=1e-12)


def profiles_by_name(images):
    return {score.profile.name: score.value for score in explain(images)}


def test_without_instances_there_is_no_iiou():
    found = counted([street(0)])
    without = ImageCounts(found.counts_NKK, found.ignored_N, MAP.names)
    assert not [name for name in profiles_by_name(without) if "iIoU" in name]


def test_cityscapes_has_instances_where_every_file_is_there(tmp_path):
    for part in ("train", "val"):
        for number, city in enumerate(("bonn", "ulm", "jena")):
            label, instances, _ = street(number)
            name = f"{city}_000000_000019"
            for folder in ("leftImg8bit", "gtFine"):
                (tmp_path / folder / part / city).mkdir(parents=True)
            image = Image.fromarray(np.zeros((*label.shape, 3), np.uint8))
            image.save(tmp_path / "leftImg8bit" / part / city / f"{name}_leftImg8bit.png")
            stem = tmp_path / "gtFine" / part / city / f"{name}_gtFine"
            raw = np.where(label == IGNORE, 0, np.array([*RAW.values(), 0])[np.minimum(label, 19)])
            Image.fromarray(raw.astype(np.uint8)).save(f"{stem}_labelIds.png")
            Image.fromarray(instances.astype(np.uint16)).save(f"{stem}_instanceIds.png")
    data = DataConfig(format="cityscapes", root=str(tmp_path))
    split = datasets.open_split(data, "test")
    assert split.has_instances
    order = [("bonn", "ulm", "jena").index(name.split("/")[0]) for name in split.names]
    np.testing.assert_array_equal(split.read_instances(0), street(order[0])[1])
    next(tmp_path.glob("gtFine/val/ulm/*instanceIds.png")).unlink()
    assert not datasets.open_split(data, "test").has_instances
