"""Scenes as people bring them: alpha that is none, markers of no data, places outside the file."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint

from terrazzo.base.errors import DataError
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import DataConfig
from terrazzo.check import check_data
from terrazzo.data.datasets import folder as folder_format
from terrazzo.data.datasets import geotiff
from terrazzo.inference.outputs import Settings
from terrazzo.inference.predict import predict
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.io import rasters
from terrazzo.io.pixels import ReadingRules
from terrazzo.testing.scenes import make_model

PLACE = {"crs": "EPSG:32633", "transform": Affine(2, 0, 392_000, 0, -2, 5_820_000)}
SHAPE = (40, 60)
LABELS = """
name = "m"
classes = [
    { name = "background", colour = "#000000", raw = [0] },
    { name = "house", colour = "#FF0000", raw = [1] },
]
"""


def write(path, values_HWC, **profile):
    """Write by rasterio itself: no descriptions, and its own guess of colours and alpha."""
    rows, columns, bands = values_HWC.shape
    size = {"height": rows, "width": columns, "count": bands, "dtype": values_HWC.dtype.name}
    with rasterio.open(path, "w", driver="GTiff", **{**size, **PLACE, **profile}) as dataset:
        dataset.write(np.moveaxis(values_HWC, 2, 0))
    return path


@pytest.fixture
def labelled(tmp_path, monkeypatch):
    """A label raster: a house in every other block of ten columns."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    label_HW = (np.indices(SHAPE)[1] // 10 % 2).astype(np.uint8)
    write(tmp_path / "label.tif", label_HW[..., None])
    (tmp_path / "m.toml").write_text(LABELS)
    return tmp_path


def opened(root, *images, **changes):
    scenes = ({"images": images or ("image.tif",), "label": "label.tif"},)
    everything = {"chip": 60, "block": 1, "split": {"train": 1, "val": 0, "test": 0}}
    return geotiff.open_split(
        root, "train", geotiff.Options(scenes=scenes, **everything, **changes)
    )


def checked(root, *images, **options):
    scenes = [{"images": list(images) or ["image.tif"], "label": "label.tif"}]
    data = DataConfig(
        format="geotiff",
        root=str(root),
        labels=str(root / "m.toml"),
        options={"scenes": scenes, "chip": 10, "block": 1, "buffer": 0, **options},
    )
    return check_data(data)


def noise(bands, dtype="uint8", high=250):
    return np.random.default_rng(0).integers(1, high, (*SHAPE, bands)).astype(dtype)


def test_the_band_that_is_read_as_alpha_is_named(labelled):
    image_HWC = noise(4)
    image_HWC[0, :5, 3] = 0
    write(labelled / "image.tif", image_HWC)
    source = opened(labelled)
    assert source.band_names == ("red", "green", "blue")
    assert any("band 4 is read as alpha" in note for note in source.notes)
    assert "band 4 is read as alpha" in checked(labelled).as_text()


def test_alpha_that_takes_labels_away_must_be_said(labelled):
    """Near infrared is 0 on water: a class would vanish."""
    image_HWC = noise(4)
    image_HWC[10:20, 10:20, 3] = 0
    write(labelled / "image.tif", image_HWC)
    with pytest.raises(DataError) as caught:
        opened(labelled)
    assert caught.value.code == "SEG-D046"
    assert "4.2%" in caught.value.observed
    assert "band 4" in caught.value.problem
    assert 'alpha = "none"' in caught.value.next_step
    kept = opened(labelled, alpha="none")
    assert kept.band_names == ("red", "green", "blue", "band 4")
    raw = kept.read(0)
    assert raw.valid_HW[: SHAPE[0]].all()
    np.testing.assert_array_equal(raw.image_HWC[: SHAPE[0]], image_HWC)
    said = opened(labelled, alpha="band 4")
    assert said.band_names == ("red", "green", "blue")
    np.testing.assert_array_equal(said.read(0).valid_HW[: SHAPE[0]], image_HWC[..., 3] > 0)


