"""Masks of everything in an image, by Segment Anything of the transformers library.

Kirillov et al.: "Segment Anything", 2023, section 5 and appendix B (a grid of points; masks kept by
their predicted IoU and their stability; boxes that overlap suppressed); Ravi et al.: "SAM 2:
Segment Anything in Images and Videos", 2024.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoImageProcessor, MaskGenerationPipeline, Sam2Model, SamModel

from terrazzo.base.errors import CheckpointError
from terrazzo.base.memory import memory_for
from terrazzo_torch import mask_files, world
from terrazzo_torch.trainer import out_of_memory
from terrazzo_torch.transformers_messages import transformers_messages_hidden

_POINTS_AT_ONCE = 64


@dataclass(frozen=True)
class SegmentAnything:
    """A loaded model.

    Attributes:
        pipeline: of transformers.
        settings: what it is called with.
    """

    pipeline: MaskGenerationPipeline
    settings: dict[str, Any]

    def masks(self, image_HWC: NDArray[np.uint8]) -> list[NDArray[np.bool_]]:
        """Return masks H×W of an RGB image, the best ones first; they may overlap.

        Raises:
            ResourceError: SEG-R006, the image does not fit into memory.
        """
        rows, columns = image_HWC.shape[:2]
        with (
            memory_for(
                "cutting masks with Segment Anything",
                size=f"an image {rows}×{columns}",
                next_step="use smaller images, or a machine with more memory",
                ran_out=out_of_memory,
            ),
            transformers_messages_hidden(),
        ):
            found = self.pipeline(Image.fromarray(image_HWC), **self.settings)
        # Equal scores in the order of the points, whatever the device sorts them by.
        order = np.argsort(-_array(found["scores"]).astype(np.float64), kind="stable")
        return [_array(found["masks"][number]).astype(bool) for number in order]


def load(
    folder: Path, *, points: int, quality: float, stability: float, overlap: float
) -> SegmentAnything:
    """Load a model from a local folder; nothing is fetched, no code in it is run.

    Args:
        folder: as ``save_pretrained`` writes it.
        points: along each side of the grid of prompts.
        quality: least IoU that the model predicts of a mask, 0…1.
        stability: least IoU of a mask with itself when its threshold is moved, 0…1.
        overlap: IoU of two boxes above which the better mask alone is kept, 0…1.

    Raises:
        CheckpointError: SEG-C012 the folder holds none; SEG-C006 it is damaged.
        ResourceError: SEG-R006, it does not fit into memory.
    """
    kind = mask_files.require(folder)
    with memory_for(
        "loading Segment Anything",
        file=folder,
        next_step="use a smaller one",
        ran_out=out_of_memory,
    ):
        network, processor = _loaded(SamModel if kind == "sam" else Sam2Model, folder)
        pipeline = MaskGenerationPipeline(
            model=network, image_processor=processor, device=world.device()
        )
    settings = {
        "points_per_crop": points,
        "points_per_batch": _POINTS_AT_ONCE,
        "pred_iou_thresh": quality,
        "stability_score_thresh": stability,
        "crops_nms_thresh": overlap,
    }
    return SegmentAnything(pipeline, settings)


def _loaded(kind: Any, folder: Path) -> tuple[Any, Any]:
    try:
        with transformers_messages_hidden():
            network, told = kind.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
            # Unless it is told not to, transformers asks whether code in the folder may run.
            processor = AutoImageProcessor.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of many kinds: safetensors, JSON, values transformers refuses
        raise _damaged(folder, f"{type(error).__name__}: {error}") from error
    lacking = sorted({*told["missing_keys"], *(str(each) for each in told["mismatched_keys"])})
    if lacking:  # transformers would go on with random numbers
        raise _damaged(folder, f"{len(lacking)} weights missing or of other shapes: {lacking[0]}")
    return network.eval(), processor


def _damaged(folder: Path, observed: str) -> CheckpointError:
    return CheckpointError(
        "SEG-C006",
        "the Segment Anything model cannot be loaded",
        file=folder,
        observed=observed.splitlines()[0][:300],
        allowed="SAM or SAM 2 as transformers writes it",
        next_step="fetch the folder again",
    )


def _array(values: Any) -> NDArray[Any]:
    """Return a tensor or an array as an array."""
    found = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else values
    return np.asarray(found)
