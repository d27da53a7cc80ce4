"""Maps of one scene are the same bytes whatever number and type its file marks nodata with."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

STORED = Path(__file__).parent / "stored_runs"
PREDICT = """
import sys
from pathlib import Path
import terrazzo
place = Path(sys.argv[1])
for scene in sorted(place.glob("*.tif")):
    model = place / f"run_{scene.stem.split('_')[1]}"
    terrazzo.predict(model, scene, place / "maps" / scene.name)
"""
MARKERS = {  # by the type of a model that takes them
    "uint8": [("uint8", 0), ("uint8", 255)],
    "uint16": [("uint16", 0), ("uint16", 255), ("uint16", 65535)],
    "float32": [
        ("int16", 0),
        ("int16", 255),
        ("int16", -9999),
        ("float32", 0.0),
        ("float32", 255.0),
        ("float32", 65535.0),
        ("float32", -9999.0),
        ("float32", float("nan")),
    ],
}


def write_scene(path, dtype, nodata):
    rng = np.random.default_rng(0)
    image_HWC = np.kron(rng.integers(10, 250, (12, 12, 3)), np.ones((8, 8, 1), int)).astype(float)
    image_HWC[:, :21] = nodata
    image_HWC[40:60, 50:70] = nodata
    place = {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 4e5, 0, -0.5, 5.8e6)}
    with rasterio.open(
        path, "w", driver="GTiff", height=96, width=96, count=3, dtype=dtype, nodata=nodata, **place
    ) as opened:
        opened.write(np.moveaxis(image_HWC, 2, 0).astype(dtype))


@pytest.mark.parametrize("backend", ["reference", "torch", "keras"])
def test_maps_do_not_depend_on_the_number_that_marks_nodata(tmp_path, backend):
    for model_dtype, markers in MARKERS.items():
        run = Path(shutil.copytree(STORED / backend, tmp_path / f"run_{model_dtype}"))
        card = run / "model" / "model.toml"
        text = card.read_text(encoding="utf-8")
        card.write_text(text.replace('dtype = "uint8"', f'dtype = "{model_dtype}"'), "utf-8")
        for number, marker in enumerate(markers):
            write_scene(tmp_path / f"scene_{model_dtype}_{number}.tif", *marker)
    answer = subprocess.run(
        [sys.executable, "-c", PREDICT, tmp_path], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    maps = {}
    for path in (tmp_path / "maps").glob("*.tif"):
        with rasterio.open(path) as opened:
            maps[path.name] = opened.read(1)
    assert len(maps) == sum(map(len, MARKERS.values()))
    first = maps["scene_uint8_0.tif"]
    assert len(np.unique(first)) > 2  # nodata and more than one class
    for name, found in maps.items():
        np.testing.assert_array_equal(found, first, err_msg=name)
