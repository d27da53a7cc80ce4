"""What core needs of its system, tried where parts of it are hidden.

A Windows or a Mac is not at hand, so this shows no more than it says: that no module of core asks
for what those systems lack when it is imported, and that the lock takes the path for Windows.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GIVEN_AWAY = {"mlflow_model.py"}
"""Files that are written beside an exported model, for a program that runs them by itself."""
CORE = sorted(
    ".".join(path.relative_to(ROOT / "packages/core/src").with_suffix("").parts)
    for path in (ROOT / "packages/core/src/terrazzo").rglob("*.py")
    if path.name not in {"__init__.py", "__main__.py"} | GIVEN_AWAY
)

HIDING = """
import builtins, importlib, os, signal, sys

MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
NAMES = {
    os: "fork forkpty getuid geteuid getloadavg killpg mkfifo posix_fadvise pread pwrite "
        "register_at_fork sched_getaffinity setsid statvfs sysconf uname wait4",
    signal: "SIGALRM SIGHUP SIGKILL SIGUSR1 SIGUSR2 pause pthread_sigmask setitimer",
}

# What they use of their system is theirs.
THEIRS = '''
    concurrent.futures cv2 jinja2 matplotlib.backends.backend_svg matplotlib.figure
    multiprocessing.connection multiprocessing.shared_memory numba PIL.Image pydantic
    rasterio.features rasterio.warp requests rich.progress safetensors.numpy tomli_w typer
'''
for name in THEIRS.split():
    importlib.import_module(name)

real_import = builtins.__import__

def hidden(name, importer):
    return name.partition(".")[0] in MODULES and importer.partition(".")[0] == "terrazzo"

def import_without(name, globals=None, locals=None, fromlist=(), level=0):
    if level == 0 and hidden(name, (globals or {}).get("__name__", "")):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return real_import(name, globals, locals, fromlist, level)

builtins.__import__ = import_without
for module, names in NAMES.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
"""


def run(program: str, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_every_module_of_core_is_imported_without_what_windows_and_macos_lack():
    answer = run(HIDING + "".join(f"import {name}\n" for name in CORE))
    assert answer.returncode == 0, answer.stderr


def test_what_is_hidden_is_hidden():
    """The test above could not fail otherwise."""
    inside = HIDING + "__name__ = 'terrazzo.base.any'\n"
    assert "No module named 'fcntl'" in run(inside + "import fcntl").stderr
    assert run(inside + "import json").returncode == 0
    assert "SIGUSR1" in run(HIDING + "signal.SIGUSR1").stderr


LOCKING = (
    HIDING
    + """
import fcntl, types  # of this test, which is not part of terrazzo
from pathlib import Path
from terrazzo.base.errors import ResourceError
from terrazzo.base.file_lock import locked

def locking(descriptor, mode, count):  # from where the file stands, at once or not at all
    assert mode == msvcrt.LK_NBLCK
    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, count, os.lseek(descriptor, 0, 1))

msvcrt = types.ModuleType("msvcrt")
msvcrt.LK_NBLCK, msvcrt.locking = 2, locking
sys.modules["msvcrt"] = msvcrt
"""
)

HOLD = """
with locked(Path(sys.argv[1])):
    print(os.getpid(), flush=True)
    sys.stdin.read()
"""

TRY = """
try:
    with locked(Path(sys.argv[1])):
        print("free")
except ResourceError as error:
    print(error.code, error.observed)
"""


def test_the_lock_of_windows_is_taken_seen_and_given_back(tmp_path):
    """With a `msvcrt` made of POSIX range locks: place, mode and text, not Windows itself."""
    command = [sys.executable, "-c", LOCKING + HOLD, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as holder:
        number = holder.stdout.readline().strip()
        refused = run(LOCKING + TRY, str(tmp_path))
        holder.stdin.close()
    assert refused.stdout.startswith(f"SEG-C009 process {number} on "), refused.stderr
    assert run(LOCKING + TRY, str(tmp_path)).stdout == "free\n"
