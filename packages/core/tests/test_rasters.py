"""Pixels of GeoTIFF: number types, masks, other grids, and values that are none."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp

from terrazzo.base.errors import DataError
from terrazzo.io import rasters

PLACE = {"crs": "EPSG:32633", "transform": Affine(2, 0, 392_000, 0, -2, 5_820_000)}
SHAPE = (40, 50)


def write(path: Path, bands_CHW, *, mask=None, alpha=False, **more):
    """Write what `rasters.write` does not: alpha bands, inner masks, all types of numbers."""
    bands_CHW = np.asarray(bands_CHW)
    count, height, width = bands_CHW.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", dtype=bands_CHW.dtype, **profile, **{**PLACE, **more}) as dataset,
    ):
        if alpha:
            dataset.colorinterp = [ColorInterp.gray] * (count - 1) + [ColorInterp.alpha]
        dataset.write(bands_CHW)
        if mask is not None:
            dataset.write_mask(mask)
    return path


def ramp(dtype="uint16", bands=2):
    return (np.arange(bands * 2000).reshape(bands, *SHAPE) + 1).astype(dtype)


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint32", "int32", "float64", "int64"])
def test_other_numbers_become_float32(tmp_path, dtype):
    values_CHW = ramp(dtype)
    values_CHW[:, 3, 4] = -7 if np.dtype(dtype).kind != "u" else 7
    nodata = int(values_CHW[0, 3, 4])
    values_CHW[1:, values_CHW[0] == nodata] = nodata
    path = write(tmp_path / "a.tif", values_CHW, nodata=nodata)
    info = rasters.info(path)
    assert (info.dtype, info.stored_dtype) == ("float32", dtype)
    image_HWC, valid_HW, _ = rasters.read(path)
    assert image_HWC.dtype == np.float32
    present_CHW = values_CHW != nodata
    # A negative marker is no ordinary value: one band is enough.
    counts = present_CHW.any(axis=0) if nodata >= 0 else present_CHW.all(axis=0)
    np.testing.assert_array_equal(valid_HW, counts)
    expected_HWC = np.where(valid_HW & present_CHW, values_CHW, 0).transpose(1, 2, 0)
    np.testing.assert_array_equal(image_HWC, expected_HWC)


def test_complex_numbers_are_refused(tmp_path):
    path = write(tmp_path / "a.tif", ramp("complex64"))
    with pytest.raises(DataError, match=r"SEG-D019(.|\n)*complex64"):
        rasters.read(path)


def test_declared_nodata_of_extreme_value_is_set_to_zero(tmp_path):
    values_CHW = ramp("float32")
    values_CHW[:, :3] = -3.4e38
    image_HWC, valid_HW, _ = rasters.read(write(tmp_path / "a.tif", values_CHW, nodata=-3.4e38))
    assert not valid_HW[:3].any()
    assert (image_HWC[:3] == 0).all()
    assert valid_HW[3:].all()


@pytest.mark.parametrize(("nodata", "told"), [("300", "300"), ("-1", "-1"), ("nan", "nan")])
def test_nodata_that_no_pixel_can_have(tmp_path, nodata, told):
    """GDAL writes none of these by itself, so the text of the tag is exchanged in the file."""
    path = write(tmp_path / "a.tif", ramp("uint8", 1), nodata=255)
    data = path.read_bytes()
    tag = struct.pack("<HHI", 42113, 2, 4) + b"255\0"
    assert data.count(tag) == 1
    path.write_bytes(data.replace(tag, tag[:8] + nodata.encode().ljust(4, b"\0")))
    with pytest.raises(DataError) as caught:
        rasters.read(path)
    assert caught.value.code == "SEG-D024"
    assert f"nodata {told} in bands of uint8" in str(caught.value)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_pixels_that_are_no_number_are_named(tmp_path, value):
    values_CHW = ramp("float32")
    values_CHW[1, 30, 7] = value
    path = write(tmp_path / "a.tif", values_CHW)
    with pytest.raises(DataError) as caught:
        rasters.read_window(path, 20, 5, 15, 20, refuse_nan=True)
    assert caught.value.code == "SEG-D022"
    assert ("NaN" if np.isnan(value) else "infinite") in caught.value.problem
    for words in ("a.tif", "1 px, first in band 2 at row 30, column 7"):
        assert words in str(caught.value)


def test_declared_nan_is_no_fault(tmp_path):
    values_CHW = ramp("float32")
    values_CHW[:, 30, 7] = np.nan
    path = write(tmp_path / "a.tif", values_CHW, nodata=np.nan)
    _, valid_HW, _ = rasters.read_window(path, 0, 0, *SHAPE, refuse_nan=True)
    assert np.argwhere(~valid_HW).tolist() == [[30, 7]]


def masked(tmp_path, kind, dtype="uint16"):
    """Return an image whose upper left corner does not count, said in one of three ways."""
    hidden = np.zeros(SHAPE, bool)
    hidden[:10, :12] = True
    values_CHW = ramp(dtype)
    path = tmp_path / f"{kind}.tif"
    if kind == "nodata":
        write(path, np.where(hidden, 60_000, values_CHW), nodata=60_000)
    elif kind == "alpha":
        alpha_HW = np.where(hidden, 0, 65_535).astype(dtype)
        write(path, [*values_CHW, alpha_HW], alpha=True)
    else:
        write(path, values_CHW, mask=~hidden)
    return path, values_CHW, hidden


@pytest.mark.parametrize("kind", ["nodata", "alpha", "mask"])
@pytest.mark.parametrize("shift", [0, 3])
def test_masks_hold_on_another_grid(tmp_path, kind, shift):
    """Moved by whole pixels, bilinear is exact; what lies outside the raster is invalid."""
    path, values_CHW, hidden = masked(tmp_path, kind)
    here = rasters.info(path)
    assert here.bands == 2
    place = {"crs": PLACE["crs"], "transform": Affine(2, 0, 392_000 - 2 * shift, 0, -2, 5_820_000)}
    grid_file = write(tmp_path / "grid.tif", np.zeros((1, 40, 60), "uint8"), **place)
    onto = rasters.info(grid_file) if shift else None
    columns = 60 if shift else 50
    image_HWC, valid_HW, _ = rasters.read_window(path, 0, 0, 40, columns, onto=onto)
    expected_HW = np.zeros((40, columns), bool)
    expected_HW[:, shift : shift + 50] = ~hidden
    np.testing.assert_array_equal(valid_HW, expected_HW)
    np.testing.assert_array_equal(image_HWC[valid_HW], values_CHW[:, ~hidden].T)


@pytest.mark.parametrize("kind", ["alpha", "mask"])
def test_masks_of_labels_hold(tmp_path, kind):
    hidden = np.zeros(SHAPE, bool)
    hidden[5:9] = True
    label_HW = ramp("uint8", 1)[0]
    path = tmp_path / "label.tif"
    if kind == "alpha":
        write(path, [label_HW, np.where(hidden, 0, 255).astype("uint8")], alpha=True)
    else:
        write(path, label_HW[None], mask=~hidden)
    found_HW, labelled_HW = rasters.read_label_with_mask(path, 0, 0, *SHAPE)
    np.testing.assert_array_equal(labelled_HW, ~hidden)
    np.testing.assert_array_equal(found_HW, label_HW)


def test_a_label_sidecar_changes_nothing(tmp_path):
    path = write(tmp_path / "label.tif", ramp("uint8", 1))
    Path(f"{path}.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><NoDataValue>2</NoDataValue></PAMRasterBand>'
        "</PAMDataset>"
    )
    _, labelled_HW = rasters.read_label_with_mask(path, 0, 0, *SHAPE)
    assert labelled_HW.all()


def test_a_mask_beside_the_file_changes_nothing(tmp_path):
    path = write(tmp_path / "a.tif", ramp())
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(np.zeros(SHAPE, bool))
    assert (tmp_path / "a.tif.msk").exists()
    assert rasters.read(path)[1].all()


def test_a_named_band_marked_as_alpha(tmp_path):
    """GDAL writes the fourth of four 8-bit bands as alpha; its name says that it is a band."""
    path, onto = tmp_path / "a.tif", rasters.info(write(tmp_path / "grid.tif", ramp("uint8", 1)))
    values_HWC = np.moveaxis(ramp("uint8", 4), 0, 2)
    rasters.write(path, values_HWC, band_names=("r", "g", "b", "nir"), **PLACE)
    np.testing.assert_array_equal(rasters.read(path)[0], values_HWC)
    with pytest.raises(DataError, match=r"SEG-D027(.|\n)*band 4"):
        rasters.read_window(path, 0, 0, *SHAPE, onto=onto)


def test_a_fork_opens_files_anew(tmp_path):
    """A handle taken along would move the position in a file that both processes read."""
    path = write(tmp_path / "a.tif", ramp())
    rasters.read(path)
    mine = rasters.handles.handle(path)
    child = os.fork()
    if child == 0:
        os._exit(0 if rasters.handles.handle(path) is not mine else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert rasters.handles.handle(path) is mine
