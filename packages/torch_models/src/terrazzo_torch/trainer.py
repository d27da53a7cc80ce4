"""One PyTorch model with its optimiser on one device, behind `terrazzo.trainer.Trainer`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from terrazzo.errors import CheckpointError
from terrazzo.trainer import State, World
from terrazzo_torch import world as processes
from terrazzo_torch.auxiliary import TrainingLogits, total_loss
from terrazzo_torch.losses import SegmentationLoss, one_process
from terrazzo_torch.optimizers import Optimizer

if TYPE_CHECKING:
    from terrazzo.config import TrainingConfig
    from terrazzo.labels import LabelMap
    from terrazzo.sample import Bands, Batch


@dataclass(frozen=True, slots=True)
class LossOnDevice:
    """The loss of one step, fetched when it is read."""

    scalar: Tensor

    @property
    def loss(self) -> float:
        """Loss of the batch before the update; NaN where the update was left out."""
        return float(self.scalar)


class TorchTrainer:
    """Trains `network`; see `terrazzo.trainer.Trainer` for the contract.

    Batch-norm statistics are each process's own within a step; their running averages are averaged
    over the processes after it.
    """

    def __init__(
        self,
        network: nn.Module,
        training: TrainingConfig,
        labels: LabelMap,
        bands: Bands,
        seed: int,
        world: World,
    ) -> None:
        self._device = processes.device()
        self._seed = torch.tensor(seed, dtype=torch.int64)  # on the host, but part of the state
        self._world = world
        self._several = world.size > 1
        self._clip_norm = training.clip_norm
        self._label_dtype = labels.dtype
        on_gpu = self._device.type == "cuda"
        self._bfloat16 = training.precision == "bfloat16" or (
            training.precision == "auto" and on_gpu
        )
        network.to(self._device)
        if on_gpu:
            network.to(memory_format=torch.channels_last)
        self._network = network.train()
        self._statistics = _Statistics(network)
        self._optimizer = Optimizer(
            training.optimizer,
            {name: p for name, p in network.named_parameters() if p.requires_grad},
        )
        self._loss = SegmentationLoss(
            training.loss,
            labels.ignore_index,
            processes.sum_over if self._several else one_process,
        ).to(self._device)
        self._mean_C11 = torch.tensor(bands.mean, device=self._device)[:, None, None]
        self._std_C11 = torch.tensor(bands.std, device=self._device)[:, None, None]
        self._generator = _default_generator(self._device)
        self._step = 0

    @property
    def world(self) -> World:
        """The processes that train this model together."""
        return self._world

    @property
    def device(self) -> str:
        """Where the model runs, for the record."""
        if self._device.type == "cpu":
            return "cpu"
        return f"{self._device} {torch.cuda.get_device_name(self._device)}"

    @property
    def asynchronous(self) -> bool:
        """True on a GPU: its queue runs ahead of the host."""
        return self._device.type == "cuda"

    @property
    def num_parameters(self) -> int:
        """Number of trainable and frozen weights, without batch-norm statistics."""
        return sum(parameter.numel() for parameter in self._network.parameters())

    def train_step(self, batch: Batch, learning_rate: float) -> LossOnDevice:
        """Make one optimiser update from `batch`, unless its loss or gradient is not finite.

        All random numbers of the step come from the seed and the number of the step, so that a
        resumed run repeats them.
        """
        self._generator.manual_seed(_mix(int(self._seed), self._step, self._world.rank))
        self._step += 1
        self._statistics.keep()
        labels_BHW = _to_device(batch.labels_BHW, self._device).long()
        loss = total_loss(self._loss, self._output(batch.images_BHWC), labels_BHW)
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = self._optimizer.gradients()
        if self._several:
            processes.sum_in_place(gradients)
        norm = nn.utils.get_total_norm(gradients)
        if self._clip_norm is not None:
            nn.utils.clip_grads_with_norm_(
                self._optimizer.parameters.values(), self._clip_norm, norm
            )
        loss = loss.detach()
        finite = torch.isfinite(loss) & torch.isfinite(norm)
        self._optimizer.update(learning_rate, finite)
        if self._several:
            self._statistics.average(self._world.size)
        self._statistics.restore_unless(finite)
        return LossOnDevice(torch.where(finite, loss, torch.nan))

    def predict(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return probabilities B×H×W×K, float32, summing to 1 over K, in inference mode."""
        with self._inference():
            probabilities_BKHW = self._logits(images_BHWC).float().softmax(dim=1)
            probabilities_BHWK = probabilities_BKHW.permute(0, 2, 3, 1).contiguous()
            result: NDArray[np.float32] = probabilities_BHWK.cpu().numpy()
        return result

    def predict_labels(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.integer]:
        """Return the most probable class, B×H×W uint8 or uint16."""
        with self._inference():
            labels_BHW = self._logits(images_BHWC).argmax(dim=1)
            if self._label_dtype == np.uint8:
                labels_BHW = labels_BHW.to(torch.uint8)
            result: NDArray[np.integer] = labels_BHW.cpu().numpy()
        return result.astype(self._label_dtype, copy=False)

    def state(self) -> State:
        """Return a copy of everything a bit-exact resume needs, on the host."""
        return {
            name: np.array(tensor.detach().cpu().numpy(), order="C")
            for name, tensor in self._tensors().items()
        }

    def load_state(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over `state`. Without any ``optimizer/`` key only the weights are taken over.

        Raises:
            CheckpointError: SEG-C007 names or shapes differ; nothing is changed then.
        """
        weights_only = not any(name.startswith("optimizer/") for name in state)
        tensors = {
            name: tensor
            for name, tensor in self._tensors().items()
            if not (weights_only and name.startswith("optimizer/"))
        }
        _check_shapes(
            {name: value.shape for name, value in state.items()},
            {name: tuple(tensor.shape) for name, tensor in tensors.items()},
        )
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(torch.tensor(state[name]))
        if weights_only:
            self._optimizer.reset()
        else:
            self._optimizer.resume()
        self._step = int(self._optimizer.updates)

    def _tensors(self) -> dict[str, Tensor]:
        """Return the live tensors behind every name of the state."""
        return (
            {f"weights/{name}": tensor for name, tensor in self._network.state_dict().items()}
            | {f"optimizer/{name}": slot for name, slot in self._optimizer.slots().items()}
            | {"optimizer/step": self._optimizer.updates, "optimizer/seed": self._seed}
        )

    def _logits(self, images_BHWC: NDArray[np.generic]) -> Tensor:
        logits = self._output(images_BHWC)
        assert isinstance(logits, Tensor)  # an auxiliary head is silent in inference mode
        return logits

    def _output(self, images_BHWC: NDArray[np.generic]) -> Tensor | TrainingLogits:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            output: Tensor | TrainingLogits = self._network(self._normalised(images_BHWC))
        return output

    def _normalised(self, images_BHWC: NDArray[np.generic]) -> Tensor:
        # In memory, a permuted B×H×W×C array is what torch calls channels_last.
        raw_BCHW = _to_device(images_BHWC, self._device).permute(0, 3, 1, 2)
        images_BCHW = raw_BCHW.float().sub(self._mean_C11).div_(self._std_C11)
        if images_BHWC.dtype == np.float32:
            # NaN is "no data", and only ever under IGNORE. Infinity stays and stops the training.
            images_BCHW.nan_to_num_(nan=0.0, posinf=torch.inf, neginf=-torch.inf)
        if self._device.type == "cpu":
            images_BCHW = images_BCHW.contiguous()
        return images_BCHW

    @contextmanager
    def _inference(self) -> Iterator[None]:
        self._network.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            self._network.train()


class _Statistics:
    """All buffers of a network (batch-norm statistics) as views into one tensor a data type.

    A forward pass changes them before anyone knows whether its loss is finite. Kept in one piece,
    saving and restoring them costs two operations a step rather than two a buffer.
    """

    def __init__(self, network: nn.Module) -> None:
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for buffer in network.buffers():
            by_dtype.setdefault(buffer.dtype, []).append(buffer)
        self._live = [
            torch.cat([buffer.reshape(-1) for buffer in buffers]) for buffers in by_dtype.values()
        ]
        for flat, buffers in zip(self._live, by_dtype.values(), strict=True):
            parts = torch.split(flat, [buffer.numel() for buffer in buffers])
            for buffer, part in zip(buffers, parts, strict=True):
                buffer.data = part.view(buffer.shape)
        self._kept = [torch.empty_like(flat) for flat in self._live]

    def keep(self) -> None:
        for live, kept in zip(self._live, self._kept, strict=True):
            kept.copy_(live)

    def restore_unless(self, finite: Tensor) -> None:
        for live, kept in zip(self._live, self._kept, strict=True):
            torch.where(finite, live, kept, out=live)

    def average(self, num_processes: int) -> None:
        for live in self._live:
            if live.is_floating_point():
                processes.sum_in_place([live])
                live /= num_processes


def _to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """Move `array`, as it is, without waiting for the device; uint16 arrives as int32."""
    wide = array.dtype == np.uint16
    # Torch knows uint16 in name only; the bits travel as int16. It also warns of read-only memory.
    host = torch.from_numpy(np.require(array.view(np.int16) if wide else array, None, ["C", "W"]))
    if device.type == "cuda":
        host = host.pin_memory()
    tensor = host.to(device, non_blocking=True)
    return tensor.int().bitwise_and_(0xFFFF) if wide else tensor


def _default_generator(device: torch.device) -> torch.Generator:
    """Return the generator behind dropout; torch.manual_seed costs a stack trace without a GPU."""
    if device.type == "cpu":
        return torch.default_generator
    torch.cuda.init()  # type: ignore[no-untyped-call]
    generator: torch.Generator = torch.cuda.default_generators[device.index]
    return generator


def _mix(seed: int, step: int, rank: int) -> int:
    """Return a 64-bit seed; torch's CPU generator looks at the low 32 bits only."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0])


def _check_shapes(
    given: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]
) -> None:
    different = sorted(
        name for name in given.keys() | wanted.keys() if given.get(name) != wanted.get(name)
    )
    if not different:
        return
    shown = different[:3]
    raise CheckpointError(
        "SEG-C007",
        f"the state does not fit the model: {len(different)} arrays differ",
        observed="; ".join(f"{name} {given.get(name, 'missing')}" for name in shown),
        allowed="; ".join(f"{name} {wanted.get(name, 'unknown')}" for name in shown),
        next_step="use the model, options, classes and bands the state was saved with",
    )
