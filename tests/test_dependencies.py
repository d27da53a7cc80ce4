"""What each package imports is what it declares, no more and no less; licence and version agree."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("core", "keras_models", "torch_models")

NOT_IMPORTED = {
    # `terrazzo.models.backends` finds the backends by the name of their package.
    # cvat-cli calls `terrazzo.inference.cvat_function`, and not the other way round.
    # openslide-python loads the library that openslide-bin brings.
    "core": {"terrazzo-torch", "terrazzo-keras", "cvat-cli", "openslide-bin"},
    # An export is verified in its runtime, which core opens; onnxscript is what torch.onnx needs.
    "keras_models": {"ai-edge-litert", "onnxruntime"},
    "torch_models": {"onnxruntime", "onnxscript"},
}
"""Declared though no import names them, each with its reason."""


NOT_INSTALLED = {"mlflow": "mlflow-skinny"}
"""Distributions of imports that `make test` does without, where the name is another."""


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def project(package: str) -> dict:
    return tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text())["project"]


def declared(package: str) -> set[str]:
    """Distributions in the dependencies and the extras of a package."""
    settings = project(package)
    extras = settings.get("optional-dependencies", {}).values()
    lines = [*settings["dependencies"], *(line for extra in extras for line in extra)]
    return {normalized(re.match(r"[\w.-]+", line)[0]) for line in lines}


def names_in(tree: ast.AST) -> Iterator[str]:
    """What a file imports, wherever in it: by a statement or by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant))


def imported(package: str) -> dict[str, set[str]]:
    """The files that import each distribution, apart from the standard library and the package."""
    source = ROOT / "packages" / package / "src"
    own = {path.name for path in source.iterdir()}
    known = importlib.metadata.packages_distributions()
    found: dict[str, set[str]] = {}
    for path in source.rglob("*.py"):
        for name in names_in(ast.parse(path.read_text("utf-8"))):
            top = name.partition(".")[0]
            if top not in own | sys.stdlib_module_names:
                names = known.get(top, [NOT_INSTALLED.get(top, top)])
                distributions = {normalized(each) for each in names}
                assert len(distributions) == 1, (top, distributions)
                found.setdefault(distributions.pop(), set()).add(str(path.relative_to(ROOT)))
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_imported_is_declared(package):
    found = imported(package)
    assert len(found) >= 5
    missing = {name: files for name, files in found.items() if name not in declared(package)}
    assert missing == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_declared_is_imported(package):
    unused = declared(package) - set(imported(package))
    assert unused == NOT_IMPORTED[package]


def test_imports_are_found_wherever_they_stand():
    code = (
        "import a.b, c as d\n"
        "def f():\n"
        "    from e.f import g\n"
        "    from . import h\n"
        "    importlib.import_module('i.j')\n"
        "if TYPE_CHECKING:\n"
        "    from k import m\n"
    )
    assert set(names_in(ast.parse(code))) == {"a.b", "c", "e.f", "i.j", "k"}


def test_a_package_that_two_declare_has_one_lower_bound():
    bounds: dict[str, set[str]] = {}
    for package in PACKAGES:
        settings = project(package)
        extras = settings.get("optional-dependencies", {}).values()
        for line in [*settings["dependencies"], *(line for extra in extras for line in extra)]:
            name = re.match(r"[\w.-]+", line)[0]
            bounds.setdefault(normalized(name), set()).add(line.removeprefix(name))
    bounds = {name: found for name, found in bounds.items() if not name.startswith("terrazzo")}
    assert {name: found for name, found in bounds.items() if len(found) > 1} == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_carries_the_licence_of_the_repository(package):
    licence = (ROOT / "packages" / package / "LICENSE").read_bytes()
    assert licence == (ROOT / "LICENSE").read_bytes()
    assert b"Apache License" in licence


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda p: p.stem)
def test_a_benchmark_hides_no_package(path):
    """Its folder comes first where packages are looked for; numba looks for one called coverage."""
    assert path.stem not in sys.stdlib_module_names
    assert path.stem not in importlib.metadata.packages_distributions()
    assert path.stem not in {"coverage"}  # not installed here, and asked for all the same
