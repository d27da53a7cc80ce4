"""One PyTorch model with its optimiser on one device, behind `terrazzo.models.contract.Trainer`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from terrazzo.base.errors import CheckpointError
from terrazzo.base.processes import World
from terrazzo.models.contract import State
from terrazzo_torch import world as processes
from terrazzo_torch.auxiliary import TrainingLogits, total_loss
from terrazzo_torch.average import MovingAverage
from terrazzo_torch.batch_norm import Share, synchronize_batch_norms
from terrazzo_torch.losses import SegmentationLoss, SumOver, one_part
from terrazzo_torch.optimizers import Optimizer

if TYPE_CHECKING:
    from terrazzo.base.recipe import TrainingConfig
    from terrazzo.data.labels import LabelMap
    from terrazzo.data.sample import Bands, Batch
    from terrazzo.models.parameter_groups import Part, Parts


_ALL_64 = (1 << 64) - 1
_NO_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",  # Windows
    "std::bad_alloc",
    "out of memory",  # CUDA outside torch's own allocator, and MPS
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""What torch says where it has no type of error for it."""
_NOTHING = nullcontext()


@dataclass(frozen=True, slots=True)
class LossOnDevice:
    """The loss of one step, fetched when it is read."""

    scalar: Tensor
    norm: Tensor | None = None

    @property
    def gradient_norm(self) -> float:
        """Norm of the gradient before it was clipped; NaN where it was not measured."""
        return float("nan") if self.norm is None else float(self.norm)

    @property
    def loss(self) -> float:
        """Loss of the batch before the update; NaN where the update was left out."""
        return float(self.scalar)


