"""Every recipe in the repository loads and names things that exist."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from terrazzo.base import config_parsing
from terrazzo.base.recipe import load_recipe
from terrazzo.data import datasets
from terrazzo.models import backends
from terrazzo.workflows.study.plan import load_study, plan_study

ROOT = Path(__file__).resolve().parents[1]
STUDIES = sorted((ROOT / "recipes" / "studies").glob("*.toml"))
DEMOS = [backends.demo_recipe(backend) for backend in ("torch", "keras")]
RECIPES = [*sorted(set((ROOT / "recipes").rglob("*.toml")) - set(STUDIES)), *DEMOS]
SCALES = ("full", "small")


def test_there_are_recipes():
    assert len(RECIPES) >= 4


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_recipe_loads_and_says_how_it_is_run(path):
    recipe = load_recipe(path)
    assert recipe.model.name in backends.load(recipe.backend).models()
    module = datasets.load_format(recipe.data.format)
    config_parsing.parse(module.Options, recipe.data.options, where=path)
    datasets.load_labels(recipe.data)
    head = path.read_text().partition("\n\n")[0]
    assert head.startswith("# terrazzo run ")
    assert "Data:" in head
    assert "Time:" in head
    assert "Scores:" in head


def test_there_are_five_studies():
    assert len(STUDIES) == 5


def planned(path, scale):
    settings = load_study(path, (f"scale={scale}",))
    return plan_study(settings, path, Path("out")).runs


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_is_planned_at_both_scales_and_says_what_is_corrected(path):
    for scale in SCALES:
        for run in planned(path, scale):
            module = datasets.load_format(run.recipe.data.format)
            config_parsing.parse(module.Options, run.recipe.data.options, where=path)
            if scale == "small":  # no weights can be counted on where it is tried out
                assert not run.recipe.model.options.get("pretrained", False)
    head = path.read_text().partition("\n\n")[0]
    assert head.startswith(f"# terrazzo study recipes/studies/{path.name}")
    for word in ("Question:", "Data:", "Time:", "Original:", "Corrected:", "At scale small:"):
        assert word in head


OPTIONS = """
import importlib, json, sys
from terrazzo.base import config_parsing
from terrazzo.models import backends
for path, name, options in json.loads(sys.argv[2]):
    file = importlib.import_module(f"{backends.PACKAGES[sys.argv[1]]}.models.{name}")
    config_parsing.parse(file.Options, options, where=path)
"""


@pytest.mark.parametrize("backend", ["torch", "keras"])
def test_model_options_of_all_recipes_are_known(backend):
    """In a process of its own, since the files of the models import the framework."""
    recipes = [(str(path), load_recipe(path)) for path in RECIPES]
    recipes += [
        (f"{path} {scale} {run.name}", run.recipe)
        for path in STUDIES
        for scale in SCALES
        for run in planned(path, scale)
    ]
    models = [
        (path, recipe.model.name, recipe.model.options)
        for path, recipe in recipes
        if recipe.backend == backend
    ]
    assert models
    answer = subprocess.run(
        [sys.executable, "-c", OPTIONS, backend, json.dumps(models)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
