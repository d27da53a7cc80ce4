"""Maps of scenes: killed, on full disks, of odd sizes, over other files, over the network."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio

from terrazzo.io import rasters
from terrazzo.testing import audit
from terrazzo.testing.faults import places
from terrazzo.testing.faults.table import Outcome, Place, row

_TILES = ("--tile", "32", "--overlap", "8", "--any-pixel-size")


def predict_words(run: Path, scene: object, out: str, *words: object) -> tuple[object, ...]:
    """Return the words of ``terrazzo predict`` with small tiles."""
    return ("predict", run, scene, "--out", out, *_TILES, *words)


def _predict(place: Place, scene: object, out: str, *words: object) -> Outcome:
    return place.terrazzo(*predict_words(places.finished_run(place), scene, out, *words))


def _read(path: Path) -> places.Array:
    with rasterio.open(path) as raster:
        return np.asarray(raster.read(1))


@row("P01", "SIGKILL in the middle of a scene", kept="L2", frameworks=True)
def row_p01(place: Place) -> None:
    """Nothing has the name of the map until it is whole; a resume gives the same bytes."""
    scene = places.write_scene(place.folder / "scene.tif", 150, 60)
    run = places.finished_run(place)
    place.expect(_predict(place, scene, "whole.tif"), None, exit=0)
    points = ("sync:4", "rename:1") if place.backend == "reference" else ("sync:4",)
    for number, point in enumerate(points):
        out = f"map{number}.tif"
        with place.finished_kept(place.folder / "whole.tif"):
            place.killed(point, *predict_words(run, scene, out))
            assert not (place.folder / out).exists(), point
            place.expect(_predict(place, scene, out, "--resume"), None, exit=0)
        assert (place.folder / out).read_bytes() == (place.folder / "whole.tif").read_bytes()
    assert not [path for path in place.folder.iterdir() if ".partial" in path.name]


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as on a full disk."""
    import resource  # not on Windows

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@row("P02", "a full disk while a map is written, or when it is closed", "SEG-R004", kept="L2")
def row_p02(place: Place) -> None:
    """No map; what GDAL loses without a word is found when the map is read back."""
    scene = places.write_scene(place.folder / "scene.tif", 300, 300)
    first = places.write_scene(place.folder / "first.tif", 40, 40)
    place.expect(_predict(place, first, "done.tif"), None, exit=0)
    with place.finished_kept(place.folder / "done.tif"):
        with file_size_limit(20_000):
            answer = _predict(place, scene, "map.tif")
        told = ("File too large", "free on this disk")
        place.expect(answer, "SEG-R004", exit=5, path="map.tif", observed=told)
        assert not (place.folder / "map.tif").exists()
        with _bytes_lost_at_close():
            answer = _predict(place, scene, "map.tif", "--resume")
        place.expect(answer, "SEG-R004", exit=5, path="map.tif", observed="read back")
        assert not (place.folder / "map.tif").exists()
        place.expect(_predict(place, scene, "map.tif", "--resume"), None, exit=0)
    place.expect(_predict(place, scene, "whole.tif"), None, exit=0)
    assert (place.folder / "map.tif").read_bytes() == (place.folder / "whole.tif").read_bytes()


@contextlib.contextmanager
def _bytes_lost_at_close() -> Iterator[None]:
    module = rasters.write_rasters
    compare = module._refuse_unlike

    def losing(path: Path, sums: object) -> object:
        with path.open("r+b") as file:
            file.seek(path.stat().st_size - 300)
            file.write(bytes(64))
        return compare(path, sums)  # type: ignore[arg-type]

    module._refuse_unlike = losing  # type: ignore[assignment]
    try:
        yield
    finally:
        module._refuse_unlike = compare


@row(
    "P03",
    "scenes smaller than a tile, of one row, of prime sizes",
    kept="–",
    note="more than 4 GB: sizes are 64-bit throughout, and GDAL takes BigTIFF where it may need it",
)
def row_p03(place: Place) -> None:
    """The map has the size of the scene and every pixel is written."""
    for number, (rows, columns) in enumerate(((7, 5), (1, 90), (90, 1), (37, 101), (1, 1))):
        scene = places.write_scene(place.folder / f"scene{number}.tif", rows, columns)
        place.expect(_predict(place, scene, f"map{number}.tif"), None, exit=0)
        with rasterio.open(place.folder / f"map{number}.tif") as written:
            labels_HW = written.read(1)
            assert labels_HW.shape == (rows, columns)
            assert (labels_HW != written.nodata).all()
            assert written.transform == places.UTM["transform"]
    whole = _read(place.folder / "map3.tif")
    answer = place.terrazzo(
        "predict",
        places.finished_run(place),
        "scene3.tif",
        "--out",
        "other.tif",
        "--tile",
        "200",
        "--any-pixel-size",
    )
    place.expect(answer, None, exit=0)
    other = _read(place.folder / "other.tif")
    assert other.shape == whole.shape
    assert set(np.unique(other)) <= {0, 1}


@row("P04", "an output that exists, or is an input", "SEG-C002", "SEG-X032", kept="L0")
def row_p04(place: Place) -> None:
    """An input is never written to, however it is spelt; other files only with --overwrite."""
    scene = places.write_scene(place.folder / "scene.tif", 40, 40)
    (place.folder / "link.tif").symlink_to("scene.tif")
    (place.folder / "taken.tif").write_bytes(scene.read_bytes())
    with place.nothing_written():
        for out in ("scene.tif", "./scene.tif", "link.tif", "../place/scene.tif"):
            answer = _predict(place, "scene.tif", out, "--overwrite")
            place.expect(answer, "SEG-X032", exit=2, observed=(Path(out).name, "an input"))
        answer = _predict(place, scene, "taken.tif")
        place.expect(answer, "SEG-C002", exit=4, path="taken.tif", observed="--overwrite")
    place.expect(_predict(place, scene, "taken.tif", "--overwrite"), None, exit=0)


@row("P05", "scenes that are wholly or partly without data", kept="–")
def row_p05(place: Place) -> None:
    """The map has no data just where the scene has none; such a scene stops no other."""
    (place.folder / "in").mkdir()

    def corner(image_HWC: places.Array) -> None:
        image_HWC[:30, :17] = 0

    def everything(image_HWC: places.Array) -> None:
        image_HWC[:] = 0

    for name, plant in (("a", everything), ("b", corner)):
        places.write_scene(place.folder / "in" / f"{name}.tif", 50, 41, nodata=0, plant=plant)
    place.expect(_predict(place, "in", "maps"), None, exit=0, observed="a.tif")
    for name in "ab":
        with (
            rasterio.open(place.folder / "in" / f"{name}.tif") as scene,
            rasterio.open(place.folder / "maps" / f"{name}.tif") as written,
        ):
            missing_HW = (scene.read() == 0).all(axis=0)
            np.testing.assert_array_equal(written.read(1) == written.nodata, missing_HW)


@row("P06", "paths over the network without leave", "SEG-D030", kept="L0")
def row_p06(place: Place) -> None:
    """Refused before any connection."""
    run = places.finished_run(place)
    for path in (
        "http://127.0.0.1:9/scene.tif",
        "/vsicurl/http://127.0.0.1:9/s.tif",
        "s3://b/s.tif",
    ):
        with place.nothing_written(), audit.refused(run, (place.folder,)) as seen:
            answer = _predict(place, path, "map.tif")
        place.expect(answer, "SEG-D030", exit=3, observed=("--allow-remote", path.split("/")[-1]))
        assert [each for each in seen if "socket" in each] == []
