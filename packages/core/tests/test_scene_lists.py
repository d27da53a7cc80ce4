"""Lists of scenes for prediction: TOML, CSV, patterns of names, STAC; and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import rasterio

from terrazzo.base.errors import ConfigError, DataError, TerrazzoError
from terrazzo.base.progress import Silent
from terrazzo.inference import scene_lists
from terrazzo.inference.outputs import Settings
from terrazzo.inference.predict import predict
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.testing.scenes import UTM, make_model, make_scene

NAMES = ("B02", "B03", "B04")
SHAPE = (40, 50)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two scenes with a file for each band, the same stacked, and a model of their bands."""
    root = tmp_path_factory.mktemp("scenes")
    make_model(root / "model", names=NAMES)
    make_model(root / "nameless")
    (root / "tiles").mkdir()
    for number, tile in enumerate(("T32_a", "T33_b")):
        stacked = make_scene(root / f"{tile}.tif", (*SHAPE, 3), seed=number, names=NAMES)
        with rasterio.open(stacked) as dataset:
            bands = dataset.read()
        for name, band_HW in zip(NAMES, bands, strict=True):
            write(root / "tiles" / f"{tile}_{name}.tif", band_HW)
        predict_one(root / "model", [stacked], root / f"{tile}_expected.tif")
    write(root / "tiles" / "T32_a_TCI.tif", bands[0])  # of no band of the model
    return root


def write(path: Path, band_HW, **more: Any) -> None:
    with rasterio.open(
        path, "w", driver="GTiff", height=SHAPE[0], width=SHAPE[1], count=1, dtype="uint8",
        **{**UTM, **more},
    ) as dataset:  # fmt: skip
        dataset.write(band_HW, 1)


def predict_one(model, inputs, out, **settings):
    settings = Settings(**{"tiling": Tiling(tile=32, overlap=12), **settings})
    return predict(model, inputs, out, settings, progress=Silent())


def check_maps(place, source, out, *, model="model", **settings) -> None:
    """Predict the scenes of a list, and compare their maps with those of the stacked scenes."""
    scenes = scene_lists.read(str(source))
    written = predict_one(place / model, scenes, out, **settings)
    assert [each.path.name for each in written] == ["T32_a.tif", "T33_b.tif"]
    for each in written:
        expected = place / f"{each.path.stem}_expected.tif"
        assert each.path.read_bytes() == expected.read_bytes()


def toml_of(place: Path, text: str) -> Path:
    path = place / "scenes.toml"
    path.write_text(text)
    return path


def test_csv_with_masks(tmp_path):
    """As --mask; a cell with commas is quoted, an empty one is no mask."""
    for name in ("a.tif", "b.tif", "qa.tif", "scl.tif"):
        (tmp_path / name).write_bytes(b"II*\0")
    table = 'image_1,mask_1,mask_2\na.tif,"bits:1,3=qa.tif",sentinel2_scl=scl.tif\nb.tif,,\n'
    first, second = scene_lists.read(str(csv_of(tmp_path, table)))
    assert [file.path.name for file in first.files] == ["a.tif"]
    assert [(path, mask.bits) for path, mask in first.masks[:1]] == [(tmp_path / "qa.tif", (1, 3))]
    assert first.masks[1][1].kind == "sentinel2_scl"
    assert second.masks == ()
    with pytest.raises(ConfigError, match="SEG-X109") as caught:
        scene_lists.read(str(csv_of(tmp_path, "image_1,mask\na.tif,qa.tif\n")))
    assert "line 2" in caught.value.problem


def csv_of(place: Path, text: str, encoding="utf-8") -> Path:
    path = place / "scenes.csv"
    path.write_text(text, encoding=encoding)
    return path


