"""Rasters that do not lie where they should, or do not hold what they seem to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine

from terrazzo.base.recipe import load_recipe
from terrazzo.data import datasets
from terrazzo.io import rasters
from terrazzo.testing import audit
from terrazzo.testing.faults import places
from terrazzo.testing.faults.places import UTM, check, refused, train
from terrazzo.testing.faults.table import Place, row


def _predict(place: Place, scene: Path, *words: object) -> Any:
    run = places.finished_run(place)
    return place.terrazzo(
        "predict",
        run,
        scene,
        "--out",
        "map.tif",
        "--tile",
        "32",
        "--overlap",
        "8",
        "--any-pixel-size",
        *words,
    )


@row("D23", "pixels without data in an image and in its label", kept="–", frameworks=True)
def row_d23(place: Place) -> None:
    """They teach nothing, and the map has no data there; 0 is a value like any other."""

    def plant(image_HWC: places.Array, label_HW: places.Array) -> None:
        image_HWC[:20, :24] = 7
        image_HWC[40:44, 40:44] = 0
        label_HW[60:70, 60:80] = 200

    image, _ = places.make_scene(place, nodata=7, label_nodata=200, plant=plant)
    data = load_recipe(place.folder / "recipe.toml").data
    without = 0
    for name in datasets.SPLITS:
        split = datasets.open_split(data, name)
        for index in range(len(split)):
            without += int((split.read(index).label_HW == split.label_map.ignore_index).sum())
    assert without == 20 * 24 + 10 * 20
    place.expect(train(place), None, exit=0)
    answer = place.terrazzo(
        "predict", "run", image, "--out", "map.tif", "--tile", "32", "--overlap", "8"
    )
    place.expect(answer, None, exit=0)
    with rasterio.open(place.folder / "map.tif") as written, rasterio.open(image) as scene:
        missing_HW = (scene.read() == 7).all(axis=0)
        np.testing.assert_array_equal(written.read(1) == written.nodata, missing_HW)
        assert written.read(1)[41, 41] in (0, 1)


@row("D24", "a nodata value that no pixel can have", "SEG-D024", kept="L0")
def row_d24(place: Place) -> None:
    """A file of uint8 that declares −9999, and one that declares NaN."""
    for text in ("-9999", "nan"):
        image, _ = places.make_scene(place)
        _write_with_nodata_text(image, text)
        refused(place, "SEG-D024", image, (text, "uint8"))


def _write_with_nodata_text(path: Path, text: str) -> None:
    """Write a scene whose GDAL_NODATA tag holds any text."""
    with rasterio.open(path) as scene:
        pixels_CHW, profile = scene.read(), {**scene.profile, "nodata": 77}
    with rasterio.open(path, "w", **profile) as scene:
        scene.write(pixels_CHW)
    content = path.read_bytes()
    new = text.encode() + b"\0"
    where = _tag(content, 42113)
    # The value of a tag of four bytes or less lies in the tag itself.
    if len(new) <= 4:
        content = (
            content[: where + 4]
            + len(new).to_bytes(4, "little")
            + new.ljust(4, b"\0")
            + content[where + 12 :]
        )
    else:
        place = len(content)
        entry = len(new).to_bytes(4, "little") + place.to_bytes(4, "little")
        content = content[: where + 4] + entry + content[where + 12 :] + new
    path.write_bytes(content)


def _tag(content: bytes, wanted: int) -> int:
    """Return where the entry of a tag begins in a little-endian TIFF."""
    assert content[:4] == b"II*\0"
    start = int.from_bytes(content[4:8], "little")
    for number in range(int.from_bytes(content[start : start + 2], "little")):
        where = start + 2 + 12 * number
        if int.from_bytes(content[where : where + 2], "little") == wanted:
            return where
    raise AssertionError(wanted)


@row("D25", "image and label in different reference systems", "SEG-D025", kept="L0")
def row_d25(place: Place) -> None:
    """UTM, and degrees."""
    degrees = {"crs": "EPSG:4326", "transform": Affine(2e-5, 0, 13.4, 0, -2e-5, 52.5)}
    _, label = places.make_scene(place, label_at=degrees)
    refused(place, "SEG-D025", label, ("EPSG:4326", "EPSG:32633", "scene.tif"))


def _moved(columns: float, rows: float) -> Mapping[str, Any]:
    return {**UTM, "transform": UTM["transform"] @ Affine.translation(columns, rows)}


@row(
    "D26",
    "a label that lies half a pixel or ten pixels beside its image, or upside down",
    "SEG-D026",
    kept="L0",
)
def row_d26(place: Place) -> None:
    """The same reference system; the message gives the distance in pixels."""
    flipped = {
        **UTM,
        "transform": UTM["transform"]
        @ Affine.translation(0, places.SCENE[0])
        @ Affine.scale(1, -1),
    }
    for at, told in ((_moved(0.5, 0), "0.50"), (_moved(0, 10), "10.00"), (flipped, "96.00")):
        _, label = places.make_scene(place, label_at=at)
        with place.nothing_written():
            place.expect_finding(check(place), "SEG-D026", path=label, observed=f"{told} px")
            place.expect(train(place), "SEG-D026", exit=3, path=label, observed=f"{told} px")


@row(
    "D27",
    "a raster without a reference system, or turned",
    "SEG-D027",
    kept="L0",
    note="grids are compared exactly; only what is asked to be reprojected needs a CRS",
)
def row_d27(place: Place) -> None:
    """A label without CRS that is to be brought onto the image's grid; a turned one is compared."""
    nowhere = {"crs": None, "transform": _moved(3.3, 0)["transform"]}
    _, label = places.make_scene(place, label_at=nowhere, align="reproject")
    refused(place, "SEG-D027", label, "CRS")
    turned = {**UTM, "transform": UTM["transform"] @ Affine.rotation(30)}
    image, label = places.make_scene(place, label_at=turned)
    answer = train(place)
    assert answer.exit == 3
    assert "SEG-D026" in answer.text
    # Both turned alike is as good as both upright.
    places.make_scene(place, image_at=turned, label_at=turned)
    place.expect(check(place), None, exit=0)
    place.expect(train(place), None, exit=0)
    place.expect(_predict(place, image), None, exit=0)
    with rasterio.open(place.folder / "map.tif") as written:
        assert written.transform.almost_equals(turned["transform"])


