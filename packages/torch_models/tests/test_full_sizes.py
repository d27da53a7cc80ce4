"""The published sizes: weights as many as published, the same numbers, one step on a CPU."""

import importlib
import re
import subprocess
import sys
from math import inf

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.models import segmentation
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from terrazzo.base import config_parsing
from terrazzo.base.recipe import ModelConfig, OptimizerConfig, TrainingConfig
from terrazzo.models import catalog
from terrazzo.testing.trainer_checks import FRAMEWORKS, TWO_COLOURS
from terrazzo_torch.backend import backend
from terrazzo_torch.models import dinov3_linear, segformer, vit
from terrazzo_torch.padding import crop, pad_to_multiple

VARIANTS = [
    (model, variant)
    for model in backend.models()
    for facts in [catalog.read("torch", model)]
    if facts is not None
    for variant in facts.variants
]
TORCHVISION = {
    ("deeplabv3", "resnet50"): segmentation.deeplabv3_resnet50,
    ("deeplabv3", "resnet101"): segmentation.deeplabv3_resnet101,
    ("deeplabv3", "mobilenet_v3_large"): segmentation.deeplabv3_mobilenet_v3_large,
    ("fcn", "resnet50"): segmentation.fcn_resnet50,
    ("fcn", "resnet101"): segmentation.fcn_resnet101,
    ("lraspp", "mobilenet_v3_large"): segmentation.lraspp_mobilenet_v3_large,
}
PUBLISHED = {
    "deeplabv3": {
        "resnet50": segmentation.DeepLabV3_ResNet50_Weights,
        "resnet101": segmentation.DeepLabV3_ResNet101_Weights,
        "mobilenet_v3_large": segmentation.DeepLabV3_MobileNet_V3_Large_Weights,
    },
    "fcn": {
        "resnet50": segmentation.FCN_ResNet50_Weights,
        "resnet101": segmentation.FCN_ResNet101_Weights,
    },
    "lraspp": {"mobilenet_v3_large": segmentation.LRASPP_MobileNet_V3_Large_Weights},
}


def _options(model: str, variant: str) -> dict[str, object]:
    option = catalog.read("torch", model).option
    return {} if option is None or variant == "none" else {option: variant}


