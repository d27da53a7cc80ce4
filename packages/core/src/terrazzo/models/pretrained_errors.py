"""What the word ``pretrained`` of a recipe means, and what can go wrong, the same in all backends.

The backends do the reading: each has a module of this name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from terrazzo.base.config_parsing import resolve_path
from terrazzo.base.errors import CheckpointError, ConfigError, ResourceError, did_you_mean

Pretrained = Literal[False] | Annotated[str, Field(min_length=1)]
"""``false``: random weights everywhere. ``"encoder"``: trained on ImageNet. ``"full"``: a published
segmentation network. Anything else: the path of a weight file, or of a folder that holds one."""


def path_of(pretrained: str, offered: tuple[str, ...]) -> Path:
    """Return the path that an option means which is none of the words `offered`.

    Raises:
        ConfigError: SEG-X020, there is nothing at this path; with the words.
    """
    path = resolve_path(pretrained, where="model.options.pretrained")
    if path.exists() and pretrained not in ("encoder", "full"):
        return path
    words = ", ".join(f'"{word}"' for word in offered)
    raise ConfigError(
        "SEG-X020",
        "pretrained is neither a word this model knows nor a path that exists",
        file=path,
        observed=f'pretrained = "{pretrained}"',
        allowed=f"false, {words}, or the path of a weight file",
        next_step=f"{did_you_mean(pretrained, offered)}correct model.options.pretrained",
    )


def cannot_fetch(file: str, source: str, place: str, reason: Exception) -> ResourceError:
    """Compose the error for weights that are not here and out of reach.

    Args:
        file: name of the file.
        source: where it can be got.
        place: where a library would look for it.
        reason: what the library said.
    """
    return ResourceError(
        "SEG-R020",
        "the pretrained weights are not on this machine and cannot be fetched",
        file=file,
        observed=first_line(reason),
        next_step=f"get {source} where there is a network; put it at {place}, or anywhere and "
        "give its path as model.options.pretrained",
    )


def not_as_published(source: str, reason: Exception) -> CheckpointError:
    """Compose the error for fetched weights of another hash."""
    return CheckpointError(
        "SEG-S001",
        "the fetched weights are not the published ones; nothing was loaded",
        file=source,
        observed=reason,
        next_step="try again; if it stays so, do not use this source",
    )


def cannot_read(file: Path, reason: Exception) -> CheckpointError:
    """Compose the error for a file that is damaged or of another format."""
    return CheckpointError(
        "SEG-C006", "the weights cannot be read", file=file, observed=first_line(reason)
    )


def does_not_fit(origin: str | Path, observed: str, allowed: str) -> CheckpointError:
    """Compose the error for weights of another network."""
    return CheckpointError(
        "SEG-C020",
        "the weights do not fit the model",
        file=origin,
        observed=observed,
        allowed=allowed,
        next_step="give weights of this model and these options, or change the options to theirs",
    )


def first_line(error: Exception) -> str:
    """Return what an error of a library says first."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
