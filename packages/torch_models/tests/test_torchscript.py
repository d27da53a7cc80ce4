"""TorchScript for programs on LibTorch gives what the trainer gives, at every size."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from terrazzo.base.errors import ConfigError
from terrazzo.models.exporter import GraphForm
from terrazzo.testing.exporter_checks import assert_same, trained
from terrazzo_torch import export
from terrazzo_torch.backend import backend

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
FORM = GraphForm("float32", "NCHW", "outside", labels=False)
MODELS = [
    name if name == "unet" else pytest.param(name, marks=pytest.mark.slow)
    for name in backend.models()
]


@pytest.mark.parametrize("model", MODELS)
def test_torchscript_gives_what_the_model_gives(model: str, tmp_path: Path) -> None:
    """Normalised outside, as the BioImage Model Zoo asks."""
    trainer, card = trained(backend, model)
    facts = export.write("torchscript", trainer, card, FORM, tmp_path)
    assert facts == {"torch": torch.__version__}
    script = torch.jit.load(tmp_path / "model.torchscript.pt")
    mean, std = np.float32(card.bands.mean), np.float32(card.bands.std)

    def run(images_BHWC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        normalised = (images_BHWC.astype(np.float32) - mean) / std
        with torch.no_grad():
            logits_BKHW = script(torch.from_numpy(normalised.transpose(0, 3, 1, 2))).numpy()
        return logits_BKHW.transpose(0, 2, 3, 1), logits_BKHW.argmax(axis=1).astype(np.uint8)

    assert_same(trainer, card, run)


class _Network(nn.Module):
    """Another one for images whose height is odd."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 4, 1)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return logits."""
        logits = self.head(images_BCHW)
        return -logits if images_BCHW.shape[2] % 2 else logits


def test_a_network_that_decides_by_the_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, card = trained(backend, "unet")
    network = _Network()
    monkeypatch.setattr(type(trainer), "network", property(lambda _: network))
    with pytest.raises(ConfigError, match="decides by the size") as caught:
        export.write("torchscript", trainer, card, FORM, tmp_path)
    assert caught.value.code == "SEG-X080"
    assert not [*tmp_path.iterdir()]
