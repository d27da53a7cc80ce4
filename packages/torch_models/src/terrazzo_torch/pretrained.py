"""Weights from elsewhere: read without running code, fitted to our bands and classes, or refused.

Nothing is fetched unless ``pretrained`` asks for it, and then through the library that the weights
belong to, at a fixed revision.
"""

from __future__ import annotations

import json
import pickle
import pickletools
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from terrazzo.base.errors import CheckpointError, ConfigError, ResourceError
from terrazzo.models import published_weights
from terrazzo.models.pretrained_errors import (
    cannot_fetch,
    cannot_read,
    does_not_fit,
    first_line,
    not_as_published,
)
from terrazzo.models.published_weights import require_sha256

_HUB = "https://huggingface.co"
Revision = Annotated[str, Field(pattern="^[0-9a-f]{40}$")] | None
"""A commit of a repository on the Hugging Face hub: branches and tags move, commits do not."""

_FILES_IN_FOLDER = ("model.safetensors", "pytorch_model.bin")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
"""Of folders whose weights are shared among several files."""
_OWN_FILES = ("weights.safetensors", "model/weights.safetensors")
"""Of a model folder of ours, and of a run folder."""
_WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Where training scripts put the weights when they store other things beside them."""
_OUTERMOST = ("weights/", "module.", "_orig_mod.")
"""What our own files, DistributedDataParallel and torch.compile write before all names."""
_HOLDERS = ("model.", "network.", "net.")
"""What Lightning's modules, our own and other people's most often call the network they hold."""


def require_revision(repository: str, pinned: str | None, chosen: str | None) -> str:
    """Return the commit to fetch: the one chosen in the recipe, else the one known to us.

    Raises:
        ConfigError: SEG-X021, there is neither.
    """
    revision = chosen or pinned
    if revision is not None:
        return revision
    raise ConfigError(
        "SEG-X021",
        "weights from the hub need a fixed revision, and none is built in for this model",
        observed=f"{repository} without a revision",
        allowed="a commit of the repository: 40 hexadecimal digits",
        next_step="set model.options.revision to a commit listed at "
        f"https://huggingface.co/{repository}/commits/main, or give the path of a weight file",
    )


def from_hub(
    repository: str,
    revision: str,
    sha256: str | None,
    files: tuple[str, ...] = _FILES_IN_FOLDER,
) -> tuple[Path, str]:
    """Return a weight file that the repository has at this commit; fetch it if need be.

    Args:
        repository: on the Hugging Face hub.
        revision: a commit.
        sha256: that the file must have; None: that known to us, if one is.
        files: names to look for, in this order, where we know none.

    Returns:
        The path of the file, and a remark with its SHA-256.

    Raises:
        ConfigError: SEG-X024, there is a mirror and no sum to compare with.
        ResourceError: SEG-R020, it is neither here nor within reach.
        CheckpointError: SEG-S001, it has another sum.
    """
    known = published_weights.HUB.get(f"{repository}@{revision}")
    if known is not None:
        files, sha256 = (known.name,), sha256 or known.sha256
    if sha256 is None and constants.ENDPOINT != _HUB:
        raise ConfigError(
            "SEG-X024",
            "weights from a mirror need a checksum, and none is built in for these",
            observed=f"HF_ENDPOINT = {constants.ENDPOINT}, {repository} without a checksum",
            allowed="the SHA-256 of the file: 64 hexadecimal digits",
            next_step="set model.options.sha256 to the one that its publisher states, or unset "
            "HF_ENDPOINT",
        )
    path = fetched(repository, revision, files)
    source = f"{_HUB}/{repository}/resolve/{revision}/{path.name}"
    return path, require_sha256(path, sha256, source)


def fetched(repository: str, revision: str, files: tuple[str, ...]) -> Path:
    """Return the first of `files` that a repository has at this commit; fetch it if need be.

    Raises:
        ResourceError: SEG-R020, it is neither here nor within reach.
    """
    for file in files:
        here = try_to_load_from_cache(repository, file, revision=revision)
        if isinstance(here, str):
            return Path(here)
    for file in files:
        source = f"{_HUB}/{repository}/resolve/{revision}/{file}"
        with fetching(file, source, "its place in the cache of huggingface_hub (HF_HOME)"):
            try:
                return Path(hf_hub_download(repository, file, revision=revision))
            except LocalEntryNotFoundError:
                raise  # no network, whatever the repository has
            except EntryNotFoundError as error:
                missing = error
    raise ResourceError(
        "SEG-R020",
        "the repository has no such file at this commit",
        file=", ".join(files),
        observed=first_line(missing),
        next_step=f"look at {_HUB}/{repository}/tree/{revision}",
    )


@contextmanager
def fetching(file: str, source: str, place: str) -> Iterator[None]:
    """Turn what goes wrong while a library fetches weights into one error.

    Args:
        file: name of the file.
        source: where it can be got.
        place: where a library would look for it.

    Raises:
        ResourceError: SEG-R020, it is neither here nor within reach.
        CheckpointError: SEG-S001, something else came than was asked for.
    """
    try:
        yield
    except OSError as error:
        raise cannot_fetch(file, source, place, error) from error
    except RuntimeError as error:
        if "hash" not in str(error):
            raise
        raise not_as_published(source, error) from error


def compared(path: Path, sha256: str | None) -> tuple[str, ...]:
    """Compare a file of the user's with the sum in the recipe; return a remark, if there is one.

    Raises:
        CheckpointError: SEG-S001, it has another; SEG-C006 and SEG-C020 as `read_weights`.
    """
    if sha256 is None:
        return ()
    files = weight_files(path)
    if len(files) == 1:
        return (require_sha256(files[0], sha256, "model.options.sha256"),)
    raise CheckpointError(
        "SEG-S001",
        "model.options.sha256 is the sum of one file, and these weights are shared among several",
        file=path,
        observed=", ".join(file.name for file in files[:3]) + f": {len(files)} files",
        next_step="leave model.options.sha256 away, or give the weights as one file",
    )


def read_weights(path: Path, wanted: Collection[str] = ()) -> dict[str, Tensor]:
    """Read tensors by name; run nothing.

    Args:
        path: a safetensors file, a file of ``torch.save`` that holds tensors and plain containers
            alone, an index of several of them, or a folder with one of these as
            ``save_pretrained`` or a run of ours writes it.
        wanted: names that the network has, to tell the network from what holds it.

    Returns:
        By the names within the network: without what training scripts and frameworks put before
        all of them, and, where something else lies beside the network, without that.

    Raises:
        CheckpointError: SEG-S003 reading it would run code; SEG-C006 unreadable; SEG-C020 there are
            no weights in it; SEG-C050 an index does not fit its files.
    """
    index = _index_in(path)
    stored = _read_file(_file_in(path)) if index is None else _read_shards(index)
    return _within_network(stored, wanted)


def weight_files(path: Path) -> tuple[Path, ...]:
    """Return the files that `read_weights` reads, an index among them.

    Raises:
        CheckpointError: as `read_weights`.
    """
    index = _index_in(path)
    if index is None:
        return (_file_in(path),)
    return (index, *sorted(index.parent / name for name in set(_weight_map(index).values())))


def require_config(
    path: Path, expected: Mapping[str, Any], read: Callable[[dict[str, Any]], Mapping[str, Any]]
) -> None:
    """Compare what a folder's ``config.json`` says with the network that takes its weights.

    Many settings leave the shapes of all weights as they are and still change what comes out.

    Args:
        path: of the weights; a folder without this file, or a file alone, says nothing.
        expected: of our network.
        read: from the file's content to the same keys; a key that is left out is not compared.

    Raises:
        CheckpointError: SEG-C006 the file is no JSON; SEG-C051 it says something else.
    """
    file = path / "config.json"
    if not (path.is_dir() and file.is_file()):
        return
    said = read(read_json_object(file))
    differing = [key for key, value in said.items() if key in expected and expected[key] != value]
    if differing:
        raise CheckpointError(
            "SEG-C051",
            "the folder's config.json describes another network than the one that would take its "
            "weights",
            file=file,
            observed="; ".join(f"{key} = {said[key]!r}" for key in differing[:5]),
            allowed="; ".join(f"{key} = {expected[key]!r}" for key in differing[:5]),
            next_step="change model.options to what the file says, or take the published network "
            "as it is with `terrazzo import`",
        )


def read_json_object(file: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object, of somebody else's.

    Raises:
        CheckpointError: SEG-C006, it is unreadable or something else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise cannot_read(file, error) from error
    if not isinstance(content, dict):
        raise cannot_read(file, ValueError(f"{type(content).__name__} in place of an object"))
    return content


def _read_file(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return dict(load_file(file))
        with warnings.catch_warnings(action="ignore"):  # of pickles that it may not understand
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(file, error) from None
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError) as error:
        raise cannot_read(file, error) from error
    return _tensors(content, file)


def adopt(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    num_bands: int,
    origin: str | Path,
    heads: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Copy `weights` into `network`, all or none.

    A convolution of other bands is inflated, see `inflate`. A head of other classes stays as it is.

    Args:
        network: takes the weights; changed in place.
        weights: by the network's names.
        num_bands: C of the images.
        origin: where they come from, for messages.
        heads: names of the modules whose outputs are the classes.

    Returns:
        What had to be changed, a sentence each.

    Raises:
        CheckpointError: SEG-C020, names or shapes differ, with the first of them.
    """
    own, given, remarks = network.state_dict(), dict(weights), []
    for name, tensor in own.items():
        if name in given and _differ_in_bands(given[name], tensor, num_bands):
            there = given[name].shape[1]
            given[name] = inflate(given[name], num_bands)
            remarks.append(
                f"{name}: {there} bands in the weights, {num_bands} here; each band has the mean "
                f"of the {there} kernels times {there}/{num_bands}"
            )
    for head in heads:
        names = [name for name in own if name.startswith(f"{head}.")]
        if any(_differ_in_classes(given.get(name), own[name]) for name in names):
            there, here = (tensors[names[0]].shape[0] for tensors in (given, own))
            given.update({name: own[name] for name in names})
            remarks.append(f"{head}: {there} classes in the weights, {here} here; made anew")
        else:
            remarks.append(f"{head}: kept, with {own[names[0]].shape[0]} classes as in the weights")
    for name, tensor in own.items():
        # The oldest files are of a time when batch normalisation did not count its batches.
        if name.endswith("num_batches_tracked"):
            given.setdefault(name, tensor)
    _check_fit(
        {name: tuple(tensor.shape) for name, tensor in given.items()},
        {name: tuple(tensor.shape) for name, tensor in own.items()},
        origin,
    )
    network.load_state_dict(given)
    return tuple(remarks)


