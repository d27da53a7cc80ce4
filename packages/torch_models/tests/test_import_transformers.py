"""`terrazzo import` of transformers: the same logits and labels as the library's own pipeline.

Small networks with random weights, written by their own ``save_pretrained``; images of CamVid.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import tomli_w
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from terrazzo import load_model
from terrazzo.base.errors import ConfigError, TerrazzoError
from terrazzo.base.json_files import read_json
from terrazzo.data.sample import Batch
from terrazzo.io.images import read_image
from terrazzo.io.resize import resize_image
from terrazzo.models.exporter import GraphForm
from terrazzo.models.published_network import Asked
from terrazzo.runs import saved_model
from terrazzo.workflows import import_model
from terrazzo.workflows.import_model import Preprocessing
from terrazzo.workflows.train import train
from terrazzo_torch.export.graph import example, graph
from terrazzo_torch.models import transformers as model_file
from terrazzo_torch.padding import by_windows

THEIRS = ("sky", "Building", "road_surface", "tree")
OURS = ("tree", "road surface", "building", "sky")
"""The same classes in another order, written otherwise."""
ORDER = [3, 2, 1, 0]
SQUARE, WIDE = (64, 64), (64, 96)
STAGES = ["stage1", "stage2", "stage3", "stage4"]


def _swin() -> transformers.PreTrainedConfig:
    return transformers.SwinConfig(
        embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, out_features=STAGES
    )


def _convnext() -> transformers.PreTrainedConfig:
    return transformers.ConvNextConfig(
        hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], out_features=STAGES
    )


def _vit(**settings: Any) -> dict[str, Any]:
    return {
        "image_size": 64,
        "patch_size": 8,
        "hidden_size": 16,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        **settings,
    }


_MASKS = {
    "hidden_dim": 32,
    "encoder_feedforward_dim": 16,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "num_attention_heads": 2,
    "dim_feedforward": 16,
    "num_queries": 6,
}


def _segformer(**settings: Any) -> transformers.SegformerConfig:
    return transformers.SegformerConfig(
        hidden_sizes=[16, 16, 20, 32],
        depths=[1, 1, 1, 1],
        decoder_hidden_size=32,
        **settings,
    )


CONFIGS: dict[str, Callable[[], transformers.PreTrainedConfig]] = {
    "segformer": lambda: _segformer(num_attention_heads=[1, 2, 4, 8]),
    "segformer, ours": lambda: _segformer(),
    "upernet on ConvNeXt": lambda: transformers.UperNetConfig(
        backbone_config=_convnext(), hidden_size=16, auxiliary_in_channels=16
    ),
    "upernet on Swin": lambda: transformers.UperNetConfig(
        backbone_config=_swin(), hidden_size=16, auxiliary_in_channels=32
    ),
    "beit": lambda: transformers.BeitConfig(
        **_vit(out_indices=[1, 2, 3, 4]), use_relative_position_bias=True, use_mask_token=False
    ),
    "data2vec": lambda: transformers.Data2VecVisionConfig(
        **_vit(out_indices=[0, 1, 2, 3]), use_relative_position_bias=True
    ),
    "dpt": lambda: transformers.DPTConfig(
        **_vit(backbone_out_indices=[0, 1, 2, 3]),
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=8,
    ),
    "mobilevit": lambda: transformers.MobileViTConfig(
        hidden_sizes=[16, 16, 16],
        neck_hidden_sizes=[8, 8, 8, 16, 16, 16, 32],
        aspp_out_channels=16,
    ),
    "mobilenet_v2": lambda: transformers.MobileNetV2Config(depth_multiplier=0.35),
    "mask2former": lambda: transformers.Mask2FormerConfig(
        backbone_config=_swin(), feature_size=32, mask_feature_size=32, **_MASKS
    ),
    "maskformer": lambda: transformers.MaskFormerConfig(
        backbone_config=_swin(),
        fpn_feature_size=32,
        mask_feature_size=32,
        decoder_config=transformers.DetrConfig(
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            decoder_ffn_dim=16,
            encoder_ffn_dim=16,
            num_queries=6,
        ),
    ),
    "oneformer": lambda: transformers.OneFormerConfig(
        backbone_config=_swin(),
        conv_dim=32,
        mask_dim=32,
        task_seq_len=30,
        text_encoder_width=64,
        text_encoder_vocab_size=60,
        text_encoder_context_length=30,
        text_encoder_num_layers=1,
        text_encoder_n_ctx=2,
        query_dec_layers=1,
        is_training=True,
        **_MASKS,
    ),
    "eomt": lambda: transformers.EomtConfig(
        **_vit(), num_blocks=1, num_upscale_blocks=1, num_queries=6
    ),
}
PROCESSORS: dict[str, Callable[[dict[str, int]], Any]] = {
    "segformer": lambda size: transformers.SegformerImageProcessor(size=size),
    "upernet": lambda size: transformers.SegformerImageProcessor(size=size, image_mean=[0.5] * 3),
    "beit": lambda size: transformers.BeitImageProcessor(size=size, do_center_crop=False),
    "data2vec-vision": lambda size: transformers.BeitImageProcessor(size=size),
    "dpt": lambda size: transformers.DPTImageProcessor(size=size),
    "mobilevit": lambda size: transformers.MobileViTImageProcessor(size=size, crop_size=size),
    "mobilenet_v2": lambda size: transformers.MobileNetV2ImageProcessor(size=size, crop_size=size),
    "mask2former": lambda size: transformers.Mask2FormerImageProcessor(size=size),
    "maskformer": lambda size: transformers.MaskFormerImageProcessor(size=size),
    "oneformer": lambda size: _oneformer_processor(size),
    "eomt": lambda size: transformers.EomtImageProcessor(
        size={"shortest_edge": size["height"], "longest_edge": size["width"]}
    ),
}


def _oneformer_processor(size: dict[str, int]) -> Any:
    letters = sorted(set("thetaskissemantic"))
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{c}</w>" for c in letters)]
    tokenizer = transformers.CLIPTokenizer(
        vocab={word: number for number, word in enumerate(words)}, merges=[]
    )
    images = transformers.OneFormerImageProcessor(size=size, num_text=0, repo_path=None)
    return transformers.OneFormerProcessor(images, tokenizer, task_seq_length=30, max_seq_length=30)


def publish(
    folder: Path, config: transformers.PreTrainedConfig, size: tuple[int, int] | None = None
) -> tuple[nn.Module, Any]:
    """Write a network with random weights as its library does."""
    config.id2label = dict(enumerate(THEIRS))
    config.label2id = {name: number for number, name in enumerate(THEIRS)}
    torch.manual_seed(7 if _kind(config).masks else 5)
    network = model_file.class_of(config)(config).eval()
    for name, parameter in network.named_parameters():
        # Masks with edges, and queries of several classes: else one class is everywhere.
        gain = 2 if "mask_embed" in name or "mask_head" in name else 1
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=gain * parameter[0].numel() ** -0.5)
        if name.endswith(("class_predictor.weight", "class_embed.weight")):
            nn.init.normal_(parameter, std=2)
    network.save_pretrained(folder)
    if config.model_type == "oneformer":  # one that keeps the text of its losses
        network = type(network).from_pretrained(folder, is_training=False).eval()
    rows, columns = size or (SQUARE if _kind(config).fixed else WIDE)
    processor = PROCESSORS[config.model_type]({"height": rows, "width": columns})
    processor.save_pretrained(folder)
    return network, processor


def _kind(config: transformers.PreTrainedConfig) -> model_file.Kind:
    return model_file.KINDS[config.model_type]


@pytest.fixture
def label_map(tmp_path: Path) -> Path:
    path = tmp_path / "map.toml"
    classes = [{"name": n, "colour": "#0000FF", "raw": [k]} for k, n in enumerate(OURS)]
    path.write_text(tomli_w.dumps({"name": "ours", "classes": classes}))
    return path


@pytest.fixture
def image_HWC() -> NDArray[np.uint8]:  # noqa: N802 - a shape suffix
    data = os.environ.get("TERRAZZO_DATA")
    if data is None:
        pytest.skip("TERRAZZO_DATA is not set")
    return read_image(min((Path(data) / "camvid" / "test").iterdir()))


def _scores_of_library(
    network: nn.Module, processor: Any, image_HWC: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the library's logits, or of masks its scores, K×H×W, and its labels H×W."""
    rows_columns = image_HWC.shape[:2]
    kind = _kind(network.config)
    task = {"task_inputs": ["semantic"]} if network.config.model_type == "oneformer" else {}
    if network.config.model_type == "eomt":
        given = processor(images=image_HWC, return_tensors="pt")
        given.pop("patch_offsets")
    else:
        given = processor(images=image_HWC, return_tensors="pt", **task)
    with torch.no_grad():
        output = network(**{k: v for k, v in given.items() if k != "pixel_mask"})
    if network.config.model_type == "eomt":
        output.patch_offsets = None
    images = getattr(processor, "image_processor", processor)
    if kind.masks:
        (found,) = images.post_process_semantic_segmentation(
            output, target_sizes=[rows_columns], return_segmentation_scores=True
        )
        return found.segmentation_scores.numpy(), found.segmentation.numpy()
    (labels,) = images.post_process_semantic_segmentation(output, target_sizes=[rows_columns])
    scores = nn.functional.interpolate(output.logits, rows_columns, mode="bilinear")
    return scores[0].numpy(), labels.numpy()


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_and_labels_are_the_librarys(
    name: str, tmp_path: Path, label_map: Path, image_HWC: NDArray[np.uint8]
) -> None:
    config = CONFIGS[name]()
    network, processor = publish(tmp_path / "theirs", config)
    said = {"eomt": Preprocessing(image_size="64x64")}.get(config.model_type)
    import_model.import_model(
        tmp_path / "theirs", tmp_path / "run", labels=label_map, preprocessing=said
    )
    card, trainer = saved_model.load(tmp_path / "run" / "model")
    assert card.image_size == (SQUARE if _kind(config).fixed else WIDE)
    assert card.model.name == ("segformer" if name == "segformer, ours" else "transformers")
    image_HWC = resize_image(image_HWC, card.image_size)
    scores_KHW, labels_HW = _scores_of_library(network, processor, image_HWC)
    own_HWK = trainer.logits(image_HWC[None])[0]
    if _kind(config).masks:
        own_HWK = np.exp(own_HWK)
    # Pixels are normalised in another order of operations: equal up to rounding.
    atol = 1e-5 * max(1.0, float(np.abs(scores_KHW).max()))
    np.testing.assert_allclose(own_HWK, scores_KHW[ORDER].transpose(1, 2, 0), rtol=0, atol=atol)
    own_HW = trainer.predict_labels(image_HWC[None])[0]
    assert (own_HW == np.array(ORDER)[labels_HW]).mean() >= 0.999
    assert len(np.unique(labels_HW)) > 1, "one class everywhere: nothing to see"


