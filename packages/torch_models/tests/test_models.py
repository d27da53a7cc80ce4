"""What is special to the models of this backend; the contract is in test_contract.py."""

import importlib
from itertools import pairwise

import pytest
import torch
from torch import nn

from terrazzo.base.errors import ConfigError
from terrazzo.base.recipe import ModelConfig, TrainingConfig
from terrazzo.models.parameter_groups import Parts
from terrazzo.testing.trainer_checks import TWO_COLOURS
from terrazzo_torch.auxiliary import TrainingLogits, total_loss
from terrazzo_torch.backend import backend
from terrazzo_torch.batch_norm import replace_batch_norms
from terrazzo_torch.models import unet, vit
from terrazzo_torch.padding import crop, pad_to_multiple

FORMS = {
    **{name: (name, {}) for name in backend.models()},
    "vit, linear": ("vit", {"decoder": "linear"}),
    "vit, a class token less": ("vit", {"encoder": "test_vit2", "patch_size": 16}),
    "dinov3_linear, a DINOv3, light": (
        "dinov3_linear",
        {"encoder": "vit_tiny_patch16_dinov3_qkvb", "patch_size": None, "decoder": "light"},
    ),
    "fcn, one head": ("fcn", {"auxiliary": False}),
    "segformer, fine": ("segformer", {"patch_strides": [2, 2, 2, 2]}),
    "unet, bilinear": ("unet", {"up": "bilinear"}),
    "unet on a ResNet": ("unet", {"encoder": "test_resnet", "width": 2, "depth": 5}),
    "unet on a ConvNeXt": ("unet", {"encoder": "test_convnext", "width": 2, "depth": 4}),
    "unet on an EfficientNet": ("unet", {"encoder": "test_efficientnet", "width": 2, "depth": 5}),
}
"""Model and changes to its small form."""
COARSEST = {
    "deeplabv3": 8,
    "dinov3_linear": 4,
    "dinov3_linear, a DINOv3, light": 16,
    "fcn": 8,
    "fcn, one head": 8,
    "lraspp": 16,
    "segformer": 32,
    "segformer, fine": 16,
    "smp": 1,  # what the packages take as it is stays as it is
    "transformers": 1,
    "unet": 4,
    "unet, bilinear": 4,
    "unet on a ResNet": 32,
    "unet on a ConvNeXt": 16,
    "unet on an EfficientNet": 32,
    "vit": 4,
    "vit, linear": 4,
    "vit, a class token less": 16,
}
"""Pixels of a cell of the coarsest map."""


def _network(form: str, num_bands: int = 3) -> nn.Module:
    name, changes = FORMS[form]
    file = importlib.import_module(f"terrazzo_torch.models.{name}")
    torch.manual_seed(0)
    return file.build(file.SMALL.model_copy(update=changes), num_bands, 4)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [(1, 1), (37, 53)])
