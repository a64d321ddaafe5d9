"""Set everything up: virtual environment, torch for this machine, pinned dependencies, the default model.

Standard library only, so that a bare Python can run it; the Makefile does:

    python3 -I workbench/bootstrap.py --target lab|test

A second run finds its stamp and ends at once. Environment variables: ``INSTALLER=uv`` installs with uv,
``TORCH_INDEX=<url>`` takes torch from an index of your choice (CUDA 12.6, ROCm...), ``CHROMIUM=<path>`` names
the browser of the tests, ``WORKBENCH_SKIP_MODEL=1`` leaves the default model out.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

OLDEST, NEWEST = (3, 11), (3, 13)
TORCH = "torch==2.13.0"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PROBE_SECONDS = 5.0
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
APPLICATIONS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
EXTRAS = {"lab": "", "test": "[dev]"}


class SetupError(Exception):
    """The set-up cannot go on; the message says what to do."""


def say(text: str) -> None:
    """Print one line at once, before the output of the commands that follow."""
    print(f"[setup] {text}", flush=True)


def run(command: list[str], hint: str) -> None:
    """Run a command in the open; when it fails, stop with ``hint``."""
    say(" ".join(command))
    if subprocess.run(command, check=False).returncode != 0:
        raise SetupError(f"this failed: {' '.join(command)}\n  {hint}")


def is_supported(version: tuple[int, ...]) -> bool:
    """Whether a Python of this version can run the workbench."""
    return OLDEST <= tuple(version[:2]) <= NEWEST


def find_python() -> str:
    """The Python to build the environment with: this one, else the newest supported one on the path."""
    if is_supported(sys.version_info[:2]):
        return sys.executable
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        if found:
            return found
    raise SetupError(
        f"this is Python {sys.version.split()[0]}; the workbench needs 3.{OLDEST[1]} to 3.{NEWEST[1]}. "
        "Install one and run: make lab PYTHON=python3.12"
    )


def digest(root: Path, target: str, python: str) -> str:
    """What the environment was made from: when this changes, it is brought up to date."""
    parts = [root.as_posix().encode(), EXTRAS[target].encode(), python.encode()]
    parts += [(root / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def venv_python(venv: Path) -> Path:
    """The interpreter inside a virtual environment."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def works(python: Path) -> bool:
    """Whether ``python`` runs, is supported and has pip."""
    code = f"import sys, pip; sys.exit(not {OLDEST} <= sys.version_info[:2] <= {NEWEST})"
    try:
        return subprocess.run([str(python), "-I", "-c", code], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def make_venv(venv: Path, python: str, uv: str | None) -> None:
    """Make the virtual environment, with pip in it, unless a working one is there."""
    if works(venv_python(venv)):
        return
    if venv.exists():
        if not (venv / "pyvenv.cfg").exists() and any(venv.iterdir()):
            raise SetupError(f"{venv} is there but is no virtual environment: move it away")
        shutil.rmtree(venv)
    has_ensurepip = subprocess.run([python, "-I", "-c", "import ensurepip"], capture_output=True, check=False)
    if uv is None and has_ensurepip.returncode != 0:
        uv = shutil.which("uv")
        if uv is None:
            raise SetupError("this Python cannot make virtual environments: apt-get install python3-venv, or uv")
    if uv is not None:
        run([uv, "venv", "--seed", "--python", python, str(venv)], "uv could not make the environment")
    else:
        run([python, "-m", "venv", str(venv)], "on Debian and Ubuntu: apt-get install python3-venv")


def has_gpu() -> bool:
    """Whether an NVIDIA GPU answers."""
    try:
        answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and "GPU" in answer.stdout


def is_reachable(url: str, seconds: float = PROBE_SECONDS) -> bool:
    """Whether ``url`` answers within ``seconds``, the look-up of its name included."""
    answers: list[bool] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(url, timeout=seconds) as reply:  # noqa: S310  (a fixed https address)
                answers.append(reply.status < 400)
        except (OSError, ValueError):
            answers.append(False)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(answers and answers[0])


def torch_sources(gpu: bool, system: str, chosen: str | None, reachable: bool) -> list[list[str]]:
    """Pip arguments for torch, to be tried in turn.

    PyPI's Linux builds bring several gigabytes of CUDA libraries, so a machine without a GPU asks
    PyTorch's CPU index first. Where that cannot be reached, whatever pip is configured with must do.
    """
    if chosen:
        return [[TORCH, "--index-url", chosen]]
    if gpu or system == "darwin" or not reachable:
        return [[TORCH]]
    return [[TORCH, "--index-url", CPU_INDEX], [TORCH]]


def install_torch(python: Path) -> None:
    """Install torch first and alone, so that nothing else chooses its build; its dependencies come later."""
    wanted = f"import importlib.metadata as m; raise SystemExit(m.version('torch').split('+')[0] != '{TORCH[7:]}')"
    if subprocess.run([str(python), "-I", "-c", wanted], capture_output=True, check=False).returncode == 0:
        return
    gpu, chosen = has_gpu(), os.environ.get("TORCH_INDEX")
    ask = not (gpu or chosen or sys.platform == "darwin")
    reachable = ask and is_reachable(f"{CPU_INDEX}/torch/")
    kind = "from TORCH_INDEX" if chosen else "with CUDA" if gpu else "for the CPU"
    say(f"torch {kind} (GPU: {'yes' if gpu else 'no'}; CPU index: {'reached' if reachable else 'not used'})")
    sources = torch_sources(gpu, sys.platform, chosen, reachable)
    for number, source in enumerate(sources, 1):
        try:
            run([str(python), "-m", "pip", "install", "--no-deps", *source], "is the network up?")
        except SetupError:
            if number == len(sources):
                raise
        else:
            return


def install_rest(root: Path, python: Path, target: str, uv: str | None) -> None:
    """Install the workbench in place with its pinned dependencies."""
    pip = [uv, "pip", "install", "--python", str(python)] if uv else [str(python), "-m", "pip", "install"]
    what = ["-e", f"{root}{EXTRAS[target]}", "-c", str(root / "constraints.txt")]
    run([*pip, *what], "is the network up? Run the same command again: what is already there is kept")


def find_browser() -> str | None:
    """The Chromium that the browser tests drive: ``$CHROMIUM`` if set, else the first that runs."""
    named = os.environ.get("CHROMIUM")
    found = map(shutil.which, [named] if named else [*BROWSERS, *APPLICATIONS])
    return next((path for path in found if path and runs(path)), None)


def runs(browser: str) -> bool:
    """Whether a browser says its version; Ubuntu's command without its snap does not."""
    try:
        asked = subprocess.run([browser, "--version"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0


def is_debian(release: str) -> bool:
    """Whether ``/etc/os-release`` is Debian's; Ubuntu's chromium package only points to a snap."""
    return any(line.strip() in {"ID=debian", 'ID="debian"'} for line in release.splitlines())


def ensure_browser(release: Path = Path("/etc/os-release")) -> None:
    """Install Debian's Chromium where that is allowed; elsewhere say how the browser tests come to run."""
    named = os.environ.get("CHROMIUM")
    if find_browser():
        return
    if named:
        say(f"browser tests will skip: CHROMIUM={named} does not run; set it to a Chromium, or unset it")
        return
    may_install = hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get") is not None
    if may_install and release.exists() and is_debian(release.read_text(encoding="utf-8")):
        os.environ["DEBIAN_FRONTEND"] = "noninteractive"
        try:
            run(["apt-get", "update", "-qq"], "the package lists cannot be fetched")
            run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"], "no such package")
        except SetupError as error:
            say(f"no Chromium: {error}")
    if not find_browser():
        say("browser tests will skip: install Chromium (Debian: apt-get install chromium) or set CHROMIUM")


def fetch_model(python: Path) -> None:
    """Fetch and convert the default model, unless it is in the cache."""
    if os.environ.get("WORKBENCH_SKIP_MODEL"):
        return
    code = "import sys; from workbench.cli import main; sys.exit(main(['models', '--fetch']))"
    if subprocess.run([str(python), "-P", "-c", code], check=False).returncode != 0:
        raise SetupError("the default model could not be fetched; WORKBENCH_SKIP_MODEL=1 goes on without it")


def set_up(root: Path, target: str, installer: str) -> None:
    """Bring ``root/.venv`` to what ``target`` needs."""
    uv = shutil.which("uv") if installer == "uv" else None
    if installer == "uv" and uv is None:
        raise SetupError("INSTALLER=uv, but uv is not on the path: install it, or leave INSTALLER out")
    venv = root / ".venv"
    python = venv_python(venv)
    stamps = {name: venv / f".workbench-{name}" for name in EXTRAS}
    base = find_python()
    wanted = digest(root, target, base)
    if not (stamps[target].exists() and stamps[target].read_text() == wanted and python.exists()):
        say(f"setting up {venv} (the first time takes some minutes)")
        make_venv(venv, base, uv)
        install_torch(python)
        install_rest(root, python, target, uv)
        stamps[target].write_text(wanted)
        if target == "test":  # it holds all that the other needs
            stamps["lab"].write_text(digest(root, "lab", base))
    fetch_model(python)
    if target == "test":
        ensure_browser()


def main(arguments: list[str] | None = None) -> int:
    """Run the set-up; the exit status is 0 when everything is there."""
    parser = argparse.ArgumentParser(description="Set the workbench up in .venv")
    parser.add_argument("--target", choices=sorted(EXTRAS), default="lab")
    parser.add_argument("--installer", choices=("pip", "uv"), default=os.environ.get("INSTALLER") or "pip")
    given = parser.parse_args(arguments)
    try:
        set_up(Path(__file__).resolve().parents[1], given.target, given.installer)
    except SetupError as error:
        print(f"[setup] ERROR: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("[setup] stopped; run it again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
