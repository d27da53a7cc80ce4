"""Weights from elsewhere, in files of the same form and names as the published ones."""

import hashlib
import importlib
import os
import pickle
import re
import socket
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models import mobilenet_v3_large
from torchvision.models.resnet import ResNet
from transformers import (
    SegformerConfig,
    SegformerForImageClassification,
    SegformerForSemanticSegmentation,
    SegformerModel,
)

from terrazzo.base.errors import CheckpointError, ConfigError, ResourceError, TerrazzoError
from terrazzo.base.recipe import ModelConfig, TrainingConfig
from terrazzo.models import published_weights
from terrazzo.models.card import ModelCard
from terrazzo.runs import saved_model
from terrazzo.testing import audit
from terrazzo.testing.trainer_checks import TWO_COLOURS
from terrazzo_torch import pretrained, timm_encoders, torchvision_networks
from terrazzo_torch.backend import backend
from terrazzo_torch.models import deeplabv3, fcn, lraspp, segformer, unet, vit
from terrazzo_torch.torchvision_networks import _NarrowBlock

TINY_SEGFORMER = {
    "hidden_sizes": [16, 16, 20, 32],
    "depths": [1, 1, 1, 1],
    "decoder_hidden_size": 32,
}


def _segformer_folder(tmp_path: Path, kind: type, **settings: object) -> tuple[Path, nn.Module]:
    torch.manual_seed(1)
    source = kind(SegformerConfig(**{**TINY_SEGFORMER, "num_labels": 7, **settings})).eval()
    source.save_pretrained(tmp_path)
    return tmp_path, source


def _build(model: str, path: Path | str, bands: int = 3, classes: int = 7, **options: object):
    file = importlib.import_module(f"terrazzo_torch.models.{model}")
    torch.manual_seed(0)
    return file.build(
        file.SMALL.model_copy(update={"pretrained": str(path), **options}), bands, classes
    ).eval()


def _save(tmp_path: Path, module: nn.Module) -> Path:
    path = tmp_path / "weights.pth"
    torch.save(module.state_dict(), path)
    return path


# --- SegFormer, as transformers writes it -------------------------------------------------------


def test_segformer_takes_a_whole_network_over(tmp_path: Path) -> None:
    folder, source = _segformer_folder(tmp_path, SegformerForSemanticSegmentation)
    # The names on the hub are those of 2021, whatever the version of transformers calls them.
    assert "segformer.encoder.block.0.0.attention.self.query.weight" in load_file(
        folder / "model.safetensors"
    )
    network = _build("segformer", folder)
    images_BCHW = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = nn.functional.interpolate(
            source(pixel_values=images_BCHW).logits, size=(64, 64), mode="bilinear"
        )
        torch.testing.assert_close(network(images_BCHW), expected, atol=1e-5, rtol=0)
    assert any("whole network" in remark for remark in network.remarks)


@pytest.mark.parametrize("kind", [SegformerForImageClassification, SegformerModel])
@pytest.mark.parametrize("form", ["folder", "safetensors", "bin"])
def test_segformer_takes_an_encoder_over(tmp_path: Path, kind: type, form: str) -> None:
    path, source = _segformer_folder(tmp_path, kind)
    if form == "safetensors":
        path = path / "model.safetensors"
    elif form == "bin":
        weights = load_file(path / "model.safetensors")
        (path / "model.safetensors").unlink()
        torch.save(weights, path / "pytorch_model.bin")
    network = _build("segformer", path)
    expected = getattr(source, "segformer", source).state_dict()
    for name, tensor in network.encoder.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    untouched = _build_random("segformer").network.decode_head.state_dict()
    for name, tensor in network.network.decode_head.state_dict().items():
        assert torch.equal(tensor, untouched[name]), name


def _build_random(model: str, bands: int = 3, classes: int = 7, **options: object) -> nn.Module:
    file = importlib.import_module(f"terrazzo_torch.models.{model}")
    torch.manual_seed(0)
    return file.build(file.SMALL.model_copy(update=options), bands, classes)


