"""`TorchTrainer.network`: the trained network as its users know it."""

import io
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from terrazzo.testing.exporter_checks import noise, trained
from terrazzo_torch.backend import backend


def _logits(network: nn.Module, trainer: object, images_BHWC: np.ndarray) -> np.ndarray:
    bands = trainer.bands
    normalised = (images_BHWC - np.float32(bands.mean)) / np.float32(bands.std)
    images_BCHW = torch.from_numpy(np.ascontiguousarray(normalised.transpose(0, 3, 1, 2)))
    with torch.no_grad():
        return network(images_BCHW).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("model", ["unet", "segformer", "vit"])
@pytest.mark.parametrize("training", [{}, {"ema": 0.5}, {"precision": "bfloat16"}])
def test_it_holds_the_trained_weights_and_is_a_plain_module(model: str, training: dict) -> None:
    trainer, _ = trained(backend, model, **training)
    images_BHWC = noise("uint8", 2, 37, 41, 3)
    expected = trainer.logits(images_BHWC)
    network = pickle.loads(pickle.dumps(trainer.network))
    assert not network.training
    np.testing.assert_allclose(
        _logits(network, trainer, images_BHWC), expected, rtol=0, atol=1e-5 * np.ptp(expected)
    )
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    numbers = sum(tensor.numel() for tensor in network.state_dict().values())
    assert file.tell() < 8 * numbers + 300_000  # no buffer drags all others along
    assert not any("forward" in vars(module) for module in network.modules())


def test_a_compiled_one_is_plain_again() -> None:
    trainer, _ = trained(backend, "unet")
    trainer._network.compile()  # what training.compile does, without compiling here
    network = trainer.network
    assert network._compiled_call_impl is None
    images_BHWC = noise("uint8", 1, 12, 12, 3)
    trainer._network._compiled_call_impl = None
    assert np.array_equal(_logits(network, trainer, images_BHWC), trainer.logits(images_BHWC))


@pytest.mark.parametrize("training", [{}, {"ema": 0.5}])
def test_what_is_done_with_it_leaves_the_trainer_alone(training: dict) -> None:
    trainer, _ = trained(backend, "unet", **training)
    before = trainer.state()
    network = trainer.network.train()
    network(torch.randn(2, 3, 16, 16)).sum().backward()
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.zero_()
    after = trainer.state()
    assert all(np.array_equal(after[name], array) for name, array in before.items())
    # And the other way round: a network keeps its weights while training goes on.
    kept = trainer.network
    weights = {name: tensor.clone() for name, tensor in kept.state_dict().items()}
    trainer.load_state({name: np.zeros_like(array) for name, array in before.items()})
    assert all(torch.equal(weights[name], t) for name, t in kept.state_dict().items())


def test_the_example_of_the_documentation_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(__file__).parents[3]
    page = (root / "docs" / "models.md").read_text("utf-8")
    section = page.partition("## In your own PyTorch code")[2]
    example = re.search(r"```python\n(.+?)```", section, re.S)[1]
    monkeypatch.chdir(tmp_path)
    exec(example, {"run": root / "tests/stored_runs/torch", "image_HWC": noise("uint8", 33, 46, 3)})
    assert torch.load(tmp_path / "network.pt", weights_only=True)
