"""A repository on the hub, at one commit, as a folder on this machine."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from terrazzo.base.errors import ConfigError, ResourceError
from terrazzo_torch import pretrained

_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_BESIDE = (
    *("preprocessor_config.json", "processor_config.json", "tokenizer_config.json"),
    *("tokenizer.json", "vocab.json", "merges.txt", "special_tokens_map.json"),
)
"""What a pipeline needs beside the weights; few repositories have all of it."""


def fetch(repository: str, revision: str | None) -> tuple[Path, str]:
    """Return the folder of a repository in the library's cache, fetched if need be, and its origin.

    Raises:
        ConfigError: SEG-X021, no commit is given.
        ResourceError: SEG-R020, it is neither here nor within reach.
    """
    if revision is None:
        raise ConfigError(
            "SEG-X021",
            "a network from the hub needs a fixed revision: branches and tags move",
            observed=f"{repository} without --revision",
            allowed="a commit of the repository: 40 hexadecimal digits",
            next_step=f"choose one listed at https://huggingface.co/{repository}/commits/main, or "
            "give the path of a folder (there is none of this name here)",
        )
    _require_commit(revision)
    config = pretrained.fetched(repository, revision, ("config.json",))
    weights, _ = pretrained.from_hub(repository, revision, None, _WEIGHTS)
    if weights.name.endswith(".index.json"):
        for part in pretrained.weight_files(weights)[1:]:
            pretrained.fetched(repository, revision, (part.name,))
    for name in _BESIDE:
        with suppress(ResourceError):  # what is missing is asked for where it is needed
            pretrained.fetched(repository, revision, (name,))
    return config.parent, f"{repository}@{revision}"


def _require_commit(revision: str) -> None:
    if len(revision) != 40 or set(revision) - set("0123456789abcdef"):
        raise ConfigError(
            "SEG-X021",
            "--revision is no commit: branches and tags move",
            observed=revision,
            allowed="40 hexadecimal digits",
        )