def test_segformer_of_another_size_is_refused(tmp_path: Path) -> None:
    folder, _ = _segformer_folder(
        tmp_path, SegformerForSemanticSegmentation, hidden_sizes=[16, 16, 20, 40]
    )
    with pytest.raises(CheckpointError) as caught:
        _build("segformer", folder)
    assert caught.value.code == "SEG-C020"
    for shape in (r"\(32, 40\)", r"\(32, 32\)"):
        assert re.search(rf"decode_head\.linear_\w+\.3\.proj\.weight {shape}", str(caught.value))


# --- torchvision, as torch.save writes it ---------------------------------------------------------


def _tiny_classifier() -> nn.Module:
    torch.manual_seed(1)
    return ResNet(_NarrowBlock, [1, 1, 1, 1], width_per_group=16, num_classes=1000)


@pytest.mark.parametrize("model", ["fcn", "deeplabv3"])
def test_torchvision_takes_an_encoder_over(tmp_path: Path, model: str) -> None:
    source = _tiny_classifier()
    weights = source.state_dict()
    # Files of 2018 have no counters.
    weights = {n: t for n, t in weights.items() if not n.endswith("num_batches_tracked")}
    torch.save({"model": weights, "epoch": 3}, tmp_path / "resnet.pth")
    network = _build(model, tmp_path / "resnet.pth")
    assert not any(name.startswith("fc.") for name in network.encoder.state_dict())
    for name, tensor in network.encoder.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, weights[name]), name


@pytest.mark.parametrize("model", ["fcn", "deeplabv3", "lraspp"])
def test_torchvision_takes_a_whole_network_over(tmp_path: Path, model: str) -> None:
    torch.manual_seed(1)
    source = _build_random(model, classes=21).network.eval()
    network = _build(model, _save(tmp_path, source), classes=21)
    images_BCHW = torch.randn(1, 3, 48, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(images_BCHW), source(images_BCHW)["out"])
    kept = [remark for remark in network.remarks if "kept, with 21 classes" in remark]
    assert len(kept) == 2


def test_mobilenet_is_taken_over_by_its_names_in_the_classifier(tmp_path: Path) -> None:
    torch.manual_seed(1)
    source = mobilenet_v3_large(weights=None)
    network = _build("lraspp", _save(tmp_path, source))
    weights = source.state_dict()
    for name, tensor in network.encoder.state_dict().items():
        assert torch.equal(tensor, weights[f"features.{name}"]), name


def test_head_of_other_classes_is_made_anew(tmp_path: Path) -> None:
    torch.manual_seed(1)
    source = _build_random("fcn", classes=21).network
    network = _build("fcn", _save(tmp_path, source), classes=5)
    remarks = "\n".join(network.remarks)
    assert "classifier.4: 21 classes in the weights, 5 here; made anew" in remarks
    assert "aux_classifier.4: 21 classes in the weights, 5 here; made anew" in remarks
    fresh = _build_random("fcn", classes=5).network
    for name, tensor in network.network.state_dict().items():
        origin = fresh if "classifier.4." in name else source
        assert torch.equal(tensor, origin.state_dict()[name]), name


def test_auxiliary_head_is_left_out_where_there_is_none(tmp_path: Path) -> None:
    path = _save(tmp_path, _build_random("fcn", classes=21).network)
    assert _build("fcn", path, classes=21, auxiliary=False).network.aux_classifier is None


# --- timm, as it writes safetensors ---------------------------------------------------------------


def _timm_file(tmp_path: Path, name: str, **settings: object) -> tuple[Path, nn.Module]:
    torch.manual_seed(1)
    source = timm.create_model(name, **settings).eval()
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors", source


@pytest.mark.parametrize("name", ["test_vit", "test_vit2", "test_vit3"])
@pytest.mark.parametrize("head", [{}, {"num_classes": 0}])
def test_vit_takes_an_encoder_over(tmp_path: Path, name: str, head: dict) -> None:
    path, source = _timm_file(tmp_path, name, **head)
    network = _build("vit", path, encoder=name, patch_size=None)
    weights = source.state_dict()
    for key, tensor in network.encoder.state_dict().items():
        assert torch.equal(tensor, weights[key]), key


