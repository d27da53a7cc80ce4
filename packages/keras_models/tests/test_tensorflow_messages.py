"""What a process that imports TensorFlow shows on standard error."""

import os
import subprocess
import sys

import pytest

from terrazzo_keras.relay_messages import Relay

NOISE = [
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795853006.230718   19712 cudart_stub.cc:31] Could not find cuda drivers on yo",
    "I0000 00:00:1795853006.507980   19712 cpu_feature_guard.cc:227] This TensorFlow binary is opt",
    "To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow",
    "2026-01-02 03:04:05.678901: I tensorflow/core/util/port.cc:153] oneDNN custom operations are",
    "W0000 00:00:1759.1 77 computation_placer.cc:177] computation placer already registered.",
    "E0000 00:00:1759.1 77 cuda_dnn.cc:8579] Unable to register cuDNN factory: Attempting to",
]
ERRORS = [
    "E0000 00:00:1795853010.416334   19712 gpu.cc:52] out of memory",
    "F0000 00:00:1795853010.416334   19712 check.cc:1] Check failed: x == y",
    "2026-01-02 03:04:05.678901: E tensorflow/core/x.cc:9] Could not allocate pinned memory",
    "Traceback (most recent call last):",
    "Illegal instruction",
    "WARNING: something else",
    "Invented line",
    "To whom it may concern",
    "12/40 train",
]


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_lines_that_mean_nothing_are_left_out_and_all_others_kept(size):
    lines = [line for pair in zip(NOISE, ERRORS, strict=False) for line in pair] + ERRORS
    data = "".join(f"{line}\n" for line in lines).encode()
    relay = Relay()
    shown = b"".join(relay.take(data[k : k + size]) for k in range(0, len(data), size))
    shown += relay.end()
    kept = [line for line in lines if line not in NOISE]
    assert shown.decode().splitlines() == kept


def test_a_bar_is_redrawn_at_once():
    relay = Relay()
    assert relay.take(b"\r\x1b[2Ktrain 3/10") == b"\r\x1b[2Ktrain 3/10"
    assert relay.take(b"I0000 00:00:1.2 3 a.cc:1] half a li") == b""
    assert relay.take(b"ne\nours") == b"ours"


PROGRAM = """
import os, sys
from terrazzo_keras import backend
print("ours before", file=sys.stderr)
{extra}
backend.import_trainer("tensorflow")
import tensorflow as tf
tf.constant(1.0) + 1
print("ours after", file=sys.stderr)
"""


def messages(extra="", **environment):
    before = {key: text for key, text in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(extra=extra)], capture_output=True, text=True,
        check=False, env=before | {"KERAS_BACKEND": "tensorflow"} | environment,
    )  # fmt: skip
    return answer.returncode, answer.stderr.splitlines()


def test_only_our_lines_show():
    assert messages() == (0, ["ours before", "ours after"])


def test_the_level_of_the_user_wins():
    code, lines = messages(TF_CPP_MIN_LOG_LEVEL="0")
    assert code == 0
    assert len(lines) > 2


LATE = """
class Late:
    def find_spec(self, name, path=None, target=None):
        if name == "terrazzo_keras.trainer":
            {statement}
sys.meta_path.insert(0, Late())
"""


def test_an_error_line_shows_also_when_the_process_crashes_after_it():
    line = "E0000 00:00:1795853010.416334 19712 gpu.cc:52] out of memory"
    statement = f"os.write(2, b'{line}\\\\n'); os.abort()"
    code, lines = messages(LATE.format(statement=statement).replace("\\\\n", "\\n"))
    assert code < 0
    assert lines == ["ours before", line]


def test_a_failing_import_shows_its_traceback():
    code, lines = messages(LATE.format(statement="raise ImportError('no such library')"))
    assert code == 1
    assert lines[0] == "ours before"
    assert lines[-1] == "ImportError: no such library"


MANY_MODELS = """
import tensorflow as tf
import terrazzo_keras.engines.tensorflow

class {name}:
    def _probabilities(self, number):
        return tf.constant(number)

function = tf.function({name}()._probabilities)
for number in range(10):
    function(number)
"""


def test_many_models_in_one_process_are_not_taken_for_one_that_is_traced_again():
    imported = "backend.import_trainer('tensorflow')\n"
    code, lines = messages(imported + MANY_MODELS.format(name="KerasTrainer"))
    assert (code, lines) == (0, ["ours before", "ours after"])
    code, lines = messages(imported + MANY_MODELS.format(name="OfAUser"))
    assert "triggered tf.function retracing" in "".join(lines)