def test_any_size_in_same_size_out(form: str, size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert _network(form).eval()(torch.zeros(1, 3, *size)).shape == (1, 4, *size)


@pytest.mark.parametrize("form", FORMS)
def test_odd_size_is_padded_below_and_right_and_cut_again(form: str) -> None:
    network = _network(form).eval()
    image_BCHW = torch.randn(1, 3, 37, 53)
    with torch.no_grad():
        padded = network(pad_to_multiple(image_BCHW, COARSEST[form]))
        assert torch.equal(network(image_BCHW), padded[..., :37, :53])


@pytest.mark.parametrize("form", FORMS)
def test_training_takes_one_small_image(form: str) -> None:
    network = _network(form).train()
    logits = network(torch.randn(1, 3, 5, 7))
    assert isinstance(logits, torch.Tensor | TrainingLogits)
    assert all(torch.isfinite(buffer).all() for buffer in network.buffers())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("num_bands", [1, 2, 3, 4, 5])
def test_gradient_reaches_every_weight(form: str, num_bands: int) -> None:
    network = _network(form, num_bands).train()
    for name, parameter in network.named_parameters():
        if name.endswith("weight") and not parameter.any():
            nn.init.ones_(parameter)  # a residual branch that begins at 0 is reached a step later
    for module in network.modules():
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0
    labels_BHW = torch.randint(4, (2, 40, 56))
    output = network(torch.randn(2, num_bands, 40, 56))
    total_loss(nn.functional.cross_entropy, output, labels_BHW).backward()
    unreached = [
        name
        for name, parameter in network.named_parameters()
        # Softmax does not see what all keys have in common.
        if (parameter.grad is None or not parameter.grad.any()) and not name.endswith("k_proj.bias")
    ]
    assert not unreached


@pytest.mark.parametrize("form", FORMS)
def test_names_tell_the_parts(form: str) -> None:
    file = importlib.import_module(f"terrazzo_torch.models.{FORMS[form][0]}")
    network = _network(form)
    encoder = {id(parameter) for parameter in network.encoder.parameters()}
    parts = Parts(file.ENCODER, file.HEAD)
    heads = []
    for name, parameter in network.named_parameters():
        assert (parts.of(name) == "encoder") == (id(parameter) in encoder), name
        if parts.of(name) == "head":
            assert parameter.shape[0] == 4  # classes
            heads.append(name)
    assert heads


def test_auxiliary_head_counts_two_fifths_and_is_silent_at_inference() -> None:
    network = _network("fcn").train()
    images_BCHW, labels_BHW = torch.randn(2, 3, 16, 16), torch.randint(4, (2, 16, 16))
    output = network(images_BCHW)
    loss = nn.functional.cross_entropy
    expected = loss(output.logits_BKHW, labels_BHW) + 0.4 * loss(output.auxiliary_BKHW, labels_BHW)
    torch.testing.assert_close(total_loss(loss, output, labels_BHW), expected)
    assert not torch.equal(*output)
    assert isinstance(network.eval()(images_BCHW), torch.Tensor)


def test_batch_normalisation_of_one_value_uses_the_running_statistics() -> None:
    torch.manual_seed(0)
    source = nn.Sequential(nn.BatchNorm2d(3, eps=1e-3, momentum=0.3))
    source(torch.randn(4, 3, 5, 5))
    network = nn.Sequential(nn.BatchNorm2d(3, eps=1e-3, momentum=0.3))
    network.load_state_dict(source.state_dict())
    replace_batch_norms(network)
    one_B311 = torch.randn(1, 3, 1, 1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert torch.equal(network(one_B311), source.eval()(one_B311))
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
    two_B311 = torch.randn(2, 3, 1, 1)
    assert torch.equal(network(two_B311), source.train()(two_B311))
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name]), name
    replace_batch_norms(network := nn.Sequential(nn.BatchNorm2d(3)), keep=0.75)
    assert network[0].momentum == 0.25


