"""Which rasters are opened, by which driver, and what a VRT may hold: an allow list."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import Config
from terrazzo.data.datasets import folder as folder_format
from terrazzo.data.datasets import geotiff
from terrazzo.inference import scene_lists
from terrazzo.inference.outputs import Settings
from terrazzo.inference.predict import predict
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.io import raster_formats, rasters
from terrazzo.testing.scenes import make_model
from terrazzo.testing.sentinel2 import LOSSLESS, place, write_jp2
from terrazzo.workflows.evaluate import evaluate
from terrazzo.workflows.train import train

SHAPE = (150, 130)
TILING = Tiling(tile=64, overlap=12, batch_size=3)
PLACE = place(10)
WHOLE = {"chip": 160, "block": 1, "split": {"train": 1, "val": 0, "test": 0}}


def noise(bands=3, dtype="uint8"):
    return np.random.default_rng(0).integers(1, 250, (*SHAPE, bands)).astype(dtype)


def write(path, image_HWC, driver="GTiff", **profile):
    rows, columns, bands = image_HWC.shape
    size = {"height": rows, "width": columns, "count": bands, "dtype": image_HWC.dtype.name}
    with rasterio.open(path, "w", driver=driver, **{**size, **PLACE, **profile}) as dataset:
        dataset.write(np.moveaxis(image_HWC, 2, 0))
    return path


def jp2(path, image_HWC, **profile):
    return write(path, image_HWC, "JP2OpenJPEG", **{**LOSSLESS, **profile})


TILED = {"blockxsize": 64, "blockysize": 64}


def refusal(look, *arguments, **named):
    with pytest.raises(DataError) as caught:
        look(*arguments, **named)
    return caught.value


# JPEG 2000


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("layout", [{}, TILED], ids=["one tile", "tiles"])
@pytest.mark.parametrize("bands", [1, 3, 4])
def test_jpeg_2000_reads_as_geotiff_does(tmp_path, bands, layout, dtype):
    image_HWC = noise(bands, dtype)
    paths = write(tmp_path / "a.tif", image_HWC), jp2(tmp_path / "a.jp2", image_HWC, **layout)
    infos = [rasters.info(path, alpha="none") for path in paths]
    assert (infos[0].crs, infos[0].transform) == (infos[1].crs, infos[1].transform)
    assert infos[1].dtype == dtype
    for window in ((0, 0, *SHAPE), (60, 60, 70, 65), (149, 129, 1, 1)):
        rules = raster_rules("none")
        one, other = (rasters.read_window(path, *window, rules=rules) for path in paths)
        np.testing.assert_array_equal(one.image_HWC, other.image_HWC)
        np.testing.assert_array_equal(one.valid_HW, other.valid_HW)


def raster_rules(alpha):
    from terrazzo.io.pixels import ReadingRules

    return ReadingRules(alpha=alpha)


def test_maps_of_jpeg_2000_have_the_bytes_of_those_of_geotiff(tmp_path):
    model = make_model(tmp_path / "model")
    maps = []
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    for source in (
        write(tmp_path / "a.tif", noise()),
        jp2(scenes / "b.jp2", noise()),
        jp2(scenes / "c.jp2", noise(), **TILED),
    ):
        out = tmp_path / f"{source.stem}_map.tif"
        predict(model, [source], out, Settings(tiling=TILING), progress=Silent())
        maps.append(out.read_bytes())
    assert maps[0] == maps[1] == maps[2]
    predict(model, [scenes], tmp_path / "maps", Settings(tiling=TILING), progress=Silent())
    assert sorted(path.name for path in (tmp_path / "maps").glob("*.tif")) == ["b.tif", "c.tif"]


def test_jpeg_2000_scenes_train_as_geotiff_does(tmp_path):
    label_HW = (noise(1)[..., 0] % 3).astype(np.uint8)
    write(tmp_path / "label.tif", label_HW[..., None])
    write_jp2(tmp_path / "label.jp2", label_HW)
    write(tmp_path / "all.tif", noise())
    for band in range(3):
        write_jp2(tmp_path / f"{band}.jp2", noise()[..., band])
    raws = []
    for images, label in ((["all.tif"], "label.tif"), (["0.jp2", "1.jp2", "2.jp2"], "label.jp2")):
        scenes = [{"images": images, "label": label}]
        source = geotiff.open_split(tmp_path, "train", geotiff.Options(scenes=scenes, **WHOLE))
        raws.append(source.read(0))
    for name in ("image_HWC", "raw_label", "valid_HW"):
        np.testing.assert_array_equal(getattr(raws[0], name), getattr(raws[1], name))


def test_labels_in_lossy_jpeg_2000_are_refused(tmp_path):
    path = write(tmp_path / "label.jp2", noise(1), "JP2OpenJPEG", QUALITY="20", REVERSIBLE="NO")
    error = refusal(rasters.read_label, path, "index")
    assert (error.code, "JPEG 2000" in error.observed) == ("SEG-D008", True)


@pytest.mark.parametrize("layout", [{}, TILED], ids=["one tile", "tiles"])
@pytest.mark.parametrize("missing", [1, 2, 100, 5000, -1])
def test_cut_jpeg_2000_is_refused(tmp_path, layout, missing):
    """GDAL decodes several tiles at a time, and hands out those that are lacking as 0."""
    path = jp2(tmp_path / "a.jp2", noise(), **layout)
    data = path.read_bytes()
    keep = len(data) // 2 if missing < 0 else len(data) - missing
    path.write_bytes(data[:keep])
    error = refusal(rasters.info, path)  # before any tile is decoded
    assert (error.code, str(keep) in error.observed) == ("SEG-D011", True)


def test_a_damaged_tile_of_jpeg_2000_is_no_0(tmp_path):
    """Its length is right, and what it holds is not."""
    path = jp2(tmp_path / "a.jp2", noise(1), **TILED)
    data = bytearray(path.read_bytes())
    begin = data.find(b"\xff\x93", len(data) // 2) + 2  # the data of a tile
    data[begin : begin + 400] = b"\xff" * 400
    path.write_bytes(data)
    assert refusal(rasters.read, path).code == "SEG-D011"


# Which driver


@pytest.mark.parametrize(
    ("driver", "suffix", "words"),
    [
        ("PNG", ".png", "PNG"),
        ("AAIGrid", ".asc", "text"),
        ("GIF", ".gif", "GIF"),
        ("BMP", ".bmp", "BMP"),
        ("HFA", ".img", "HFA"),
        ("ENVI", ".dat", "unknown"),
        ("PCIDSK", ".pix", "text"),
    ],
)
def test_other_formats_under_a_known_name_are_refused(tmp_path, driver, suffix, words):
    source = write(tmp_path / "a.tif", noise(1))
    made = tmp_path / f"b{suffix}"
    with rasterio.open(source) as dataset:
        rasterio.shutil.copy(dataset, made, driver=driver)
    for name in ("c.tif", "c.jp2"):
        made.replace(tmp_path / name)
        made = tmp_path / name
        error = refusal(rasters.info, made)
        assert error.code == "SEG-D012"
        assert words in error.observed
        assert "JPEG 2000" in error.allowed
        assert "gdal_translate -of GTiff" in error.next_step


@pytest.mark.parametrize(("driver", "name"), [("ENVI", "a.dat"), ("ENVI", "a"), ("HFA", "a.img")])
def test_formats_that_are_allowed_are_read(tmp_path, driver, name):
    image_HWC = noise()
    tif = write(tmp_path / "image.tif", image_HWC)
    path = write(tmp_path / name, image_HWC, driver)
    assert refusal(rasters.info, path).code in ("SEG-D012", "SEG-D013")
    other = "HFA" if driver == "ENVI" else "ENVI"
    assert refusal(rasters.info, raster_formats.permit(path, [other])).code == "SEG-D012"
    allowed = raster_formats.permit(path, [driver])
    assert rasters.info(allowed).transform == PLACE["transform"]
    np.testing.assert_array_equal(rasters.read(allowed).image_HWC, image_HWC)
    refusal(rasters.info, path)  # the open file is not handed to those without permission
    again = pickle.loads(pickle.dumps(allowed))
    np.testing.assert_array_equal(rasters.read(again).image_HWC, image_HWC)
    model = make_model(tmp_path / "model")
    for source, out in ((tif, "one.tif"), (allowed, "other.tif")):
        predict(model, [source], tmp_path / out, Settings(tiling=TILING), progress=Silent())
    assert (tmp_path / "one.tif").read_bytes() == (tmp_path / "other.tif").read_bytes()


def test_formats_are_allowed_in_a_recipe(tmp_path):
    write(tmp_path / "a.img", noise(), "HFA")
    write(tmp_path / "label.tif", noise(1))
    scenes = [{"images": ["a.img"], "label": "label.tif"}]
    named = {"scenes": scenes, **WHOLE}
    error = refusal(geotiff.open_split, tmp_path, "train", geotiff.Options(**named))
    assert 'formats = ["HFA"]' in error.next_step
    source = geotiff.open_split(tmp_path, "train", geotiff.Options(formats=["HFA"], **named))
    np.testing.assert_array_equal(source.read(0).image_HWC[: SHAPE[0], : SHAPE[1]], noise())


def test_unknown_formats_are_named():
    assert raster_formats.parse_formats("hfa, ENVI") == ("ENVI", "HFA")
    with pytest.raises(ConfigError, match="SEG-X110"):
        raster_formats.parse_formats("ENVI,NITF")


def test_a_header_that_leads_elsewhere_is_refused(tmp_path):
    (tmp_path / "other").mkdir()
    path = write(tmp_path / "other" / "a.dat", noise(), "ENVI")
    path.rename(tmp_path / "a.dat")
    (tmp_path / "a.hdr").symlink_to(path.with_suffix(".hdr"))
    allowed = raster_formats.permit(tmp_path / "a.dat", ["ENVI"])
    assert refusal(rasters.info, allowed).code == "SEG-D100"


# VRT


def vrt(path, *sources, extra="", band='dataType="Byte" band="1"', nodata="", dataset=""):
    """A VRT of one band, which our own tests write by hand."""
    text = "".join(sources)
    rows, columns = SHAPE
    t = PLACE["transform"]
    path.write_text(
        f'<VRTDataset rasterXSize="{columns}" rasterYSize="{rows}"{dataset}>'
        f"<SRS>EPSG:32632</SRS><GeoTransform>{t.c}, {t.a}, 0, {t.f}, 0, {t.e}</GeoTransform>{extra}"
        f"<VRTRasterBand {band}>{nodata}{text}</VRTRasterBand></VRTDataset>"
    )
    return path


def source(name, relative=1, kind="SimpleSource", more="", **rect):
    rows, columns = SHAPE
    box = {"xOff": 0, "yOff": 0, "xSize": columns, "ySize": rows, **rect}
    sides = " ".join(f'{key}="{value}"' for key, value in box.items())
    return (
        f'<{kind}><SourceFilename relativeToVRT="{relative}">{name}</SourceFilename>'
        f"<SourceBand>1</SourceBand><SrcRect {sides}/><DstRect {sides}/>{more}</{kind}>"
    )


def allowed(path, root=None):
    return raster_formats.permit(path, allow_vrt=True, root=root)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    (folder / "deep").mkdir(parents=True)
    write(folder / "a.tif", noise(1))
    write(folder / "deep" / "b.tif", noise(1))
    write(tmp_path / "outside.tif", noise(1))
    return folder


def test_an_open_vrt_notices_a_source_that_changed(root):
    """The VRT itself is the file it was."""
    path = allowed(vrt(root / "a.vrt", source("a.tif")))
    before_HWC = rasters.read_window(path, 0, 0, 20, 30).image_HWC
    (root / "a.tif").unlink()  # as programs do that write beside and rename
    write(root / "a.tif", 255 - noise(1))
    after_HWC = rasters.read_window(path, 0, 0, 20, 30).image_HWC
    np.testing.assert_array_equal(after_HWC, 255 - before_HWC)


def test_vrt_is_read_only_where_it_is_allowed(root):
    path = vrt(root / "a.vrt", source("a.tif"))
    error = refusal(rasters.info, path)
    assert error.code == "SEG-D030"
    assert "--allow-vrt" in error.next_step
    pixels = rasters.read(allowed(path))
    np.testing.assert_array_equal(pixels.image_HWC, noise(1))
    assert refusal(rasters.info, path).code == "SEG-D030"
    named = path.rename(root / "named.tif")
    assert refusal(rasters.info, named).code == "SEG-D030"


def test_vrt_as_gdal_writes_it(root):
    """A copy by GDAL's own driver, with what it notes of the source."""
    with rasterio.open(root / "a.tif") as dataset:
        rasterio.shutil.copy(dataset, root / "a.vrt", driver="VRT")
    pixels = rasters.read(allowed(root / "a.vrt"))
    np.testing.assert_array_equal(pixels.image_HWC, noise(1))
    inside = vrt(root / "deep" / "c.vrt", source("../a.vrt"))
    pixels = rasters.read(allowed(inside, root))
    np.testing.assert_array_equal(pixels.image_HWC, noise(1))