def test_vit_resamples_patches_of_another_size(tmp_path: Path) -> None:
    path, source = _timm_file(tmp_path, "test_vit")
    network = _build("vit", path, patch_size=8)
    assert network.encoder.patch_embed.proj.weight.shape == (64, 3, 8, 8)
    assert network.encoder.pos_embed.shape == (1, 1 + 20 * 20, 64)
    key = "blocks.5.mlp.fc2.weight"
    assert torch.equal(network.encoder.state_dict()[key], source.state_dict()[key])


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_efficientnet"])
def test_unet_takes_an_encoder_over(tmp_path: Path, name: str) -> None:
    path, source = _timm_file(tmp_path, name)
    network = _build("unet", path, encoder=name, depth=5)
    images_BCHW = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = network.encoder(images_BCHW)
        last = source.forward_intermediates(images_BCHW, intermediates_only=True)
    for one, other in zip(maps, last[-len(maps) :], strict=True):
        torch.testing.assert_close(one, other)


def test_timm_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    path, _ = _timm_file(tmp_path, "test_vit2")
    with pytest.raises(CheckpointError) as caught:
        _build("vit", path, patch_size=None)
    assert caught.value.code == "SEG-C020"
    assert "cls_token" in str(caught.value)


# --- bands ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bands", [1, 2, 4, 5])
@pytest.mark.parametrize("model", ["segformer", "fcn", "vit", "unet"])
def test_first_convolution_is_inflated(tmp_path: Path, model: str, bands: int) -> None:
    options: dict[str, object] = {}
    if model == "segformer":
        path, source = _segformer_folder(tmp_path, SegformerForImageClassification)
        kernels = next(m for m in source.modules() if isinstance(m, nn.Conv2d)).weight
    elif model == "fcn":
        source = _tiny_classifier()
        path, kernels = _save(tmp_path, source), source.conv1.weight
    else:
        name = {"vit": "test_vit", "unet": "test_efficientnet"}[model]
        options = {"encoder": name} | ({"patch_size": None} if model == "vit" else {})
        path, source = _timm_file(tmp_path, name)
        kernels = next(m for m in source.modules() if isinstance(m, nn.Conv2d)).weight
    network = _build(model, path, bands=bands, **options)
    first = next(m for m in network.encoder.modules() if isinstance(m, nn.Conv2d)).weight
    expected = kernels.mean(1, keepdim=True).expand(-1, bands, -1, -1) * 3 / bands
    torch.testing.assert_close(first, expected)
    told = [remark for remark in network.remarks if f"3 bands in the weights, {bands}" in remark]
    assert len(told) == 1


def test_three_bands_are_taken_over_as_they_are(tmp_path: Path) -> None:
    source = _tiny_classifier()
    network = _build("fcn", _save(tmp_path, source), bands=3)
    assert torch.equal(network.encoder["conv1"].weight, source.conv1.weight)
    assert not any("3 bands in" in remark for remark in network.remarks)


def test_inflated_kernels_answer_grey_images_as_before() -> None:
    kernels_OIHW = torch.randn(4, 3, 3, 3)
    grey_B1HW = torch.randn(1, 1, 8, 8)
    answers = [
        nn.functional.conv2d(grey_B1HW.expand(-1, bands, -1, -1), kernels)
        for bands in (3, 5)
        for kernels in [kernels_OIHW if bands == 3 else pretrained.inflate(kernels_OIHW, bands)]
    ]
    torch.testing.assert_close(*answers)


# --- what is refused ------------------------------------------------------------------------------


