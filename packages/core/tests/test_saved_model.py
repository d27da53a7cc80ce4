"""What a model folder keeps beside the weights, and that it is used again."""

import json

import numpy as np
import pytest

from terrazzo.base.recipe import Config
from terrazzo.runs import saved_model
from terrazzo.testing.dataset_trees import WRITERS
from terrazzo.workflows import evaluate as evaluate_workflow
from terrazzo.workflows import train as train_workflow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of the reference backend whose recipe says bfloat16."""
    place = tmp_path_factory.mktemp("saved_model")
    WRITERS["camvid"](place / "camvid")
    recipe = Config.model_validate(
        {
            "backend": "reference",
            "data": {"format": "camvid", "root": str(place / "camvid")},
            "model": {"name": "pixel_softmax"},
            "training": {"steps": 1, "precision": "bfloat16"},
        }
    )
    train_workflow.train(recipe, place / "run")
    return place / "run"


def test_the_precision_of_the_recipe_is_recorded_and_used_again(run):
    card, trainer = saved_model.load(run / "model")
    assert card.precision == "bfloat16"
    assert trainer._training.precision == "bfloat16"
    assert json.loads((run / "run.json").read_text())["precision"] == "bfloat16"


def test_evaluating_builds_the_model_in_the_precision_of_the_recipe(run, monkeypatch):
    from terrazzo.testing.reference.backend import ReferenceBackend

    build, seen = ReferenceBackend.build, []

    def building(self, model, training, *rest, **named):
        seen.append(training.precision)
        return build(self, model, training, *rest, **named)

    monkeypatch.setattr(ReferenceBackend, "build", building)
    evaluate_workflow.evaluate(run, "val")
    assert seen == ["bfloat16"]


def test_a_model_folder_of_before_the_precision_was_stored_loads(run, tmp_path):
    old = tmp_path / "model"
    old.mkdir()
    text = (run / "model/model.toml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("precision")]
    (old / "model.toml").write_text("\n".join(lines))
    (old / "weights.safetensors").write_bytes((run / "model/weights.safetensors").read_bytes())
    card, trainer = saved_model.load(old)
    assert card.precision == "auto"
    image_BHWC = np.zeros((1, 4, 4, len(card.bands)), np.uint8)
    assert trainer.predict(image_BHWC).shape[:3] == (1, 4, 4)