def test_toml(place, tmp_path):
    images = {
        tile: ", ".join(f'"tiles/{tile}_{name}.tif"' for name in NAMES)
        for tile in ("T32_a", "T33_b")
    }
    text = f"""
    band_names = ["B02", "B03", "B04"]
    [[scenes]]
    name = "T32_a"
    images = [{images["T32_a"]}]
    label = "is_not_there.tif"
    area = "nor_this.geojson"
    [[scenes]]
    name = "T33_b"
    images = [{images["T33_b"]}]
    """
    check_maps(place, toml_of(place, text), tmp_path)


@pytest.mark.parametrize(
    ("header", "separator", "encoding"),
    [
        ("name,B02,B03,B04", ",", "utf-8"),
        ("name;B02;B03;B04", ";", "utf-8-sig"),
        ("name,image_1,image_2,image_3", ",", "utf-8"),
    ],
)
def test_csv(place, tmp_path, header, separator, encoding):
    rows = [[tile, *(f"tiles/{tile}_{name}.tif" for name in NAMES)] for tile in ("T32_a", "T33_b")]
    lines = [header, *map(separator.join, rows)]
    # Files by their place in the row have no names: bands are in the order of the model's.
    check_maps(place, csv_of(place, "\r\n".join(lines), encoding), tmp_path)


@pytest.mark.parametrize("pattern", ["{tile}_{band}.tif", "{a}_{b}_{band}.tif"])
def test_pattern(place, tmp_path, pattern):
    check_maps(place, place / "tiles" / pattern, tmp_path)


def test_pattern_with_folders_and_the_band_first(place, tmp_path):
    for tile in ("T32_a", "T33_b"):
        for name in NAMES:
            path = tmp_path / "in" / tile[:3] / f"{name}_{tile[-1]}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((place / "tiles" / f"{tile}_{name}.tif").read_bytes())
            path.with_name(f".{path.name}").write_bytes(b"of another program")
    check_maps(place, tmp_path / "in" / "{tile}" / "{band}_{part}.tif", tmp_path / "out")


def test_the_band_is_the_shortest_part_of_a_name_that_fits(tmp_path):
    for name in ("B02_T32_2021.tif", "B03_T32_2021.tif"):
        (tmp_path / name).write_bytes(b"")
    (scene,) = scene_lists.read(str(tmp_path / "{band}_{rest}.tif"))
    assert [file.names for file in scene.files] == [(("B02",),), (("B03",),)]
    assert scene.name == Path("T32_2021")


def test_names_of_files_may_be_others_than_the_models_where_a_person_says_so(place, tmp_path):
    model = make_model(tmp_path / "model", names=("blue", "green", "red"))
    scenes = scene_lists.read(str(place / "tiles" / "{tile}_{band}.tif"))
    with pytest.raises(DataError, match="SEG-D090"):
        predict_one(model, scenes, tmp_path / "maps")
    (written, _) = predict_one(model, scenes, tmp_path / "maps", bands=NAMES)
    assert written.path.read_bytes() == (place / "T32_a_expected.tif").read_bytes()


def test_bands_of_a_nameless_model_are_named_in_its_order(place, tmp_path):
    source = place / "tiles" / "{tile}_{band}.tif"
    with pytest.raises(ConfigError, match="--bands") as caught:
        predict_one(place / "nameless", scene_lists.read(str(source)), tmp_path)
    assert caught.value.code == "SEG-X101"
    assert "B02, B03, B04" in str(caught.value.observed)
    check_maps(place, source, tmp_path, model="nameless", bands=NAMES)
    other = predict_one(
        place / "nameless", scene_lists.read(str(source)), tmp_path / "other", bands=NAMES[::-1]
    )
    assert other[0].path.read_bytes() != (place / "T32_a_expected.tif").read_bytes()


def test_another_order_than_the_models_is_refused(place, tmp_path):
    scenes = scene_lists.read(str(place / "tiles" / "{tile}_{band}.tif"))
    with pytest.raises(DataError, match="SEG-D020"):
        predict_one(place / "model", scenes, tmp_path, bands=NAMES[::-1])


