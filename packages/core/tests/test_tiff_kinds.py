"""TIFF as microscopes, scanners and GIS write it: what is read as what, and what is refused."""

import struct

import numpy as np
import pytest
import rasterio
from PIL import Image

from terrazzo.base.errors import DataError
from terrazzo.io import rasters
from terrazzo.io.rasters.handles import open_quietly

VALUES_HW = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64)
PLANE = Image.fromarray(VALUES_HW)


def save_pages(path, *, count=1, **tags):
    """Write a TIFF of so many pages; `tags` such as ``description`` go to the first one."""
    numbers = {
        {"description": 270, "orientation": 274}[name]: value for name, value in tags.items()
    }
    more = [PLANE] * (count - 1)
    PLANE.save(path, save_all=count > 1, append_images=more, tiffinfo=numbers)
    return path


def save_raster(path, values_HWC=VALUES_HW[..., None], **profile):
    size = {"height": values_HWC.shape[0], "width": values_HWC.shape[1]}
    kind = {"count": values_HWC.shape[2], "dtype": values_HWC.dtype.name}
    with open_quietly(path, "w", **size, **kind, **profile) as dataset:
        dataset.write(np.moveaxis(values_HWC, 2, 0))
    return path


def refusal(function, *arguments):
    with pytest.raises(DataError) as caught:
        function(*arguments)
    return caught.value


def as_image_and_label(path):
    return refusal(rasters.read, path), refusal(rasters.read_label, path, "index")


# Several planes


def test_a_tiff_of_several_pages_is_neither_image_nor_mask(tmp_path):
    for error in as_image_and_label(save_pages(tmp_path / "a.tif", count=2)):
        assert error.code == "SEG-D041"
        assert "2 planes" in str(error)


def test_one_page_with_words_about_it_is_read(tmp_path):
    words = "ImageJ=1.54f\nmin=0.0\nmax=255.0\n"
    image_HWC, _, _ = rasters.read(save_pages(tmp_path / "a.tif", description=words))
    np.testing.assert_array_equal(image_HWC[..., 0], VALUES_HW)


def test_imagej_names_its_axes_even_with_one_directory(tmp_path):
    words = "ImageJ=1.54f\nimages=6\nchannels=3\nslices=2\nhyperstack=true\nmode=composite\n"
    for error in as_image_and_label(save_pages(tmp_path / "a.tif", description=words)):
        assert error.code == "SEG-D041"
        assert "6 planes: 3 channels (ImageJ), 2 slices (ImageJ)" in str(error)


@pytest.mark.parametrize(
    ("words", "axes"),
    [
        ('{"shape": [3, 48, 64]}', "shape 3×48×64"),
        (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
            '<Image><Pixels DimensionOrder="XYCZT" SizeC="3" SizeT="1" SizeZ="1"/></Image></OME>',
            "SizeC = 3, SizeZ = 1, SizeT = 1 (OME)",
        ),
        ("<OME <broken", "OME"),
        ("{", "3 planes"),
    ],
)
def test_the_axes_of_other_writers_are_named(tmp_path, words, axes):
    error = refusal(rasters.info, save_pages(tmp_path / "a.tif", count=3, description=words))
    assert axes in str(error)


def test_overviews_and_inner_masks_are_no_planes(tmp_path):
    path = tmp_path / "a.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        save_raster(path, np.full((600, 600, 1), 7, np.uint8), tiled=True)
        with open_quietly(path, "r+") as dataset:
            dataset.write_mask(np.ones((600, 600), bool))
            dataset.build_overviews([2, 4])
    assert (rasters.read(path)[0] == 7).all()


# Orientation, white, palettes


def test_a_turned_tiff_is_refused_as_png_is(tmp_path):
    for error in as_image_and_label(save_pages(tmp_path / "a.tif", orientation=6)):
        assert error.code == "SEG-D010"
        assert "Orientation (0x0112) = 6" in str(error)
    assert rasters.info(save_pages(tmp_path / "b.tif", orientation=1)).rows == 48


def test_a_turned_big_endian_tiff_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    save_raster(path, ENDIANNESS="BIG")
    data = bytearray(path.read_bytes())
    first = struct.unpack_from(">I", data, 4)[0]
    entries = struct.unpack_from(">H", data, first)[0]
    # The tag Compression becomes Orientation; the other tags stay as they are.
    for at in range(first + 2, first + 2 + 12 * entries, 12):
        if struct.unpack_from(">H", data, at)[0] == 259:
            struct.pack_into(">HHIHH", data, at, 274, 3, 1, 8, 0)
    path.write_bytes(data)
    assert "= 8" in str(refusal(rasters.info, path))


@pytest.mark.parametrize(("dtype", "bits"), [("uint8", 8), ("uint8", 1), ("uint16", 16)])
def test_white_is_zero_turns_images_and_leaves_masks(tmp_path, dtype, bits):
    stored_HW = (VALUES_HW % min(2**bits, 250)).astype(dtype)
    depth = {"nbits": bits} if bits == 1 else {}
    path = save_raster(tmp_path / "a.tif", stored_HW[..., None], photometric="MINISWHITE", **depth)
    image_HWC, valid_HW, _ = rasters.read(path)
    assert image_HWC.dtype == dtype
    assert valid_HW.all()
    np.testing.assert_array_equal(image_HWC[..., 0], 2**bits - 1 - stored_HW)
    np.testing.assert_array_equal(rasters.read_label(path, "index"), stored_HW)
    assert rasters.info(path).white_is_zero


def test_nodata_where_white_is_zero_is_the_stored_number(tmp_path):
    path = save_raster(tmp_path / "a.tif", photometric="MINISWHITE", nodata=3)
    _, valid_HW, _ = rasters.read(path)
    np.testing.assert_array_equal(valid_HW, VALUES_HW != 3)