def _network(model: str, variant: str, num_bands: int = 3, num_classes: int = 21) -> nn.Module:
    file = importlib.import_module(f"terrazzo_torch.models.{model}")
    options = config_parsing.parse(file.Options, _options(model, variant), where="test")
    return file.build(options, num_bands, num_classes)


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_every_model_of_this_backend_is_listed_without_a_framework() -> None:
    by_their_own_config = {"smp", "transformers"}  # of any size
    assert {model for model, _ in VARIANTS} == set(backend.models()) - by_their_own_config
    program = (
        "import sys; from terrazzo.cli import listing; listing._list_models(); "
        f"assert not {FRAMEWORKS} & set(sys.modules), sys.modules.keys()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for model, variant in VARIANTS:
        numbers = catalog.read("torch", model).variants[variant]
        assert re.search(rf"{model} +{variant} +{numbers.parameters:,} ", done.stdout)


@pytest.mark.parametrize(("model", "variant"), VARIANTS)
def test_listed_numbers_are_those_of_the_network(model: str, variant: str) -> None:
    with torch.device("meta"):
        network = _network(model, variant)
        facts = catalog.read("torch", model).variants[variant]
        assert _count(network) == facts.parameters
        sizes = []
        for module in network.encoder.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(lambda _, __, output: sizes.append(output.shape[-1]))
        network.eval()(torch.zeros(1, 3, 256, 256))
    assert set(facts.strides) <= {256 // size for size in sizes}
    assert max(256 // size for size in sizes if size > 1) == max(facts.strides)


@pytest.mark.parametrize(("model", "variant"), list(TORCHVISION))
def test_size_is_the_one_torchvision_publishes(model: str, variant: str) -> None:
    published = PUBLISHED[model][variant].DEFAULT.meta
    assert len(published["categories"]) == 21
    with torch.device("meta"):
        assert _count(_network(model, variant)) == published["num_params"]


@pytest.mark.parametrize(
    ("size", "millions"),
    [("b0", 3.7), ("b1", 13.7), ("b2", 27.4), ("b3", 47.2), ("b4", 64.0), ("b5", 84.6)],
)
def test_segformer_has_the_size_of_the_paper(size: str, millions: float) -> None:
    with torch.device("meta"):
        network = segformer.build(segformer.Options(size=size), 3, 19)
    assert round(_count(network) / 1e6, 1) == millions


def test_vit_large_has_the_size_that_timm_publishes() -> None:
    with torch.device("meta"):
        encoder = vit.build(vit.Options(), 3, 21).encoder
        classifier = nn.Linear(1024, 1000)
    assert round(_count(encoder) / 1e6) == 304
    # The model card of timm says 304.7 M, with the classifier of ImageNet.
    assert round((_count(encoder) + _count(classifier)) / 1e6, 1) == 304.7


@pytest.mark.parametrize("size", [(64, 96), (37, 53)])
@pytest.mark.parametrize(("model", "variant"), list(TORCHVISION))
def test_torchvision_says_the_same(model: str, variant: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = _network(model, variant).eval()
    settings = {} if model == "lraspp" else {"aux_loss": True}
    source = TORCHVISION[model, variant](
        weights=None, weights_backbone=None, num_classes=21, **settings
    ).eval()
    source.load_state_dict(network.network.state_dict())
    _disturb_statistics(source, network.network)
    images_BCHW = torch.randn(2, 3, *size)
    padded = pad_to_multiple(images_BCHW, 16 if "mobilenet" in variant else 8)
    with torch.no_grad():
        expected = source(padded)["out"]
        _assert_close(network(images_BCHW), crop(expected, images_BCHW.shape))


@pytest.mark.parametrize("size", ["b0", "b2"])
def test_transformers_says_the_same(size: str) -> None:
    torch.manual_seed(0)
    network = segformer.build(segformer.Options(size=size), 3, 21).eval()
    shape = {
        "b0": {},  # the defaults of transformers
        "b2": {
            "hidden_sizes": [64, 128, 320, 512],
            "depths": [3, 4, 6, 3],
            "decoder_hidden_size": 768,
        },
    }[size]
    source = SegformerForSemanticSegmentation(SegformerConfig(num_labels=21, **shape)).eval()
    source.load_state_dict(network.network.state_dict())
    images_BCHW = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected = nn.functional.interpolate(
            source(pixel_values=images_BCHW).logits, size=(64, 96), mode="bilinear"
        )
        _assert_close(network(images_BCHW), expected)


@pytest.mark.parametrize("name", ["test_vit", "test_vit2", "test_vit4", "vit_tiny_patch16_224"])
def test_timm_says_the_same(name: str) -> None:
    torch.manual_seed(0)
    network = vit.build(vit.Options(encoder=name, decoder="linear"), 3, 5).eval()
    source = timm.create_model(name, num_classes=0, dynamic_img_size=True).eval()
    source.load_state_dict(network.encoder.state_dict(), strict=False)
    images_BCHW = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        tokens_BND = source.forward_features(images_BCHW)[:, source.num_prefix_tokens :]
        tokens_BDhw = tokens_BND.transpose(1, 2).unflatten(2, (4, 6))
        expected = nn.functional.interpolate(
            network.head(tokens_BDhw), size=(64, 96), mode="bilinear"
        )
        _assert_close(network(images_BCHW), expected)


@pytest.mark.parametrize(
    ("name", "patch"), [("vit_tiny_patch16_dinov3_qkvb", 16), ("vit_small_patch14_dinov2", 14)]
)
def test_linear_head_reads_the_tokens_that_timm_gives(name: str, patch: int) -> None:
    torch.manual_seed(0)
    network = dinov3_linear.build(dinov3_linear.Options(encoder=name), 3, 5).eval()
    _disturb_statistics(network)
    source = timm.create_model(name, num_classes=0, dynamic_img_size=True).eval()
    source.load_state_dict(network.encoder.state_dict(), strict=False)
    norm, head = network.decoder, network.head
    images_BCHW = torch.randn(2, 3, 4 * patch, 6 * patch)
    with torch.no_grad():
        tokens_BND = source.forward_features(images_BCHW)[:, source.num_prefix_tokens :]
        scaled_BND = (tokens_BND - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
        logits_BNK = scaled_BND @ head.weight.flatten(1).T + head.bias
        logits_BKhw = logits_BNK.transpose(1, 2).unflatten(2, (4, 6))
        expected = nn.functional.interpolate(
            logits_BKhw, size=images_BCHW.shape[2:], mode="bilinear"
        )
        _assert_close(network(images_BCHW), expected)


@pytest.mark.parametrize(
    ("model", "variant"),
    [
        pytest.param(*names, marks=pytest.mark.slow if names[0] == "vit" else ())
        for names in VARIANTS
    ],
)
def test_full_size_trains_and_predicts(model: str, variant: str) -> None:
    training = TrainingConfig(steps=1, optimizer=OptimizerConfig(name="sgd", momentum=0))
    trainer = backend.build(
        ModelConfig(name=model, options=_options(model, variant)),
        training,
        TWO_COLOURS.labels,
        TWO_COLOURS.bands,
        0,
    )
    batch = TWO_COLOURS.batch(64, 48, count=1)
    assert -inf < trainer.train_step(batch, 1e-3).loss < inf
    assert trainer.predict(batch.images_BHWC).shape == (1, 64, 48, 2)


def _disturb_statistics(*networks: nn.Module) -> None:
    """Give batch normalisation statistics that are not 0 and 1, the same in all networks."""
    for network in networks:
        generator = torch.Generator().manual_seed(0)
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(0.1 * torch.randn(buffer.shape, generator=generator))
            elif name.endswith("running_var"):
                buffer.mul_(0.5 + torch.rand(buffer.shape, generator=generator))


def _assert_close(one: Tensor, other: Tensor) -> None:
    assert one.shape == other.shape
    assert one.abs().max() > 1e-3  # not all zero
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