class _Code:
    """What an attacker puts in a file: reading it would create another file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("form", ["torch.save", "old torch.save", "pickle", "folder"])
@pytest.mark.parametrize("model", ["fcn", "segformer", "vit"])
def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path, model: str, form: str) -> None:
    trace = tmp_path / "it ran"
    content = OrderedDict(weight=torch.zeros(1), code=_Code(trace))
    path = tmp_path / "pytorch_model.bin"
    if form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form != "old torch.save")
    with pytest.raises(CheckpointError) as caught:
        _build(model, tmp_path if form == "folder" else path)
    assert caught.value.code == "SEG-S003"
    assert "mkdir" in str(caught.value.observed)
    assert not trace.exists()
    torch.load(path, weights_only=False) if form != "pickle" else pickle.loads(path.read_bytes())
    assert trace.exists(), "this file is harmless: the test shows nothing"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "SEG-C006"),
        (b"not weights", "SEG-C006"),
        ([1, 2], "SEG-C020"),
        ({"epoch": 3}, "SEG-C020"),
    ],
)
def test_file_without_weights_is_refused(tmp_path: Path, content: object, code: str) -> None:
    for name in ("weights.pth", "weights.safetensors"):
        if isinstance(content, bytes):
            (tmp_path / name).write_bytes(content)
        else:
            torch.save(content, tmp_path / name)
        with pytest.raises(CheckpointError) as caught:
            pretrained.read_weights(tmp_path / name)
        assert caught.value.code == (code if name.endswith("pth") else "SEG-C006")
        assert name in str(caught.value)


def test_truncated_file_is_refused(tmp_path: Path) -> None:
    path = _save(tmp_path, _tiny_classifier())
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="SEG-C006"):
        _build("fcn", path)


def test_weights_of_another_network_change_nothing(tmp_path: Path) -> None:
    torch.manual_seed(1)
    source = _tiny_classifier().state_dict()
    del source["layer2.0.conv1.weight"]
    source["layer3.0.conv1.weight"] = torch.zeros(3, 2, 1, 1)
    source["layer9.weight"] = torch.zeros(1)
    network = _build_random("fcn").encoder
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    weights = {name: t for name, t in source.items() if not name.startswith("fc.")}
    with pytest.raises(CheckpointError, match="3 differ in all") as caught:
        pretrained.adopt(network, weights, num_bands=3, origin="here")
    for text in ("layer2.0.conv1.weight missing", "layer3.0.conv1.weight (3, 2, 1, 1)", "layer9"):
        assert text in str(caught.value)
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())


@pytest.mark.parametrize(
    ("model", "word", "texts"),
    [
        ("fcn", "encodr", ["tiny", "or the path of a weight file"]),
        ("vit", "full", ["SEG-X020", 'allowed  false, "encoder", or the path']),
        ("segformer", "no/such/file", ["SEG-X020", "no/such/file"]),
        ("vit", "encoder", ["SEG-X021", "timm/test_vit.r160_in1k", "model.options.revision"]),
    ],
)
def test_words_that_mean_nothing_list_the_choices(model: str, word: str, texts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        _build(model, word)
    for text in texts[1:]:
        assert text in str(caught.value)


def test_revisions_are_commits() -> None:
    with pytest.raises(TerrazzoError, match="revision"):
        backend.build(
            ModelConfig(name="segformer", options={"revision": "main"}),
            TrainingConfig(steps=1),
            TWO_COLOURS.labels,
            TWO_COLOURS.bands,
            0,
        )


# --- without a network ----------------------------------------------------------------------------


@pytest.fixture
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Refuse every connection, and offer empty caches."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path


@pytest.mark.parametrize("word", ["encoder", "full"])
@pytest.mark.parametrize("module", [fcn, deeplabv3, lraspp], ids=lambda m: m.__name__[-9:])
def test_without_network_torchvision_says_where_the_file_goes(
    no_network: Path, module: object, word: str
) -> None:
    options = module.Options(pretrained=word)
    with torch.device("meta"), pytest.raises(ResourceError) as caught:
        module.build(options, 3, 21)
    assert caught.value.code == "SEG-R020"
    text = str(caught.value)
    assert caught.value.file.endswith(".pth")
    assert f"https://download.pytorch.org/models/{caught.value.file}" in text
    assert str(no_network / "torch" / "hub" / "checkpoints" / caught.value.file) in text


@pytest.mark.parametrize(
    ("module", "options", "repository"),
    [
        (segformer, {"size": "b0", "pretrained": "encoder"}, "nvidia/mit-b0"),
        (segformer, {"size": "b5", "pretrained": "full"}, "nvidia/segformer-b5"),
        (vit, {"encoder": "test_vit", "pretrained": "encoder", "revision": "0" * 40}, "timm/test"),
        (unet, {"encoder": "resnet50", "pretrained": "encoder"}, "timm/resnet50.a1_in1k"),
    ],
)
def test_without_network_the_hub_s_file_is_named(
    no_network: Path, module: object, options: dict, repository: str
) -> None:
    with pytest.raises(ResourceError) as caught:
        module.build(module.Options(**options), 3, 21)
    assert caught.value.code == "SEG-R020"
    text = str(caught.value)
    assert caught.value.file == "model.safetensors"
    assert f"https://huggingface.co/{repository}" in text
    assert "model.options.pretrained" in text


def test_file_put_where_the_error_says_is_used_if_its_name_tells_its_sum(
    no_network: Path,
) -> None:
    place = no_network / "torch" / "hub" / "checkpoints"
    place.mkdir(parents=True)
    torch.manual_seed(1)
    source = mobilenet_v3_large(weights=None).state_dict()
    published = place / "mobilenet_v3_large-8738ca79.pth"
    torch.save(source, published)
    actual = hashlib.sha256(published.read_bytes()).hexdigest()
    with pytest.raises(CheckpointError) as caught:
        _build("lraspp", "encoder")
    assert caught.value.code == "SEG-S001"
    assert actual in str(caught.value.observed)
    assert "8738ca79" in str(caught.value.allowed)
    published.rename(place / f"mobilenet_v3_large-{actual[:8]}.pth")
    named = SimpleNamespace(url=f"https://download/models/mobilenet_v3_large-{actual[:8]}.pth")
    for name, tensor in torchvision_networks._fetch(named).items():
        assert torch.equal(tensor, source[name]), name


# --- a mirror -------------------------------------------------------------------------------------


class _Mirror(BaseHTTPRequestHandler):
    """Answers as the Hugging Face hub does, with what it likes."""

    content = b"what the mirror likes to send"

    def do_HEAD(self) -> None:
        if not self.path.endswith("model.safetensors"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", self.path.split("/resolve/")[1].split("/")[0])
        self.send_header("ETag", f'"{hashlib.sha256(self.content).hexdigest()}"')
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Mirror) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


ASK_A_MIRROR = """
from terrazzo.base.errors import TerrazzoError
from terrazzo_torch import pretrained
from terrazzo_torch.models import segformer
encoders = segformer._ENCODERS
right = encoders["b0"].revision
for repository, revision, sha256 in {asked!r}:
    try:
        print("got", pretrained.from_hub(repository, revision or right, sha256))
    except TerrazzoError as error:
        print(error)
