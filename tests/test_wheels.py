"""The three wheels, and what they do alone: installed into an environment outside the checkout."""

from __future__ import annotations

import email
import importlib
import os
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from email.message import Message
from pathlib import Path

import pytest

import terrazzo

ROOT = Path(__file__).resolve().parents[1]
MODULES = {"core": "terrazzo", "keras_models": "terrazzo_keras", "torch_models": "terrazzo_torch"}

RECIPE = """
backend = "reference"
name = "wheel"
[data]
format = "demo"
root = "demo_data"
[augment]
crop = [64, 64]
[model]
name = "pixel_softmax"
[training]
batch_size = 8
epochs = 1
loss = { cross_entropy = 1.0 }
optimizer = { name = "sgd" }
schedule = { name = "constant", learning_rate = 0.1 }
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command that knows nothing of the checkout; return what it says."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    answer = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout[-4000:]
    return answer.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> dict[str, Path]:
    """Built from copies: setuptools would take what an earlier build left in the checkout."""
    folder = tmp_path_factory.mktemp("wheels")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    found = {}
    for package in MODULES:
        source = folder / "source" / package
        unwanted = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
        shutil.copytree(ROOT / "packages" / package, source, ignore=unwanted)
        run(*pip, "--wheel-dir", folder / package, source, cwd=folder)
        (found[package],) = (folder / package).glob("*.whl")
    return found


@pytest.fixture(scope="module")
def terrazzo_command(wheels, tmp_path_factory) -> Path:
    """The command of a new environment that holds the wheels, and finds all else where we do."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=os.name != "nt")
    binaries = folder / ("Scripts" if os.name == "nt" else "bin")
    python = binaries / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index"]
    run(*pip, "--quiet", *wheels.values(), cwd=folder)
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    installed = Path(run(python, "-c", ask, cwd=folder).strip())
    # Paths named by a .pth file are searched, but the .pth files in them, such as those that lead
    # to the checkout, are not read.
    (installed / "others.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    for module in MODULES.values():
        where = run(python, "-c", f"import {module}; print({module}.__file__)", cwd=folder)
        assert Path(where.strip()).is_relative_to(folder)
    checkout = run(python, "-c", "import sys; print(*sys.path, sep='\\n')", cwd=folder).splitlines()
    assert not [path for path in checkout if Path(path).is_relative_to(ROOT / "packages")]
    return binaries / "terrazzo"


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


@pytest.mark.parametrize("package", MODULES)
def test_a_wheel_says_what_it_is(wheels, package):
    found = metadata_of(wheels[package])
    assert found["Name"].replace("-", "_") == MODULES[package]
    assert found["Version"] == terrazzo.__version__
    assert found["Summary"]
    assert found["Author"]
    assert found["License-Expression"] == "Apache-2.0"
    assert found.get_all("License-File") == ["LICENSE"]
    assert found["Requires-Python"] == ">=3.11"
    assert found["Description-Content-Type"] == "text/markdown"
    readme = (ROOT / "packages" / package / "README.md").read_text("utf-8")
    assert found.get_payload(decode=True).decode().strip() == readme.strip()
    classifiers = found.get_all("Classifier")
    assert "Programming Language :: Python :: 3.11" in classifiers
    assert "Typing :: Typed" in classifiers
    with zipfile.ZipFile(wheels[package]) as archive:
        (licence,) = (n for n in archive.namelist() if n.endswith("/LICENSE"))
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()


def test_the_packages_have_one_version_and_backends_ask_for_that_core(wheels):
    from packaging.requirements import Requirement

    for package, module in MODULES.items():
        assert importlib.import_module(module).__version__ == terrazzo.__version__
        if package != "core":
            lines = metadata_of(wheels[package]).get_all("Requires-Dist")
            (core,) = (r for r in map(Requirement, lines) if r.name == "terrazzo")
            assert core.specifier.contains(terrazzo.__version__)


@pytest.mark.parametrize("package", MODULES)
def test_a_wheel_holds_every_file_of_its_package_and_no_other(wheels, package):
    source = ROOT / "packages" / package / "src"
    expected = {
        path.relative_to(source).as_posix()
        for path in (source / MODULES[package]).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheels[package]) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert found == expected
    assert any(not name.endswith(".py") for name in found)


def test_reference_model_from_the_wheel(terrazzo_command, tmp_path):
    def command(*words):
        return run(terrazzo_command, *words, cwd=tmp_path)

    assert "cityscapes_19" in command("list", "labels")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    command("run", "--config", "recipe.toml", "--out", "runs/a")
    command("run", "--config", "recipe.toml", "--out", "runs/b", "--set", "seed=1")
    use(command, "runs/a", "runs/b", tmp_path)


def use(command, run_folder, other, folder):
    """Evaluate, compare and predict with runs that are there."""
    command("evaluate", run_folder, "--split", "test")
    assert (folder / run_folder / "report.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    command("compare", run_folder, other, "--out", "compare.html")
    assert (folder / "compare.html").stat().st_size > 10_000
    command("predict", run_folder, "demo_data/city.tif", "--out", "map.tif")
    assert (folder / "map.tif").stat().st_size > 1_000


@pytest.mark.slow
def test_the_demos_of_both_backends_from_the_wheels(terrazzo_command, tmp_path):
    def command(*words):
        return run(terrazzo_command, *words, cwd=tmp_path)

    for backend in ("torch", "keras"):
        command("run", "--backend", backend)
    use(command, "runs/demo_torch", "runs/demo_keras", tmp_path)
    command("predict", "runs/demo_keras", "demo_data/city.tif", "--out", "map_keras.tif")
    assert (tmp_path / "map_keras.tif").stat().st_size > 1_000