def test_white_that_is_not_known_is_refused(tmp_path):
    values_HWC = VALUES_HW[..., None].astype(np.float32)
    path = save_raster(tmp_path / "a.tif", values_HWC, photometric="MINISWHITE")
    assert refusal(rasters.read, path).code == "SEG-D019"


def save_palette(path):
    indices = Image.frombytes("P", (64, 48), (VALUES_HW % 3).tobytes())
    indices.putpalette([250, 0, 10, 0, 120, 30, 5, 6, 7])
    indices.save(path)
    return path


def test_a_palette_is_colours_in_images_and_indices_in_masks(tmp_path):
    path = save_palette(tmp_path / "a.tif")
    image_HWC, _, _ = rasters.read(path)
    palette = np.array([[250, 0, 10], [0, 120, 30], [5, 6, 7]], np.uint8)
    np.testing.assert_array_equal(image_HWC, palette[VALUES_HW % 3])
    assert rasters.info(path).band_names == ("red", "green", "blue")
    np.testing.assert_array_equal(rasters.read_label(path, "index"), VALUES_HW % 3)
    green_HWC, _, _ = rasters.read_window(path, 2, 3, 4, 5, (1,))
    np.testing.assert_array_equal(green_HWC, palette[VALUES_HW % 3][2:6, 3:8, 1:2])


def test_a_band_with_a_name_is_numbers_whatever_its_palette(tmp_path):
    path = save_raster(tmp_path / "a.tif")
    with open_quietly(path, "r+") as dataset:
        dataset.write_colormap(1, {0: (1, 2, 3, 255)})
        dataset.descriptions = ("class",)
    assert rasters.info(path).band_names == ("class",)
    np.testing.assert_array_equal(rasters.read(path)[0][..., 0], VALUES_HW)


# Compression


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"compress": "JPEG"}, "JPEG compression with losses"),
        ({"compress": "LERC", "MAX_Z_ERROR": 2}, "MAX_Z_ERROR) of 2"),
        ({"compress": "LERC_ZSTD", "MAX_Z_ERROR": 0.5}, "LERC_ZSTD"),
    ],
)
def test_lossy_labels_are_refused_by_name(tmp_path, options, named):
    path = save_raster(tmp_path / "a.tif", **options)
    whole = refusal(rasters.read_label, path, "index")
    part = refusal(rasters.read_label_with_mask, path, 0, 0, 4, 4)
    for error in (whole, part):
        assert error.code == "SEG-D008"
        assert named in str(error)
    assert rasters.read(path)[0].shape == (48, 64, 1)  # an image may be lossy


def test_lossy_webp_labels_are_refused_and_lossless_ones_read(tmp_path):
    colours_HWC = np.repeat(VALUES_HW[..., None], 3, axis=2)
    lossy = save_raster(tmp_path / "a.tif", colours_HWC, compress="WEBP")
    assert "WEBP" in str(refusal(rasters.read_label, lossy, "colour"))
    exact = save_raster(tmp_path / "b.tif", colours_HWC, compress="WEBP", WEBP_LOSSLESS="YES")
    np.testing.assert_array_equal(rasters.read_label(exact, "colour"), colours_HWC)


@pytest.mark.parametrize("options", [{"compress": "LERC"}, {"compress": "ZSTD"}])
def test_labels_without_losses_are_read(tmp_path, options):
    path = save_raster(tmp_path / "a.tif", **options)
    np.testing.assert_array_equal(rasters.read_label(path, "index"), VALUES_HW)


def test_a_codec_that_gdal_lacks_is_named(tmp_path):
    path = save_raster(tmp_path / "a.tif")
    data = bytearray(path.read_bytes())
    first = struct.unpack_from("<I", data, 4)[0]
    for at in range(first + 2, first + 2 + 12 * data[first], 12):
        if struct.unpack_from("<H", data, at)[0] == 259:
            struct.pack_into("<H", data, at + 8, 50002)
    path.write_bytes(data)
    error = refusal(rasters.info, path)
    assert error.code == "SEG-D012"
    assert "JXL" in str(error)
    assert "truncated" not in str(error)


def sparse(path, alpha_of_the_missing, interleave):
    """Write a raster of four blocks of which the last one is missing in the first three bands."""
    profile = {"tiled": True, "blockxsize": 16, "blockysize": 16, "sparse_ok": True}
    with open_quietly(
        path, "w", height=16, width=64, count=4, dtype="uint8", interleave=interleave, **profile
    ) as dataset:
        dataset.colorinterp = (*dataset.colorinterp[:3], rasterio.enums.ColorInterp.alpha)
        window = rasterio.windows.Window(0, 0, 48, 16)
        for band in (1, 2, 3):
            dataset.write(np.full((16, 48), 9, np.uint8), band, window=window)
        dataset.write(np.full((16, 48), 255, np.uint8), 4, window=window)
        if alpha_of_the_missing:
            rest = rasterio.windows.Window(48, 0, 16, 16)
            dataset.write(np.full((16, 16), alpha_of_the_missing, np.uint8), 4, window=rest)
    return path


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_blocks_that_are_missing_below_alpha_0_are_no_fault(tmp_path, interleave):
    image_HWC, valid_HW, _ = rasters.read(sparse(tmp_path / "a.tif", 0, interleave))
    assert (image_HWC[:, :48] == 9).all()
    np.testing.assert_array_equal(valid_HW, np.arange(64)[None] < np.full((16, 1), 48))


def test_blocks_that_are_missing_where_alpha_says_data_are_a_fault(tmp_path):
    error = refusal(rasters.read, sparse(tmp_path / "a.tif", 255, "band"))
    assert error.code == "SEG-D029"