def test_labels_of_resized_images_differ_from_the_librarys_in_ties_alone(
    tmp_path: Path, image_HWC: NDArray[np.uint8]
) -> None:
    network, processor = publish(tmp_path / "theirs", CONFIGS["segformer"](), (512, 512))
    _import(tmp_path)
    scores_KHW, labels_HW = _scores_of_library(network, processor, image_HWC)
    found_HW = load_model(tmp_path / "run").predict(image_HWC)
    differing_HW = found_HW != labels_HW
    assert differing_HW.mean() < 0.005
    probabilities_KHW = torch.from_numpy(scores_KHW).softmax(dim=0).numpy()
    second_HW, first_HW = np.sort(probabilities_KHW, axis=0)[-2:]
    assert (first_HW - second_HW)[differing_HW].max() < 0.05


def _import(tmp_path: Path, **given: Any) -> None:
    import_model.import_model(tmp_path / "theirs", tmp_path / "run", **given)


def _change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize(
    ("file", "change", "code", "told"),
    [
        ("config.json", {"auto_map": {"AutoModel": "code.Model"}}, "SEG-X156", "code.Model"),
        ("config.json", {"model_type": "bert"}, "SEG-X155", "bert"),
        (
            "config.json",
            {"architectures": ["SegformerForImageClassification"]},
            "SEG-X155",
            "SegformerForImageClassification",
        ),
        ("config.json", {"hidden_act": "no such"}, "SEG-X160", "no such"),
        ("config.json", {"depths": [2, 1, 1, 1]}, "SEG-C020", "missing"),
        ("config.json", {"id2label": {"0": "sky", "5": "tree"}}, "SEG-X160", "0, 5"),
        (
            "preprocessor_config.json",
            {"auto_map": {"AutoImageProcessor": "code.Processor"}},
            "SEG-X156",
            "code.Processor",
        ),
        (
            "preprocessor_config.json",
            {"size": {"shortest_edge": 512}, "default_to_square": False},
            "SEG-X158",
            "shortest_edge = 512",
        ),
    ],
)
def test_what_the_folder_says_is_obeyed_or_refused(
    file: str, change: dict[str, Any], code: str, told: str, tmp_path: Path, label_map: Path
) -> None:
    publish(tmp_path / "theirs", CONFIGS["segformer"]())
    _change(tmp_path / "theirs" / file, **change)
    with pytest.raises(TerrazzoError) as caught:
        _import(tmp_path, labels=label_map)
    assert caught.value.code == code
    assert told in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_without_a_processor_the_preparation_has_to_be_said(
    tmp_path: Path, label_map: Path
) -> None:
    publish(tmp_path / "theirs", CONFIGS["segformer"]())
    (tmp_path / "theirs" / "preprocessor_config.json").unlink()
    with pytest.raises(ConfigError, match="SEG-X158"):
        _import(tmp_path, labels=label_map)
    said = Preprocessing(image_size="64x96", normalize="imagenet")
    _import(tmp_path, labels=label_map, preprocessing=said)
    assert saved_model.read_card(tmp_path / "run" / "model").image_size == (64, 96)


