"""Files of microscopes, scanners and DICOM: the same pixels in every kind, or a refusal."""

from __future__ import annotations

import json
import pickle
import shutil
import sys

import numpy as np
import pydicom
import pytest
import tifffile
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.io import rasters
from terrazzo.io.microscopy.planes import parse_plane
from terrazzo.io.raster_formats import at_plane
from terrazzo.io.rasters.handles import handle
from terrazzo.testing.microscope_files import write_ome_zarr, write_slide

NAMES = ("DAPI", "GFP")
MICRO = 1e-6


def scene(dtype="uint16", bands=2, rows=70, columns=50):
    """Return an image H×W×C that repeats nowhere."""
    numbers = np.random.default_rng(0).permutation(rows * columns * bands) % 60000
    return (
        (numbers % 250 if dtype == "uint8" else numbers).reshape(rows, columns, bands).astype(dtype)
    )


SCENE = scene()
BY_BAND = np.moveaxis(SCENE, 2, 0)
OME = {"Channel": {"Name": NAMES}, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}


def refused(path, code):
    with pytest.raises((DataError, ConfigError)) as caught:
        rasters.read(path)
    assert caught.value.code == code
    return str(caught.value)


def assert_same(path, image_HWC=SCENE):
    """Check the whole image, and windows that begin and end inside tiles, of each band alone."""
    read_HWC = rasters.read(path).image_HWC
    np.testing.assert_array_equal(read_HWC, image_HWC)
    assert read_HWC.dtype == image_HWC.dtype
    assert read_HWC.dtype.isnative
    for row, column, rows, columns in ((0, 0, 1, 1), (13, 9, 40, 30), (60, 0, 10, 50)):
        for band in range(image_HWC.shape[2]):
            part_HWC = rasters.read_window(path, row, column, rows, columns, (band,)).image_HWC
            wanted_HWC = image_HWC[row : row + rows, column : column + columns, band : band + 1]
            np.testing.assert_array_equal(part_HWC, wanted_HWC)


# One scene in every kind of TIFF


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"compression": "lzw", "predictor": True},
        {"compression": "deflate", "tile": (16, 32)},
        {"tile": (32, 16)},
        {"rowsperstrip": 7},
        {"rowsperstrip": 7, "compression": "zstd"},
    ],
)
def test_ome_tiff_of_one_page_a_channel(tmp_path, layout, bigtiff, byteorder):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        path,
        BY_BAND,
        metadata={**OME, "axes": "CYX"},
        bigtiff=bigtiff,
        byteorder=byteorder,
        **layout,
    )
    assert_same(path)
    info = rasters.info(path)
    assert info.band_names == NAMES
    assert info.physical_sides == pytest.approx((0.5 * MICRO, 0.25 * MICRO))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("compression", [None, "lzw"])
def test_types_of_pixels_are_kept(tmp_path, dtype, compression):
    path, image_HWC = tmp_path / "a.ome.tif", scene(dtype)
    tifffile.imwrite(
        path, np.moveaxis(image_HWC, 2, 0), metadata={"axes": "CYX"}, compression=compression
    )
    assert_same(path, image_HWC)


@pytest.mark.parametrize("dtype", ["int16", "uint32", "int32", "float64"])
def test_other_types_become_float32(tmp_path, dtype):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, BY_BAND.astype(dtype), metadata={"axes": "CYX"})
    assert_same(path, SCENE.astype(np.float32))


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    "labels", [None, list(NAMES), ["c:1/2 - a", "c:2/2 - a"], ["1.tif", "2.tif"]]
)
def test_imagej_stacks(tmp_path, labels, byteorder):
    path = tmp_path / "a.tif"
    words = {"axes": "CYX", "unit": "um"} | ({} if labels is None else {"Labels": labels})
    tifffile.imwrite(
        path, BY_BAND, imagej=True, resolution=(2, 4), metadata=words, byteorder=byteorder
    )
    assert_same(path)
    # Names of slices and files would be others in each image.
    named = labels == list(NAMES)
    assert rasters.info(path).band_names == (NAMES if named else ("band 1", "band 2"))
    assert rasters.info(path).physical_sides == pytest.approx((0.5 * MICRO, 0.25 * MICRO))


