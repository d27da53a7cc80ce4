"""What may import what, checked in fresh processes, and files that must not exist."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FRAMEWORKS = {"torch", "torchvision", "keras", "tensorflow", "jax", "timm", "transformers"}
HEAVY = FRAMEWORKS | {"rasterio", "cv2", "numba", "pydantic", "matplotlib", "PIL", "rich"}
HEAVY |= {"requests", "uvicorn"}
TRACKERS = {"mlflow", "tensorboardX", "sqlalchemy"}


def loaded_by(program: str) -> set[str]:
    """Top-level modules in a fresh process after `program`."""
    tail = "\nimport sys; print('MODULES', *{name.partition('.')[0] for name in sys.modules})"
    answer = subprocess.run(
        [sys.executable, "-c", program + tail], capture_output=True, text=True, check=True
    )
    return set(answer.stdout.rpartition("MODULES")[2].split())


def test_metrics_load_numpy_and_little_else():
    loaded = loaded_by("from terrazzo.metrics import ConfusionMatrix")
    assert "numpy" in loaded
    assert not loaded & HEAVY


def test_help_loads_nothing_heavy():
    program = (
        "import sys; sys.argv = ['terrazzo', '--help']\n"
        "from terrazzo.cli.app import main\n"
        "try: main()\nexcept SystemExit: pass"
    )
    assert not loaded_by(program) & (HEAVY | {"numpy"})


GIVEN_AWAY = {"mlflow_model.py"}
"""Files that are written beside an exported model, for a program that runs them by itself."""
CORE = sorted(
    ".".join(path.relative_to(ROOT / "packages/core/src").with_suffix("").parts)
    for path in (ROOT / "packages/core/src/terrazzo").rglob("*.py")
    if path.name not in GIVEN_AWAY | {"__init__.py"}
)


def test_no_module_of_core_loads_a_framework():
    assert len(CORE) > 30
    imports = "\n".join(f"import {name}" for name in CORE if name != "terrazzo.testing.kill")
    unwanted = FRAMEWORKS | TRACKERS | {"terrazzo_torch", "terrazzo_keras"}
    assert not loaded_by(imports) & unwanted


@pytest.mark.parametrize("backend", ["torch", "keras"])
def test_naming_the_models_loads_no_framework(backend):
    program = (
        "from terrazzo.models import backends\n"
        f"assert backends.load({backend!r}).models()\n"
        f"backends.load({backend!r}).versions()"
    )
    assert not loaded_by(program) & FRAMEWORKS


def test_a_backend_that_is_not_installed_is_answered_with_the_pip_line():
    program = (
        "import sys\n"
        "sys.path = [p for p in sys.path if 'torch_models' not in p]\n"
        "sys.meta_path = [f for f in sys.meta_path if 'terrazzo_torch' not in repr(f)]\n"
        "sys.argv = ['terrazzo', 'run', '--backend', 'torch', '--config', sys.argv[1]]\n"
        "from terrazzo.cli.app import main\n"
        "main()"
    )
    recipe = ROOT / "recipes" / "camvid" / "unet_quick.toml"
    answer = subprocess.run(
        [sys.executable, "-c", program, str(recipe)], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 2
    assert "SEG-X003" in answer.stderr
    assert "pip install terrazzo-torch" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_no_init_file_under_any_tests_folder():
    """With them, pytest runs one package's tests twice and another's never."""
    folders = [path for path in ROOT.glob("packages/*/tests") if path.is_dir()] + [ROOT / "tests"]
    assert len(folders) == 4
    assert [file for folder in folders for file in folder.rglob("__init__.py")] == []


def test_import_contracts_hold():
    answer = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout
    assert "0 broken" in answer.stdout


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (
            "run",
            "--allow-changed-data --allow-other-processes --backend --config --help "
            "--max-failures --out --overwrite --ray --resume --set --track --workers",
        ),
        (
            "evaluate",
            "--any-pixel-size --boundary --calibration --data --ensemble --help --overlap "
            "--precision --ray --refine --runtime --sam --sam-points --split --tile --tta "
            "--workers",
        ),
        (
            "import",
            "--architecture --backend --data --help --image-size --in-order --labels --map "
            "--normalize --out --overwrite --revision",
        ),
        ("init", "--backend --classes --help --model --out --set"),
        ("study", "--help --only --out --ray --resume --set --workers"),
        (
            "predict",
            "--align --allow-remote --allow-vrt --any-pixel-size --area --area-layer --bands "
            "--batch-size --blend --cog --contours --ensemble --formats --help --labels-for "
            "--layer-per-class --mask --min-area --out --overlap --overwrite --plane --polygons "
            "--precision --probabilities --raw-values --ray --refine --resume --runtime --sam "
            "--sam-points --scene --sieve-map --tile --tta --uncertainty --workers",
        ),
        (
            "sample",
            "--design --help --min-distance --min-per-class --out --overwrite --points --seed",
        ),
        (
            "assess",
            "--class-field --design --help --layer --out --overwrite --reference --run --split "
            "--stratum-field",
        ),
        (
            "export",
            "--author --cite --cm-per-pixel --doi --for --help --layout --license --out "
            "--overwrite --precision --score --tile-size --to",
        ),
        (
            "serve",
            "--allow-host --any-pixel-size --batch --help --host --max-bytes --max-pixels --port "
            "--precision --queue --runtime --timeout",
        ),
        ("data", "--help --root"),
        ("list", "--help"),
    ],
)
def test_the_options_of_the_command_line_are_these(command, options):
    """A new flag is a decision, not an accident."""
    program = (
        f"import sys; sys.argv = ['terrazzo', {command!r}, '--help']\n"
        "from terrazzo.cli.app import main\n"
        "main()"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    shown = answer.stdout.partition("Options:")[2]
    found = {line.split()[0] for line in shown.splitlines() if line.strip().startswith("--")}
    assert found == set(options.split())
