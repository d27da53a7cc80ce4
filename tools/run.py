"""The command of record: ``python tools/run.py --backend keras`` (the same as ``terrazzo run``)."""

import sys

from terrazzo.cli.app import main

if __name__ == "__main__":
    sys.argv.insert(1, "run")
    main()