def inflate(kernels_OIHW: Tensor, num_bands: int) -> Tensor:
    """Return O×num_bands×H×W kernels that answer an image of equal bands as the given ones do.

    Each band gets the mean over the I kernels, times I / num_bands.
    """
    num_inputs = kernels_OIHW.shape[1]
    mean_O1HW = kernels_OIHW.mean(dim=1, keepdim=True)
    return mean_O1HW.repeat(1, num_bands, 1, 1) * (num_inputs / num_bands)


def _file_in(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in (*_FILES_IN_FOLDER, *_OWN_FILES):
        if (path / name).is_file():
            return path / name
    raise CheckpointError(
        "SEG-C020",
        "there are no weights in this folder",
        file=path,
        observed=", ".join(sorted(p.name for p in path.iterdir())[:10]) or "nothing",
        allowed=" or ".join((*_FILES_IN_FOLDER, *_INDEXES, *_OWN_FILES)),
        next_step="give the path of the weight file",
    )


def _index_in(path: Path) -> Path | None:
    """Return the index of weights in several files; None: they are in one."""
    if not path.is_dir():
        return path if path.name.endswith(".index.json") else None
    if any((path / name).is_file() for name in _FILES_IN_FOLDER):
        return None
    return next((path / name for name in _INDEXES if (path / name).is_file()), None)


def _weight_map(index: Path) -> dict[str, str]:
    """Return the file of each tensor; none of them lies outside the folder of the index."""
    found = read_json_object(index).get("weight_map")
    if not (isinstance(found, dict) and found):
        raise cannot_read(index, ValueError("no weight_map in it"))
    for file in found.values():
        if not isinstance(file, str) or Path(file).name != file or "\\" in file:
            raise CheckpointError(
                "SEG-C050",
                "the index of the weights names a file that is not beside it",
                file=index,
                observed=repr(file)[:200],
                allowed="names of files in the folder of the index",
            )
    return found


def _read_shards(index: Path) -> dict[str, Tensor]:
    files = _weight_map(index)
    tensors: dict[str, Tensor] = {}
    for file in sorted(set(files.values())):
        if not (index.parent / file).is_file():
            raise CheckpointError(
                "SEG-C050",
                "one of the files that share the weights is missing",
                file=index,
                observed=f"no {file}",
                next_step="copy the whole folder again from where it was published",
            )
        tensors |= _read_file(index.parent / file)
    if missing := sorted(files.keys() - tensors.keys()):
        raise CheckpointError(
            "SEG-C050",
            "the index of the weights names tensors that are in none of its files",
            file=index,
            observed=f"{missing[0]}; {len(missing)} in all",
            next_step="copy the whole folder again from where it was published",
        )
    return tensors


def _within_network(stored: dict[str, Tensor], wanted: Collection[str]) -> dict[str, Tensor]:
    """Take away what is before all names of a network, and what lies beside it."""
    for prefix in _OUTERMOST:
        if all(name.startswith(prefix) for name in stored):
            stored = {name.removeprefix(prefix): tensor for name, tensor in stored.items()}
    for holder in _HOLDERS:
        held = {n.removeprefix(holder): t for n, t in stored.items() if n.startswith(holder)}
        if not held:
            continue
        if wanted:
            inside, outside = len(held.keys() & wanted), len(stored.keys() & wanted)
            if inside > outside:
                return _within_network(held, wanted)
        if len(held) == len(stored) and not any(name.startswith(holder) for name in wanted):
            return _within_network(held, wanted)
    return stored


def _refused(file: Path, error: pickle.UnpicklingError) -> CheckpointError:
    # Torch's message is a page of advice on how to run the code after all; the name is in it.
    told = re.search(r"GLOBAL:? ([\w.]+)", str(error))
    wanted = told[1] if told else _imports(file)
    if wanted is None:
        return cannot_read(file, error)
    return CheckpointError(
        "SEG-S003",
        "the file holds more than weights: reading it would run code. Nothing of it was run",
        file=file,
        observed=f"a pickle that asks for {wanted}",
        allowed="safetensors, or a file of torch.save with tensors alone",
        next_step="get the weights as safetensors from their publisher",
    )


def _imports(file: Path) -> str | None:
    """Name what a plain pickle would import, by looking at its operations without doing them."""
    words, names = ["", ""], []
    try:
        for operation, argument, _ in pickletools.genops(file.read_bytes()):
            if operation.name == "GLOBAL":
                names.append(str(argument).replace(" ", "."))
            elif operation.name == "STACK_GLOBAL":
                names.append(".".join(words[-2:]))
            elif isinstance(argument, str):
                words.append(argument)
    except (ValueError, EOFError):
        return None  # no pickle
    return ", ".join(names) or None


def _tensors(content: object, file: Path) -> dict[str, Tensor]:
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not (isinstance(content, Mapping) and content):
        observed = type(content).__name__
    elif strange := [name for name, value in content.items() if not isinstance(value, Tensor)]:
        observed = f"{strange[0]}: {type(content[strange[0]]).__name__}"
    else:
        return {str(name): value for name, value in content.items()}
    raise CheckpointError(
        "SEG-C020", "there are no weights in it", file=file, observed=observed, allowed="tensors"
    )


def _differ_in_bands(given: Tensor, own: Tensor, num_bands: int) -> bool:
    """Tell whether two kernels differ in the number of bands they take, and in nothing else."""
    return (
        given.ndim == own.ndim == 4
        and given.shape[1] != own.shape[1] == num_bands
        and (given.shape[0], *given.shape[2:]) == (own.shape[0], *own.shape[2:])
    )


def _differ_in_classes(given: Tensor | None, own: Tensor) -> bool:
    return given is not None and given.shape[0] != own.shape[0] and given.shape[1:] == own.shape[1:]


def _check_fit(
    given: Mapping[str, tuple[int, ...]], own: Mapping[str, tuple[int, ...]], origin: str | Path
) -> None:
    differing = [name for name in own if given.get(name) != own[name]]
    differing += [name for name in given if name not in own]
    if differing:
        shown = differing[:3]
        more = f"; {len(differing)} differ in all"
        raise does_not_fit(
            origin,
            "; ".join(f"{name} {given.get(name, 'missing')}" for name in shown) + more,
            "; ".join(f"{name} {own.get(name, 'unknown')}" for name in shown),
        )
