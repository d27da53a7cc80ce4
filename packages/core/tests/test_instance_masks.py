"""Masks of numbered objects, as Cellpose and StarDist write them: read as one class."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import DataConfig, load_recipe
from terrazzo.check import check_data
from terrazzo.data import datasets
from terrazzo.data.instance_masks import foreground
from terrazzo.data.labels import load_label_map
from terrazzo.workflows.init import Wishes, init, measure_step

SIZE = (60, 70)
SPLIT = {"split": {"train": 0.6, "val": 0.2, "test": 0.2}}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def numbered(number_of_objects, seed=0):
    """Cells of a Voronoi pattern, some of which touch and some of which do not."""
    rng = np.random.default_rng(seed)
    centres_N2 = rng.uniform((4, 4), (SIZE[0] - 4, SIZE[1] - 4), (number_of_objects, 2))
    rows_HW, columns_HW = np.indices(SIZE)
    far_NHW = np.hypot(
        rows_HW - centres_N2[:, 0, None, None], columns_HW - centres_N2[:, 1, None, None]
    )
    ids_HW = np.where(far_NHW.min(axis=0) < 6, far_NHW.argmin(axis=0) + 1, 0)
    return np.unique(ids_HW, return_inverse=True)[1].reshape(SIZE)  # 0, 1, 2 … without a gap


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def make(root, dtype="uint16", suffix=".png", most=12):
    for number in range(10):
        ids_HW = numbered(3 + number % (most - 3), number)
        image_HWC = np.random.default_rng(number).integers(0, 255, (*SIZE, 3), np.uint8)
        save(root / f"images/{number}.png", image_HWC)
        save(root / f"masks/{number}{suffix}", ids_HW.astype(dtype))
    return root


def near_another(ids_HW, border):
    """Say of every pixel, one by one, whether its object touches another one close by."""
    rows, columns = ids_HW.shape
    touching = {
        (row, column)
        for row in range(rows)
        for column in range(columns)
        if ids_HW[row, column]
        and len(
            set(ids_HW[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].ravel()) - {0}
        )
        > 1
    }
    found_HW = np.zeros(ids_HW.shape, bool)
    for row, column in touching:
        reach = border - 1
        found_HW[
            max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1
        ] = True
    return found_HW & (ids_HW > 0)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "uint32"])
@pytest.mark.parametrize("border", [0, 1, 3])
def test_any_number_is_the_class_and_borders_between_objects_are_ignored(tmp_path, dtype, border):
    ids_HW = numbered(40, 3).astype(dtype)
    if dtype != "uint8":  # numbers may be as high as the type goes
        ids_HW[ids_HW == ids_HW.max()] = np.iinfo(dtype).max
    raw_HW = foreground(ids_HW, border, tmp_path)
    expected_HW = (ids_HW > 0).astype(np.uint8)
    if border:
        near_HW = near_another(ids_HW, border)
        assert 0 < near_HW.sum() < (ids_HW > 0).sum()
        expected_HW[near_HW] = 255
    np.testing.assert_array_equal(raw_HW, expected_HW)
    assert raw_HW.dtype == np.uint8


def test_a_single_object_has_no_border(tmp_path):
    assert foreground(np.full((5, 5), 7, np.uint16), 2, tmp_path).tolist() == [[1] * 5] * 5


@pytest.mark.parametrize(
    ("dtype", "suffix"),
    [("uint8", ".png"), ("uint16", ".png"), ("uint16", ".tif"), ("int32", ".tif")],
)
def test_check_proposes_what_reads_them(tmp_path, dtype, suffix):
    root = make(tmp_path / "data", dtype, suffix)
    data = DataConfig(format="folder", root=str(root), options=SPLIT)
    report = check_data(data, progress=Silent(), threads=1)
    (found,) = [finding for finding in report.findings if finding.code == "SEG-D141"]
    assert 'mask_kind = "instance"' in found.next_step
    assert "value_" not in report.proposal
    first, _, text = report.proposal.partition("\n")
    assert first == '# recipe: data.options.mask_kind = "instance"'
    (tmp_path / "mine.toml").write_text(text)
    chosen = DataConfig(
        format="folder",
        root=str(root),
        labels=str(tmp_path / "mine.toml"),
        options={**SPLIT, "mask_kind": "instance", "instance_border": 1},
    )
    for split in datasets.SPLITS:
        opened = datasets.open_split(chosen, split)
        for index, name in enumerate(opened.names):
            ids_HW = numbered(3 + int(name) % 9, int(name))
            expected_HW = np.where(near_another(ids_HW, 1), 255, ids_HW > 0)
            np.testing.assert_array_equal(opened.read(index).label_HW, expected_HW)
    after = check_data(chosen, progress=Silent(), threads=1)
    assert not {"SEG-D141", "SEG-D001"} & {finding.code for finding in after.findings}
    assert after.proposal is None


def test_a_label_map_that_lacks_the_numbers_gets_one_finding(tmp_path):
    (tmp_path / "two.toml").write_text(
        'name = "two"\nclasses = [\n'
        '{ name = "a", colour = "#101010", raw = [0] },\n'
        '{ name = "b", colour = "#FF0000", raw = [1] } ]\n'
    )
    data = DataConfig(
        format="folder",
        root=str(make(tmp_path / "data")),
        labels=str(tmp_path / "two.toml"),
        options=SPLIT,
    )
    codes = [f.code for f in check_data(data, progress=Silent(), threads=1).findings]
    assert codes.count("SEG-D141") == 1
    assert "SEG-D001" not in codes


def test_classes_that_lie_in_pieces_or_are_missing_are_no_objects(tmp_path):
    root = make(tmp_path / "pieces")
    for number in range(10):
        rng = np.random.default_rng(number)
        values_HW = rng.integers(0, 4 + number % 3, SIZE).astype(np.uint8)
        save(root / f"masks/{number}.png", values_HW)
    data = DataConfig(format="folder", root=str(root), options=SPLIT)
    report = check_data(data, progress=Silent(), threads=1)
    assert "SEG-D141" not in {finding.code for finding in report.findings}
    assert "value_1" in report.proposal


def test_numbers_below_0_are_refused(tmp_path):
    root = make(tmp_path / "data", "int32", ".tif")
    data = DataConfig(format="folder", root=str(root), options={**SPLIT, "mask_kind": "instance"})
    source = datasets.open_source(data, "train")
    ids_HW = numbered(5).astype(np.int32)
    ids_HW[0, :3] = -1
    save(source.files(0)[1], ids_HW)
    with pytest.raises(DataError, match="SEG-D140") as caught:
        source.read_label(0)
    assert caught.value.observed == "-1 (3 px below 0)"


def test_a_border_needs_instances(tmp_path):
    options = {**SPLIT, "instance_border": 2}
    with pytest.raises(ConfigError, match="instance_border goes with mask_kind"):
        datasets.open_source(
            DataConfig(format="folder", root=str(tmp_path), options=options), "val"
        )


def test_init_takes_them_as_one_class_and_asks(tmp_path, monkeypatch):
    measured = measure_step.Measured(2, 0.01, 10**8, 10**10, "cpu", "as the test says")
    monkeypatch.setattr(measure_step, "measure", lambda *_: (measured, ""))
    root = make(tmp_path / "cells")
    proposal = init(root, wishes=Wishes(backend="reference"))
    recipe = load_recipe(proposal.recipe)
    assert recipe.data.options["mask_kind"] == "instance"
    assert load_label_map(str(proposal.labels)).names == ("background", "foreground")
    assert any("all objects of one class" in question for question in proposal.unsure)
    label_HW = datasets.open_split(recipe.data, "train").read(0).label_HW
    assert np.unique(label_HW).tolist() == [0, 1]
