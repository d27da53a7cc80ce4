import os

import hypothesis
import pytest

# The shared checks live in the shipped package, so their asserts need pytest's rewriting as well.
pytest.register_assert_rewrite("terrazzo.testing")

# Machines are shared: how long an example takes says nothing about the code.
hypothesis.settings.register_profile(
    "no clock", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("no clock")

# The default of `predict` would convert each of the many small models of the tests first. Those of
# runtimes set or unset it by themselves.
os.environ["TERRAZZO_RUNTIME"] = "framework"
