"""The recipes of the five systems load, train two steps and are scored, on samples."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from terrazzo.base.recipe import load_recipe
from terrazzo.testing.dataset_trees import WRITERS

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted((ROOT / "recipes" / "systems").glob("*.toml"))
REAL = {
    "oxford_pet": "oxford_pet/oxford-iiit-pet",
    "part_masks": "sperm_parts",
    "colour_tiles": "dubai_aerial/Semantic segmentation dataset",
}
"""Real samples below TERRAZZO_DATA; of sets that may not be passed on a tree is made."""

ALWAYS = (
    "training.batch_size=1",
    "training.epochs=1",
    "data.limit={train=2, val=1, test=1}",
    "validation.batch_size=1",
)
NEEDS = {
    "a_gta_then_city_decoder": "a_gta",
}


def train(folder, recipe, *assignments):
    """Train two steps in a process of its own; return the evaluation."""
    words = [word for text in (*ALWAYS, *assignments) for word in ("--set", text)]
    answer = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "run.py"), "--config", str(recipe), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    name = load_recipe(recipe).name
    return json.loads((folder / "runs" / name / "evaluation" / "test.json").read_text())


def source(folder, recipe):
    """Return what points a recipe at a sample of its data set."""
    data = load_recipe(recipe).data
    if data.format in REAL:
        if "TERRAZZO_DATA" not in os.environ:
            pytest.skip("TERRAZZO_DATA is not set")
        root = Path(os.environ["TERRAZZO_DATA"]) / REAL[data.format]
        labels = ("data.labels=dubai_6",) if data.format == "colour_tiles" else ()
        return (f"data.root={root}", *labels)
    tree = folder / data.format
    WRITERS[data.format](tree)
    return (f"data.root={tree}",)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_system_trains_two_steps(tmp_path, recipe):
    """At the recipe's own sizes, from random weights: no weights can be fetched here."""
    random = ("model.options.pretrained=false",)
    if recipe.stem in NEEDS:
        first = recipe.with_stem(NEEDS[recipe.stem])
        train(tmp_path, first, *source(tmp_path, first), *random)
    knows_pretrained = load_recipe(recipe).model.name != "inception_resnet_v2_unet"
    result = train(
        tmp_path, recipe, *source(tmp_path, recipe), *(random if knows_pretrained else ())
    )
    assert result["images"] == 1
    assert result["pixels_counted"] > 0