def test_a_missing_band_is_named_with_its_scene(place, tmp_path):
    for path in (place / "tiles").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "T33_b_B03.tif").unlink()
    scenes = scene_lists.read(str(tmp_path / "{tile}_{band}.tif"))
    with pytest.raises(DataError, match="T33_b holds the band 'B03'") as caught:
        predict_one(place / "model", scenes, tmp_path / "out")
    assert caught.value.code == "SEG-D090"
    assert not (tmp_path / "out").exists()


# STAC


def asset(name: str, tile: str, **more: Any) -> dict[str, Any]:
    return {
        "href": f"./tiles/{tile}_{name}.tif",
        "type": "image/tiff; application=geotiff",
        "roles": ["data"],
        **more,
    }


def item(tile: str, kind: str) -> dict[str, Any]:
    """An item whose bands are known by their keys, or by their names in 1.0 or 1.1."""
    common = dict(zip(NAMES, ("blue", "green", "red"), strict=True))
    match kind:
        case "keys":
            assets = {name: asset(name, tile) for name in NAMES}
        case "eo:bands":
            assets = {
                common[name]: asset(
                    name, tile, **{"eo:bands": [{"name": name, "common_name": common[name]}]}
                )
                for name in NAMES
            }
        case _:
            assets = {f"image_{name}": asset(name, tile, bands=[{"name": name}]) for name in NAMES}
    assets["thumbnail"] = {
        "href": "https://host/t.png",
        "type": "image/png",
        "roles": ["thumbnail"],
    }
    rgb = [{"name": name} for name in NAMES]
    assets["visual"] = asset("TCI", tile, roles=["visual"], bands=rgb)
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": tile,
        "geometry": None,
        "properties": {"datetime": "2021-06-01T00:00:00Z"},
        "links": [],
        "assets": assets,
    }


