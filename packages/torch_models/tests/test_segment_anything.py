"""Masks by Segment Anything: tiny models with random weights, written by their own library."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    Sam2Config,
    Sam2HieraDetConfig,
    Sam2ImageProcessor,
    Sam2MaskDecoderConfig,
    Sam2Model,
    Sam2PromptEncoderConfig,
    Sam2VisionConfig,
    SamConfig,
    SamImageProcessor,
    SamMaskDecoderConfig,
    SamModel,
    SamPromptEncoderConfig,
    SamVisionConfig,
)

from terrazzo.base.errors import CheckpointError
from terrazzo.models import backends
from terrazzo.models.mask_refinement import MaskSettings, mask_generator, refined
from terrazzo.testing.exporter_checks import trained
from terrazzo_torch import mask_files
from terrazzo_torch.backend import backend

SIZE = 64


def write_sam(folder):
    torch.manual_seed(0)
    vision = SamVisionConfig(
        hidden_size=16,
        output_channels=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=SIZE,
        patch_size=8,
        window_size=4,
        global_attn_indexes=[0],
        mlp_dim=16,
        num_pos_feats=4,
    )
    prompt = SamPromptEncoderConfig(
        hidden_size=8, image_size=SIZE, patch_size=8, mask_input_channels=4
    )
    decoder = SamMaskDecoderConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        mlp_dim=16,
        iou_head_hidden_dim=8,
        iou_head_depth=2,
        attention_downsample_rate=1,
    )
    config = SamConfig(
        vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder
    )
    model = SamModel(config)
    trust(model)
    model.save_pretrained(folder)
    SamImageProcessor(
        size={"longest_edge": SIZE},
        mask_size={"longest_edge": 16},
        pad_size={"height": SIZE, "width": SIZE},
        mask_pad_size={"height": 16, "width": 16},
    ).save_pretrained(folder)
    return folder


def trust(model):
    """Let the model believe in its masks: a random one gives all of them an IoU near 0."""
    with torch.no_grad():
        model.mask_decoder.iou_prediction_head.proj_out.bias.fill_(0.95)
        model.mask_decoder.iou_prediction_head.proj_out.weight.mul_(0.1)


def write_sam2(folder):
    torch.manual_seed(0)
    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        num_attention_heads=1,
        image_size=[SIZE, SIZE],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[8, 4, 4, 2],
        window_positional_embedding_background_size=[2, 2],
        global_attention_blocks=[3],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=8,
        num_feature_levels=3,
    )
    config = Sam2Config(
        vision_config=vision,
        prompt_encoder_config=Sam2PromptEncoderConfig(
            hidden_size=8, image_size=SIZE, patch_size=16, mask_input_channels=4
        ),
        mask_decoder_config=Sam2MaskDecoderConfig(
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            mlp_dim=16,
            iou_head_hidden_dim=8,
            iou_head_depth=2,
            attention_downsample_rate=1,
        ),
    )
    model = Sam2Model(config)
    trust(model)
    model.save_pretrained(folder)
    Sam2ImageProcessor(
        size={"height": SIZE, "width": SIZE}, mask_size={"height": 16, "width": 16}
    ).save_pretrained(folder)
    return folder


@pytest.fixture(params=[write_sam, write_sam2], ids=["sam", "sam2"])
def folder(request, tmp_path):
    return request.param(tmp_path / "sam")


IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def generator(folder, **settings):
    chosen = {"points": 4, "quality": 0.5, "stability": 0.0, "overlap": 0.7} | settings
    return backends.load("torch").mask_generator(folder, **chosen)


def test_masks_of_an_image(folder):
    masks = generator(folder).masks(IMAGE)
    assert masks
    assert {(mask_HW.shape, mask_HW.dtype.name) for mask_HW in masks} == {((40, 60), "bool")}
    again = generator(folder).masks(IMAGE)
    np.testing.assert_array_equal(np.stack(masks), np.stack(again))
    # What a model is not sure of is left out, and no mask at all is an answer too.
    assert generator(folder, quality=1.5).masks(IMAGE) == []
    settings = MaskSettings(folder, points=4, quality=0.5, stability=0.0)
    of_settings = mask_generator(settings).masks(IMAGE)
    np.testing.assert_array_equal(np.stack(masks), np.stack(of_settings))
    assert settings.record()["sha256"] == mask_files.digest(folder)


def test_a_model_of_torch_refined_by_it(folder):
    trainer, _ = trained(backend, "unet")
    settings = MaskSettings(folder, points=4, quality=0.5, stability=0.0)
    found_HWK = refined(trainer, settings).predict(IMAGE[None])[0]
    plain_HWK = trainer.predict(IMAGE[None])[0]
    masks = mask_generator(settings).masks(IMAGE)
    covered_HW = np.any(masks, axis=0)
    np.testing.assert_array_equal(found_HWK[~covered_HW], plain_HWK[~covered_HW])
    smallest = min(masks, key=np.count_nonzero)
    expected_K = plain_HWK[smallest].mean(axis=0)
    np.testing.assert_allclose(
        found_HWK[smallest], np.broadcast_to(expected_K, found_HWK[smallest].shape), atol=1e-5
    )
    np.testing.assert_allclose(found_HWK.sum(axis=2), 1, atol=1e-5)


def test_a_folder_of_something_else_is_refused(folder):
    digest = mask_files.digest(folder)
    (weights,) = folder.glob("*.safetensors")
    tensors = load_file(weights)
    name = next(name for name in tensors if "mask_decoder" in name)
    save_file({k: v for k, v in tensors.items() if k != name}, weights, {"format": "pt"})
    assert mask_files.digest(folder) != digest
    with pytest.raises(CheckpointError, match="SEG-C006") as caught:  # not random numbers
        generator(folder)
    assert name in str(caught.value)
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="SEG-C006"):
        generator(folder)
    weights.rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"SEG-C012(.*\n)+.*no file \*.safetensors"):
        generator(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    with pytest.raises(CheckpointError, match=r"SEG-C012(.*\n)+.*'bert'"):
        generator(folder)


def test_code_in_the_folder_is_never_run(tmp_path, monkeypatch):
    """Unless it is told not to, transformers asks, and takes "y" for an answer."""
    folder, marker = write_sam(tmp_path / "sam"), tmp_path / "it ran"
    file = folder / "preprocessor_config.json"
    said = json.loads(file.read_text()) | {
        "image_processor_type": "TheirProcessor",
        "auto_map": {"AutoImageProcessor": "theirs.TheirProcessor"},
    }
    file.write_text(json.dumps(said))
    (folder / "theirs.py").write_text(
        f"open({str(marker)!r}, 'w').close()\n\n\nclass TheirProcessor:\n    pass\n"
    )
    monkeypatch.setattr("builtins.input", lambda _: "y")
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    with pytest.raises(CheckpointError) as caught:
        mask_generator(MaskSettings(folder))
    assert caught.value.code == "SEG-C006"
    assert not marker.exists()