def test_progressive_decoder_draws_finer_than_a_patch() -> None:
    torch.manual_seed(0)
    options = vit.Options(encoder="test_vit", decoder_width=8)
    decoder = vit.build(options, 3, 2).decoder
    with torch.no_grad():
        assert decoder(torch.randn(1, 64, 2, 3)).shape == (1, 8, 32, 48)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"encoder": "test_vit"}, "strides 16, 16, 16"),
        ({"encoder": "test_convnext", "depth": 1}, "strides 4, 8, 16, 32 at depth 1"),
        ({"encoder": "resnet5"}, "resnet50"),
        ({"pretrained": "encoder"}, "without an encoder"),
    ],
)
def test_encoders_that_make_no_unet_are_refused(changes: dict, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        unet.build(unet.SMALL.model_copy(update=changes), 3, 2)


def test_vit_takes_vision_transformers_alone() -> None:
    with pytest.raises(ConfigError, match="unknown vision transformer of timm 'resnet50'"):
        vit.build(vit.Options(encoder="resnet50"), 3, 2)


def test_padding_repeats_the_border_and_shifts_nothing() -> None:
    image = torch.arange(6.0).view(1, 1, 2, 3)
    padded = pad_to_multiple(image, 4)
    assert padded.tolist() == [[[[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]]]]
    assert torch.equal(crop(padded, image.shape), image)
    assert torch.equal(pad_to_multiple(padded, 4), padded)
    assert pad_to_multiple(padded, 4, two_cells=True).shape[-2:] == (8, 8)
    assert pad_to_multiple(padded, 1, two_cells=True).shape[-2:] == (4, 4)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("two_cells", [False, True])
def test_padding_traced_at_one_size_is_right_at_others(two_cells: bool) -> None:
    def pad(images_BCHW: torch.Tensor) -> torch.Tensor:
        return pad_to_multiple(images_BCHW, 4, two_cells=two_cells)

    traced = torch.jit.trace(pad, torch.zeros(1, 1, 8, 12), check_trace=False)
    for size in ((8, 12), (7, 13), (3, 1), (4, 4)):
        images_BCHW = torch.randn(1, 1, *size)
        assert torch.equal(traced(images_BCHW), pad(images_BCHW))


def test_unet_has_the_size_of_the_paper() -> None:
    # Two 3×3 convolutions without bias and two norms of two weights each, level after level.
    convolutions = sum(
        9 * inputs * outputs + 9 * outputs * outputs + 4 * outputs
        for inputs, outputs in pairwise((1, 64, 128, 256, 512, 1024, 512, 256, 128, 64))
    )
    transposed = sum(4 * 2 * w * w + w for w in (512, 256, 128, 64))
    network = unet.build(unet.Options(), 1, 1)
    assert sum(p.numel() for p in network.parameters()) == convolutions + transposed + 64 + 1


def test_unet_joins_skip_first_then_upsampled() -> None:
    network = unet.build(unet.Options(width=2, depth=1, up="bilinear"), 1, 1).eval()
    joined = []
    network.merge[0].register_forward_pre_hook(lambda _, inputs: joined.append(inputs[0]))
    image = torch.randn(1, 1, 8, 8)
    with torch.no_grad():
        network(image)
        skip = network.down[0](image)
    assert torch.equal(joined[0][:, :2], skip)
    assert joined[0].shape == (1, 4, 8, 8)


@pytest.mark.parametrize(
    ("model", "choices"),
    [
        (ModelConfig(name="unett"), ["did you mean 'unet'?", ", ".join(backend.models())]),
        (
            ModelConfig(name="unet", options={"widht": 8}),
            ["did you mean 'width'?", "depth, encoder"],
        ),
        (ModelConfig(name="unet", options={"up": "nearest"}), ["'transpose' or 'bilinear'"]),
    ],
)
def test_mistakes_list_the_choices(model: ModelConfig, choices: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        backend.build(model, TrainingConfig(steps=1), TWO_COLOURS.labels, TWO_COLOURS.bands, 0)
    assert all(choice in str(caught.value) for choice in choices), caught.value


def test_layers_of_a_vit_learn_the_slower_the_deeper_they_lie() -> None:
    from terrazzo.base.recipe import TrainingConfig
    from terrazzo.models.parameter_groups import Parts
    from terrazzo_torch.models import vit

    network = vit.build(vit.SMALL, 3, 2)
    names = [name for name, _ in network.named_parameters()]
    parts = Parts(vit.ENCODER, vit.HEAD, vit.layer)
    factors = parts.lr_factors(
        names, TrainingConfig(steps=1, layer_decay=0.5, encoder_lr_factor=0.1)
    )
    depth = len(network.encoder.blocks)
    assert factors["encoder.patch_embed.proj.weight"] == pytest.approx(0.1 * 0.5**depth)
    assert factors["encoder.blocks.0.attn.qkv.weight"] == pytest.approx(0.1 * 0.5 ** (depth - 1))
    assert factors[f"encoder.blocks.{depth - 1}.attn.qkv.weight"] == pytest.approx(0.1)
    assert factors["encoder.norm.weight"] == pytest.approx(0.1)
    assert not any(name.startswith(("decoder.", "head.")) for name in factors)
