"""Every recipe in the repository loads and names things that exist."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from terrazzo.base import config_parsing
from terrazzo.base.recipe import load_recipe
from terrazzo.data import datasets
from terrazzo.models import backends
from terrazzo.workflows.study.plan import load_study, plan_study

ROOT = Path(__file__).resolve().parents[1]
STUDIES = sorted((ROOT / "recipes" / "studies").glob("*.toml"))
ALL = set((ROOT / "recipes").rglob("*.toml"))
OTHER_STUDIES = sorted(p for p in ALL - set(STUDIES) if "runs" in tomllib.loads(p.read_text()))
DEMOS = [backends.demo_recipe(backend) for backend in ("torch", "keras")]
RECIPES = [*sorted(ALL - set(STUDIES) - set(OTHER_STUDIES)), *DEMOS]
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


@pytest.mark.parametrize("path", OTHER_STUDIES, ids=lambda path: path.stem)
def test_another_study_is_planned_and_says_what_it_asks(path):
    assert planned(path, "full")
    head = path.read_text().partition("\n\n")[0]
    assert head.startswith(f"# terrazzo study {path.relative_to(ROOT)}")
    for word in ("Question:", "Data:", "Time:"):
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
        for path, scale in (
            *((path, scale) for path in STUDIES for scale in SCALES),
            *((path, "full") for path in OTHER_STUDIES),
        )
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


def _original(
    recipe: str, settings: dict[str, tuple[object, str]]
) -> list[tuple[str, str, object, str]]:
    return [(recipe, key, value, words) for key, (value, words) in settings.items()]


A = {
    "data.image_size": ([512, 512], "squashed 526×957 into 512×512"),
    "data.normalize": ("image", "standardised each image by itself"),
    "augment.crop": (None, "crops of 512×512"),
    "augment.flip_horizontal": (0.0, "flips, where it had none"),
    "model.options.size": ("b0", ""),
    "training.batch_size": (5, ""),
    "training.epochs": (10, ""),
    "training.loss.soft_iou": (1.0, ""),
    "training.loss.cross_entropy": (0.0, ""),
    "training.optimizer.name": ("adam", ""),
    "training.schedule.learning_rate": (1e-3, ""),
    "training.schedule.name": ("constant", ""),
}
B = {
    "data.labels": ("cityscapes_8", ""),
    "data.image_size": ([512, 512], ""),
    "data.normalize": ("none", "only\n# divided by 255"),
    "augment.flip_horizontal": (0.0, "flips, where the original's hook"),
    "training.batch_size": (None, "its batch size is not published"),
    "training.epochs": (20, ""),
    "training.clip_norm": (1.0, ""),
    "training.optimizer.name": ("adamw", ""),
    "training.schedule.name": ("plateau", ""),
    "training.schedule.learning_rate": (1e-3, ""),
    "training.schedule.patience": (2, ""),
    "validation.patience": (3, ""),
}
D = {
    "data.image_size": ([64, 64], ""),
    "data.normalize": ("imagenet", ""),
    "training.epochs": (30, ""),
    "training.optimizer.amsgrad": (True, ""),
    "training.schedule.gamma": (0.98, ""),
    "training.schedule.learning_rate": (1e-3, ""),
    "validation.every_epochs": (2, ""),
}
E = {
    "data.image_size": ([512, 512], ""),
    "training.epochs": (60, ""),
    "training.optimizer.name": ("adam", ""),
    "training.schedule.learning_rate": (1e-4, ""),
    "training.schedule.gamma": (round(0.1 ** (1 / 60), 4), ""),
    "validation.patience": (18, ""),
    "augment.flip_horizontal": (1.0, "every step draws anew"),
}
FACTS = [
    *_original("a_city", A),
    *_original("a_gta", A | {"data.image_size": ([512, 512], "squashed 526×957 into 512×512")}),
    *_original("a_gta_then_city_decoder", A | {"training.train_part": ("decoder", "")}),
    *_original("b_unet", B | {"model.options.width": (64, ""), "model.options.depth": (4, "")}),
    *_original(
        "b_segformer_b3",
        B | {"model.options.size": ("b3", ""), "model.options.pretrained": ("encoder", "")},
    ),
    *_original(
        "c_deeplabv3",
        {
            "data.image_size": ([580, 780], ""),
            "data.normalize": ("imagenet", "The statistics are the data set's, ImageNet's there"),
            "model.options.pretrained": ("full", ""),
            "model.options.auxiliary": (False, ""),
            "augment.rotations": (5, ""),
            "training.batch_size": (5, ""),
            "training.steps": (1665 // 5 * 10, ""),
            "training.optimizer.name": ("adamw", ""),
            "training.schedule.learning_rate": (1e-3, ""),
        },
    ),
    *_original(
        "d_fcn_pets",
        D
        | {
            "training.batch_size": (64, ""),
            "model.options.encoder_weights": ("v2", ""),
            "model.options.auxiliary": (False, ""),
        },
    ),
    *_original(
        "d_segformer_pets",
        D
        | {
            "training.batch_size": (16, ""),
            "model.options.patch_strides": ([2, 2, 2, 2], ""),
            "model.options.drop_path": (0.0, ""),
        },
    ),
    *_original(
        "e_inception_resnet_v2_unet",
        E
        | {
            "training.batch_size": (8, ""),
            "model.options.pretrained": ("encoder", ""),
            "augment.clahe": (1.5, ""),
        },
    ),
    *_original("e_vit_large", E | {"model.options.encoder": ("vit_large_patch16_384", "")}),
]
"""Recipe, setting, what the original had, and the words of the head that say so
where the recipe has something else."""


@pytest.mark.parametrize(
    ("recipe", "key", "value", "words"), FACTS, ids=[f"{r} {k}" for r, k, *_ in FACTS]
)
def test_what_differs_from_an_original_is_said_in_the_head(recipe, key, value, words):
    path = ROOT / "recipes" / "systems" / f"{recipe}.toml"
    found = load_recipe(path).model_dump(mode="json")
    for name in key.split("."):
        found = found.get(name)
    if found != value:
        assert words
        assert words in path.read_text().partition("\n\n")[0]