def test_scenes_and_maps_of_vrt(root, tmp_path):
    path = vrt(root / "a.vrt", source("a.tif"))
    model = make_model(tmp_path / "model", bands=1)
    for one, out in ((allowed(path), "one.tif"), (root / "a.tif", "other.tif")):
        predict(model, [one], tmp_path / out, Settings(tiling=TILING), progress=Silent())
    assert (tmp_path / "one.tif").read_bytes() == (tmp_path / "other.tif").read_bytes()
    settings = Settings(tiling=TILING, workers=2)
    predict(model, [allowed(path)], tmp_path / "three.tif", settings, progress=Silent())
    assert (tmp_path / "one.tif").read_bytes() == (tmp_path / "three.tif").read_bytes()
    write(root / "label.tif", noise(1))
    scenes = [{"images": ["a.vrt"], "label": "label.tif"}]
    options = geotiff.Options(scenes=scenes, allow_vrt=True, **WHOLE)
    raw = geotiff.open_split(root, "train", options).read(0)
    np.testing.assert_array_equal(raw.image_HWC[: SHAPE[0], : SHAPE[1]], noise(1))
    moved = vrt(root / "deep" / "a.vrt", source("../a.tif"))
    assert refusal(rasters.info, allowed(moved)).code == "SEG-D098"  # not below its own folder
    scenes = [{"images": ["deep/a.vrt"], "label": "label.tif"}]
    options = geotiff.Options(scenes=scenes, allow_vrt=True, **WHOLE)
    geotiff.open_split(root, "train", options).read(0)  # but below the root


