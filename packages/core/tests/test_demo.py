"""The generated city: the same everywhere, complete, and cut without overlap."""

import hashlib
import threading
from itertools import combinations

import numpy as np
import pytest

from terrazzo.base.recipe import DataConfig
from terrazzo.data import datasets
from terrazzo.data.datasets import _generate_city, demo
from terrazzo.io import rasters


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("city") / "made" / "on the way"
    demo.open_split(root, "train", demo.Options())
    return root


def digest(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def test_files_are_real_rasters(root):
    assert sorted(path.name for path in root.iterdir()) == ["city.json", "city.tif", "labels.tif"]
    image, label = rasters.info(root / "city.tif"), rasters.info(root / "labels.tif")
    assert (image.rows, image.columns, image.dtype, image.nodata) == (1024, 1024, "uint16", 0)
    assert image.band_names == ("red", "green", "blue", "near-infrared")
    assert (label.rows, label.columns, label.dtype, label.bands) == (1024, 1024, "uint8", 1)
    assert image.crs.to_epsg() == label.crs.to_epsg() == 32633
    assert image.transform == label.transform
    assert image.transform.a == -image.transform.e == 0.5


def test_drawing_depends_on_the_seed(root):
    drawn_HW = rasters.read_label(root / "labels.tif", "index")
    assert (_generate_city.draw(4)[1] != drawn_HW).mean() > 0.2


def test_written_once(root):
    times = [path.stat().st_mtime_ns for path in sorted(root.iterdir())]
    demo.open_split(root, "val", demo.Options())
    assert [path.stat().st_mtime_ns for path in sorted(root.iterdir())] == times


def test_incomplete_city_is_drawn_again(root, tmp_path):
    for name in ("city.json", "labels.tif"):
        (tmp_path / name).write_bytes((root / name).read_bytes())
    demo.open_split(tmp_path, "val", demo.Options())
    assert digest(tmp_path) == digest(root)


def test_two_at_once(root, tmp_path):
    faults = []

    def make():
        try:
            demo.open_split(tmp_path / "city", "train", demo.Options())
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert digest(tmp_path / "city") == digest(root)


@pytest.mark.parametrize("block", [128, 256])
def test_blocks_are_disjoint_and_cover_the_scene(root, block):
    sources = [demo.open_split(root, s, demo.Options(block=block)) for s in datasets.SPLITS]
    for one, other in combinations(sources, 2):
        assert not set(one.positions) & set(other.positions)
    assert sum(len(source.positions) for source in sources) == (1024 // block) ** 2
    assert all(source.names == tuple(sorted(source.names)) for source in sources)


@pytest.mark.parametrize("block", [128, 256])
@pytest.mark.parametrize("split", datasets.SPLITS)
def test_every_split_has_enough_of_every_class(root, split, block):
    source = demo.open_split(root, split, demo.Options(block=block))
    labels = np.concatenate([source.read(i).raw_label for i in range(len(source.names))])
    shares = np.bincount(labels.ravel(), minlength=5) / labels.size
    assert len(shares) == 5
    assert shares.min() > 0.03


def test_blocks_through_the_label_map(root):
    data = DataConfig(format="demo", root=str(root))
    split = datasets.open_split(data, "train")
    assert split.label_map.names == ("building", "road", "vegetation", "water", "bare ground")
    scene_HWC = rasters.read(root / "city.tif").image_HWC
    sample = split.read(3)
    row, column = split.source.positions[3]
    assert sample.name == f"r{row:02d}_c{column:02d}"
    part = np.s_[128 * row : 128 * row + 128, 128 * column : 128 * column + 128]
    np.testing.assert_array_equal(sample.image_HWC, scene_HWC[part])
    assert sample.image_HWC.dtype == np.uint16


def test_corner_without_data_is_ignored(root):
    _, valid_HW, _ = rasters.read(root / "city.tif")
    assert not valid_HW[0, -1]
    assert 0.01 < (~valid_HW).mean() < 0.03
    data = DataConfig(format="demo", root=str(root))
    ignored = 0
    for name in datasets.SPLITS:
        split = datasets.open_split(data, name)
        ignored += sum(int((split.read(i).label_HW == 255).sum()) for i in range(len(split)))
    assert ignored == (~valid_HW).sum()


def test_colour_alone_does_not_tell_the_classes(root):
    """Nearest mean colour leaves much to learn; else the demo would show nothing."""
    image_HWC, valid_HW, _ = rasters.read(root / "city.tif")
    pixels = image_HWC[valid_HW].astype(np.float32)
    truth = rasters.read_label(root / "labels.tif", "index")[valid_HW]
    means = np.stack([pixels[truth == k].mean(axis=0) for k in range(5)])
    distances = np.stack([((pixels - mean) ** 2).sum(axis=1) for mean in means], axis=1)
    guess = distances.argmin(axis=1)
    ious = []
    for k in range(5):
        hit, said = truth == k, guess == k
        ious.append((hit & said).sum() / (hit | said).sum())
    assert np.mean(ious) < 0.55