def test_a_model_of_four_bands_gets_the_fourth(labelled):
    image_HWC = noise(4)
    image_HWC[10:20, 10:20, 3] = 0
    source = write(labelled / "image.tif", image_HWC)
    said = Said()
    for bands, lacking, words in ((4, 0, "is read as a band"), (3, 100, "is read as alpha")):
        model = make_model(labelled / f"model_{bands}", bands)
        out = labelled / f"map_{bands}.tif"
        predict(model, [source], out, Settings(tiling=Tiling(tile=32, overlap=12)), progress=said)
        with rasterio.open(out) as dataset:
            assert (dataset.read(1) == 255).sum() == lacking
        assert any("band 4" in line and words in line for line in said.lines)


class Said(Silent):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


@pytest.mark.parametrize(
    ("dtype", "value"), [("float64", -1.797e308), ("float32", -3.4e38), ("float64", 1e30)]
)
def test_markers_of_no_data_that_are_not_declared_are_found(labelled, dtype, value):
    image_HWC = noise(2, dtype)
    image_HWC[12, 34, 1] = value
    write(labelled / "image.tif", image_HWC)
    report = checked(labelled)
    assert report.must_stop
    (finding,) = [f for f in report.findings if f.code == "SEG-D022"]
    assert "band 2 at row 12, column 34" in finding.observed
    write(labelled / "image.tif", image_HWC, nodata=float(np.array(value, dtype)))
    assert not [f for f in checked(labelled).findings if f.code == "SEG-D022"]


@pytest.mark.parametrize("nodata", [-9999.0, np.nan, 0.0])
@pytest.mark.parametrize("rule", ["any", "all"])
def test_reprojection_mixes_no_band_with_its_nodata(labelled, nodata, rule):
    """Half a pixel off: neighbours are averaged, each band without its own pixels of no data."""
    image_HWC = np.full((*SHAPE, 3), 100, np.float32)
    image_HWC[10:20, 10:20, 1] = nodata
    image_HWC[30:35, 30:35] = nodata
    moved = Affine(2, 0, 392_001, 0, -2, 5_820_000)
    write(labelled / "image.tif", image_HWC, nodata=nodata, transform=moved)
    grid = rasters.info(labelled / "label.tif")
    read_HWC, valid_HW, present_HWC = rasters.read_window(
        labelled / "image.tif", 0, 0, *SHAPE, onto=grid, rules=ReadingRules(nodata_rule=rule)
    )
    np.testing.assert_array_equal(read_HWC[present_HWC], 100)
    assert not valid_HW[31:34, 32:34].any()
    assert not present_HWC[11:19, 12:19, 1].any()
    assert (present_HWC[11:19, 12:19, [0, 2]] == (rule == "all")).all()
    assert (valid_HW[11:19, 12:19] == (rule == "all")).all()


def gcp_scene(path):
    points = [
        GroundControlPoint(row=r, col=c, x=392_000 + 2 * c, y=5_820_000 - 2 * r)
        for r in (0, 40)
        for c in (0, 60)
    ]
    return write(path, noise(3), crs="EPSG:32633", transform=Affine.identity(), gcps=points)


def rpc_scene(path):
    numbers = " ".join(["0.01"] * 20)
    keys = ("LINE_OFF", "SAMP_OFF", "LAT_OFF", "LONG_OFF", "HEIGHT_OFF", "LINE_SCALE", "SAMP_SCALE")
    tags = dict.fromkeys((*keys, "LAT_SCALE", "LONG_SCALE", "HEIGHT_SCALE"), "1")
    for name in ("LINE_NUM", "LINE_DEN", "SAMP_NUM", "SAMP_DEN"):
        tags[f"{name}_COEFF"] = numbers
    path = write(path, noise(3), crs=None, transform=Affine.identity())
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(ns="RPC", **tags)
    return path


def world_scene(path):
    write(path, noise(3), crs=None, transform=Affine.identity())
    path.with_suffix(".tfw").write_text("2\n0\n0\n-2\n392001\n5819999\n")
    return path


def side_car_scene(path):
    write(path, noise(3), crs=None, transform=Affine.identity())
    path.with_name(path.name + ".aux.xml").write_text(
        "<PAMDataset><SRS>EPSG:32633</SRS><GeoTransform>392000,2,0,5820000,0,-2</GeoTransform>"
        "</PAMDataset>"
    )
    return path