def save(path: Path, document: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("kind", ["keys", "eo:bands", "bands"])
def test_an_item_collection(place, tmp_path, kind):
    items = [item(tile, kind) for tile in ("T32_a", "T33_b")]
    source = save(place / "items.json", {"type": "FeatureCollection", "features": items})
    check_maps(place, source, tmp_path)


@pytest.mark.parametrize("both", [False, True])
def test_assets_of_jpeg_2000(place, tmp_path, both):
    """Taken where there is no GeoTIFF; an item that has each band in both is not ambiguous."""
    document = item("T32_a", "bands")
    jp2s = {}
    for name in NAMES:
        source, path = place / "tiles" / f"T32_a_{name}.tif", tmp_path / f"{name}.jp2"
        lossless = {"QUALITY": "100", "REVERSIBLE": "YES"}
        rasterio.shutil.copy(source, path, driver="JP2OpenJPEG", **lossless)
        more = {"href": str(path), "type": "image/jp2", "bands": [{"name": name}]}
        jp2s[f"{name}-jp2"] = asset(name, "T32_a", **more)
    document["assets"] = {**jp2s, **(document["assets"] if both else {})}
    (scene,) = scene_lists.read(str(save(place / f"jp2_{both}.json", document)))
    assert {file.path.suffix for file in scene.files} == {".tif" if both else ".jp2"}
    predict_one(place / "model", [scene], tmp_path / "map.tif")
    expected = place / "T32_a_expected.tif"
    assert (tmp_path / "map.tif").read_bytes() == expected.read_bytes()


def test_a_catalog_of_a_collection_of_items(place, tmp_path):
    for tile in ("T32_a", "T33_b"):
        save(place / f"{tile}.json", item(tile, "keys"))
    links = [{"rel": "item", "href": f"../{tile}.json"} for tile in ("T32_a", "T33_b")]
    links += [{"rel": "root", "href": "https://host/root.json"}]
    save(place / "a b" / "collection.json", {"type": "Collection", "links": links})
    links = [{"rel": "child", "href": "a%20b/collection.json"}, {"rel": "child", "href": "c.json"}]
    check_maps(place, save(place / "c.json", {"type": "Catalog", "links": links}), tmp_path)


def test_common_names(place, tmp_path):
    model = make_model(tmp_path / "model", names=("blue", "green", "red"))
    document = item("T32_a", "eo:bands")
    document["assets"] = {f"the {key}": each for key, each in document["assets"].items()}
    scenes = scene_lists.read(str(save(place / "one.json", document)))
    predict_one(model, scenes, tmp_path / "map.tif")
    expected = place / "T32_a_expected.tif"
    assert (tmp_path / "map.tif").read_bytes() == expected.read_bytes()


def test_an_asset_with_bands_that_are_not_its_own(place, tmp_path):
    document = item("T32_a", "keys")
    document["assets"]["B03"]["bands"] = [{"name": "B03"}, {"name": "B05"}]
    scenes = scene_lists.read(str(save(place / "wrong.json", document)))
    with pytest.raises(DataError, match="SEG-D092"):
        predict_one(place / "model", scenes, tmp_path / "map.tif")
    document["assets"]["B03"] = asset("B03", "T32_a", bands=[{"name": "B04"}])
    document["assets"]["B04"] = asset("B04", "T32_a", bands=[{"name": "B04"}])
    document["assets"]["one"] = document["assets"].pop("B04")
    document["assets"]["two"] = document["assets"].pop("B03")
    scenes = scene_lists.read(str(save(place / "twice.json", document)))
    with pytest.raises(DataError, match="SEG-D092"):
        predict_one(place / "model", scenes, tmp_path / "map.tif", bands=("B02", "B04", "B04"))


@pytest.mark.parametrize("href", ["https://host/B02.tif", "s3://bucket/B02.tif", "/vsizip/a/b.tif"])
def test_remote_files_are_asked_for(place, tmp_path, href):
    document = item("T32_a", "keys")
    document["assets"]["B02"]["href"] = href
    source = save(place / "remote.json", document)
    with pytest.raises(DataError, match="--allow-remote") as caught:
        predict_one(place / "model", scene_lists.read(str(source)), tmp_path / "map.tif")
    assert caught.value.code == "SEG-D030"
    (scene,) = scene_lists.read(str(source), allow_remote=True)
    assert scene.files[0].path.gdal_name.startswith("/vsi")
    table = toml_of(place, f'scenes = [{{ images = ["{href}"] }}]')
    with pytest.raises(DataError, match="SEG-D030"):
        scene_lists.read(str(table))
    (scene,) = scene_lists.read(str(table), allow_remote=True)
    assert scene.files[0].path.gdal_name.startswith("/vsi")


# What is refused


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("scenes.txt", "a", "SEG-X100"),
        ("scenes.toml", "scenes = []", "SEG-X002"),
        ("scenes.toml", 'scenes = [{ images = ["a.tif"], nmae = "a" }]', "SEG-X001"),
        ("scenes.toml", "scenes = [{ images = [3] }]", "SEG-X002"),
        ("scenes.toml", 'scenes = [{ images = ["a.tif"], name = "../a" }]', "SEG-X101"),
        ("scenes.toml", 'scenes = [{ images = ["a.tif"], name = "/a" }]', "SEG-X101"),
        ("scenes.toml", 'scenes = [{ images = ["a\\u0000.tif"] }]', "SEG-X002"),
        ("scenes.toml", "scenes = [", "SEG-X006"),
        ("scenes.csv", "", "SEG-X101"),
        ("scenes.csv", "name,image_1\n", "SEG-X101"),
        ("scenes.csv", "name,image_1\na\n", "SEG-X101"),
        ("scenes.csv", "name,image_1\na,\n", "SEG-X101"),
        ("scenes.csv", "name,image_1,B02\na,b,c\n", "SEG-X101"),
        ("scenes.csv", "name,B02,B02\na,b,c\n", "SEG-X101"),
        ("scenes.csv", "name\na\n", "SEG-X101"),
        ("scenes.csv", "name,B02\na,b\0c\n", "SEG-X101"),
        ("scenes.csv", b"name,B02\na,\xff\n", "SEG-X100"),
        ("item.json", "[]", "SEG-X104"),
        ("item.json", "{", "SEG-X104"),
        ("item.json", '{"type": "Point"}', "SEG-X104"),
        ("item.json", '{"type": "Feature", "assets": []}', "SEG-X104"),
        ("item.json", '{"type": "Feature", "assets": {"a": 1}}', "SEG-X104"),
        ("item.json", '{"type": "FeatureCollection", "features": [1]}', "SEG-X104"),
        ("item.json", '{"type": "FeatureCollection", "features": []}', "SEG-D091"),
        ("item.json", '{"type": "Collection", "links": [{"rel": "item"}]}', "SEG-X101"),
        (
            "item.json",
            '{"type": "Catalog", "links": [{"rel": "child", "href": "https://host/a.json"}]}',
            "SEG-D030",
        ),
    ],
)
def test_lists_that_cannot_be(tmp_path, name, text, code):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(TerrazzoError) as caught:
        scene_lists.read(str(path))
    assert caught.value.code == code, caught.value


