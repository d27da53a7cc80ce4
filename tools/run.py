"""The command of record: ``python tools/run.py --backend keras`` (the same as ``terrazzo run``)."""

import sys
from pathlib import Path

from terrazzo.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "run")
    main(recipes=Path(__file__).resolve().parents[1] / "recipes")
