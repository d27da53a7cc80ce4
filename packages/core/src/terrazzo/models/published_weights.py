"""SHA-256 of published weight files, and the comparison with what was fetched.

A commit names what a repository holds, but it is the server that says which bytes those are: a
mirror (``HF_ENDPOINT``) can send others. A sum that is known here, or stated in the recipe, cannot
be met by another file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field

from terrazzo.base.errors import CheckpointError

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None
"""SHA-256 that the file of pretrained weights must have; None: that known to us, if one is."""


class PublishedFile(NamedTuple):
    """A file of a repository at one commit."""

    name: str
    sha256: str


HUB: dict[str, PublishedFile] = {
    "nvidia/mit-b0@25ce79d97e6d9d509ed12e17cb2eb89b0a83a2dc": PublishedFile(
        "model.safetensors", "3e5ad9cd1dd8ecf8305c23fcdf01ef241f08c7b2dddacb6ec7de5a887188798a"
    ),
    "nvidia/mit-b2@d15ed1f9ae92346f6a6067dbb490a62494ae0d28": PublishedFile(
        "model.safetensors", "b3ad4dd552f9e1b871f46666f39187414133b861e3d07eda016600230f8a1ad6"
    ),
    "nvidia/mit-b5@40357155205b036cf11b61f132d53d2f8861f170": PublishedFile(
        "pytorch_model.bin", "a389c0a604458fa205446fd08a2c01b74e6591a5da3e77de668c6ca5cbf75356"
    ),
    "nvidia/segformer-b0-finetuned-ade-512-512@489d5cd81a0b59fab9b7ea758d3548ebe99677da": (
        PublishedFile(
            "model.safetensors", "6ae39addd01de6b1b8bde2cf677d43a5cd733424b8d186de3f95d1c51fee23f9"
        )
    ),
    "nvidia/segformer-b2-finetuned-ade-512-512@de01bae28967510f9ddd496c60a969357195400c": (
        PublishedFile(
            "pytorch_model.bin", "187ca07bea003a5717c63d04ea90b07f33cd033c0ebf44b4b89fce5070d6c8f3"
        )
    ),
    "timm/resnet18.a1_in1k@491b427b45c94c7fb0e78b5474cc919aff584bbf": PublishedFile(
        "model.safetensors", "80c49dee3da4822c009c5a7fe591e9223c5a2cfcf95a4067ca4dfb5a7b89c612"
    ),
    "timm/resnet50.a1_in1k@767268603ca0cb0bfe326fa87277f19c419566ef": PublishedFile(
        "model.safetensors", "773525d5821de224f8f30c33377b7a795d7863e08522698200d3217d3f2a41bb"
    ),
    "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k@7d3afdd0cf93ad84d986eb2d6bcc5812ebd0b106": (
        PublishedFile(
            "model.safetensors", "fecf81b492bd13ee7a5297cb74d1d417aac8bf7e1b7d96aed89c4691984587ed"
        )
    ),
}
"""By repository and commit: what several users of just that commit have published as its sum. The
other commits that are built in have none that more than one source confirms."""


def require_sha256(path: Path, expected: str | None, source: str | Path) -> str:
    """Compare a file with the sum it must have, before anything of it is read as weights.

    Args:
        path: of the file.
        expected: its SHA-256, or the beginning of it; None: unknown.
        source: where it comes from, for the message.

    Returns:
        A remark with the file's SHA-256, for the record of the run.

    Raises:
        CheckpointError: SEG-S001 it has another; SEG-C006 it cannot be read.
    """
    try:
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(
            "SEG-C006", "the weights cannot be read", file=path, observed=error.strerror
        ) from error
    if expected is None:
        return f"SHA-256 of {path.name}: {actual}; compared with nothing, see model.options.sha256"
    if not actual.startswith(expected):
        raise CheckpointError(
            "SEG-S001",
            "the weights are not the published ones; nothing was loaded",
            file=path,
            observed=f"SHA-256 {actual}",
            allowed=f"SHA-256 {expected}{'…' if len(expected) < len(actual) else ''}, of {source}",
            next_step="delete the file and fetch it again from its publisher; state "
            "model.options.sha256 only if you know why it differs",
        )
    return f"SHA-256 of {path.name}: {actual}; as expected"
