"""`terrazzo import` without any framework: classes, sizes, normalisation and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from terrazzo.base.errors import CheckpointError, ConfigError
from terrazzo.base.json_files import read_json
from terrazzo.base.progress import Silent
from terrazzo.data import class_matching, datasets
from terrazzo.data.labels import LabelClass, LabelMap, load_label_map
from terrazzo.runs import saved_model
from terrazzo.runs.folder import RunFolder
from terrazzo.testing import dataset_trees
from terrazzo.testing.reference import published
from terrazzo.workflows import evaluate, import_model
from terrazzo.workflows.import_model import Preprocessing

NAMES = ("sky", "Traffic_Light", "road")


def _label_map(*names: str, first: int = 0) -> LabelMap:
    classes = (LabelClass(name, "#000000", (k + first,)) for k, name in enumerate(names))
    return LabelMap("ours", tuple(classes))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return _publish(tmp_path)


def _publish(tmp_path: Path, **said: Any) -> Path:
    folder = tmp_path / "theirs"
    rng = np.random.default_rng(0)
    arrays = {"kernel": rng.normal(size=(3, 3)), "bias": np.arange(3.0)}
    description = {"names": NAMES, "mean": [1, 2, 3], "std": [4, 5, 6], "image_size": [8, 12]}
    published.write(
        folder, description | said, {n: a.astype(np.float32) for n, a in arrays.items()}
    )
    return folder


def _labels(tmp_path: Path, *names: str, first: int = 0) -> Path:
    path = tmp_path / "ours.toml"
    path.write_text(tomli_w.dumps(_label_map(*names, first=first).as_toml()))
    return path


def _import(source: Path, out: Path, **given: Any) -> RunFolder:
    return import_model.import_model(source, out, backend="reference", **given)


def test_a_published_network_becomes_a_run(source: Path, tmp_path: Path) -> None:
    labels = _labels(tmp_path, "road", "sky", "traffic light")
    folder = _import(source, tmp_path / "run", labels=labels)
    card, trainer = saved_model.load(folder.model)
    assert card.label_map.names == ("road", "sky", "traffic light")
    assert (card.image_size, card.bands.mean, card.bands.std) == ((8, 12), (1, 2, 3), (4, 5, 6))
    np.testing.assert_array_equal(trainer.state()["weights/bias"], [2, 0, 1])
    imported = read_json(folder.record)["imported"]
    assert imported["classes"]["traffic light"] == ["Traffic_Light"]
    assert imported["files"].keys() == {"network.safetensors"}
    assert len(imported["files"]["network.safetensors"]) == 64
    assert not folder.log.exists()


def test_without_a_label_map_the_classes_are_the_networks_own(tmp_path: Path) -> None:
    source = _publish(tmp_path, labels_reduced=True)
    folder = _import(source, tmp_path / "run")
    own = load_label_map(folder.labels)
    assert own.names == NAMES
    assert [each.raw for each in own.classes] == [(1,), (2,), (3,)]
    assert own.ignored == (0,)
    assert len({each.colour for each in own.classes}) == 3


def test_it_has_no_data_until_some_are_named(source: Path, tmp_path: Path) -> None:
    folder = _import(source, tmp_path / "run")
    with pytest.raises(ConfigError, match="SEG-X161") as caught:
        evaluate.evaluate(folder.path)
    assert "--data FILE" in str(caught.value)


@pytest.mark.parametrize(
    ("said", "groups"),
    [
        ([], None),
        (["fog=sky"], ((0, 3), (1,), (2,))),
        (["fog="], ((0,), (1,), (2,))),
        (["3=road"], ((0,), (1,), (2, 3))),
    ],
)
def test_classes_are_matched_by_name_and_as_said(said, groups) -> None:
    theirs, ours = (*NAMES, "fog"), _label_map("Sky", "traffic-light", "road")
    if groups is None:
        with pytest.raises(ConfigError, match="SEG-X157") as caught:
            class_matching.match(theirs, ours, said)
        assert "fog (3)" in str(caught.value)
        return
    found = class_matching.match(theirs, ours, said)
    assert found.groups == groups
    assert not found.one_to_one
    table = "\n".join(found.lines())
    assert all(name in table for name in (*theirs, *ours.names))


@pytest.mark.parametrize(
    ("ours", "said", "in_order", "told"),
    [
        (("sky", "road"), [], False, "Traffic_Light (1)"),
        (("sky", "road", "traffic light", "snow"), [], False, "snow"),
        (("sky", "road", "traffic light"), ["mist=sky"], False, "mist=sky"),
        (("sky", "road", "traffic light"), ["sky=mist"], False, "sky=mist"),
        (("sky", "road", "traffic light"), ["sky"], False, "'sky'"),
        (("sky", "road"), [], True, "3 classes of the network, 2"),
        (("a", "b", "c"), ["sky=a"], True, "--map sky=a"),
    ],
)
def test_nothing_is_guessed(ours, said, in_order, told) -> None:
    with pytest.raises(ConfigError) as caught:
        class_matching.match(NAMES, _label_map(*ours), said, in_order=in_order)
    assert caught.value.code == "SEG-X157"
    assert told in str(caught.value)


def test_two_names_that_differ_in_marks_alone_are_not_told_apart() -> None:
    with pytest.raises(ConfigError, match="SEG-X157"):
        class_matching.match(("a b",), _label_map("a-b", "a_b"))


@pytest.mark.parametrize(
    ("said", "given", "code", "told"),
    [
        ({"size_rule": "shortest_edge = 800"}, {}, "SEG-X158", "shortest_edge = 800"),
        ({"mean": None}, {}, "SEG-X158", "the description has no mean"),
        ({"has_names": False}, {"labels": None}, "SEG-X158", "no names"),
        ({"names": ["a", "a", "b"]}, {"labels": None}, "SEG-X158", "two classes of one name"),
        ({"labels_reduced": True}, {"in_order": True}, "SEG-X159", "do_reduce_labels"),
        ({}, {"preprocessing": Preprocessing(image_size="8 by 8")}, "SEG-X158", "8 by 8"),
        ({}, {"preprocessing": Preprocessing(image_size="0x8")}, "SEG-X158", "0x8"),
        ({}, {"preprocessing": Preprocessing(normalize="0.5/0")}, "SEG-X158", "0.5/0"),
        ({}, {"preprocessing": Preprocessing(normalize="mine")}, "SEG-X158", "mine"),
    ],
)
def test_what_is_not_known_is_refused_and_nothing_left(
    said: dict[str, Any], given: dict[str, Any], code: str, told: str, tmp_path: Path
) -> None:
    source = _publish(tmp_path, **said)
    labels = _labels(tmp_path, "sky", "traffic light", "road")
    with pytest.raises(ConfigError) as caught:
        _import(source, tmp_path / "run", **({"labels": labels} | given))
    assert caught.value.code == code
    assert told in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_what_the_source_does_not_say_can_be_said(tmp_path: Path) -> None:
    source = _publish(tmp_path, mean=None, size_rule="by shortest edge")
    said = Preprocessing(image_size="16x24", normalize="0.5/0.25,0.5,1")
    card = saved_model.read_card(_import(source, tmp_path / "run", preprocessing=said).model)
    assert card.image_size == (16, 24)
    assert card.bands.mean == (127.5,) * 3
    assert card.bands.std == (63.75, 127.5, 255.0)


def test_a_place_that_is_taken_is_kept(source: Path, tmp_path: Path) -> None:
    _import(source, tmp_path / "run")
    with pytest.raises(CheckpointError, match="SEG-C002"):
        _import(source, tmp_path / "run")
    _import(source, tmp_path / "run", overwrite=True)
    with pytest.raises(ConfigError, match="SEG-X032"):
        _import(source, source / "run")
    with pytest.raises(ConfigError, match="SEG-X155"):
        _import(tmp_path, tmp_path.parent / "elsewhere")


def test_an_imported_run_is_scored_on_other_data_at_the_size_it_is_told_of(tmp_path: Path) -> None:
    """A recipe's `image_size` is that of the recipe's own model, perhaps."""
    data = dataset_trees.WRITERS["folder"](tmp_path / "data").data
    names = datasets.load_labels(data).names
    arrays = {"kernel": np.zeros((3, len(names)), np.float32), "bias": np.arange(len(names)) + 0.5}
    description = {"names": names, "mean": [1, 2, 3], "std": [4, 5, 6], "image_size": [8, 12]}
    published.write(
        tmp_path / "theirs", description, {n: a.astype(np.float32) for n, a in arrays.items()}
    )
    folder = _import(tmp_path / "theirs", tmp_path / "run", labels=data.labels)

    class Lines(Silent):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def say(self, text: str) -> None:
            self.lines.append(text)

    for size, told in ((None, False), ((8, 12), False), ((4, 6), True)):
        table = data.model_copy(update={"image_size": size}).model_dump(
            mode="json", exclude_none=True
        )
        file = tmp_path / "other.toml"
        file.write_text(tomli_w.dumps({"data": table}))
        progress = Lines()
        finished = evaluate.evaluate(folder.path, data=file, progress=progress)
        assert finished.evaluation.split == "other-test"
        assert finished.report is not None
        warned = [line for line in progress.lines if "brought to" in line]
        assert bool(warned) == told
    assert warned == [
        "warning: images are brought to 4×6, as the data say; the model was made for images "
        "brought to 8×12"
    ]