def test_the_command_takes_what_is_allowed(root, tmp_path):
    path = vrt(root / "a.vrt", source("a.tif"))
    image = write(root / "a.img", noise(1), "HFA")
    model = make_model(tmp_path / "model", bands=1)
    for scene, option in ((path, ["--allow-vrt"]), (image, ["--formats", "HFA"])):
        words = ["predict", str(model), str(scene), "--out", str(tmp_path / f"{scene.suffix}.tif")]
        command = [sys.executable, "-m", "terrazzo", *words, "--tile", "64", "--overlap", "12"]
        made = subprocess.run([*command, *option], capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr


OUTSIDE = [
    ("../outside.tif", 1),
    ("deep/../../outside.tif", 1),
    ("{parent}/outside.tif", 0),
    ("link.tif", 1),
    ("outside.vrt", 1),
    ("gone.tif", 1),
    ("/vsicurl/http://localhost/a.tif", 0),
    ("/vsizip/a.zip/a.tif", 0),
    ("http://localhost/a.tif", 0),
    ("GTIFF_DIR:1:{parent}/outside.tif", 0),
    ("&lt;VRTDataset rasterXSize='1' rasterYSize='1'/&gt;", 0),
    ("", 0),
]


def test_a_list_of_scenes_may_name_what_is_allowed(root, tmp_path):
    image_HWC = noise(2)
    write(tmp_path / "stack.tif", image_HWC)
    write(root / "c.img", image_HWC[..., 1:], "HFA")
    write(root / "b.tif", image_HWC[..., :1])
    vrt(root / "a.vrt", source("b.tif"))
    (root / "scenes.csv").write_text("name,image_1,image_2\nnorth,a.vrt,c.img\n")
    model = make_model(tmp_path / "model", bands=2)
    (listed,) = scene_lists.read(str(root / "scenes.csv"))
    outs = tmp_path / "one.tif", tmp_path / "other.tif"
    settings = Settings(tiling=TILING)
    error = refusal(predict, model, [listed], outs[0], settings, progress=Silent())
    assert error.code == "SEG-D030"
    permitted = listed.permitting(["HFA"], allow_vrt=True).absolute()
    predict(model, [permitted], outs[0], settings, progress=Silent())
    predict(model, [tmp_path / "stack.tif"], outs[1], settings, progress=Silent())
    assert outs[0].read_bytes() == outs[1].read_bytes()
    words = ["predict", str(model), "--scene", str(root / "scenes.csv"), "--allow-vrt"]
    words += ["--formats", "HFA", "--out", str(tmp_path / "three.tif")]
    words += ["--tile", "64", "--overlap", "12", "--batch-size", "3"]
    command = [sys.executable, "-m", "terrazzo", *words]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "three.tif").read_bytes() == outs[1].read_bytes()


