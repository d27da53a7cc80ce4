"""``python -m terrazzo`` is the same as ``terrazzo``."""

from terrazzo.cli.app import main

if __name__ == "__main__":
    main()
