"""Images and labels as files: what is read exactly, and what is refused with which words."""

import io
import os
import struct
import threading
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from terrazzo.base.errors import DataError, ResourceError
from terrazzo.io import image_headers, images


@pytest.fixture
def image_HWC():  # noqa: N802 - an array, named as arrays are
    """A photo-like image: smooth enough for JPEG, with three distinct bands."""
    rows, columns = np.mgrid[0:48, 0:64]
    bands = [3 * rows + columns, 255 - 2 * columns - rows, 2 * (rows + columns)]
    return np.clip(np.stack(bands, axis=2), 0, 255).astype(np.uint8)


def save(path, array, **settings):
    Image.fromarray(array).save(path, **settings)
    return path


def palette_png(path, indices_HW, colours):
    rows, columns = indices_HW.shape
    image = Image.frombytes("P", (columns, rows), indices_HW.tobytes())
    image.putpalette([value for colour in colours for value in colour])
    image.save(path)
    return path


def png_of_depth(path, rows, bits):
    """Write a grey PNG of 1, 2 or 4 bits by hand; Pillow writes none of 2 or 4."""
    lines = b""
    for row in rows:
        joined = "".join(f"{value:0{bits}b}" for value in row)
        joined += "0" * (-len(joined) % 8)
        lines += b"\0" + int(joined, 2).to_bytes(len(joined) // 8, "big")
    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), bits, 0, 0, 0, 0)
    return write_chunks(path, [(b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")])


def write_chunks(path, chunks):
    data = b"\x89PNG\r\n\x1a\n"
    for kind, payload in chunks:
        checksum = struct.pack(">I", zlib.crc32(kind + payload))
        data += struct.pack(">I", len(payload)) + kind + payload + checksum
    path.write_bytes(data)
    return path


def refusal(read, *arguments):
    with pytest.raises(DataError) as caught:
        read(*arguments)
    return caught.value


# What is read


def test_png_image_is_exact_and_in_rgb_order(tmp_path, image_HWC):
    read = images.read_image(save(tmp_path / "a.png", image_HWC))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, image_HWC)


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_image_equals_pillow(tmp_path, image_HWC, progressive):
    path = save(tmp_path / "a.jpg", image_HWC, quality=90, progressive=progressive)
    with Image.open(path) as pillow:
        difference = images.read_image(path).astype(int) - np.asarray(pillow).astype(int)
    assert np.abs(difference).max() <= 2  # two builds of one decoder


@pytest.mark.parametrize(("side", "part"), [(256, 4), (255, 2), (128, 2), (127, 1)])
def test_a_coarse_jpeg_is_made_of_means_of_pixels(tmp_path, side, part):
    rows, columns = np.mgrid[:side, :400]
    smooth_HWC = np.stack([rows * 0.8, columns * 0.6, rows * 0.4 + 90], axis=2).astype(np.uint8)
    Image.fromarray(smooth_HWC).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(smooth_HWC).save(tmp_path / "a.png")
    coarse_HWC = images.read_image(tmp_path / "a.jpg", coarse=True)
    assert coarse_HWC.shape == (-(-side // part), 400 // part, 3)
    whole_HWC = images.read_image(tmp_path / "a.jpg").astype(float)[: side // part * part]
    means_HWC = whole_HWC.reshape(-1, part, 400 // part, part, 3).mean(axis=(1, 3))
    assert np.abs(coarse_HWC[: side // part] - means_HWC).max() < 4
    assert images.read_image(tmp_path / "a.png", coarse=True).shape == (side, 400, 3)


def test_grey_image_has_one_band(tmp_path, image_HWC):
    for name in ("a.png", "a.jpg"):
        path = save(tmp_path / name, image_HWC[..., 0])
        assert images.read_image(path).shape == (48, 64, 1)


def test_16_bits_are_kept(tmp_path):
    values = np.arange(60, dtype=np.uint16).reshape(4, 5, 3) * 1000
    path = tmp_path / "deep.png"
    cv2.imwrite(str(path), values[..., ::-1])
    read = images.read_image(path)
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, values)
    assert images.image_info(path).dtype == "uint16"


def test_palette_image_shows_its_colours(tmp_path):
    colours = [(250, 0, 10), (0, 120, 30)]
    indices = np.array([[0, 1], [1, 0]], np.uint8)
    read = images.read_image(palette_png(tmp_path / "p.png", indices, colours))
    np.testing.assert_array_equal(read, np.array(colours, np.uint8)[indices])


def test_opaque_alpha_is_dropped(tmp_path, image_HWC):
    alpha = np.full((48, 64, 1), 255, np.uint8)
    path = save(tmp_path / "a.png", np.concatenate([image_HWC, alpha], axis=2))
    np.testing.assert_array_equal(images.read_image(path), image_HWC)
    grey = np.concatenate([image_HWC[..., :1], alpha], axis=2)
    read = images.read_image(save(tmp_path / "la.png", grey))
    np.testing.assert_array_equal(read, image_HWC[..., :1])


def test_content_decides_not_the_name(tmp_path, image_HWC):
    path = save(tmp_path / "a.jpg", image_HWC, format="PNG")
    np.testing.assert_array_equal(images.read_image(path), image_HWC)


def test_info_equals_what_is_decoded(tmp_path, image_HWC):
    grey_HW = image_HWC[..., 0]
    for name, array in (("a.png", image_HWC), ("b.jpg", image_HWC), ("c.png", grey_HW)):
        path = save(tmp_path / name, array)
        info, decoded = images.image_info(path), images.read_image(path)
        assert (info.rows, info.columns, info.bands) == decoded.shape
        assert info.dtype == decoded.dtype
        assert images.image_size(path) == decoded.shape[:2]


def test_info_of_a_jpeg_with_a_long_header(tmp_path, image_HWC):
    path = save(tmp_path / "a.jpg", image_HWC, icc_profile=b"\0" * 400_000)
    assert images.image_size(path) == (48, 64)


def test_index_label_keeps_every_value(tmp_path):
    every_value = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(
        images.read_label(save(tmp_path / "m.png", every_value), "index"), every_value
    )
    deep = every_value.astype(np.uint16) * 257
    read = images.read_label(save(tmp_path / "deep.png", deep), "index")
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, deep)


def test_palette_label_read_both_ways(tmp_path):
    colours = [(9, 9, 9), (255, 0, 0), (0, 0, 255)]
    indices = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    path = palette_png(tmp_path / "m.png", indices, colours)
    np.testing.assert_array_equal(images.read_label(path, "index"), indices)
    np.testing.assert_array_equal(
        images.read_label(path, "colour"), np.array(colours, np.uint8)[indices]
    )


def test_colour_label_of_rgb_and_of_grey(tmp_path, image_HWC):
    rgb = images.read_label(save(tmp_path / "rgb.png", image_HWC), "colour")
    np.testing.assert_array_equal(rgb, image_HWC)
    grey_HW = image_HWC[..., 0]
    grey = images.read_label(save(tmp_path / "grey.png", grey_HW), "colour")
    np.testing.assert_array_equal(grey, np.repeat(grey_HW[..., None], 3, axis=2))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_narrow_grey_label_is_read_as_stored(tmp_path, bits):
    rows = [[0, 1, 0], [1, 0, 2**bits - 1]]
    read = images.read_label(png_of_depth(tmp_path / "m.png", rows, bits), "index")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, rows)


def test_threads_read_the_same(tmp_path, image_HWC):
    path = save(tmp_path / "a.png", image_HWC)
    wrong = []

    def read_often():
        for _ in range(20):
            if not np.array_equal(images.read_image(path), image_HWC):
                wrong.append(path)  # noqa: PERF401 - the loop is the test

    threads = [threading.Thread(target=read_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# What is refused


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "progressive.jpg"])
def test_truncated_image_is_refused(tmp_path, image_HWC, name, share):
    settings = {"progressive": True} if name.startswith("progressive") else {}
    path = save(tmp_path / name, image_HWC, **settings)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    error = refusal(images.read_image, path)
    assert error.code == "SEG-D011"
    assert str(path) in str(error)
    assert f"{int(share * len(data))} bytes" in str(error)


def test_truncation_is_seen_at_every_byte(tmp_path, image_HWC):
    for name in ("a.png", "a.jpg"):
        data = save(tmp_path / name, image_HWC[:8, :8]).read_bytes()
        for length in range(1, len(data)):
            with pytest.raises(image_headers.CutShortError):
                image_headers.parse(data[:length])


def test_truncated_jpeg_with_a_thumbnail_is_refused(tmp_path, image_HWC):
    """The end mark of the thumbnail is not that of the image."""
    thumbnail = io.BytesIO()
    Image.fromarray(image_HWC[:8, :8]).save(thumbnail, "JPEG")
    path = save(tmp_path / "a.jpg", image_HWC, exif=b"Exif\0\0" + thumbnail.getvalue())
    assert images.read_image(path).shape == (48, 64, 3)
    data = path.read_bytes()
    with pytest.raises(image_headers.CutShortError):
        image_headers.parse(data[:-20])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_label_is_refused(tmp_path, image_HWC, share):
    path = save(tmp_path / "m.png", image_HWC[..., 0])
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    error = refusal(images.read_label, path, "index")
    assert error.code == "SEG-D011"
    assert str(path) in str(error)


def test_bytes_after_the_end_do_no_harm(tmp_path, image_HWC):
    for name in ("a.png", "a.jpg"):
        path = save(tmp_path / name, image_HWC)
        before = images.read_image(path)
        path.write_bytes(path.read_bytes() + b"\0" * 100)
        np.testing.assert_array_equal(images.read_image(path), before)


def test_a_flipped_bit_in_a_png_is_seen(tmp_path, image_HWC):
    path = save(tmp_path / "m.png", image_HWC[..., 0])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(bytes(data))
    for error in (refusal(images.read_image, path), refusal(images.read_label, path, "index")):
        assert error.code == "SEG-D011"
        assert "checksum" in str(error)


def test_jpeg_label_is_refused_by_content(tmp_path, image_HWC):
    for name in ("m.jpg", "m.png"):
        path = save(tmp_path / name, image_HWC[..., 0], format="JPEG")
        error = refusal(images.read_label, path, "index")
        assert error.code == "SEG-D008"
        assert str(path) in str(error)
        assert "lossy" in str(error)
        assert "content is JPEG" in str(error)


def test_colours_where_indices_are_wanted(tmp_path, image_HWC):
    path = save(tmp_path / "m.png", image_HWC)
    error = refusal(images.read_label, path, "index")
    assert error.code == "SEG-D007"
    assert "RGB PNG" in str(error)
    assert 'mask_kind = "colour"' in str(error)


def test_16_bit_colour_label_is_refused(tmp_path):
    path = tmp_path / "m.png"
    cv2.imwrite(str(path), np.zeros((4, 4, 3), np.uint16))
    error = refusal(images.read_label, path, "colour")
    assert error.code == "SEG-D007"
    assert "16-bit" in str(error)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_exif_orientation_is_refused(tmp_path, image_HWC, name):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / name, image_HWC, exif=exif)
    error = refusal(images.read_image, path)
    assert error.code == "SEG-D010"
    assert "Orientation (0x0112) = 6" in str(error)
    assert str(path) in str(error)


@pytest.mark.parametrize("order", ["II", "MM"])
def test_exif_orientation_in_both_byte_orders(tmp_path, image_HWC, order):
    sign = "<" if order == "II" else ">"
    entry = struct.pack(f"{sign}HHIHH", 0x0112, 3, 1, 8, 0)
    exif = order.encode() + struct.pack(f"{sign}HIH", 42, 8, 1) + entry + b"\0" * 4
    path = save(tmp_path / "a.jpg", image_HWC, exif=b"Exif\0\0" + exif)
    assert "= 8" in str(refusal(images.read_image, path))


def test_plain_and_broken_exif_are_read(tmp_path, image_HWC):
    exif = Image.Exif()
    exif[0x0112] = 1
    for number, tags in enumerate([exif.tobytes(), b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"]):
        path = save(tmp_path / f"{number}.jpg", image_HWC, exif=tags)
        assert images.read_image(path).shape == (48, 64, 3)


def test_transparent_pixels_are_refused(tmp_path, image_HWC):
    alpha = np.full((48, 64, 1), 255, np.uint8)
    alpha[5, 7] = 0
    path = save(tmp_path / "a.png", np.concatenate([image_HWC, alpha], axis=2))
    error = refusal(images.read_image, path)
    assert error.code == "SEG-D019"
    assert "1 px" in str(error)
    assert "row 5, column 7" in str(error)


def test_transparent_palette_entry_is_refused_without_a_warning(tmp_path):
    path = tmp_path / "p.png"
    image = Image.frombytes("P", (2, 2), bytes([0, 1, 1, 0]))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.save(path, transparency=bytes([255, 128]))
    error = refusal(images.read_image, path)
    assert error.code == "SEG-D019"
    assert "2 px" in str(error)


def test_cmyk_is_refused(tmp_path, image_HWC):
    path = tmp_path / "a.jpg"
    Image.fromarray(image_HWC).convert("CMYK").save(path)
    error = refusal(images.read_image, path)
    assert error.code == "SEG-D019"
    assert "CMYK" in str(error)


def test_empty_missing_directory_and_dangling_link(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    words = {
        "empty.png": "0 bytes",
        "folder.png": "Is a directory",
        "link.png": "No such file or directory",
        "missing.png": "No such file or directory",
    }
    for name, text in words.items():
        for error in (
            refusal(images.read_image, tmp_path / name),
            refusal(images.read_label, tmp_path / name, "index"),
            refusal(images.image_info, tmp_path / name),
        ):
            assert error.code == "SEG-D013"
            assert name in str(error)
            assert text in str(error)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_unreadable_file(tmp_path, image_HWC):
    path = save(tmp_path / "a.png", image_HWC)
    path.chmod(0)
    assert "Permission denied" in str(refusal(images.read_image, path))


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"hello, I am no image", "text (starts with 'hello"),
        (b"RIFF\x04\0\0\0WAVE", "RIFF"),
        (b"\x93NUMPY\x01\0", "a NumPy array"),
        (b"II*\0....", "TIFF"),
        (b"\x01\x02\x03\xff\xfe", "unknown (starts with 01 02 03 ff)"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    ],
)
def test_other_content_is_named(tmp_path, data, named):
    path = tmp_path / "a.png"
    path.write_bytes(data)
    for error in (
        refusal(images.read_image, path),
        refusal(images.read_label, path, "index"),
        refusal(images.image_info, path),
    ):
        assert error.code == "SEG-D012"
        assert named in str(error)
        assert str(path) in str(error)


def test_decompression_bomb_is_refused_before_decoding(tmp_path):
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    path = tmp_path / "bomb.png"
    write_chunks(path, [(b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")])
    for error in (refusal(images.read_image, path), refusal(images.read_label, path, "colour")):
        assert error.code == "SEG-D031"
        assert "60000 rows × 60000 columns" in str(error)
        assert str(images.PIXEL_LIMIT) in str(error)


def test_limit_keeps_pillow_silent():
    assert images.PIXEL_LIMIT <= Image.MAX_IMAGE_PIXELS


# What is written


def test_write_png_round_trip(tmp_path, image_HWC):
    images.write_png(tmp_path / "a.png", image_HWC)
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.png"), image_HWC)
    deep = np.arange(6, dtype=np.uint16).reshape(2, 3) * 9999
    images.write_png(tmp_path / "m.png", deep)
    np.testing.assert_array_equal(images.read_label(tmp_path / "m.png", "index"), deep)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "m.png"]


def test_failed_write_leaves_the_old_file(tmp_path, image_HWC):
    (tmp_path / "taken.png").mkdir()  # a rename onto a folder fails after all has been written
    with pytest.raises(ResourceError) as caught:
        images.write_png(tmp_path / "taken.png", image_HWC)
    assert caught.value.code == "SEG-R004"
    assert [path.name for path in tmp_path.iterdir()] == ["taken.png"]