def test_an_imagej_stack_of_one_directory(tmp_path):
    path = tmp_path / "a.tif"
    words = "ImageJ=1.54f\nimages=2\nchannels=2\nhyperstack=true\n"
    tifffile.imwrite(path, BY_BAND[0], description=words, metadata=None, byteorder=">")
    with path.open("ab") as file:  # as ImageJ writes files of more than 4 GB
        file.write(BY_BAND[1].astype(">u2").tobytes())
    assert_same(path)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_rgb_planes_of_a_depth(tmp_path, planar, compression):
    """Colours of a page are bands in their order, planar or not; the depth is chosen."""
    path, image_HWC = tmp_path / "a.ome.tif", scene("uint8", 3)
    plane = image_HWC if planar == "contig" else np.moveaxis(image_HWC, 2, 0)
    tifffile.imwrite(
        path,
        np.stack([plane // 2, plane]),
        photometric="rgb",
        planarconfig=planar,
        compression=compression,
        tile=(32, 32),
        metadata={"axes": "ZYXS" if planar == "contig" else "ZSYX"},
    )
    assert "planes along z: 2" in refused(path, "SEG-D041")
    assert_same(at_plane(path, [("z", 1)]), image_HWC)
    assert rasters.info(at_plane(path, [("z", 0)])).band_names == ("red", "green", "blue")


def test_jpeg_pages_come_as_red_green_and_blue(tmp_path):
    rows, columns = np.mgrid[:64, :64].astype(np.uint8)
    image_HWC = np.dstack([rows * 3, columns * 3, 255 - rows])
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        path,
        np.stack([image_HWC, image_HWC[::-1]]),
        photometric="rgb",
        compression="jpeg",
        tile=(32, 32),
        metadata={"axes": "ZYXS"},
    )
    read_HWC = rasters.read(at_plane(path, [("z", 0)])).image_HWC
    assert np.abs(read_HWC.astype(int) - image_HWC).mean() < 3
    with pytest.raises(DataError, match=r"SEG-D00[78]"):
        rasters.read_label(at_plane(path, [("z", 0)]), "colour")


@pytest.mark.parametrize("subifds", [True, False])
def test_pyramids_at_full_size(tmp_path, subifds):
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=subifds) as writer:
        many = {"subifds": 2} if subifds else {}
        words = {**OME, "axes": "CYX"} if subifds else None
        data = BY_BAND if subifds else BY_BAND[0]
        writer.write(data, tile=(16, 16), metadata=words, **many)
        for step in (2, 4):
            kind = {"subfiletype": 1} if subifds else {}
            writer.write(data[..., ::step, ::step], tile=(16, 16), metadata=None, **kind)
    assert_same(path, SCENE if subifds else SCENE[..., :1])