@pytest.mark.parametrize("name", ["a.vrt", "a.img", "a.jp2", "a.tif"])
def test_a_run_on_what_is_allowed_is_scored(root, name):
    """A report does not read what a recipe allowed; it has no image then, and all the rest."""
    image_HWC = noise(1)
    label_HWC = (image_HWC > 125).astype(np.uint8)
    write(root / "a.tif", image_HWC)
    jp2(root / "a.jp2", image_HWC)
    write(root / "a.img", image_HWC, "HFA")
    vrt(root / "a.vrt", source("a.tif"))
    write(root / "label.tif", label_HWC)
    (root / "m.toml").write_text(
        'name = "m"\nclasses = [{ name = "a", colour = "#000000", raw = [0] }, '
        '{ name = "b", colour = "#00FF00", raw = [1] }]\n'
    )
    options = {"scenes": [{"images": [name], "label": "label.tif"}], "chip": 32, "block": 1}
    options |= {"buffer": 0, "formats": ["HFA"], "allow_vrt": True}
    data = {"format": "geotiff", "root": str(root), "labels": str(root / "m.toml")}
    recipe = Config.model_validate(
        {
            "backend": "reference",
            "name": "formats",
            "data": {**data, "options": options},
            "model": {"name": "pixel_softmax", "options": {"features": "neighbourhood"}},
            "training": {"batch_size": 2, "steps": 2, "schedule": {"learning_rate": 0.1}},
        }
    )
    train(recipe, root / "run", progress=Silent())
    (shown,) = evaluate(root / "run", "val").evaluation.maps
    assert (shown.image_HWC is not None) == (name in ("a.jp2", "a.tif"))
    assert list((root / "run").rglob("report*.html"))


