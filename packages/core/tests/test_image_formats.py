"""BMP, GIF and WebP as images and as masks, and masks of grey with alpha."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from terrazzo.base.errors import DataError
from terrazzo.base.recipe import DataConfig
from terrazzo.data import datasets
from terrazzo.io import images

SIZE = (13, 19)


@pytest.fixture
def image_HWC():  # noqa: N802 - an array, named as arrays are
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


@pytest.fixture
def classes_HW():  # noqa: N802
    return np.random.default_rng(1).integers(0, 5, SIZE).astype(np.uint8)


def save(path, array, **settings):
    Image.fromarray(array).save(path, **settings)
    return path


def with_palette(path, indices_HW, **settings):
    image = Image.fromarray(indices_HW)
    image.putpalette([7, 9, 11, 200, 0, 0, 0, 200, 0, 0, 0, 200, 90, 90, 0] + 3 * 251 * [5])
    image.save(path, **settings)
    return path


def bmp(path, lines, columns, bits, *, rows=None, compression=0, table=b""):
    """Write a BMP by hand: `lines` as they stand in the file, padded to four bytes."""
    pixels = b"".join(line + bytes(-len(line) % 4) for line in lines)
    start = 54 + len(table)
    header = struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start)
    rows = len(lines) if rows is None else rows
    header += struct.pack("<IiiHHIIiiII", 40, columns, rows, 1, bits, compression, 0, 0, 0, 0, 0)
    path.write_bytes(header + table + pixels)
    return path


def refusal(read, *arguments):
    with pytest.raises(DataError) as caught:
        read(*arguments)
    return caught.value


@pytest.mark.parametrize("suffix", [".bmp", ".webp"])
def test_colours_are_exact_and_in_order(tmp_path, image_HWC, suffix):
    path = save(
        tmp_path / f"a{suffix}", image_HWC, **({"lossless": True} if suffix == ".webp" else {})
    )
    np.testing.assert_array_equal(images.read_image(path), image_HWC)
    np.testing.assert_array_equal(images.read_label(path, "colour"), image_HWC)
    assert images.image_info(path) == images.ImageInfo(*SIZE, 3, "uint8")
    error = refusal(images.read_label, path, "index")
    assert error.code == "SEG-D007"
    assert suffix[1:].casefold() in error.observed.casefold()


@pytest.mark.parametrize("suffix", [".bmp", ".gif"])
def test_grey_has_one_band_and_its_numbers(tmp_path, image_HWC, suffix):
    grey_HW = image_HWC[..., 0]
    grey_HW.flat[:256] = np.arange(SIZE[0] * SIZE[1])[:256]
    path = save(tmp_path / f"a{suffix}", grey_HW)
    found_HWC = images.read_image(path)
    assert images.image_info(path).bands == found_HWC.shape[2]
    np.testing.assert_array_equal(found_HWC[..., 0], grey_HW)
    np.testing.assert_array_equal(images.read_label(path, "index"), grey_HW)


@pytest.mark.parametrize("values", [[0, 1, 2, 255], [0, 255], [255], [7]])
def test_a_grey_gif_holds_its_greys_however_its_palette_numbers_them(tmp_path, values):
    """Pillow, as other programs, keeps the greys that occur and numbers them from 0."""
    grey_HW = np.resize(np.array(values, np.uint8), SIZE)
    path = save(tmp_path / "a.gif", grey_HW)
    np.testing.assert_array_equal(images.read_label(path, "index"), grey_HW)
    np.testing.assert_array_equal(images.read_image(path)[..., 0], grey_HW)
    assert images.image_info(path).bands == images.read_image(path).shape[2] == 1


@pytest.mark.parametrize("settings", [{}, {"interlace": 1}])
@pytest.mark.parametrize("suffix", [".bmp", ".gif"])
def test_palettes_give_colours_in_images_and_numbers_in_masks(
    tmp_path, classes_HW, suffix, settings
):
    path = with_palette(tmp_path / f"a{suffix}", classes_HW, **settings)
    np.testing.assert_array_equal(images.read_label(path, "index"), classes_HW)
    with Image.open(path) as image:
        colours_HWC = np.asarray(image.convert("RGB"))
    assert len(np.unique(colours_HWC.reshape(-1, 3), axis=0)) == 5
    np.testing.assert_array_equal(images.read_image(path), colours_HWC)
    np.testing.assert_array_equal(images.read_label(path, "colour"), colours_HWC)
    assert images.palette(path.read_bytes())[:2].tolist() == [[7, 9, 11], [200, 0, 0]]
    assert images.image_info(path).bands == 3


def test_a_bmp_of_one_bit_holds_0_and_1(tmp_path, classes_HW):
    inside_HW = classes_HW > 2
    path = save(tmp_path / "a.bmp", inside_HW)
    np.testing.assert_array_equal(images.read_label(path, "index"), inside_HW)
    np.testing.assert_array_equal(images.read_image(path)[..., 0], 255 * inside_HW)


def test_a_bmp_may_begin_with_its_upper_row(tmp_path):
    lines = [bytes([1, 2, 3, 4, 5, 6]), bytes([7, 8, 9, 10, 11, 12])]
    upwards = bmp(tmp_path / "a.bmp", lines, 2, 24)
    downwards = bmp(tmp_path / "b.bmp", lines, 2, 24, rows=-2)
    expected = [[[3, 2, 1], [6, 5, 4]], [[9, 8, 7], [12, 11, 10]]]
    assert images.read_image(downwards).tolist() == expected
    np.testing.assert_array_equal(images.read_image(upwards), images.read_image(downwards)[::-1])
    wide = bmp(tmp_path / "c.bmp", [bytes([1, 2, 3, 0, 4, 5, 6, 99])], 2, 32)
    assert images.read_image(wide).tolist() == [[[3, 2, 1], [6, 5, 4]]]


@pytest.mark.parametrize(
    ("bits", "compression", "told"), [(16, 0, "16 bits a pixel"), (8, 1, "compressed pixels")]
)
def test_kinds_of_bmp_that_are_not_read_are_named(tmp_path, bits, compression, told):
    table = bytes(1024) if bits == 8 else b""
    path = bmp(tmp_path / "a.bmp", [bytes(8)] * 2, 2, bits, compression=compression, table=table)
    for error in (
        refusal(images.read_image, path),
        refusal(images.image_info, path),
        refusal(images.read_label, path, "index"),
    ):
        assert error.code == "SEG-D019"
        assert told in error.observed


def test_a_webp_with_losses_is_an_image_and_no_mask(tmp_path, image_HWC):
    path = save(tmp_path / "a.webp", image_HWC, quality=80)
    with Image.open(path) as image:
        np.testing.assert_array_equal(images.read_image(path), np.asarray(image.convert("RGB")))
    for kind in ("index", "colour"):
        error = refusal(images.read_label, path, kind)
        assert error.code == "SEG-D008"
        assert str(error).startswith(
            "SEG-D008: lossy label format: WebP with losses changes class values along every edge"
        )


def test_alpha_is_dropped_where_it_is_opaque_and_else_refused(tmp_path, image_HWC, classes_HW):
    opaque_HWC = np.dstack([image_HWC, np.full(SIZE, 255, np.uint8)])
    path = save(tmp_path / "a.webp", opaque_HWC, lossless=True)
    np.testing.assert_array_equal(images.read_image(path), image_HWC)
    opaque_HWC[3, 4, 3] = 9
    path = save(tmp_path / "b.webp", opaque_HWC, lossless=True, exact=True)
    assert refusal(images.read_image, path).code == "SEG-D019"
    path = with_palette(tmp_path / "a.gif", classes_HW, transparency=2)
    assert refusal(images.read_image, path).code == "SEG-D019"
    np.testing.assert_array_equal(images.read_label(path, "index"), classes_HW)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animations_are_refused_by_name(tmp_path, image_HWC, suffix):
    frames = [Image.fromarray(image_HWC), Image.fromarray(255 - image_HWC)]
    path = tmp_path / f"a{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=50)
    for read in (images.read_image, lambda each: images.read_label(each, "colour")):
        error = refusal(read, path)
        assert error.code == "SEG-D019"
        assert "animation" in error.observed


def test_a_gif_whose_picture_is_a_part_of_it_is_refused(tmp_path, classes_HW):
    path = with_palette(tmp_path / "a.gif", classes_HW)
    data = bytearray(path.read_bytes())
    data[6:8] = struct.pack("<H", SIZE[1] + 5)
    path.write_bytes(data)
    assert "is a part of it" in refusal(images.read_image, path).observed


@pytest.mark.parametrize("lossless", [False, True])
def test_a_webp_that_is_to_be_turned_is_refused(tmp_path, image_HWC, lossless):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "a.webp", image_HWC, exif=exif, lossless=lossless)
    assert refusal(images.read_image, path).code == "SEG-D010"
    assert refusal(images.image_info, path).code == "SEG-D010"
    assert images.stored_size(path) == (SIZE, 6)


def written(folder, image_HWC, classes_HW):
    yield save(folder / "rgb.bmp", image_HWC)
    yield with_palette(folder / "palette.bmp", classes_HW)
    yield with_palette(folder / "palette.gif", classes_HW)
    yield save(folder / "with.webp", image_HWC, quality=50)
    yield save(folder / "without.webp", image_HWC, lossless=True)


def test_truncation_is_seen_at_every_byte(tmp_path, image_HWC, classes_HW):
    for path in written(tmp_path, image_HWC, classes_HW):
        data = path.read_bytes()
        for length in range(0, len(data), 1 if len(data) < 800 else 7):
            path.write_bytes(data[:length])
            with pytest.raises(DataError):
                images.read_image(path)


def test_damage_never_ends_in_a_traceback(tmp_path, image_HWC, classes_HW):
    draw = np.random.default_rng(0)
    for path in written(tmp_path, image_HWC, classes_HW):
        whole = path.read_bytes()
        for _ in range(60):
            data = bytearray(whole)
            for at in draw.integers(0, min(len(data), 400), 3):
                data[at] = draw.integers(256)
            path.write_bytes(data)
            for read in (images.read_image, images.image_info, images.read_label):
                try:
                    read(path, *(["index"] if read is images.read_label else []))
                except DataError:
                    continue


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_masks_of_grey_with_opaque_alpha_hold_their_numbers(tmp_path, classes_HW, dtype):
    values_HW = classes_HW.astype(dtype) * (1 if dtype == np.uint8 else 300)
    opaque = np.full(SIZE, np.iinfo(dtype).max, dtype)
    path = tmp_path / "a.png"
    write_grey_alpha(path, values_HW, opaque)
    np.testing.assert_array_equal(images.read_label(path, "index"), values_HW)
    opaque[2, 3] = 0
    write_grey_alpha(path, values_HW, opaque)
    error = refusal(images.read_label, path, "index")
    assert error.code == "SEG-D019"
    assert "first at row 2, column 3" in error.observed


def write_grey_alpha(path, values_HW, alpha_HW):
    """Write by hand: Pillow has no grey of 16 bits with alpha."""
    bits = 8 * values_HW.itemsize
    pixels_HWC = np.stack([values_HW, alpha_HW], axis=2).astype(values_HW.dtype.newbyteorder(">"))
    lines = b"".join(b"\0" + line.tobytes() for line in pixels_HWC)
    rows, columns = values_HW.shape
    data = b"\x89PNG\r\n\x1a\n"
    for kind, payload in (
        (b"IHDR", struct.pack(">IIBBBBB", columns, rows, bits, 4, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines)),
        (b"IEND", b""),
    ):
        data += struct.pack(">I", len(payload)) + kind + payload
        data += struct.pack(">I", zlib.crc32(kind + payload))
    path.write_bytes(data)


def test_a_folder_of_bmp_images_with_gif_masks_is_a_data_set(tmp_path, image_HWC, classes_HW):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number in range(10):
        save(tmp_path / f"images/{number}.bmp", np.roll(image_HWC, number, axis=0))
        with_palette(tmp_path / f"masks/{number}.gif", np.roll(classes_HW, number, axis=0))
    data = DataConfig(format="folder", root=str(tmp_path))
    source = datasets.open_source(data, "train")
    sample = source.read(0)
    number = int(source.names[0])
    np.testing.assert_array_equal(sample.image_HWC, np.roll(image_HWC, number, axis=0))
    np.testing.assert_array_equal(sample.raw_label, np.roll(classes_HW, number, axis=0))