def test_a_page_of_half_the_size_is_no_level_by_that_alone(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(BY_BAND[0], metadata=None)
        writer.write(np.ones((35, 25), np.uint16), metadata=None)
    assert "2 planes" in refused(path, "SEG-D041")


def test_one_page_has_the_names_of_ome(tmp_path):
    path = tmp_path / "a.ome.tif"
    words = {"axes": "YX", "Channel": {"Name": "DAPI"}}
    tifffile.imwrite(path, BY_BAND[0], metadata=words)
    assert rasters.info(path).band_names == ("DAPI",)
    assert_same(path, SCENE[..., :1])


# Planes


def stack_of(path, axes, sizes):
    """Write planes whose pixels tell which they are: 100 t + 10 z + c."""
    counts = [np.arange(sizes.get(axis, 1)) for axis in "TZC"]
    t, z, c = np.meshgrid(*counts, indexing="ij")
    numbers = (100 * t + 10 * z + c).astype(np.uint16)
    order = [("TZC").index(a) for a in axes]
    planes = np.transpose(numbers, order + [n for n in range(3) if n not in order])
    shape = tuple(sizes[a] for a in axes)
    data = np.broadcast_to(planes.reshape(*shape, 1, 1), (*shape, 16, 16))
    tifffile.imwrite(path, data, metadata={"axes": f"{axes}YX"}, imagej=path.suffixes == [".tif"])
    return path


@pytest.mark.parametrize(
    ("name", "axes"), [("a.tif", "TZC"), ("a.ome.tif", "TZC"), ("a.ome.tif", "CZT")]
)
def test_depth_and_time_are_chosen_and_never_guessed(tmp_path, name, axes):
    # Three of each: none may be taken for colours.
    path = stack_of(tmp_path / name, axes, {"T": 3, "Z": 3, "C": 3})
    told = refused(path, "SEG-D041")
    assert "z: 3" in told
    assert "t: 3" in told
    assert "plane = { " in told
    told = refused(at_plane(path, [("z", 1)]), "SEG-D041")
    assert "plane = { t = 0 }" in told
    assert "--set data.options.plane.t=0 for init" in told
    image_HWC = rasters.read(at_plane(path, [("z", 1), ("t", 2)])).image_HWC
    assert (image_HWC == [210, 211, 212]).all()
    assert image_HWC.shape == (16, 16, 3)
    assert "z from 0 to 2" in refused(at_plane(path, [("z", 3), ("t", 0)]), "SEG-D129")


def test_a_plane_of_a_file_of_one(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, BY_BAND[0])
    assert_same(at_plane(path, [("z", 0)]), SCENE[..., :1])
    assert "z = 1" in refused(at_plane(path, [("z", 1)]), "SEG-D129")


def test_the_plane_goes_with_the_path(tmp_path):
    path = at_plane(stack_of(tmp_path / "a.tif", "Z", {"Z": 3}), [("z", 2)])
    for copy in (pickle.loads(pickle.dumps(path)), path.absolute()):
        assert (rasters.read(copy).image_HWC == 20).all()
    assert at_plane(tmp_path / "a.png", [("z", 2)]).suffix == ".png"


def test_pages_without_words_are_no_planes(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, BY_BAND[:, :, :40], photometric="minisblack", metadata=None)
    assert "2 planes" in refused(path, "SEG-D041")


@pytest.mark.parametrize(("text", "plane"), [("", ()), ("z=3, t=0", (("t", 0), ("z", 3)))])
def test_a_plane_on_the_command_line(text, plane):
    assert parse_plane(text) == plane


@pytest.mark.parametrize("text", ["z", "z=-1", "q=1", "z=1,z=2", "z=1.5"])
def test_what_names_no_plane_is_refused(text):
    with pytest.raises(ConfigError, match="SEG-X136"):
        parse_plane(text)


# OME-Zarr


def write_zarr(path, version="0.4", image=BY_BAND, axes="cyx", **settings):
    return write_ome_zarr(path, version, image, axes, channels=NAMES, **settings)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("dtype", ["uint8", "<u2", ">u2", "float32"])
def test_ome_zarr(tmp_path, version, dtype):
    image_HWC = scene("uint8" if dtype == "uint8" else "uint16")
    data = np.moveaxis(image_HWC, 2, 0).astype(dtype)
    path = write_zarr(tmp_path / "a.ome.zarr", version, data)
    assert_same(path, image_HWC.astype(np.dtype(dtype).newbyteorder("=")))
    info = rasters.info(path)
    assert info.band_names == NAMES
    assert info.physical_sides == pytest.approx((0.5 * MICRO, 0.25 * MICRO))


def test_ome_zarr_in_shards(tmp_path):
    path = write_zarr(tmp_path / "a.zarr", "0.5", shards=(1, 32, 32))
    assert_same(path)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_planes_of_ome_zarr(tmp_path, version):
    data = np.stack([np.zeros_like(BY_BAND), BY_BAND])[None]
    path = write_zarr(tmp_path / "a.zarr", version, data, "tzcyx")
    assert "planes along z: 2" in refused(path, "SEG-D041")
    assert_same(at_plane(path, [("z", 1)]))


def test_labels_in_ome_zarr_are_named(tmp_path):
    path = write_zarr(tmp_path / "a.zarr")
    (path / "labels").mkdir()
    (path / "labels" / ".zattrs").write_text(json.dumps({"labels": ["nuclei"]}))
    notes = rasters.unused_side_files(path)
    assert [note for note in notes if "nuclei" in note]


def change(file, edit):
    told = json.loads(file.read_text())
    edit(told)
    file.write_text(json.dumps(told))


def level_of(told):
    return told["multiscales"][0]["datasets"][0]


def _pickled(told):
    told.update(dtype="|O", filters=[{"id": "pickle"}], fill_value=None)


@pytest.mark.parametrize(
    ("file", "edit", "words"),
    [
        (
            ".zattrs",
            lambda t: t["multiscales"][0]["datasets"][0].update(path="../b.zarr/0"),
            "../b",
        ),
        (".zattrs", lambda t: level_of(t).update(path="/etc"), "/etc"),
        (".zattrs", lambda t: t["multiscales"][0].update(version="0.1"), "version 0.1"),
        (".zattrs", lambda t: t["multiscales"][0]["axes"][0].update(name="q"), "axes q"),
        (".zattrs", lambda t: t.update(multiscales=[]), "version None"),
        ("0/.zarray", _pickled, "pickle"),
        ("0/.zarray", lambda t: t.update(compressor={"id": "pickle"}), "pickle"),
        ("0/.zarray", lambda t: t.update(chunks=[1, 10**6, 10**6]), "SEG-D031"),
    ],
)
def test_what_ome_zarr_may_not_hold(tmp_path, file, edit, words):
    path = write_zarr(tmp_path / "a.zarr")
    write_zarr(tmp_path / "b.zarr")
    change(path / file, edit)
    with pytest.raises(DataError, match=r"SEG-D131|SEG-D031") as caught:
        rasters.read(path)
    assert words in str(caught.value)


def test_a_link_out_of_ome_zarr_is_refused(tmp_path):
    path, other = write_zarr(tmp_path / "a.zarr"), write_zarr(tmp_path / "b.zarr")
    shutil.rmtree(path / "0")
    (path / "0").symlink_to(other / "0")
    assert "b.zarr" in refused(path, "SEG-D131")


def test_a_damaged_chunk_is_named(tmp_path):
    path = write_zarr(tmp_path / "a.zarr")
    chunk = next(p for p in sorted((path / "0").rglob("*")) if p.name[0].isdigit() and p.is_file())
    chunk.write_bytes(b"no chunk")
    assert "a.zarr" in refused(path, "SEG-D011")


# DICOM


def write_dicom(path, stored, **fields):
    """Write stored numbers, R×C or F×R×C or R×C×3, as a DICOM file."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = fields.pop("syntax", ExplicitVRLittleEndian)
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3"
    frames, colours = fields.pop("frames", 1), stored.shape[-1] == 3
    data.Rows, data.Columns = stored.shape[-3:-1] if colours else stored.shape[-2:]
    data.SamplesPerPixel = 3 if colours else 1
    data.PhotometricInterpretation = "RGB" if colours else "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8 * stored.dtype.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(stored.dtype.kind == "i")
    if colours:
        data.PlanarConfiguration = 0
    if frames > 1:
        data.NumberOfFrames = frames
    data.PixelSpacing = [0.25, 0.5]
    for name, value in fields.items():
        setattr(data, name, value)
    if "PixelData" not in data:
        data.PixelData = stored.tobytes()
    data.save_as(path, enforce_file_format=True)
    return path


STORED = SCENE[..., 0]


def test_dicom_as_stored(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", STORED, WindowCenter=40, WindowWidth=400)
    assert_same(path, SCENE[..., :1])
    assert rasters.info(path).physical_sides == pytest.approx((0.5e-3, 0.25e-3))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16"])
def test_dicom_rescaled(tmp_path, dtype):
    stored = STORED.astype(dtype)
    path = write_dicom(tmp_path / "a.dcm", stored, RescaleSlope=2, RescaleIntercept=-1024)
    assert_same(path, (stored.astype(np.float32) * 2 - 1024)[..., None])


def test_dicom_of_slope_1_keeps_its_type(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", STORED, RescaleSlope=1, RescaleIntercept=0)
    assert_same(path, SCENE[..., :1])


def test_monochrome1_is_inverted(tmp_path):
    stored = (STORED % 4096).astype(np.uint16)
    kind = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}
    path = write_dicom(tmp_path / "a.dcm", stored, **kind)
    assert_same(path, (4095 - stored)[..., None])
    rescaled = write_dicom(tmp_path / "b.dcm", stored, **kind, RescaleSlope=2, RescaleIntercept=1)
    assert_same(rescaled, ((4095 - stored.astype(np.float32)) * 2 + 1)[..., None])


def test_planar_colours(tmp_path):
    image_HWC = scene("uint8", 3)
    assert_same(write_dicom(tmp_path / "a.dcm", image_HWC), image_HWC)
    planar = np.ascontiguousarray(np.moveaxis(image_HWC, 2, 0)).tobytes()
    path = write_dicom(tmp_path / "b.dcm", image_HWC, PlanarConfiguration=1, PixelData=planar)
    assert_same(path, image_HWC)
    assert rasters.info(path).band_names == ("red", "green", "blue")


def test_palette_colours_are_looked_up(tmp_path):
    stored = scene("uint8", 1)[..., 0]
    red, green, blue = (np.random.default_rng(n).integers(0, 256, 256, np.uint8) for n in range(3))
    fields = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, table in (("Red", red), ("Green", green), ("Blue", blue)):
        fields[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        words = table.astype(np.uint16) * 257
        fields[f"{name}PaletteColorLookupTableData"] = words.tobytes()
    path = write_dicom(tmp_path / "a.dcm", stored, **fields)
    assert_same(path, np.dstack([red[stored], green[stored], blue[stored]]))


def test_frames_are_chosen(tmp_path):
    frames = np.stack([STORED // 3, STORED, STORED // 2])
    path = write_dicom(tmp_path / "a.dcm", frames, frames=3)
    assert "planes along frame: 3" in refused(path, "SEG-D041")
    assert_same(at_plane(path, [("frame", 1)]), SCENE[..., :1])


def test_run_lengths_are_decoded(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", STORED)
    data = pydicom.dcmread(path)
    data.compress(RLELossless, generate_instance_uid=False)
    data.save_as(path)
    assert_same(path, SCENE[..., :1])


def test_other_compressions_name_what_helps(tmp_path):
    pixels = encapsulate([b"\xff\x4f\xff\x51" + bytes(64)])
    syntax = pydicom.uid.JPEGLSLossless
    path = write_dicom(tmp_path / "a.dcm", STORED, syntax=syntax, PixelData=pixels)
    told = refused(path, "SEG-D132")
    assert "JPEG-LS" in told
    assert "pylibjpeg" in told


def test_a_deflated_file_is_not_inflated(tmp_path):
    path = write_dicom(
        tmp_path / "a.dcm", STORED, syntax=pydicom.uid.DeflatedExplicitVRLittleEndian
    )
    assert "Deflated" in refused(path, "SEG-D132")


def test_damaged_dicom(tmp_path):
    path = tmp_path / "a.dcm"
    path.write_bytes(b"no DICOM at all" * 50)
    refused(path, "SEG-D012")
    write_dicom(path, STORED)
    path.write_bytes(path.read_bytes()[:-500])
    refused(path, "SEG-D011")


# Whole slides


SLIDE = scene("uint8", 3, 600, 520)


def test_windows_of_a_slide(tmp_path):
    path = write_slide(tmp_path / "a.svs", SLIDE)
    info = rasters.info(path)
    assert (info.rows, info.columns) == (600, 520)
    assert info.band_names == ("red", "green", "blue")
    assert info.physical_sides == pytest.approx((0.5 * MICRO, 0.5 * MICRO))
    pixels = rasters.read_window(path, 250, 200, 90, 300)
    np.testing.assert_array_equal(pixels.image_HWC, SLIDE[250:340, 200:500])
    assert pixels.valid_HW is None or pixels.valid_HW.all()


def test_what_was_not_scanned_is_without_data(tmp_path):
    path = write_slide(tmp_path / "a.svs", SLIDE)
    with tifffile.TiffFile(path, mode="r+") as file:
        for page in file.pages:
            page.tags["TileByteCounts"].overwrite([0, *page.databytecounts[1:]])
    valid_HW = rasters.read(path).valid_HW
    assert not valid_HW[:256, :256].any()
    assert valid_HW[256:].all()
    assert valid_HW[:, 256:].all()


def test_a_thread_keeps_the_decoded_pixels_of_one_file(tmp_path):
    """Two dozen open files of large frames would fill the memory."""
    paths = [
        write_dicom(tmp_path / "a.dcm", STORED),
        write_slide(tmp_path / "a.svs", SLIDE),
        tmp_path / "a.ome.tif",
    ]
    tifffile.imwrite(paths[2], BY_BAND, metadata={"axes": "CYX"}, compression="zlib")
    keepers = []
    for path in (*paths, paths[0]):
        rasters.read(path)
        keepers.append(handle(path).dataset.image.read.__self__)
    frame, slide, pages, _ = keepers
    assert frame.decoded is not None
    assert slide.last is None
    assert not pages.decoded


def test_what_is_no_slide(tmp_path):
    path = tmp_path / "a.svs"
    path.write_bytes(b"no slide" * 100)
    refused(path, "SEG-D133")


# What may not be followed, and what is not installed


def with_description(path, words):
    tifffile.imwrite(path, BY_BAND, description=words, metadata=None, photometric="minisblack")
    return path


OME_XML = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" {own}>'
    '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="50" '
    'SizeY="70" SizeC="2" SizeZ="1" SizeT="1">{data}</Pixels></Image></OME>'
)
UUID = "urn:uuid:00000000-0000-0000-0000-00000000000"


@pytest.mark.parametrize("file", ["../secret.tif", "/etc/passwd", "other.ome.tif"])
def test_ome_tiff_does_not_lead_to_other_files(tmp_path, file):
    tifffile.imwrite(tmp_path / "other.ome.tif", BY_BAND)
    data = f'<TiffData IFD="0"><UUID FileName="{file}">{UUID}2</UUID></TiffData>'
    words = OME_XML.format(own=f'UUID="{UUID}1"', data=data)
    assert file in refused(with_description(tmp_path / "a.ome.tif", words), "SEG-D130")


def test_ome_tiff_does_not_lead_to_a_companion(tmp_path):
    words = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'<BinaryOnly MetadataFile="../../a.companion.ome" UUID="{UUID}1"/></OME>'
    )
    refused(with_description(tmp_path / "a.ome.tif", words), "SEG-D130")


def test_ome_tiff_may_name_itself(tmp_path):
    data = f'<TiffData IFD="0" PlaneCount="2"><UUID FileName="old.tif">{UUID}1</UUID></TiffData>'
    words = OME_XML.format(own=f'UUID="{UUID}1"', data=data)
    assert_same(with_description(tmp_path / "renamed.ome.tif", words))


def test_entities_in_ome_are_not_expanded(tmp_path):
    words = '<!DOCTYPE OME [<!ENTITY e "2">]>' + OME_XML.format(own="", data="&e;")
    refused(with_description(tmp_path / "a.ome.tif", words), "SEG-D041")


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("a.ome.tif", {}),
        ("a.tif", {"imagej": True}),
        ("a.tif", {"compression": "zlib", "tile": (16, 16)}),
    ],
)
def test_a_stack_that_was_cut(tmp_path, name, layout):
    path = tmp_path / name
    words = {"axes": "CYX"}
    tifffile.imwrite(path, BY_BAND, metadata=words, photometric="minisblack", **layout)
    with tifffile.TiffFile(path) as file:
        offset = file.pages[1].dataoffsets[-1]
    path.write_bytes(path.read_bytes()[: offset + 10])
    refused(path, "SEG-D011")


def test_tiles_too_large_to_decode(tmp_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, BY_BAND, tile=(16, 16), metadata={"axes": "CYX"}, compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as file:
        for page in file.pages:
            for name in ("TileWidth", "TileLength"):
                page.tags[name].overwrite(1 << 15)
    refused(path, "SEG-D031")


@pytest.mark.parametrize(
    ("package", "write"),
    [
        ("tifffile", lambda path: stack_of(path / "a.tif", "C", {"C": 2})),
        ("pydicom", lambda path: write_dicom(path / "a.dcm", STORED)),
        ("zarr", lambda path: write_zarr(path / "a.zarr")),
        ("openslide", lambda path: write_slide(path / "a.svs", SLIDE)),
    ],
)
def test_a_package_that_is_not_installed_is_named(tmp_path, monkeypatch, package, write):
    path = write(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    told = refused(path, "SEG-X135")
    assert package in told
    assert 'pip install "terrazzo[microscopy]"' in told


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_masks_in_ome_zarr_and_stacks(tmp_path, version):
    label = BY_BAND[:1] % 3
    path = write_zarr(tmp_path / "a.zarr", version, label)
    np.testing.assert_array_equal(rasters.read_label(path, "index"), label[0])
    stack = tmp_path / "a.ome.tif"
    tifffile.imwrite(stack, np.stack([label[0], label[0]]), metadata={"axes": "ZYX"})
    np.testing.assert_array_equal(
        rasters.read_label(at_plane(stack, [("z", 1)]), "index"), label[0]
    )
    with pytest.raises(DataError, match="SEG-D007"):
        rasters.read_label(write_zarr(tmp_path / "b.zarr", version), "index")


@pytest.mark.parametrize(("image", "words"), [("a.dcm", "DICOM"), ("a.svs", "slide")])
def test_some_kinds_of_files_are_no_masks(tmp_path, image, words):
    path = tmp_path / image
    if image == "a.dcm":
        write_dicom(path, scene("uint8", 1)[..., 0])
    else:
        write_slide(path, SLIDE)
    with pytest.raises(DataError, match="SEG-D008") as caught:
        rasters.read_label(path, "index" if image == "a.dcm" else "colour")
    assert words in caught.value.observed