@row(
    "D28",
    "files beside a raster that change what it means",
    kept="L0",
    note=".aux.xml, .msk, .ovr and world files are not used; notes name the first two",
)
def row_d28(place: Place) -> None:
    """A nodata value, a mask, and another place: nothing of it changes what is read."""
    image, label = places.make_scene(place)
    data = load_recipe(place.folder / "recipe.toml").data
    before = [_samples(data, name) for name in datasets.SPLITS]
    for path in (image, label):
        path.with_suffix(".tif.aux.xml").write_text(
            '<PAMDataset><PAMRasterBand band="1"><NoDataValue>1</NoDataValue>'
            "</PAMRasterBand></PAMDataset>"
        )
        path.with_suffix(".tfw").write_text("5\n0\n0\n-5\n100\n200\n")
    zeros = np.zeros((*places.SCENE, 1), np.uint8)
    rasters.write(image.with_suffix(".tif.msk"), zeros, **UTM)
    rasters.write(image.with_suffix(".tif.ovr"), zeros[::2, ::2], **UTM)
    with place.nothing_written():
        place.expect(check(place), None, exit=0)
        after = [_samples(data, name) for name in datasets.SPLITS]
    for one, other in zip(before, after, strict=True):
        for left, right in zip(one, other, strict=True):
            np.testing.assert_array_equal(left, right)
    assert rasters.info(image).transform == UTM["transform"]


def _samples(data: Any, name: str) -> list[places.Array]:
    split = datasets.open_split(data, name)
    samples = [split.read(index) for index in range(len(split))]
    return [array for each in samples for array in (each.image_HWC, each.label_HW)]


@row("D29", "tiles of a label raster that were never written", "SEG-D029", kept="L0")
def row_d29(place: Place) -> None:
    """They would read as 0, which is a class."""
    _, label = places.make_scene(place)
    with rasterio.open(label) as raster:
        profile, labels_HW = raster.profile, raster.read(1)
    label.unlink()
    profile |= {"blockxsize": 32, "blockysize": 32, "tiled": True}
    with rasterio.open(label, "w", sparse_ok=True, **profile) as raster:
        raster.write(labels_HW[:64], 1, window=rasterio.windows.Window(0, 0, places.SCENE[1], 64))
    refused(place, "SEG-D029", label, "first at row 64, column")


_VRTS: Mapping[str, Callable[[Path], str]] = {
    "a raw band on a file of the system": lambda _: "/etc/passwd",
    "another host": lambda _: "/vsicurl/http://127.0.0.1:9/scene.tif",
}


@row(
    "D30", "a VRT that is called .tif: raw bands of /etc/passwd, other hosts", "SEG-D030", kept="L0"
)
def row_d30(place: Place) -> None:
    """It is not opened as such: no byte of another file, no connection."""
    for source in _VRTS.values():
        image, _ = places.make_scene(place)
        rows, columns = places.SCENE
        image.write_text(
            f'<VRTDataset rasterXSize="{columns}" rasterYSize="{rows}">'
            '<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
            f'<SourceFilename relativeToVRT="0">{source(image)}</SourceFilename>'
            "<ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>1</LineOffset>"
            "</VRTRasterBand></VRTDataset>"
        )
        refused(place, "SEG-D030", image, "content is VRT")
        with (
            place.nothing_written(),
            audit.refused(place.folder, (places.finished_run(place),)) as seen,
        ):
            answer = _predict(place, image)
        place.expect(answer, "SEG-D030", exit=3, path=image)
        assert "root:" not in answer.text
        assert [each for each in seen if "socket" in each or "/etc" in each] == []