@pytest.mark.parametrize("name", ["a.gtiff", "a", "a.img", "a.TIFF"])
def test_geotiff_under_another_name_is_a_scene(tmp_path, name):
    model = make_model(tmp_path / "model")
    write(tmp_path / "plain.tif", noise())
    write(tmp_path / name, noise())
    outs = tmp_path / "one_map.tif", tmp_path / "other_map.tif"
    for source_name, out in zip(("plain.tif", name), outs, strict=True):
        settings = Settings(tiling=TILING)
        predict(model, [tmp_path / source_name], out, settings, progress=Silent())
    assert outs[0].read_bytes() == outs[1].read_bytes()


@pytest.mark.parametrize(("name", "relative"), OUTSIDE)
def test_sources_outside_of_the_root_are_refused(root, name, relative):
    (root / "link.tif").symlink_to(root.parent / "outside.tif")
    vrt(root / "outside.vrt", source("../outside.tif"))
    path = vrt(root / "a.vrt", source(name.format(parent=root.parent), relative))
    error = refusal(rasters.info, allowed(path))
    assert error.code == "SEG-D098"
    assert "gdal_translate" in error.next_step
    remote = "/vsi" in name or "http" in name
    assert (error.allowed == "files of this machine") == (remote or name in ("", OUTSIDE[-2][0]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"band": 'dataType="Byte" band="1" subClass="VRTDerivedRasterBand"'}, "VRTDerivedRaster"),
        ({"band": 'dataType="Byte" band="1" subClass="VRTRawRasterBand"'}, "VRTRawRasterBand"),
        ({"band": 'dataType="Byte" band="1" subClass="VRTWarpedRasterBand"'}, "VRTWarped"),
        ({"dataset": ' subClass="VRTWarpedDataset"'}, "VRTWarpedDataset"),
        ({"dataset": ' subClass="VRTPansharpenedDataset"'}, "VRTPansharpened"),
        ({"dataset": ' subClass="VRTProcessedDataset"'}, "VRTProcessedDataset"),
        ({"extra": "<PansharpeningOptions/>"}, "element PansharpeningOptions"),
        ({"extra": "<GDALWarpOptions/>"}, "element GDALWarpOptions"),
        ({"nodata": "<PixelFunctionType>sum</PixelFunctionType>"}, "PixelFunctionType"),
        ({"nodata": "<PixelFunctionLanguage>Python</PixelFunctionLanguage>"}, "PixelFunctionLang"),
        ({"nodata": "<PixelFunctionCode>0</PixelFunctionCode>"}, "element PixelFunctionCode"),
    ],
)
def test_kinds_of_vrt_that_are_not_on_the_list_are_refused(root, changes, words):
    path = vrt(root / "a.vrt", source("a.tif"), **changes)
    error = refusal(rasters.info, allowed(path))
    assert (error.code, words in error.observed) == ("SEG-D098", True)


