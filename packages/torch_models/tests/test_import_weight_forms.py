"""The forms weights come in: one reader for ``pretrained`` and for `terrazzo import`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from terrazzo.base.errors import CheckpointError
from terrazzo_torch import pretrained
from terrazzo_torch.models import segformer, unet

Weights = dict[str, Tensor]


def _network() -> nn.Module:
    torch.manual_seed(0)
    return unet.build(unet.SMALL, 3, 2)


def _prefixed(prefix: str, weights: Weights) -> Weights:
    return {f"{prefix}{name}": tensor for name, tensor in weights.items()}


def _lightning(path: Path, weights: Weights) -> Path:
    held = _prefixed("model.", weights) | {"criterion.weight": torch.ones(2)}
    torch.save({"state_dict": held, "epoch": 3, "callbacks": {}}, path / "last.ckpt")
    return path / "last.ckpt"


def _saved(content: Callable[[Weights], object]) -> Callable[[Path, Weights], Path]:
    def write(path: Path, weights: Weights) -> Path:
        torch.save(content(weights), path / "w.pth")
        return path / "w.pth"

    return write


def _own_run(path: Path, weights: Weights) -> Path:
    (path / "model").mkdir()
    save_file(_prefixed("weights/", weights), path / "model" / "weights.safetensors")
    return path


def _sharded(path: Path, weights: Weights) -> Path:
    names = sorted(weights)
    parts = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: weights[name].contiguous() for name in part}, path / file)
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    return path


FORMS = {
    "Lightning": _lightning,
    "model_state_dict": _saved(lambda w: {"model_state_dict": w, "step": 1}),
    "state_dict of DDP": _saved(lambda w: {"state_dict": _prefixed("module.", w)}),
    "DDP in Lightning": _saved(lambda w: {"state_dict": _prefixed("model.module.", w)}),
    "compiled": _saved(lambda w: _prefixed("_orig_mod.", w)),
    "a run of ours": _own_run,
    "sharded": _sharded,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_usual_form_is_read(form: str, tmp_path: Path) -> None:
    weights = _network().state_dict()
    place = FORMS[form](tmp_path, dict(weights))
    read = pretrained.read_weights(place, weights.keys())
    assert read.keys() == weights.keys()
    assert all(torch.equal(read[name], weights[name]) for name in weights)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda index: index["weight_map"].update({"x": "../one.safetensors"}), "../one"),
        (lambda index: index["weight_map"].update({"x": "three.safetensors"}), "three"),
        (lambda index: index["weight_map"].update({"extra": "one.safetensors"}), "extra"),
    ],
)
def test_an_index_that_does_not_fit_its_files_is_refused(
    change: Callable[[dict], None], told: str, tmp_path: Path
) -> None:
    _sharded(tmp_path, dict(_network().state_dict()))
    file = tmp_path / "model.safetensors.index.json"
    index = json.loads(file.read_text())
    change(index)
    file.write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="SEG-C050") as caught:
        pretrained.read_weights(tmp_path)
    assert told in str(caught.value)


def test_a_shard_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"a": Code()}, tmp_path / "one.bin")
    index = {"weight_map": {"a": "one.bin"}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="SEG-S003"):
        pretrained.read_weights(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_sha256_of_several_files_is_refused(tmp_path: Path) -> None:
    _sharded(tmp_path, dict(_network().state_dict()))
    with pytest.raises(CheckpointError, match="SEG-S001"):
        pretrained.compared(tmp_path, "0" * 64)


@pytest.mark.parametrize(
    "changed", [{"hidden_act": "relu"}, {"num_attention_heads": [2, 2, 5, 8]}, {}]
)
def test_a_folder_that_says_another_network_is_refused(changed: dict, tmp_path: Path) -> None:
    size = segformer.SIZES["tiny"]
    config = SegformerConfig(
        hidden_sizes=list(size.widths),
        depths=list(size.depths),
        decoder_hidden_size=size.decoder_width,
        num_labels=2,
        **changed,
    )
    SegformerForSemanticSegmentation(config).save_pretrained(tmp_path)
    options = segformer.Options(size="tiny", pretrained=str(tmp_path))
    if not changed:
        assert segformer.build(options, 3, 2).remarks
        return
    with pytest.raises(CheckpointError, match="SEG-C051") as caught:
        segformer.build(options, 3, 2)
    assert next(iter(changed)) in str(caught.value)