def test_settings_that_no_weight_shows_are_obeyed(
    tmp_path: Path, label_map: Path, image_HWC: NDArray[np.uint8]
) -> None:
    # The same shapes with another activation and other heads: ours would compute otherwise.
    config = _segformer(num_attention_heads=[2, 2, 5, 8], hidden_act="relu")
    network, processor = publish(tmp_path / "theirs", config)
    _import(tmp_path, labels=label_map)
    card, trainer = saved_model.load(tmp_path / "run" / "model")
    assert card.model.name == "transformers"
    image_HWC = resize_image(image_HWC, WIDE)
    scores_KHW, _ = _scores_of_library(network, processor, image_HWC)
    own_HWK = trainer.logits(image_HWC[None])[0]
    np.testing.assert_allclose(own_HWK, scores_KHW[ORDER].transpose(1, 2, 0), rtol=0, atol=1e-5)


def test_labels_are_reduced_and_bands_turned_round_as_the_processor_says(
    tmp_path: Path,
) -> None:
    publish(tmp_path / "theirs", CONFIGS["segformer"]())
    _change(
        tmp_path / "theirs" / "preprocessor_config.json",
        do_reduce_labels=True,
        rescale_factor=1 / 127.5,
        image_mean=[1.0, 1.0, 1.0],
        image_std=[1.0, 1.0, 1.0],
    )
    _import(tmp_path)
    card = saved_model.read_card(tmp_path / "run" / "model")
    assert [each.raw for each in card.label_map.classes] == [(1,), (2,), (3,), (4,)]
    assert card.label_map.ignored == (0,)
    np.testing.assert_allclose((*card.bands.mean, *card.bands.std), 127.5)
    assert read_json(tmp_path / "run" / "run.json")["imported"]["labels_reduced"]