@pytest.mark.parametrize(
    ("element", "words"),
    [
        (source("a.tif") + source("a.tif", kind="KernelFilteredSource"), "KernelFiltered"),
        (source("a.tif", more="<OpenOptions/>"), "element OpenOptions"),
        (source("a.tif").replace('xSize="130" ySize="150"', 'xSize="65" ySize="75"', 1), "resampl"),
        (source("a.tif", xSize=100), "no source covers"),
    ],
)
def test_sources_that_are_not_on_the_list_are_refused(root, element, words):
    path = vrt(root / "a.vrt", element)
    error = refusal(rasters.info, allowed(path))
    assert (error.code, words in error.observed) == ("SEG-D098", True)


def test_what_no_source_covers_is_nodata_where_the_vrt_says_so(root):
    path = vrt(root / "a.vrt", source("a.tif", xSize=100), nodata="<NoDataValue>0</NoDataValue>")
    valid_HW = rasters.read(allowed(path)).valid_HW
    assert valid_HW[:, :100].all()
    assert not valid_HW[:, 100:].any()


def test_endless_and_other_vrt_are_refused(root):
    path = vrt(root / "a.vrt", source("a.vrt"))
    assert "deep" in refusal(rasters.info, allowed(path)).observed
    path.write_text(f"<VRTDataset><!-- {'x' * 100} -->")
    assert refusal(rasters.info, allowed(path)).code == "SEG-D098"
    other = write(root / "c.img", noise(1), "HFA")
    path = vrt(root / "a.vrt", source(other.name))
    assert refusal(rasters.info, allowed(path)).code == "SEG-D012"


def test_labels_behind_a_vrt_must_be_without_losses(root):
    lossy = write(root / "c.tif", noise(1), compress="JPEG")
    path = vrt(root / "a.vrt", source(lossy.name))
    assert refusal(rasters.read_label, allowed(path), "index").code == "SEG-D008"


def test_a_cut_source_of_a_vrt_is_refused(root):
    image = jp2(root / "c.jp2", noise(1), **TILED)
    path = vrt(root / "a.vrt", source("c.jp2"))
    np.testing.assert_array_equal(rasters.read(allowed(path)).image_HWC, noise(1))
    Path(image).write_bytes(image.read_bytes()[:-2000])
    path.write_text(path.read_text() + " ")
    assert refusal(rasters.read, allowed(path)).code == "SEG-D011"


def test_files_beside_the_sources_of_a_vrt_are_not_used(root):
    """Their mask would take all pixels away."""
    masked = source("a.tif", kind="ComplexSource", more="<UseMaskBand>true</UseMaskBand>")
    path = vrt(root / "a.vrt", masked)
    plain = rasters.read(allowed(path)).image_HWC
    beside = rasterio.Env(GDAL_TIFF_INTERNAL_MASK="NO")
    with beside, rasterio.open(root / "a.tif", "r+") as dataset:
        dataset.write_mask(np.zeros(SHAPE, bool))
    assert (root / "a.tif.msk").exists()
    path.write_text(path.read_text() + " ")
    np.testing.assert_array_equal(rasters.read(allowed(path)).image_HWC, plain)


def test_a_grid_error_of_an_allowed_format_stays_that_error(tmp_path):
    write(tmp_path / "a.tif", noise())
    write(tmp_path / "b.img", noise()[:100], "HFA")
    write(tmp_path / "label.tif", noise(1))
    scenes = [{"images": ["a.tif", "b.img"], "label": "label.tif"}]
    options = geotiff.Options(scenes=scenes, formats=["HFA"], **WHOLE)
    assert refusal(geotiff.open_split, tmp_path, "train", options).code == "SEG-D009"


def test_what_needs_permission_says_how_to_give_it(root, tmp_path):
    vrt(root / "a.vrt", source("a.tif"))
    write(root / "a.img", noise(1), "HFA")
    model = make_model(tmp_path / "model", bands=1)
    for name, words in (("a.vrt", "--allow-vrt"), ("a.img", "--formats HFA")):
        error = refusal(predict, model, [root / name], tmp_path / "map.tif", progress=Silent())
        assert words in error.next_step


