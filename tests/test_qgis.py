"""What QGIS itself shows of a map and of its polygons, without a screen.

Runs the Python of the system, which is where a distribution's package ``python3-qgis`` lies, or the
one that TERRAZZO_QGIS_PYTHON names.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from affine import Affine

from terrazzo.base.progress import Silent
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.inference import map_writer, polygonize, predict, qgis_styles
from terrazzo.inference.outputs import Settings
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.io.rasters import RasterInfo
from terrazzo.testing.scenes import LABELS, make_model, make_scene

PYTHON = Path(os.environ.get("TERRAZZO_QGIS_PYTHON", "/usr/bin/python3"))
WITHOUT_A_SCREEN = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "PYTHONPATH": ""}
ODD = LabelMap(
    "odd",
    tuple(
        LabelClass(name, colour, (k,))
        for k, (name, colour) in enumerate(
            [('Wald & <"x">', "#00AA10"), ("l'eau", "#1020FF"), ("ä ö", "#FF8000")]
        )
    ),
)

PROGRAM = """
import json, os, sys
from qgis.core import (
    QgsApplication, QgsDistanceArea, QgsProject, QgsRasterLayer, QgsRenderContext, QgsVectorLayer
)
application = QgsApplication([], False)
application.initQgis()

def of_map(path):
    layer = QgsRasterLayer(path)
    renderer = layer.renderer()
    return {
        "kind": renderer.type(),
        "legend": [[c.value, c.label, c.color.name()] for c in renderer.classes()],
    }

def of_polygons(path, side):
    layer = QgsVectorLayer(path, "polygons", "ogr")
    renderer = layer.renderer()
    measure = QgsDistanceArea()
    measure.setSourceCrs(layer.crs(), QgsProject.instance().transformContext())
    measure.setEllipsoid(layer.crs().ellipsoidAcronym())
    context = QgsRenderContext()
    renderer.startRender(context, layer.fields())
    features = [
        [
            feature["class_name"],
            renderer.symbolForFeature(feature, context).color().name(),
            feature["area_m2"],
            # QGIS takes sides for geodesics: short ones, which those of pixels hardly leave.
            measure.measureArea(feature.geometry().densifyByDistance(side)),
        ]
        for feature in layer.getFeatures()
    ]
    renderer.stopRender(context)
    return {
        "kind": renderer.type(),
        "legend": [
            [c.value(), c.label(), c.symbol().color().name()] for c in renderer.categories()
        ],
        "features": features,
        "ellipsoidal": measure.willUseEllipsoid(),
    }

path, side = sys.argv[1:]
print(json.dumps([of_map(f"{path}.tif"), of_polygons(f"{path}.gpkg", float(side))]), flush=True)
os._exit(0)  # QGIS may fall over its own layers when Python clears them away
"""


def in_qgis(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [PYTHON, "-c", program, *arguments]
    return subprocess.run(
        command, env=WITHOUT_A_SCREEN, capture_output=True, text=True, check=False
    )


def qgis_is_missing() -> str:
    """Say why there is no QGIS; empty where there is one."""
    if not PYTHON.exists():
        return f"no {PYTHON}"
    done = in_qgis("import qgis.core")
    if done.returncode == 0:
        return ""
    return f"{PYTHON} cannot import qgis.core: {done.stderr.strip().splitlines()[-1]}"


@pytest.fixture(scope="module", autouse=True)
def _needs_qgis():
    if reason := qgis_is_missing():
        pytest.skip(f"{reason} (apt-get install python3-qgis)")


def shown(path: Path, side: float) -> list[dict]:
    """Return what QGIS makes of a map and its polygons, with areas of sides of that length."""
    done = in_qgis(PROGRAM, str(path.with_suffix("")), str(side))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def legend(label_map: LabelMap) -> list[list]:
    return [[k, each.name, each.colour.lower()] for k, each in enumerate(label_map.classes)]


@pytest.mark.slow
@pytest.mark.parametrize("cog", [False, True])
def test_qgis_lists_the_classes_of_a_predicted_map(tmp_path, cog):
    pytest.importorskip("pyogrio")
    source = make_scene(tmp_path / "s.tif", (90, 70, 3), nodata=0)
    settings = Settings(
        tiling=Tiling(tile=64, overlap=12),
        polygons=tmp_path / "map.gpkg",
        cloud_optimised=cog,
    )
    model = make_model(tmp_path / "model")
    predict.predict(model, source, tmp_path / "map.tif", settings, progress=Silent())
    of_map, of_polygons = shown(tmp_path / "map.tif", 0.5)
    assert of_map == {"kind": "paletted", "legend": legend(LABELS)}
    assert of_polygons["kind"] == "categorizedSymbol"
    assert of_polygons["legend"] == [[name, name, colour] for _, name, colour in legend(LABELS)]
    colours = {each.name: each.colour.lower() for each in LABELS.classes}
    assert len(of_polygons["features"]) > 100
    assert all(colours[name] == colour for name, colour, *_ in of_polygons["features"])


PLACES = {
    "EPSG:32633": Affine(10, 0, 392_000, 0, -10, 5_820_000),
    "EPSG:3857": Affine(20, 0, 1_000_000, 0, -20, 8_000_000),
    "EPSG:3035": Affine(30, 0, 4_500_000, 0, -30, 3_200_000),
    "EPSG:4326": Affine(1e-3, 0, 13, 0, -1e-3, 52),
}


@pytest.mark.slow
@pytest.mark.parametrize("crs", PLACES)
def test_names_of_any_kind_and_areas_are_those_of_qgis(tmp_path, crs):
    pytest.importorskip("pyogrio")
    noise = np.random.default_rng(0).random((3, 200, 160))
    layers_KHW = [cv2.GaussianBlur(each, (0, 0), 4) for each in noise]
    labels_HW = np.argmax(layers_KHW, axis=0).astype(np.uint8)
    named = rasterio.crs.CRS.from_user_input(crs)
    size = RasterInfo(200, 160, ("class",), "uint8", 255, named, PLACES[crs], "uint8")
    path = tmp_path / "m.tif"
    map_writer.write_map(path, size, [labels_HW], ODD)
    qgis_styles.write_map_style(path.with_suffix(".qml"), ODD)
    polygonize.write(path.with_suffix(".gpkg"), [labels_HW], size, ODD)
    of_map, of_polygons = shown(path, size.pixel_size[0] / 2)
    assert of_map["legend"] == legend(ODD)
    assert of_polygons["legend"] == [[name, name, colour] for _, name, colour in legend(ODD)]
    assert of_polygons["ellipsoidal"]
    told, measured = np.array([areas for _, _, *areas in of_polygons["features"]]).T
    assert len(told) > 100
    np.testing.assert_allclose(told, measured, rtol=1e-6)