class TorchTrainer:
    """Trains `network`; see `terrazzo.models.contract.Trainer` for the contract.

    Batch-norm statistics are each process's own within a step, unless `training.sync_batch_norm`
    is set; their running averages are averaged over the processes after it, each by its share of
    the images.
    """

    def __init__(
        self,
        network: nn.Module,
        parts: Parts,
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
        self._accumulate = training.accumulate
        self._label_dtype = labels.dtype
        self._ignore = labels.ignore_index
        on_gpu = self._device.type == "cuda"
        self._bfloat16 = training.precision == "bfloat16" or (
            training.precision == "auto" and on_gpu
        )
        self._share = Share()
        self._synchronized = training.sync_batch_norm and self._several
        if self._synchronized:
            synchronize_batch_norms(network, self._share)
        network.to(self._device)
        if self._bfloat16:
            _give_logits_in_float32(network, parts, self._device)
        if on_gpu:
            network.to(memory_format=torch.channels_last)
        self._network = network
        self._parts = parts
        self._frozen = _freeze(network, parts, training)
        self._set_training_mode()
        self._depends_on_share = _depends_on_share(network, training.sync_batch_norm)
        self._statistics = _Statistics(network)
        trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self._optimizer_settings = training.optimizer, trained, parts.lr_factors(trained, training)
        self._average = MovingAverage(network, training.ema) if training.ema else None
        self._loss = SegmentationLoss(training.loss, labels.ignore_index).to(self._device)
        self._sum_over: SumOver = processes.sum_over if self._several else one_part
        self._bands = bands
        self._mean_C11 = torch.tensor(bands.mean, device=self._device)[:, None, None]
        self._std_C11 = torch.tensor(bands.std, device=self._device)[:, None, None]
        self._generator = _default_generator(self._device)
        self._step = 0
        self.measures_gradient = False
        if training.compile:
            network.compile()

    @cached_property
    def _optimizer(self) -> Optimizer:
        """Made when it is needed, and so not for prediction.

        With its slots it may be twice as large as the network, and torch loads its compiler for it.
        """
        return Optimizer(*self._optimizer_settings)

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
    def threads(self) -> int:
        """Number of threads torch shares sums among on the CPU."""
        return torch.get_num_threads()

    @property
    def asynchronous(self) -> bool:
        """True on a GPU: its queue runs ahead of the host."""
        return self._device.type == "cuda"

    @property
    def bands(self) -> Bands:
        """The bands it was built for, with their means and deviations."""
        return self._bands

    @property
    def num_parameters(self) -> int:
        """Number of trainable and frozen weights, without batch-norm statistics."""
        return sum(parameter.numel() for parameter in self._network.parameters())

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was taken over from pretrained weights, and what had to be changed."""
        found: tuple[str, ...] = getattr(self._network, "remarks", ())
        return found

    @property
    def parts(self) -> dict[str, Part]:
        """Part of each weight, by its name in `state`."""
        return {f"weights/{name}": self._parts.of(name) for name in self._network.state_dict()}

    @property
    def depends_on_share(self) -> str | None:
        """What makes a step depend on how its batch is shared among processes; None: nothing."""
        return self._depends_on_share

    @property
    def network(self) -> nn.Module:
        """A copy of the network with the trained weights, averaged ones where there are any.

        A plain module on the trainer's device, in inference mode: what is done with it changes
        nothing here. It takes normalised images, float32 B×C×H×W of any height and width, and
        returns logits B×K×H×W.
        """
        network = copy.deepcopy(self._network)
        averaged = {} if self._average is None else self._average.averaged
        for module in network.modules():
            module.__dict__.pop("forward", None)  # of `_give_logits_in_float32`
            # transformers hooks a network up when it first runs, and again then; a hooked one
            # cannot be pickled.
            module._forward_hooks.clear()
            module.__dict__.pop("_output_capturing_hooks_installed", None)
        for name, tensor in network.state_dict(keep_vars=True).items():
            # Buffers are views into one tensor here, see `_Statistics`.
            tensor.data = averaged.get(name, tensor).detach().clone()
        return network.eval()

    def train_step(self, batch: Batch, learning_rate: float) -> LossOnDevice:
        """Make one optimiser update from `batch`, unless its loss or gradient is not finite.

        All random numbers of the step come from the seed and the number of the step, so that a
        resumed run repeats them.
        """
        random = _mix(int(self._seed), self._step, self._world.rank)
        self._step += 1
        self._share.idle = batch.idle
        self._statistics.keep()
        if self._accumulate == 1:
            self._generator.manual_seed(random)
            loss = self._loss_of(batch.images_BHWC, batch.labels_BHW, self._sum_over)
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            loss = self._accumulated(batch, random)
        gradients = self._optimizer.gradients()
        if self._several:
            processes.sum_in_place(gradients)
        loss = loss.detach()
        norm = None
        if self.measures_gradient or self._clip_norm is not None:
            norm = nn.utils.get_total_norm(gradients)
        finite = torch.isfinite(loss) & self._clip(gradients, norm)
        self._optimizer.update(learning_rate, finite)
        if self._several and not self._synchronized:
            self._statistics.average(0 if batch.idle else len(batch))
        self._statistics.restore_unless(finite)
        if self._average is not None:
            self._average.update(self._step, finite)
        told = norm if self.measures_gradient else None
        return LossOnDevice(torch.where(finite, loss, torch.nan), told)

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

    def score(
        self, images_BHWC: NDArray[np.generic], labels_BHW: NDArray[np.generic]
    ) -> tuple[NDArray[np.integer], NDArray[np.float64]]:
        """Return the most probable classes, and the cross-entropy of each image in nats."""
        with self._inference():
            logits_BKHW = self._logits(images_BHWC)
            truth_BHW = _to_device(labels_BHW, self._device).long()
            losses_BHW = nn.functional.cross_entropy(
                logits_BKHW.float(), truth_BHW, ignore_index=self._ignore, reduction="none"
            )
            labels = logits_BKHW.argmax(dim=1)
            if self._label_dtype == np.uint8:
                labels = labels.to(torch.uint8)
            found: NDArray[np.integer] = labels.cpu().numpy()
            losses_B: NDArray[np.float64] = losses_BHW.double().sum(dim=(1, 2)).cpu().numpy()
        return found.astype(self._label_dtype, copy=False), losses_B

    def logits(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return logits B×H×W×K in inference mode, in float32 whatever `training.precision` is."""
        with self._inference(), torch.backends.cudnn.flags(allow_tf32=False):
            logits_BKHW: Tensor = self._network(self._normalised(images_BHWC))
            result: NDArray[np.float32] = logits_BKHW.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return result

    def multiply_adds(self, rows: int, columns: int) -> int:
        """Return the multiplications with addition of one image: convolutions, matrix products."""
        from torch.utils.flop_counter import FlopCounterMode

        images_BHWC = np.zeros((1, rows, columns, len(self.bands)), np.float32)
        with self._inference(), FlopCounterMode(display=False) as counter:
            self._logits(images_BHWC)
        return int(counter.get_total_flops()) // 2

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
        tensors = self._weights() if weights_only else self._tensors()
        _check_shapes(
            {name: value.shape for name, value in state.items()},
            {name: tuple(tensor.shape) for name, tensor in tensors.items()},
        )
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(torch.tensor(state[name]))
        if not weights_only:
            self._optimizer.resume()
            self._step = int(self._optimizer.updates)
            return
        self.__dict__.pop("_optimizer", None)  # with all that it has learnt
        self._step = 0
        if self._average is not None:
            self._average.restart()

    def out_of_memory(self, error: Exception) -> bool:
        """Tell whether torch says by this error that host or device have no memory left."""
        return out_of_memory(error)

    def _tensors(self) -> dict[str, Tensor]:
        """Return the live tensors behind every name of the state."""
        live = self._network.state_dict()
        averaged = {} if self._average is None else self._average.averaged
        return (
            self._weights()
            | {f"optimizer/raw/{name}": live[name] for name in averaged}
            | {f"optimizer/{name}": slot for name, slot in self._optimizer.slots().items()}
            | {"optimizer/step": self._optimizer.updates, "optimizer/seed": self._seed}
        )

    def _weights(self) -> dict[str, Tensor]:
        """Return those of them that prediction needs."""
        averaged = {} if self._average is None else self._average.averaged
        live = self._network.state_dict()
        return {f"weights/{name}": averaged.get(name, tensor) for name, tensor in live.items()}

    def _clip(self, gradients: list[Tensor], norm: Tensor | None) -> Tensor:
        """Clip in place where the recipe asks for it; tell whether all gradients were finite."""
        if self._clip_norm is None or norm is None:
            # Not by the norm where it is known: a step must not depend on whether it is measured.
            return _all_finite(gradients)
        nn.utils.clip_grads_with_norm_(self._optimizer.parameters.values(), self._clip_norm, norm)
        return torch.isfinite(norm)

    def _accumulated(self, batch: Batch, random: int) -> Tensor:
        """Leave the gradient of the whole batch in the parameters, taking one part at a time.

        Terms such as Dice are no sums over pixels, so the gradient of a part needs to know the sums
        over all others: a first pass collects them, a second one with the same random numbers
        differentiates.
        """
        num_parts = min(self._accumulate, len(batch))
        parts = list(
            zip(
                np.array_split(batch.images_BHWC, num_parts),
                np.array_split(batch.labels_BHW, num_parts),
                strict=True,
            )
        )
        sums = _Sums()
        self._generator.manual_seed(random)
        with torch.no_grad():
            for images_BHWC, labels_BHW in parts:
                self._loss_of(images_BHWC, labels_BHW, sums.collect)
                sums.end_part()
        self._statistics.restore()
        sums.totals = [self._sum_over(total) for total in sums.totals]
        self._generator.manual_seed(random)
        for images_BHWC, labels_BHW in parts:
            loss = self._loss_of(images_BHWC, labels_BHW, sums.whole)
            loss.backward()  # type: ignore[no-untyped-call]
            sums.end_part()
        return loss

    def _loss_of(
        self,
        images_BHWC: NDArray[np.generic],
        labels_BHW: NDArray[np.generic],
        sum_over: SumOver,
    ) -> Tensor:
        labels = _to_device(labels_BHW, self._device).long()
        return total_loss(partial(self._loss, sum_over=sum_over), self._output(images_BHWC), labels)

    def _logits(self, images_BHWC: NDArray[np.generic]) -> Tensor:
        logits = self._output(images_BHWC)
        assert isinstance(logits, Tensor)  # an auxiliary head is silent in inference mode
        return logits

    def _output(self, images_BHWC: NDArray[np.generic]) -> Tensor | TrainingLogits:
        images_BCHW = self._normalised(images_BHWC)
        # A context that does nothing takes its time all the same.
        context = torch.autocast(self._device.type, torch.bfloat16) if self._bfloat16 else _NOTHING
        with context:
            output: Tensor | TrainingLogits = self._network(images_BCHW)
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
        if self._average is not None:
            self._average.swap()
        try:
            with torch.inference_mode():
                yield
        finally:
            if self._average is not None:
                self._average.swap()
            self._set_training_mode()

    def _set_training_mode(self) -> None:
        self._network.train()
        for module in self._frozen:
            module.eval()


def out_of_memory(error: Exception) -> bool:
    """Tell whether torch says by this error that host or device have no memory left."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


def _give_logits_in_float32(network: nn.Module, parts: Parts, device: torch.device) -> None:
    """Leave autocast in the last layers: the loss of bfloat16 logits is too coarse to learn from.

    What comes after them, sums and interpolation, keeps the type it is given.
    """
    heads = [m for n, m in network.named_modules() if n and parts.of(f"{n}.") == "head"]
    for head in heads:
        if not [*head.children()]:
            head.forward = partial(_forward_in_float32, head.forward, device.type)


def _forward_in_float32(
    forward: Callable[[Tensor], Tensor], device_type: str, features: Tensor
) -> Tensor:
    with torch.autocast(device_type, enabled=False):
        return forward(features.float())


def _freeze(network: nn.Module, parts: Parts, training: TrainingConfig) -> list[nn.Module]:
    """Exclude from training what the recipe leaves alone; return the modules that hold it."""
    for name, parameter in network.named_parameters():
        if parts.is_frozen(name, training):
            parameter.requires_grad_(False)
    return [m for name, m in network.named_modules() if parts.is_frozen(f"{name}.", training)]


class _Sums:
    """The sums over the parts of a batch that a loss asks for, in the order it asks."""

    def __init__(self) -> None:
        self.totals: list[Tensor] = []
        self._next = 0

    def end_part(self) -> None:
        self._next = 0

    def collect(self, part: Tensor) -> Tensor:
        """Add `part` to its total."""
        if self._next == len(self.totals):
            self.totals.append(torch.zeros_like(part))
        self.totals[self._next] += part
        self._next += 1
        return part

    def whole(self, part: Tensor) -> Tensor:
        """Return the total, with the gradient of `part`."""
        total = self.totals[self._next]
        self._next += 1
        return part + (total - part.detach())


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

    def restore(self) -> None:
        for live, kept in zip(self._live, self._kept, strict=True):
            live.copy_(kept)

    def restore_unless(self, finite: Tensor) -> None:
        for live, kept in zip(self._live, self._kept, strict=True):
            torch.where(finite, live, kept, out=live)

    def average(self, num_images: int) -> None:
        """Average over the processes, each by the images it had a part in."""
        for live in self._live:
            if live.is_floating_point():
                share = live.new_tensor([num_images])
                live *= share
                processes.sum_in_place([live, share])
                live /= share


def _depends_on_share(network: nn.Module, sync_batch_norm: bool) -> str | None:
    """Return what makes a step depend on how its images are shared; after `_set_training_mode`."""
    at_work = [module for module in network.modules() if module.training]
    if not sync_batch_norm and any(
        isinstance(module, nn.modules.batchnorm._BatchNorm) for module in at_work
    ):
        return "batch normalisation"
    for module in at_work:
        # `p` is torch's name for the share that is dropped, `drop_prob` timm's and transformers'.
        share = getattr(module, "p", None) or getattr(module, "drop_prob", None)
        if "drop" in type(module).__name__.lower() and share:
            return "dropout"
    return None


def _to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """Move `array`, as it is, without waiting for the device; uint16 arrives as int32."""
    wide = array.dtype == np.uint16
    # Torch knows uint16 in name only; the bits travel as int16. It also warns of read-only memory.
    host = torch.from_numpy(np.require(array.view(np.int16) if wide else array, None, ["C", "W"]))
    if device.type == "cuda":
        host = host.pin_memory()
    tensor = host.to(device, non_blocking=True)
    return tensor.int().bitwise_and_(0xFFFF) if wide else tensor


def _all_finite(gradients: list[Tensor]) -> Tensor:
    """Tell, as a bool scalar on the device, whether no gradient holds NaN or infinity.

    The check of torch.amp.GradScaler, with a scale of 1: much faster than a norm of many tensors.
    """
    found = torch.zeros((), device=gradients[0].device)
    scale = torch.ones((), device=gradients[0].device)
    torch._amp_foreach_non_finite_check_and_unscale_(gradients, found, scale)
    return found == 0


def _default_generator(device: torch.device) -> torch.Generator:
    """Return the generator behind dropout; torch.manual_seed costs a stack trace without a GPU."""
    if device.type == "cpu":
        return torch.default_generator
    torch.cuda.init()  # type: ignore[no-untyped-call]
    generator: torch.Generator = torch.cuda.default_generators[device.index]
    return generator


def _mix(seed: int, step: int, rank: int) -> int:
    """Return 64 well-mixed bits; torch's CPU generator looks at the low 32 of them only.

    Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014; a hundredth of the
    time of NumPy's SeedSequence, which the step of a small network would notice.
    """
    bits = 0
    for number in (seed, step, rank):
        bits = (bits + number + 0x9E3779B97F4A7C15) & _ALL_64
        bits = ((bits ^ bits >> 30) * 0xBF58476D1CE4E5B9) & _ALL_64
        bits = ((bits ^ bits >> 27) * 0x94D049BB133111EB) & _ALL_64
        bits ^= bits >> 31
    return bits


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
