"""Which library a folder, a file or a repository on the hub is of."""

from __future__ import annotations

import re
from pathlib import Path

from terrazzo.base.errors import ConfigError
from terrazzo.models.published_network import Asked, PublishedNetwork
from terrazzo_torch import pretrained
from terrazzo_torch.importing import hub, smp_folder, torchvision_file, transformers_folder

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_KINDS = (
    "a folder of transformers or segmentation_models.pytorch as save_pretrained writes it, a "
    "weight file of torchvision with --architecture, or OWNER/NAME on the hub with --revision"
)


def read(source: Path, asked: Asked) -> PublishedNetwork:
    """Read what a published network says of itself.

    Raises:
        ConfigError: SEG-X155 it is of no kind that is known here; SEG-X156 it needs code of its
            own; SEG-X160 its description is refused; SEG-X021, a repository without a revision.
        CheckpointError: SEG-C006, a file is damaged.
        ResourceError: SEG-R020, a repository that is neither here nor within reach.
    """
    origin = str(source)
    if not source.exists() and not source.is_absolute() and _REPOSITORY.fullmatch(str(source)):
        source, origin = hub.fetch(str(source), asked.revision)
    if not source.exists():
        raise _unknown(source, "there is nothing")
    if asked.architecture is not None:
        return torchvision_file.read(source, origin, asked.architecture)
    if not (source / "config.json").is_file():
        raise _unknown(source, "a file alone" if source.is_file() else "no config.json in it")
    said = pretrained.read_json_object(source / "config.json")
    if "model_type" in said or "auto_map" in said:
        return transformers_folder.read(source, origin, said)
    if "_model_class" in said:
        return smp_folder.read(source, origin, said)
    keys = ", ".join(sorted(said)[:8])
    raise _unknown(source / "config.json", f"neither model_type nor _model_class, but {keys}")


def _unknown(source: Path, observed: str) -> ConfigError:
    return ConfigError(
        "SEG-X155",
        "this is no published network that can be imported",
        file=source,
        observed=observed,
        allowed=_KINDS,
        next_step="name the folder that holds config.json and the weights; for weights of a "
        "network of ours, model.options.pretrained takes the file",
    )
