"""The physical size of a pixel that microscopes note: read, kept with a model, and compared."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from PIL import Image

from terrazzo.base.errors import DataError
from terrazzo.base.recipe import Config, DataConfig
from terrazzo.check import check_data
from terrazzo.data import ground
from terrazzo.data.pixel_size import PixelSizes
from terrazzo.inference.outputs import Settings
from terrazzo.inference.predict import predict
from terrazzo.io import rasters
from terrazzo.testing.scenes import UTM, make_scene
from terrazzo.workflows.evaluate import evaluate
from terrazzo.workflows.train import train

MICRO = 1e-6
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, DESCRIPTION = 282, 283, 296, 270
PLAIN_HW = np.zeros((24, 32), np.uint8)


def save(path, words=None, per_unit=None, values=PLAIN_HW, resolution_unit=1):
    """Write a TIFF with a description, and pixels per unit across and down."""
    tags: dict[int, Any] = {}
    if words is not None:
        tags[DESCRIPTION] = words if isinstance(words, bytes) else words.encode()
    if per_unit is not None:
        tags |= {X_RESOLUTION: per_unit[0], Y_RESOLUTION: per_unit[1]}
        tags[RESOLUTION_UNIT] = resolution_unit
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, tiffinfo=tags)
    return path


def sides_of(path):
    return ground.pixel_sides(rasters.info(path))


def ome(*pixels):
    """Return OME-XML with an image for each string of attributes."""
    images = "".join(f"<Image><Pixels {attributes} SizeC='1'/></Image>" for attributes in pixels)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{images}</OME>'
    )


# What is read


@pytest.mark.parametrize(
    ("unit", "metres"),
    [
        ("micron", MICRO),
        ("um", MICRO),
        ("µm", MICRO),
        ("μm", MICRO),  # the Greek letter
        ("\\u00B5m", MICRO),
        ("\\u00b5m", MICRO),
        ("nm", 1e-9),
        ("mm", 1e-3),
    ],
)
def test_imagej_notes_the_unit_of_the_resolution(tmp_path, unit, metres):
    words = f"ImageJ=1.54f\nunit={unit}\nmin=0.0\n"
    path = save(tmp_path / "a.tif", words, (1 / 0.65, 2.0))
    assert sides_of(path) == pytest.approx((0.65 * metres, 0.5 * metres), rel=1e-6)


def test_imagej_may_note_another_unit_for_the_height(tmp_path):
    path = save(tmp_path / "a.tif", "ImageJ=1.54f\nunit=micron\nyunit=nm\n", (2.0, 0.002))
    assert sides_of(path) == pytest.approx((0.5 * MICRO, 0.5 * MICRO))


def test_an_old_imagej_description_in_latin_1_is_read(tmp_path):
    words = "ImageJ=1.38x\nunit=µm\n".encode("latin-1")
    path = save(tmp_path / "a.tif", words, (2.0, 2.0))
    assert sides_of(path) == pytest.approx((0.5 * MICRO, 0.5 * MICRO))
    planes = "ImageJ=1.38x\nimages=4\nslices=4\nunit=µm\n".encode("latin-1")
    with pytest.raises(DataError, match="SEG-D041"):
        rasters.info(save(tmp_path / "b.tif", planes, (2.0, 2.0)))


@pytest.mark.parametrize(
    ("attributes", "sides"),
    [
        ("PhysicalSizeX='0.65' PhysicalSizeY='0.325'", (0.65 * MICRO, 0.325 * MICRO)),
        (
            "PhysicalSizeX='650' PhysicalSizeXUnit='nm' PhysicalSizeY='0.65' "
            "PhysicalSizeYUnit='µm'",
            (0.65 * MICRO, 0.65 * MICRO),
        ),
        (
            "PhysicalSizeX='0.02' PhysicalSizeXUnit='mm' PhysicalSizeY='20' "
            "PhysicalSizeYUnit='&#181;m'",
            (20 * MICRO, 20 * MICRO),
        ),
    ],
)
def test_ome_notes_the_size_itself(tmp_path, attributes, sides):
    path = save(tmp_path / "a.ome.tif", ome(attributes), (72.0, 72.0), resolution_unit=2)
    assert sides_of(path) == pytest.approx(sides)


@pytest.mark.parametrize(
    "words",
    [
        None,
        "Scanned by hand",
        "ImageJ=1.54f\nmin=0.0\n",
        "ImageJ=1.54f\nunit=inch\n",  # ImageJ's word for the dots per inch of a scanner
        "ImageJ=1.54f\nunit=cm\n",
        "ImageJ=1.54f\nunit=pixel\n",
        "unit=micron\n",
        ome(""),
        ome("PhysicalSizeX='0.5'"),
        ome("PhysicalSizeX='0' PhysicalSizeY='0'"),
        ome("PhysicalSizeX='nan' PhysicalSizeY='inf'"),
        ome("PhysicalSizeX='2' PhysicalSizeY='2' PhysicalSizeXUnit='pixel'"),
        ome("PhysicalSizeX='2' PhysicalSizeY='2'", "PhysicalSizeX='1' PhysicalSizeY='1'"),
        "<OME <broken",
        '<!DOCTYPE OME [<!ENTITY e "2">]><OME><Pixels PhysicalSizeX="2" PhysicalSizeY="2"/></OME>',
    ],
)
def test_resolution_without_a_physical_unit_is_no_size(tmp_path, words):
    assert sides_of(save(tmp_path / "a.tif", words, (300.0, 300.0), resolution_unit=2)) is None


@pytest.mark.parametrize("per_unit", [None, (0.0, 2.0)])
def test_a_unit_without_a_resolution_is_no_size(tmp_path, per_unit):
    assert sides_of(save(tmp_path / "a.tif", "ImageJ=1.54f\nunit=micron\n", per_unit)) is None


def test_a_file_that_lies_on_the_ground_is_measured_there(tmp_path):
    path = make_scene(tmp_path / "a.tif", (24, 32, 3), **UTM)
    from terrazzo.io.rasters.handles import open_quietly

    with open_quietly(path, "r+") as dataset:
        dataset.update_tags(
            TIFFTAG_IMAGEDESCRIPTION="ImageJ=1.54f\nunit=micron\n",
            TIFFTAG_XRESOLUTION="2",
            TIFFTAG_YRESOLUTION="2",
        )
    assert sides_of(path) == pytest.approx((0.5, 0.5), rel=1e-3)


# How it is written


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        (PixelSizes.square(0.65 * MICRO, 0.65 * MICRO), "0.65 µm"),
        (PixelSizes.square(0.325 * MICRO, 0.65 * MICRO), "0.325 to 0.65 µm"),
        (PixelSizes((4e-9, 4e-9), (5e-9, 5e-9)), "0.004 µm wide, 0.005 µm high"),
        (PixelSizes.square(0.001, 0.001), "0.001 m"),
        (PixelSizes.square(0.25, 0.5), "0.25 to 0.5 m"),
    ],
)
def test_sizes_below_a_millimetre_are_written_in_micrometres(sizes, text):
    assert str(sizes) == text


# From data set to refusal


COLOURS = np.array([[40, 60, 200], [60, 180, 60]], np.uint8)


def imagej(size):
    """Return what `save` takes for pixels of a size in micrometres."""
    return {"words": "ImageJ=1.54f\nunit=micron\n", "per_unit": (1 / size, 1 / size)}


def ome_of(size):
    return {"words": ome(f"PhysicalSizeX='{size}' PhysicalSizeY='{size}'")}


def write_data(root, size, noted=imagej, others=None) -> DataConfig:
    """Write ten cells' images of a pixel size in micrometres; `others`: the size of the last."""
    rng = np.random.default_rng(0)
    for number in range(10):
        label_HW = np.kron(rng.integers(0, 2, (3, 4)), np.ones((8, 8), int)).astype(np.uint8)
        noise_HWC = rng.integers(0, 20, (24, 32, 3), np.uint8)
        told = noted(others if others is not None and number == 9 else size)
        save(root / "images" / f"{number}.tif", values=COLOURS[label_HW] + noise_HWC, **told)
        (root / "masks").mkdir(exist_ok=True)
        Image.fromarray(label_HW).save(root / "masks" / f"{number}.png")
    labels = root / "labels.toml"
    labels.write_text(
        'name = "cells"\n'
        '[[classes]]\nname = "a"\ncolour = "#000001"\nraw = [0]\n'
        '[[classes]]\nname = "b"\ncolour = "#000002"\nraw = [1]\n'
    )
    return DataConfig(
        format="folder",
        root=str(root),
        labels=str(labels),
        options={"split": {"train": 0.6, "val": 0.2, "test": 0.2}},
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    data = write_data(folder / "data", 0.65)
    recipe = {
        "backend": "reference",
        "name": "cells",
        "data": data.model_dump(exclude_none=True),
        "model": {"name": "pixel_softmax"},
        "training": {"batch_size": 2, "steps": 4, "schedule": {"learning_rate": 0.3}},
    }
    return train(Config.model_validate(recipe), folder / "run").path


def other_data(path: Path, data: DataConfig) -> Path:
    path.write_text(tomli_w.dumps({"data": data.model_dump(exclude_none=True)}))
    return path


def test_a_run_keeps_the_physical_size_in_metres(run):
    table = tomllib.loads((run / "model" / "model.toml").read_text())
    for sides in table["pixel_metres"]:
        assert sides == pytest.approx([0.65 * MICRO] * 2, rel=1e-6)


@pytest.mark.parametrize("noted", [imagej, ome_of])
@pytest.mark.parametrize("size", [0.325, 0.5, 0.9])
def test_another_magnification_is_refused_everywhere(run, tmp_path, noted, size):
    data = write_data(tmp_path / "data", size, noted)
    other, image = other_data(tmp_path / "o.toml", data), tmp_path / "data" / "images" / "0.tif"
    for command in (
        lambda: predict(run, image, tmp_path / "map.tif"),
        lambda: evaluate(run, data=other),
        lambda: check_data(data, run=run),
    ):
        with pytest.raises(DataError, match="SEG-D028") as refused:
            command()
        assert refused.value.observed == f"{size} µm"
        assert "0.65 µm, up to 1.25 times" in str(refused.value)
    predict(run, image, tmp_path / "map.tif", Settings(any_pixel_size=True))
    assert (tmp_path / "map.tif").exists()
    assert evaluate(run, data=other, any_pixel_size=True).scores.mean_iou > 0


@pytest.mark.parametrize("noted", [imagej, ome_of, lambda size: {}])
def test_a_like_or_unknown_size_passes(run, tmp_path, noted):
    data = write_data(tmp_path / "data", 0.7, noted)
    predict(run, tmp_path / "data" / "images" / "0.tif", tmp_path / "map.tif")
    assert evaluate(run, data=other_data(tmp_path / "o.toml", data)).scores.mean_iou > 0
    check_data(data, run=run)


def test_two_magnifications_in_one_data_set_are_named(tmp_path):
    report = check_data(write_data(tmp_path / "data", 0.325, others=0.65))
    (finding,) = [found for found in report.findings if found.code == "SEG-D028"]
    assert finding.observed.startswith("0.65 µm, and 0.325 µm in ")
    assert finding.file.endswith("9.tif")