def test_folders_of_jpeg_2000_train_as_those_of_geotiff_do(tmp_path):
    raws = []
    for suffix, save in ((".tif", write), (".jp2", jp2)):
        root = tmp_path / suffix[1:]
        for name in ("images", "masks"):
            (root / name).mkdir(parents=True)
        for number in range(3):
            save(root / "images" / f"{number}{suffix}", noise())
            save(root / "masks" / f"{number}{suffix}", noise(1))
        options = folder_format.Options(split={"train": 1, "val": 0, "test": 0})
        raws.append(folder_format.open_split(root, "train", options).read(0))
    for name in ("image_HWC", "raw_label"):
        np.testing.assert_array_equal(getattr(raws[0], name), getattr(raws[1], name))


def stack_of(path, *bands):
    """A VRT as `gdalbuildvrt -separate` makes it, of name, type and nodata of each band."""
    rows, columns = SHAPE
    t = PLACE["transform"]
    text = "".join(
        f'<VRTRasterBand dataType="{dtype}" band="{number}">'
        f"<NoDataValue>{nodata}</NoDataValue>{source(name)}</VRTRasterBand>"
        for number, (name, dtype, nodata) in enumerate(bands, 1)
    )
    path.write_text(
        f'<VRTDataset rasterXSize="{columns}" rasterYSize="{rows}"><SRS>EPSG:32632</SRS>'
        f"<GeoTransform>{t.c}, {t.a}, 0, {t.f}, 0, {t.e}</GeoTransform>{text}</VRTDataset>"
    )
    return path


@pytest.mark.parametrize("other", [("b.tif", "UInt16", 0), ("b.tif", "Byte", 7)])
def test_bands_of_a_vrt_are_of_one_type_and_nodata_value(root, other):
    write(root / "b.tif", noise(1))
    same = stack_of(root / "same.vrt", ("a.tif", "Byte", 0), ("b.tif", "Byte", 0))
    assert rasters.info(allowed(same)).bands == 2
    error = refusal(rasters.info, allowed(stack_of(root / "x.vrt", ("a.tif", "Byte", 0), other)))
    assert error.code == "SEG-D098"
    assert "images of a scene" in error.next_step


def test_no_map_replaces_what_a_vrt_is_made_of(root, tmp_path):
    model = make_model(tmp_path / "model", bands=1)
    before = (root / "a.tif").read_bytes()
    path = vrt(root / "a.vrt", source("a.tif"))
    settings = Settings(tiling=TILING, overwrite=True)
    with pytest.raises(ConfigError, match="SEG-X032"):
        predict(model, [allowed(path)], root / "a.tif", settings, progress=Silent())
    assert (root / "a.tif").read_bytes() == before


@pytest.mark.parametrize(
    ("kind", "option"), [("mask.img", "--formats=HFA"), ("mask.vrt", "--allow-vrt")]
)
def test_masks_may_be_of_formats_that_are_allowed(root, tmp_path, kind, option):
    mask_HW = (np.indices(SHAPE)[0] // 8 % 2).astype(np.uint8)[..., None]
    write(root / "mask.tif", mask_HW)
    write(root / "mask.img", mask_HW, "HFA")
    vrt(root / "mask.vrt", source("mask.tif"))
    model = make_model(tmp_path / "model", bands=1)
    (root / "s.toml").write_text(
        'scenes = [{ name = "s", images = ["a.tif"], '
        f'mask = {{ file = "{kind}", values = [1] }} }}]'
    )
    maps = []
    for number, words in enumerate(
        (
            [str(root / "a.tif"), "--mask", f"values:1={root / 'mask.tif'}"],
            [str(root / "a.tif"), "--mask", f"values:1={root / kind}", option],
            ["--scene", str(root / "s.toml"), option],
        )
    ):
        out = tmp_path / f"{number}.tif"
        command = [
            sys.executable,
            "-m",
            "terrazzo",
            "predict",
            str(model),
            *words,
            "--out",
            str(out),
        ]
        made = subprocess.run(
            [*command, "--tile", "64", "--overlap", "12"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        maps.append(out.read_bytes())
    assert maps[1] == maps[0]
    assert maps[2] == maps[0]
