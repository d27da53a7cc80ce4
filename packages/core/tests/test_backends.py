"""One framework a process: the second one is refused by name, before it is imported."""

import pytest

from terrazzo.base.errors import ConfigError
from terrazzo.models import backends


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """A process in which no backend has loaded anything."""
    monkeypatch.setattr(backends, "_framework_of", {})


@pytest.mark.parametrize(
    ("first", "second"),
    [(("torch", "torch"), ("keras", "tensorflow")), (("keras", "tensorflow"), ("torch", "torch"))],
)
def test_a_second_framework_is_refused_by_name(first, second):
    backends.claim_process(*first)
    with pytest.raises(ConfigError) as caught:
        backends.claim_process(*second)
    assert caught.value.code == "SEG-X070"
    assert all(word in caught.value.observed for word in (*first, *second))
    assert "process of its own" in caught.value.next_step
    backends.claim_process(*first)  # the one that is there goes on


def test_keras_on_the_engine_torch_goes_with_the_torch_backend():
    backends.claim_process("keras", "torch")
    backends.claim_process("torch", "torch")
    with pytest.raises(ConfigError, match="SEG-X070"):
        backends.claim_process("keras", "tensorflow")