"""


def test_what_a_mirror_sends_is_compared(mirror: str, tmp_path: Path) -> None:
    actual = hashlib.sha256(_Mirror.content).hexdigest()
    other, commit = "timm/test_vit.r160_in1k", "1" * 40
    asked = [
        ("nvidia/mit-b0", None, None),
        (other, commit, None),
        (other, commit, "0" * 64),
        (other, commit, actual),
    ]
    done = subprocess.run(
        [sys.executable, "-c", ASK_A_MIRROR.format(asked=asked)],
        env=os.environ
        | {"HF_ENDPOINT": mirror, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    known, unpinned, wrong, right = re.split(r"\n(?=SEG|got)", done.stdout.strip())
    assert known.startswith("SEG-S001")
    assert f"SHA-256 {actual}" in known
    assert "3e5ad9cd1dd8ecf8305c23fcdf01ef241f08c7b2dddacb6ec7de5a887188798a" in known
    assert unpinned.startswith("SEG-X024")
    assert mirror in unpinned
    assert wrong.startswith("SEG-S001")
    assert "0" * 64 in wrong
    assert right.startswith("got")
    assert f"{actual}; as expected" in right


def test_a_sum_in_the_recipe_holds_for_a_path_too(tmp_path: Path) -> None:
    folder, _ = _segformer_folder(tmp_path, SegformerModel)
    actual = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    network = _build("segformer", folder, sha256=actual)
    assert any(actual in remark for remark in network.remarks)
    with pytest.raises(CheckpointError) as caught:
        _build("segformer", folder, sha256="0" * 64)
    assert caught.value.code == "SEG-S001"


def test_known_sums_are_of_commits_that_are_built_in() -> None:
    pinned = {f"{each.repository}@{each.revision}" for each in segformer._ENCODERS.values()}
    pinned |= {f"{each.repository}@{each.revision}" for each in segformer._FULL.values()}
    pinned |= {f"{name}@{commit}" for name, commit in timm_encoders._REVISIONS.items()}
    assert published_weights.HUB.keys() <= pinned
    for file in published_weights.HUB.values():
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert file.name in pretrained._FILES_IN_FOLDER


def test_nothing_is_fetched_unless_it_is_asked_for(no_network: Path) -> None:
    with torch.device("meta"):
        for name in backend.models():
            file = importlib.import_module(f"terrazzo_torch.models.{name}")
            assert file.Options().pretrained is False
            remarks = file.build(file.Options(), 3, 2).remarks
            # A model whose encoder is frozen says that it is of no use at random.
            assert not any("weights of" in remark for remark in remarks)
            assert bool(remarks) == (name == "dinov3_linear")


# --- with a trainer -------------------------------------------------------------------------------


def test_seed_alone_decides_what_is_not_taken_over(tmp_path: Path) -> None:
    folder, _ = _segformer_folder(tmp_path, SegformerForImageClassification)
    options = {"size": "tiny", "pretrained": str(folder)}
    states = []
    for seed in (3, 3, 4):
        torch.rand(5)
        trainer = backend.build(
            ModelConfig(name="segformer", options=options),
            TrainingConfig(steps=1),
            TWO_COLOURS.labels,
            TWO_COLOURS.bands,
            seed,
        )
        trainer.train_step(TWO_COLOURS.batch(32, 32), 1e-3)
        states.append(trainer.state())
    first, again, other = states
    assert all(np.array_equal(first[name], again[name]) for name in first)
    name = "weights/network.decode_head.linear_fuse.weight"
    assert not np.array_equal(first[name], other[name])


def test_trained_model_needs_the_pretrained_weights_no_more(tmp_path: Path) -> None:
    path = _save(tmp_path, _tiny_classifier())
    model = ModelConfig(name="fcn", options={"encoder": "tiny", "pretrained": str(path)})
    bands, labels = TWO_COLOURS.bands, TWO_COLOURS.labels
    trainer = backend.build(model, TrainingConfig(steps=1), labels, bands, 0)
    weights = {n: a for n, a in trainer.state().items() if n.startswith("weights/")}
    card = ModelCard("torch", model, labels, bands, None, 1)
    saved_model.write(tmp_path / "model", card, weights)
    path.unlink()
    stored, loaded = saved_model.load(tmp_path / "model")
    assert stored.model.options["pretrained"] == str(path)
    images_BHWC = TWO_COLOURS.batch(16, 16).images_BHWC
    np.testing.assert_array_equal(loaded.predict(images_BHWC), trainer.predict(images_BHWC))


# --- what loading does beside ---------------------------------------------------------------------


def test_loading_a_trained_model_does_nothing_else(tmp_path: Path) -> None:
    model = ModelConfig(name="unet", options={"width": 8, "depth": 2})
    bands, labels = TWO_COLOURS.bands, TWO_COLOURS.labels
    trainer = backend.build(model, TrainingConfig(steps=1), labels, bands, 0)
    weights = {n: a for n, a in trainer.state().items() if n.startswith("weights/")}
    saved_model.write(
        tmp_path / "model", ModelCard("torch", model, labels, bands, None, 1), weights
    )
    images_BHWC = TWO_COLOURS.batch(16, 16).images_BHWC
    with audit.refused(tmp_path / "model") as seen:
        _, loaded = saved_model.load(tmp_path / "model")
        loaded.predict(images_BHWC)
    assert seen == []


@pytest.mark.parametrize("file", ["weights.pth", "model.safetensors"])
def test_reading_pretrained_weights_does_nothing_else(tmp_path: Path, file: str) -> None:
    weights = _tiny_classifier().state_dict()
    place = tmp_path / "weights"
    place.mkdir()
    (torch.save if file.endswith(".pth") else save_file)(weights, place / file)
    with audit.refused(place) as seen:
        read = pretrained.read_weights(place / file)
    assert read.keys() == weights.keys()
    assert seen == []


@pytest.mark.parametrize(
    ("version", "file"), [("v1", "resnet50-0676ba61.pth"), ("v2", "resnet50-11ad3fa6.pth")]
)
def test_the_second_training_of_an_encoder_is_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, file: str
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / file).write_bytes(b"not those weights")
    options = fcn.Options(pretrained="encoder", encoder_weights=version)
    with pytest.raises(CheckpointError) as caught:
        fcn.build(options, 3, 7)
    assert caught.value.code == "SEG-S001"
    assert file in str(caught.value)
