"""``terrazzo serve`` as a process: what it prints, how it stops, what it refuses."""

from __future__ import annotations

import io
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import requests
from PIL import Image

from terrazzo.testing.scenes import make_model

pytest.importorskip("uvicorn", reason="needs terrazzo[serve]")
# A shell that starts the tests in the background has SIGINT ignored, and all below them too.
PROGRAM = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "from terrazzo.cli.app import main; main()"
)
COMMAND = [sys.executable, "-c", PROGRAM, "serve"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("served") / "model")


def begun(*words):
    """Start the command; returns the process and its address."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, words), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    assert line.startswith("serving "), line + process.stderr.read()
    return process, line.split()[3]


def ended(*words):
    answer = subprocess.run(
        [*COMMAND, *map(str, words)], capture_output=True, text=True, check=False, timeout=60
    )
    assert "Traceback" not in answer.stderr
    return answer


def body():
    file = io.BytesIO()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal_and_ends_well(model, number):
    process, address = begun(model)
    with requests.Session() as client:  # its connection stays open meanwhile
        answer = client.post(
            f"{address}/predict", data=body(), headers={"Content-Type": "image/png"}, timeout=20
        )
        assert answer.status_code == 200
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, "")


def test_a_request_at_work_is_answered_before_the_end(model):
    process, address = begun(model)
    host, port = address.removeprefix("http://").split(":")
    data = body()
    with socket.create_connection((host, int(port)), timeout=20) as client:
        head = f"POST /predict HTTP/1.1\r\nHost: {host}\r\nContent-Type: image/png\r\n"
        client.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data[:20])
        requests.get(f"{address}/health", timeout=20)  # the head of the other has come by now
        process.send_signal(signal.SIGTERM)
        client.sendall(data[20:])
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, "")


def test_a_port_that_is_taken(model):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        answer = ended(model, "--port", other.getsockname()[1])
    assert answer.returncode == 2
    assert "SEG-X085" in answer.stderr
    assert "--port" in answer.stderr


@pytest.mark.parametrize("host", ["203.0.113.9", "no such host"])
def test_an_address_that_is_not_of_this_machine(model, host):
    answer = ended(model, "--host", host)
    assert (answer.returncode, "SEG-X085" in answer.stderr) == (2, True)


def test_a_limit_that_is_none(model):
    answer = ended(model, "--timeout", "0")
    assert answer.returncode == 2
    assert "error SEG-X" in answer.stderr


def test_no_model(tmp_path):
    answer = ended(tmp_path, "--port", "0")
    assert (answer.returncode, "SEG-C012" in answer.stderr) == (4, True)


def test_without_the_extra(model):
    program = "import sys; sys.modules['uvicorn'] = None\n" + COMMAND[2]
    answer = subprocess.run(
        [COMMAND[0], "-c", program, "serve", str(model)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 2
    assert "SEG-X003" in answer.stderr
    assert "pip install 'terrazzo[serve]'" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_others_can_reach_it_and_a_line_says_what_that_means(model):
    process, address = begun(model, "--host", "0.0.0.0")
    port = address.rpartition(":")[2]
    assert requests.get(f"http://127.0.0.1:{port}/health", timeout=20).status_code == 200
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    (line,) = said.splitlines()
    assert "no authentication" in line
