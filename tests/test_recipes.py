"""Every recipe in the repository loads and names things that exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from terrazzo import backends, config, datasets

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted((ROOT / "recipes").rglob("*.toml"))


def test_there_are_recipes():
    assert len(RECIPES) >= 4


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_recipe_loads_and_says_how_it_is_run(path):
    recipe = config.load(path)
    assert recipe.model.name in backends.load(recipe.backend).models()
    module = datasets.load_format(recipe.data.format)
    config.parse(module.Options, recipe.data.options, where=path)
    datasets.load_labels(recipe.data)
    head = path.read_text().partition("\n\n")[0]
    assert head.startswith("# terrazzo run ")
    assert "Data:" in head
    assert "Time:" in head
    assert "Scores:" in head
