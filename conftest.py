import pytest

# The shared checks live in the shipped package, so their asserts need pytest's rewriting as well.
pytest.register_assert_rewrite("terrazzo.testing")
