"""Weights and packages of a study's models are looked for before its first step."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from terrazzo.base.errors import TerrazzoError
from terrazzo.workflows.study.plan import load_study, plan_study
from terrazzo.workflows.study.preflight import check_study

RECIPE = """
backend = "torch"
model = { name = "unet", options = { width = 4, depth = 1 } }
training = { epochs = 1, batch_size = 2 }
data = { format = "folder", root = ".", labels = "labels.toml" }
"""
LABELS = """
name = "colours"
classes = [{ name = "red", colour = "#FF0000", raw = [0] },
           { name = "green", colour = "#00FF00", raw = [1] }]
"""
OPTIONS = {
    "sound": "model.options.width=8",
    "misspelt": "model.options.widht=8",
    "no_encoder": 'model.options.pretrained="encoder"',
    "nowhere": 'model={name="segformer",options={pretrained="encoderr"}}',
    "unpinned": 'model={name="segformer",options={pretrained="encoder",size="b3"}}',
    "not_here": 'model={name="segformer",options={pretrained="encoder",size="b0"}}',
    "of_another": 'model={name="segformer",options={pretrained="other.safetensors",size="b0"}}',
    "no_package": 'model={name="vit",options={encoder="vit_tiny_patch16_224"}}',
}
CODES = {
    "misspelt": "SEG-X001",
    "no_encoder": "SEG-X023",
    "nowhere": "SEG-X020",
    "unpinned": "SEG-X021",
    "not_here": "SEG-R020",
    "of_another": "SEG-C020",
    "no_package": "SEG-X180",
}


def test_models_that_cannot_be_built_are_found_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    (tmp_path / "timm.py").write_text("raise ImportError('No module named timm')")
    for kind, array in (("images", np.zeros((32, 32, 3), np.uint8)), ("masks", np.eye(32) > 0)):
        (tmp_path / kind).mkdir()
        for number in range(10):
            Image.fromarray(array.astype(np.uint8)).save(tmp_path / kind / f"{number}.png")
    save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    runs = "".join(f"[[runs]]\nname = '{n}'\nset = ['''{s}''']\n" for n, s in OPTIONS.items())
    for name, text in (("r", RECIPE), ("labels", LABELS), ("s", f"recipe = 'r.toml'\n{runs}")):
        (tmp_path / f"{name}.toml").write_text(text)
    path = tmp_path / "s.toml"
    said = []
    with pytest.raises(TerrazzoError) as refused:
        check_study(plan_study(load_study(path), path, tmp_path / "out"), said.append)
    told = "\n".join([str(refused.value), *said])
    found = {name: code for code, name in re.findall(r"(SEG-\w+): run '(\w+)'", told)}
    assert found == CODES, told
    assert "put it at" in told  # where weights belong that are not here