def test_a_repository_needs_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for revision in (None, "main"):
        with pytest.raises(ConfigError, match="SEG-X021"):
            import_model.import_model("them/theirs", "run", asked=Asked(revision=revision))
    with pytest.raises(ConfigError, match="SEG-X155"):
        import_model.import_model("nothing.pth", "run")


def test_a_repository_in_the_cache_is_taken_without_a_network(
    tmp_path: Path, label_map: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef" * 2 + "01234567"
    place = tmp_path / "hub" / "models--them--theirs" / "snapshots" / commit
    publish(place, CONFIGS["segformer"]())
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    import_model.import_model("them/theirs", "run", labels=label_map, asked=Asked(revision=commit))
    imported = read_json(tmp_path / "run" / "run.json")["imported"]
    assert imported["from"] == f"them/theirs@{commit}"
    assert {"config.json", "model.safetensors"} <= imported["files"].keys()


def test_an_imported_network_trains_on(tmp_path: Path, label_map: Path) -> None:
    publish(tmp_path / "theirs", CONFIGS["eomt"](), SQUARE)
    _import(
        tmp_path,
        labels=label_map,
        preprocessing=Preprocessing(image_size="64x64"),
    )
    card, trainer = saved_model.load(tmp_path / "run" / "model")
    rng = np.random.default_rng(0)
    batch = Batch(
        images_BHWC=rng.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8),
        labels_BHW=rng.integers(0, 4, (2, 64, 64), dtype=np.uint8),
        names=("a", "b"),
        files=("a", "b"),
    )
    losses = [trainer.train_step(batch, 1e-3).loss for _ in range(8)]
    assert all(np.isfinite(losses))
    assert losses[-1] < losses[0]
    assert card.label_map.names == OURS