@pytest.mark.parametrize(
    ("pattern", "code"),
    [
        ("{tile}.tif", "SEG-X102"),
        ("{band}_{band}.tif", "SEG-X102"),
        ("{band}_{}.tif", "SEG-X102"),
        ("{band}_{tile", "SEG-X102"),
        ("{band}.tif", "SEG-D091"),
        ("none/{tile}_{band}.tif", "SEG-D091"),
        ("https://host/{band}.tif", "SEG-D030"),
    ],
)
def test_patterns_that_cannot_be(tmp_path, monkeypatch, pattern, code):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TerrazzoError) as caught:
        scene_lists.read(pattern)
    assert caught.value.code == code, caught.value


def test_files_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigError):
            scene_lists.read(str(path))
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match="named pipe"):
        scene_lists.read(str(tmp_path / "pipe.csv"))


def test_the_map_must_not_replace_a_file_of_the_scene(place):
    scenes = scene_lists.read(str(place / "tiles" / "{tile}_{band}.tif"))
    for out in ("T32_a_B03.tif", "T32_a_B02.tif"):
        with pytest.raises(ConfigError, match="SEG-X032"):
            predict_one(place / "model", scenes[:1], place / "tiles" / out, overwrite=True)
    with pytest.raises(ConfigError, match="SEG-X032"):
        predict_one(place / "model", [*scenes, scenes[0]], place / "twice")


def command(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "terrazzo", "predict", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )


def test_the_command_takes_lists_beside_files(place, tmp_path):
    tiling = ("--tile", "32", "--overlap", "12")
    done = command(
        "model", "T33_b.tif", "--scene", "tiles/{tile}_{band}.tif", "--out", tmp_path / "maps",
        *tiling, cwd=place,
    )  # fmt: skip
    assert done.returncode == 2  # both are called T33_b
    assert "SEG-X032" in done.stderr
    (tmp_path / "other.tif").write_bytes((place / "T33_b.tif").read_bytes())
    done = command(
        "model", tmp_path / "other.tif", "--scene", "tiles/{tile}_{band}.tif",
        "--out", tmp_path / "maps", *tiling, cwd=place,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = ("T32_a", "T33_b", "other")
    assert sorted(path.name for path in (tmp_path / "maps").glob("*.tif")) == [
        f"{name}.tif" for name in names
    ]
    nothing = command("model", "--out", tmp_path / "maps", cwd=place)
    assert nothing.returncode == 2
    assert "SEG-X100" in nothing.stderr
    wrong = command("model", "T33_b.tif", "--align", "bend", "--out", "m.tif", cwd=place)
    assert wrong.returncode == 2
    assert "'exact' or 'reproject'" in wrong.stderr
