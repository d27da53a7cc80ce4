"""Maps of scenes: every pixel from its own place, whoever scored it."""

import numpy as np
import pytest

from terrazzo.base.processes import SingleProcess
from terrazzo.base.recipe import DataConfig
from terrazzo.data import datasets, scene_placement
from terrazzo.data.scene_placement import Placed, PlacedScene
from terrazzo.evaluation import scene_overview
from terrazzo.evaluation.scene_overview import SceneOverview, SceneOverviews
from terrazzo.io import rasters
from terrazzo.report import image_layers, scene_overviews
from terrazzo.testing.compared_runs import LABEL_MAP


def scene(rows, columns, **changes):
    values = {"name": "s", "crs": "EPSG:32633", "transform": (2.0, 0, 100, 0, -2.0, 900)}
    return PlacedScene(rows=rows, columns=columns, image="", bands=(0,), **values | changes)


class Chips:
    """A scene in chips of one size; the last ones jut out."""

    def __init__(self, whole, size):
        self.scenes = (whole,)
        self.size = size
        self.across = -(-whole.columns // size)

    def place(self, index):
        row, column = divmod(index, self.across)
        return 0, row * self.size, column * self.size


@pytest.mark.parametrize(("rows", "columns"), [(50, 70), (1600, 900), (2000, 1999)])
def test_every_pixel_of_the_map_is_from_its_own_place(rows, columns):
    whole = scene(rows, columns)
    size = rows // 3 + 1
    truth = np.random.default_rng(0).integers(0, 5, (rows + size, columns + size)).astype(np.uint8)
    source = Chips(whole, size)
    assert isinstance(source, Placed)
    overviews = SceneOverviews(source)
    left_out = 2
    num_chips = 3 * source.across
    for index in range(num_chips):
        _, row, column = source.place(index)
        if index != left_out:
            chip = truth[row : row + size, column : column + size]
            overviews.add(index, chip, 4 - chip)
    (found,) = overviews.maps(SingleProcess())
    assert max(found.truth_HW.shape) <= scene_placement.LONGEST_SIDE
    expected = truth[np.ix_(whole.taken(rows), whole.taken(columns))].astype(int)
    _, row, column = source.place(left_out)
    missing = np.zeros((rows, columns), bool)
    missing[row : row + size, column : column + size] = True
    expected[missing[np.ix_(whole.taken(rows), whole.taken(columns))]] = -1
    np.testing.assert_array_equal(found.truth_HW, expected)
    np.testing.assert_array_equal(found.prediction_HW, np.where(expected < 0, -1, 4 - expected))


def test_the_demo_is_mapped_with_its_image_and_place(tmp_path):
    data = DataConfig(format="demo", root=str(tmp_path / "demo"))
    split = datasets.open_split(data, "test")
    overviews = SceneOverviews(split.source)
    label_HW = rasters.read_label(tmp_path / "demo" / "labels.tif", "index")
    for index in range(len(split)):
        overviews.add(index, split.source.read_label(index), split.source.read_label(index))
    (found,) = overviews.maps(SingleProcess())
    scored = found.truth_HW >= 0
    np.testing.assert_array_equal(found.truth_HW[scored], label_HW[1::2, 1::2][scored])
    assert scored.mean() == pytest.approx(len(split) / 64)
    assert found.image_HWC.shape == (512, 512, 3)
    assert found.scene.crs == "EPSG:32633"
    assert scene_overviews.extent(found.scene) == (392_000, 392_512, 5_819_488, 5_820_000)
    scene_overview.write([found], tmp_path / "maps")
    (read,) = scene_overview.read(tmp_path / "maps")
    assert read.scene == found.scene
    np.testing.assert_array_equal(read.image_HWC, found.image_HWC)
    assert scene_overview.read(tmp_path / "none") == ()


def test_layers_tell_right_wrong_ignored_and_not_scored():
    truth = np.array([[0, 1, LABEL_MAP.ignore_index, -1]], np.int32)
    prediction = np.array([[0, 2, 1, -1]], np.int32)
    one = SceneOverview(scene(1, 4), truth, prediction)
    colours = scene_overviews._errors(truth, prediction, LABEL_MAP.ignore_index)
    expected = [
        image_layers.RIGHT,
        image_layers.WRONG,
        image_layers.IGNORED,
        image_layers.NOT_SCORED,
    ]
    np.testing.assert_array_equal(colours[0], expected)
    (view,) = scene_overviews.encode([[one], [one]], ["a", "b"], LABEL_MAP)
    titles = ["Ground truth", "Prediction of a", "Errors of a", "Prediction of b", "Errors of b"]
    assert [layer.title for layer in view.layers] == titles
    assert (view.step, view.pixel, view.scored) == (1, (2.0, 2.0), 0.75)
    other = SceneOverview(scene(1, 4, name="elsewhere"), truth, prediction)
    assert scene_overviews.encode([[one], [other]], ["a", "b"], LABEL_MAP) == ()