@pytest.mark.parametrize("how", ["pretrained", "init"])
def test_a_training_begins_with_the_weights_of_an_imported_run(
    how: str, tmp_path: Path, label_map: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    publish(tmp_path / "theirs", CONFIGS["segformer"]())
    _import(tmp_path, labels=label_map)
    random = np.random.default_rng(0)
    for folder, shape, top in (("images", (64, 96, 3), 256), ("masks", (64, 96), 4)):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for number in range(10):
            array = random.integers(0, top, shape, dtype=np.uint8)
            Image.fromarray(array).save(tmp_path / "data" / folder / f"{number}.png")
    imported = tomllib.loads((tmp_path / "run" / "config.toml").read_text())
    recipe = {
        "backend": "torch",
        "model": imported["model"],
        "data": {"format": "folder", "root": "data", "labels": "map.toml"},
        "training": {"steps": 1, "schedule": {"name": "constant", "learning_rate": 1e-12}},
    }
    if how == "init":
        recipe["init"] = {"run": "run"}
    else:
        recipe["model"]["options"]["pretrained"] = "run"
    (tmp_path / "recipe.toml").write_text(tomli_w.dumps(recipe))
    train("recipe.toml", "trained")
    before, after = (saved_model.load(Path(run) / "model") for run in ("run", "trained"))
    if how == "pretrained":  # brings the normalisation as well
        np.testing.assert_allclose(after[0].bands.mean, before[0].bands.mean)
    theirs, own = (trainer.network.named_parameters() for _, trainer in (before, after))
    for (name, parameter), (_, trained) in zip(theirs, own, strict=True):
        torch.testing.assert_close(trained, parameter, rtol=0, atol=1e-6, msg=name)


def test_a_graph_of_a_network_of_one_size_is_refused_before_it_is_traced(tmp_path: Path) -> None:
    publish(tmp_path / "theirs", CONFIGS["data2vec"]())
    _import(tmp_path)
    card, trainer = saved_model.load(tmp_path / "run" / "model")
    for size in (None, WIDE):
        with pytest.raises(ConfigError, match="64×64") as caught:
            graph(trainer, card, GraphForm("uint8", size=size))
        assert caught.value.code == "SEG-X080"
    whole = GraphForm("uint8", size=SQUARE)
    images_BHWC = example(whole, 3)
    logits_BHWK = graph(trainer, card, whole)(images_BHWC)[0]
    np.testing.assert_allclose(
        logits_BHWK.detach().numpy(), trainer.logits(images_BHWC.numpy()), rtol=0, atol=1e-5
    )


def test_windows_cover_an_image_and_agree_where_they_overlap() -> None:
    images_BCHW = torch.arange(2 * 3 * 10 * 17, dtype=torch.float32).reshape(2, 3, 10, 17)
    sizes = []

    def network(part_BCHW: torch.Tensor) -> torch.Tensor:
        sizes.append(tuple(part_BCHW.shape[-2:]))
        return part_BCHW

    assert torch.equal(by_windows(network, images_BCHW, (4, 12)), images_BCHW)
    assert set(sizes) == {(4, 12)}
    assert len(sizes) == 3 * 2
    assert torch.equal(by_windows(network, images_BCHW, (12, 20)), images_BCHW)