KINDS = [
    (gcp_scene, ("4 GCPs", "gdalwarp -t_srs EPSG:32633 ")),
    (rpc_scene, ("RPC", "gdalwarp -rpc ")),
    (world_scene, ("image.tfw", "gdalwarp -s_srs EPSG:CODE ")),
    (side_car_scene, ("image.tif.aux.xml", "gdalwarp ")),
]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(("make", "words"), KINDS)
def test_places_that_are_not_used_are_said_with_the_command(labelled, make, words):
    source = make(labelled / "image.tif")
    write(labelled / "label.tif", noise(1, high=2), crs=None, transform=Affine.identity())
    said = Said()
    model = make_model(labelled / "model")
    small = Settings(tiling=Tiling(tile=32, overlap=12))
    predict(model, [source], labelled / "map.tif", small, progress=said)
    told = [*opened(labelled).notes, *said.lines, checked(labelled).as_text()]
    found = [text for text in told if "is not used" in text]
    assert len(found) == 3
    assert all(word in text for word in words for text in found)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(("make", "words"), KINDS)
def test_an_error_about_grids_says_it_too(labelled, make, words):
    make(labelled / "image.tif")  # and the label raster has a place of its own
    with pytest.raises(DataError) as caught:
        opened(labelled)
    assert caught.value.code in ("SEG-D025", "SEG-D026")
    assert all(word in caught.value.next_step for word in ("is not used", *words))


def test_a_scene_with_a_place_needs_no_word(labelled):
    write(labelled / "image.tif", noise(3))
    world_file = labelled / "image.tfw"
    world_file.write_text("2\n0\n0\n-2\n392001\n5819999\n")
    assert opened(labelled).notes == ()


def test_alpha_in_a_folder_of_images(labelled):
    """The same rule as in scenes: said, refused where it takes much away, settled by a word."""
    image_HWC = noise(4)
    image_HWC[10:20, 10:20, 3] = 0
    for folder in ("images", "masks"):
        (labelled / folder).mkdir()
    for number in range(3):
        write(labelled / f"images/{number}.tif", image_HWC)
        write(labelled / f"masks/{number}.tif", noise(1, high=3) - 1)

    def opened_folder(**options):
        drawn = {"train": 1, "val": 0, "test": 0}
        return folder_format.open_split(
            labelled, "train", folder_format.Options(split=drawn, **options)
        )

    source = opened_folder()
    assert "band 4 is read as alpha" in source.notes[0]
    with pytest.raises(DataError, match="SEG-D046"):
        source.read(0)
    kept = opened_folder(alpha="none")
    assert len(kept.band_names) == 4
    assert kept.notes == ()
    read_HWC = kept.read(0).image_HWC
    np.testing.assert_array_equal(read_HWC, image_HWC)
    said = opened_folder(alpha="band 4").read(0)
    np.testing.assert_array_equal(said.valid_HW, image_HWC[..., 3] > 0)


def test_a_folder_names_what_lies_beside_its_first_image_and_mask(labelled):
    for folder in ("images", "masks"):
        (labelled / folder).mkdir()
    image = write(labelled / "images" / "a.tif", noise(3))
    mask = write(labelled / "masks" / "a.tif", noise(1, high=2))
    opened_folder = partial(
        folder_format.open_split,
        labelled,
        "train",
        folder_format.Options(split={"train": 1, "val": 0, "test": 0}),
    )
    assert opened_folder().notes == ()
    write(image.with_name("a.tif.msk"), noise(1))
    for path in (image, mask):
        path.with_name("a.tif.aux.xml").write_text(
            '<PAMDataset><PAMRasterBand band="1"><NoDataValue>1</NoDataValue><Scale>2</Scale>'
            "</PAMRasterBand></PAMDataset>"
        )
    told = [note for note in opened_folder().notes if "is not used" in note]
    of_mask, of_image, of_labels = told
    assert "a.tif.msk is not used" in of_mask
    assert "which holds a nodata value, a scale" in of_image
    assert "which holds a nodata value;" in of_labels  # a scale of class indices means nothing


def test_statistics_beside_a_raster_are_no_matter(labelled):
    path = write(labelled / "image.tif", noise(3))
    path.with_name("image.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><Metadata><MDI key="STATISTICS_MEAN">9</MDI>'
        "</Metadata></PAMRasterBand></PAMDataset>"
    )
    write(path.with_name("image.tif.msk"), noise(1))
    assert len(rasters.unused_side_files(path)) == 1
    assert rasters.unused_side_files(path, used=[path.with_name("image.tif.msk")]) == []
