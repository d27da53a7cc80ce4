"""From images of microscopes to a map: check, run and predict, with channels by their names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from affine import Affine
from PIL import Image

from terrazzo.base.errors import DataError
from terrazzo.base.recipe import Config, DataConfig
from terrazzo.check import check_data
from terrazzo.data import datasets
from terrazzo.inference.outputs import Settings
from terrazzo.inference.predict import predict
from terrazzo.io import rasters
from terrazzo.models.card import ModelCard
from terrazzo.runs import saved_model
from terrazzo.testing.microscope_files import write_ome_zarr, write_slide
from terrazzo.testing.scenes import make_model
from terrazzo.workflows.train import train

NAMES = ("DAPI", "GFP")
MICRO = 1e-6
COUNT = 8
SLIDE = np.random.default_rng(0).integers(0, 256, (600, 520, 3), np.uint8)


def cells(number):
    """Return a label H×W and two channels C×H×W of 16 bits that tell its classes apart."""
    rng = np.random.default_rng(number)
    label_HW = np.kron(rng.integers(0, 2, (3, 4)), np.ones((8, 8), int))
    bright, dim = rng.integers(0, 900, (2, *label_HW.shape))
    channels_CHW = np.stack([label_HW * 40_000 + bright, (1 - label_HW) * 3000 + dim])
    return label_HW.astype(np.uint8), channels_CHW.astype(np.uint16)


def write_ome(path, channels_CHW, names=NAMES, axes="CYX", **layout):
    path.parent.mkdir(parents=True, exist_ok=True)
    words = {"axes": axes, "Channel": {"Name": names}, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}
    tifffile.imwrite(path, channels_CHW, metadata=words, **layout)
    return path


def write_data(root, write=write_ome, ending=".ome.tif", **options) -> DataConfig:
    (root / "masks").mkdir(parents=True)
    (root / "images").mkdir()
    for number in range(COUNT):
        label_HW, channels_CHW = cells(number)
        write(root / "images" / f"{number}{ending}", channels_CHW)
        Image.fromarray(label_HW).save(root / "masks" / f"{number}.png")
    return data_of(root, "folder", image_suffix=".ome", **options)


def data_of(root, kind, **options):
    labels = root / "labels.toml"
    labels.write_text(
        'name = "cells"\n'
        '[[classes]]\nname = "ground"\ncolour = "#000001"\nraw = [0]\n'
        '[[classes]]\nname = "cell"\ncolour = "#000002"\nraw = [1]\n'
    )
    options = {"split": {"train": 0.5, "val": 0.25, "test": 0.25}, **options}
    return DataConfig(format=kind, root=str(root), labels=str(labels), options=options)


def run_of(data, folder):
    recipe = {
        "backend": "reference",
        "name": "cells",
        "data": data.model_dump(exclude_none=True),
        "model": {"name": "pixel_softmax"},
        "training": {"batch_size": 2, "steps": 30, "schedule": {"learning_rate": 0.5}},
    }
    return train(Config.model_validate(recipe), folder).path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    data = write_data(folder / "data")
    report = check_data(data)
    assert not [finding for finding in report.findings if finding.code != "SEG-D080"]
    return run_of(data, folder / "run")


def card_of(run) -> ModelCard:
    return saved_model.read_card(run / "model", print)


def test_the_model_keeps_channels_and_size(run):
    card = card_of(run)
    assert card.bands.names == NAMES
    assert card.bands.dtype == "uint16"
    assert card.pixel_metres.width == pytest.approx((0.5 * MICRO,) * 2)
    assert card.pixel_metres.height == pytest.approx((0.25 * MICRO,) * 2)


@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("cog", [False, True])
def test_the_map_is_right_and_keeps_the_size_of_pixels(run, tmp_path, probabilities, cog):
    label_HW, channels_CHW = cells(COUNT)
    image = write_ome(tmp_path / "new.ome.tif", channels_CHW)
    settings = Settings(probabilities=probabilities, cloud_optimised=cog)
    predict(run, image, tmp_path / "map.tif", settings)
    for name in ("map.tif", "map_probabilities.tif")[: 1 + probabilities]:
        with tifffile.TiffFile(tmp_path / name) as file:
            tags = file.pages.first.tags
            assert tags["XResolution"].value[0] / tags["XResolution"].value[1] == 2
            assert tags["YResolution"].value[0] / tags["YResolution"].value[1] == 4
            assert file.imagej_metadata["unit"] == "micron"
        assert rasters.info(tmp_path / name).physical_sides == pytest.approx(
            (0.5 * MICRO, 0.25 * MICRO)
        )
    map_HW = rasters.read_label(tmp_path / "map.tif", "index")
    np.testing.assert_array_equal(map_HW, label_HW)


def test_channels_in_another_order_go_by_their_names(run, tmp_path):
    label_HW, channels_CHW = cells(COUNT)
    more_CHW = np.stack([channels_CHW[1], channels_CHW[0] * 0, channels_CHW[0]])
    image = write_ome(tmp_path / "new.ome.tif", more_CHW, ("GFP", "Brightfield", "DAPI"))
    predict(run, image, tmp_path / "map.tif")
    np.testing.assert_array_equal(rasters.read_label(tmp_path / "map.tif", "index"), label_HW)


def test_a_channel_that_is_not_there_is_named(run, tmp_path):
    image = write_ome(tmp_path / "new.ome.tif", cells(0)[1], ("DAPI", "RFP"))
    with pytest.raises(DataError) as caught:
        predict(run, image, tmp_path / "map.tif")
    assert "RFP" in str(caught.value)


def test_channels_in_another_order_do_not_train(tmp_path):
    data = write_data(tmp_path)
    write_ome(tmp_path / "images" / "3.ome.tif", cells(3)[1][::-1], NAMES[::-1])
    assert "SEG-D020" in {finding.code for finding in check_data(data).findings}


def test_ome_zarr_is_checked_and_predicted_as_ome_tiff_is(run, tmp_path):
    def write(path, channels_CHW):
        write_ome_zarr(path, "0.5", channels_CHW)

    data = write_data(tmp_path / "data", write, ".ome.zarr")
    assert not [finding for finding in check_data(data).findings if finding.code != "SEG-D080"]
    assert datasets.open_split(data, "train").source.band_names == card_of(run).bands.names
    maps = predict(run, tmp_path / "data" / "images", tmp_path / "maps")
    assert len(maps) == COUNT
    for number in range(COUNT):
        map_HW = rasters.read_label(tmp_path / "maps" / f"{number}.ome.tif", "index")
        np.testing.assert_array_equal(map_HW, cells(number)[0])


def test_a_changed_chunk_changes_the_data(tmp_path):
    from terrazzo.runs import data_fingerprint

    path = write_ome_zarr(tmp_path / "a.zarr", "0.4", cells(0)[1])
    before = data_fingerprint._file_digest(path)
    assert before == data_fingerprint._file_digest(path)
    chunk = next(file for file in sorted((path / "0").rglob("*")) if file.name[0].isdigit())
    chunk.write_bytes(chunk.read_bytes() + b"x")
    assert before != data_fingerprint._file_digest(path)


def test_one_depth_of_stacks_is_checked_and_predicted(run, tmp_path):
    def write(path, channels_CHW):
        write_ome(path, np.stack([channels_CHW // 7, channels_CHW, channels_CHW * 0]), axes="ZCYX")

    data = write_data(tmp_path / "data", write, plane={"z": 1})
    assert not [finding for finding in check_data(data).findings if finding.code != "SEG-D080"]
    assert datasets.open_split(data, "train").source.band_names == card_of(run).bands.names
    image = tmp_path / "data" / "images" / "0.ome.tif"
    with pytest.raises(DataError, match="SEG-D041"):
        predict(run, image, tmp_path / "map.tif")
    predict(run, image, tmp_path / "map.tif", Settings(plane=(("z", 1),)))
    map_HW = rasters.read_label(tmp_path / "map.tif", "index")
    np.testing.assert_array_equal(map_HW, cells(0)[0])
    without = write_data(tmp_path / "without", write)
    assert {finding.code for finding in check_data(without).findings} == {"SEG-D041"}


def _part_masks(root):
    for number in range(COUNT):
        path = root / "mask" / "Cell-Masks" / f"{number}.ome.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(cells(number)[0] * 255).save(path)
    return {"images": "images", "masks": "mask/{part}-Masks", "parts": ["Cell"]}


def _labelme(root):
    (root / "annotations").mkdir()
    for number in range(COUNT):
        square = {"label": "cell", "shape_type": "rectangle", "points": [[2, 2], [9, 9]]}
        told = {"imagePath": f"{number}.ome.tif", "imageHeight": 24, "imageWidth": 32}
        told |= {"version": "5.0.0", "flags": {}, "shapes": [{**square, "flags": {}}]}
        (root / "annotations" / f"{number}.json").write_text(json.dumps(told))
    return {
        "classes": ["cell"],
        "images": "images",
        "annotations": "annotations",
        "image_suffix": ".ome",
    }


@pytest.mark.parametrize(("kind", "write"), [("part_masks", _part_masks), ("labelme", _labelme)])
def test_other_formats_read_them_too(tmp_path, kind, write):
    for number in range(COUNT):
        stack = np.stack([cells(number)[1]] * 2)
        write_ome(tmp_path / "images" / f"{number}.ome.tif", stack, axes="ZCYX")
    data = data_of(tmp_path, kind, **write(tmp_path), plane={"z": 1})
    split = datasets.open_split(data, "train")
    assert split.source.band_names == NAMES
    sample = split.source.read(0)
    number = int(Path(sample.image_file).name[0])
    np.testing.assert_array_equal(np.moveaxis(sample.image_HWC, 2, 0), cells(number)[1])


# Whole slides


def test_a_slide_is_predicted_by_windows_as_a_geotiff_is(tmp_path):
    model = make_model(tmp_path / "model")
    slide = write_slide(tmp_path / "a.svs", SLIDE)
    rasters.write(tmp_path / "b.tif", SLIDE, crs=None, transform=Affine.identity())
    for name in ("a.svs", "b.tif"):
        predict(model, tmp_path / name, tmp_path / f"{name}.map.tif")
    of_slide, of_tiff = (
        rasters.read_label(tmp_path / f"{name}.map.tif", "index") for name in ("a.svs", "b.tif")
    )
    np.testing.assert_array_equal(of_slide, of_tiff)
    assert of_slide.shape == SLIDE.shape[:2]
    sides = rasters.info(tmp_path / "a.svs.map.tif").physical_sides
    assert sides == pytest.approx(rasters.info(slide).physical_sides)


def test_chips_of_a_slide_train(tmp_path):
    slide = write_slide(tmp_path / "a.svs", SLIDE)
    label_HWC = (SLIDE[..., :1] > 120).astype(np.uint8)
    rasters.write(tmp_path / "label.tif", label_HWC, crs=None, transform=Affine.identity())
    scenes = [{"images": [{"file": slide.name}], "label": "label.tif"}]
    data = data_of(tmp_path, "geotiff", scenes=scenes, chip=64)
    split = datasets.open_split(data, "train")
    image_HWC, *_ = split.source.read_image(0)
    assert image_HWC.shape == (64, 64, 3)


def test_a_file_of_shapes_may_name_ome_zarr(tmp_path):
    """It is a folder, and one image; what the file does not name is told."""
    for name in ("a", "b"):
        write_ome_zarr(tmp_path / f"images/{name}.zarr", "0.4", np.zeros((2, 24, 32), np.uint16))
    square = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 9, 0, 9, 8, 0, 8]]}
    coco = {
        "images": [{"id": 1, "file_name": "a.zarr", "height": 24, "width": 32}],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [square],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(coco))
    options = {"classes": ["cell"], "split": {"train": 1, "val": 0, "test": 0}}
    data = DataConfig(format="coco", root=str(tmp_path), options=options)

    source = datasets.open_source(data, "train")

    assert source.band_names == NAMES
    assert np.count_nonzero(source.read(0).raw_label == 1) == 72
    assert any("b.zarr" in note for note in source.notes)
