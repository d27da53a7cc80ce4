"""keras-hub's SegFormer in our own: the same network, with that package's arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
from keras import ops

from terrazzo.base.errors import ConfigError
from terrazzo.base.recipe import ModelConfig
from terrazzo.models.segformer_sizes import PATCHES, REDUCTIONS, SIZES, STRIDES
from terrazzo_keras.models import segformer


def options_of(settings: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Return the options of our SegFormer that is the network of a preset.

    Raises:
        ConfigError: SEG-X160, it has none of the published sizes.
    """
    said = settings["config"]["image_encoder"]["config"]
    found = {
        "hidden_dims": said.get("hidden_dims"),
        "layerwise_depths": said.get("layerwise_depths"),
        "projection_filters": settings["config"].get("projection_filters"),
        "layerwise_num_heads": said.get("layerwise_num_heads"),
        "layerwise_sr_ratios": said.get("layerwise_sr_ratios"),
        "layerwise_patch_sizes": said.get("layerwise_patch_sizes"),
        "layerwise_strides": said.get("layerwise_strides"),
        "num_layers": said.get("num_layers"),
    }
    for name, size in SIZES.items():
        wanted = {
            "hidden_dims": list(size.widths),
            "layerwise_depths": list(size.depths),
            "projection_filters": size.decoder_width,
            "layerwise_num_heads": list(segformer.HEADS),
            "layerwise_sr_ratios": list(REDUCTIONS),
            "layerwise_patch_sizes": list(PATCHES),
            "layerwise_strides": list(STRIDES),
            "num_layers": 4,
        }
        if found == wanted:
            rate = float(said.get("max_drop_path_rate", 0.1))
            return {"size": name, "arithmetic": "keras_hub", "drop_path": rate}
    raise ConfigError(
        "SEG-X160",
        "this SegFormer has none of the published sizes",
        file=file,
        observed=", ".join(f"{key} = {value}" for key, value in found.items()),
        allowed=", ".join(SIZES),
        next_step="take a preset of a published size",
    )


def copied(
    theirs: Any, options: Mapping[str, Any], num_classes: int
) -> tuple[ModelConfig, keras.Model]:
    """Return the name and options of our network, and itself with the weights of the package's."""
    model = ModelConfig(name="segformer", options=dict(options))
    network = segformer.build(segformer.Options(**options), 3, num_classes)
    given = set()
    for source, name in _pairs(theirs):
        network.get_layer(name).set_weights([ops.convert_to_numpy(w) for w in source.weights])
        given.add(name)
    missed = {layer.name for layer in network.layers if layer.weights} - given
    assert missed <= {layer.name for layer in network.layers if "drop" in layer.name}, missed
    return model, network


def _pairs(theirs: Any) -> Iterator[tuple[Any, str]]:
    """Yield layers of the package beside the names of ours."""
    backbone = theirs.backbone
    encoder = backbone.image_encoder
    norms = [e for e in encoder.layers if isinstance(e, keras.layers.LayerNormalization)]
    for stage, (depth, norm) in enumerate(zip(encoder.layerwise_depths, norms, strict=True)):
        patches = encoder.get_layer(f"patch_and_embed_{stage}")
        yield patches.proj, f"encoder_{stage}_patches"
        yield patches.norm, f"encoder_{stage}_patches_norm"
        for number in range(depth):
            block = encoder.get_layer(f"hierarchical_encoder_{stage}_{number}")
            yield from _block(block, f"encoder_{stage}_block_{number}")
        yield norm, f"encoder_{stage}_norm"
    for number, dense in enumerate(backbone.mlp_blocks):
        yield dense, f"decoder_{number}"
    fuse, norm = (layer for layer in backbone.linear_fuse.layers if layer.weights)
    yield fuse, "decoder_fuse"
    yield norm, "decoder_norm"
    yield theirs.output_segmentation_head, "logits"


def _block(block: Any, name: str) -> Iterator[tuple[Any, str]]:
    yield block.norm1, f"{name}_attention_norm"
    for theirs, ours in (("q", "query"), ("k", "key"), ("v", "value"), ("proj", "output")):
        yield getattr(block.attn, theirs), f"{name}_attention_{ours}"
    if block.attn.sr_ratio > 1:
        yield block.attn.sr, f"{name}_attention_reduce"
        yield block.attn.norm, f"{name}_attention_reduce_norm"
    yield block.norm2, f"{name}_mix_mlp_norm"
    for theirs, ours in (("fc1", "expand"), ("dwconv", "depthwise"), ("fc2", "reduce")):
        yield getattr(block.mlp, theirs), f"{name}_mix_mlp_{ours}"
