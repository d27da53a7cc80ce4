"""What the files of models say of themselves, read without running them."""

from pathlib import Path

import pytest

from terrazzo.base.errors import ConfigError
from terrazzo.models import catalog

FACTS = """
import no_such_framework
FACTS = {
    "option": "size",
    "variants": {"s": {"parameters": 1_000, "strides": (4, 8)}},
    "pretrained": ("encoder",),
}
raise SystemExit("this file was run")
"""


def _file(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "model.py"
    file.write_text(text)
    return file


def test_facts_are_read_without_running_the_file(tmp_path: Path) -> None:
    facts = catalog.read_file(_file(tmp_path, FACTS))
    assert facts is not None
    assert (facts.option, facts.pretrained, facts.bands) == ("size", ("encoder",), "any")
    assert facts.variants["s"] == catalog.Variant(parameters=1000, strides=(4, 8))


def test_file_may_have_no_facts(tmp_path: Path) -> None:
    assert catalog.read_file(_file(tmp_path, "x = 1")) is None
    assert catalog.read("reference", "pixel_softmax") is None


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("strides", "stride", "unknown key 'variants.s.stride'"),
        ("1_000", "-1", "parameters = -1"),
        ('"encoder"', '"imagenet"', "imagenet"),
    ],
)
def test_wrong_facts_name_the_file(tmp_path: Path, old: str, new: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        catalog.read_file(_file(tmp_path, FACTS.replace(old, new)))
    assert text in str(caught.value)
    assert "model.py" in str(caught.value)
