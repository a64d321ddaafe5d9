"""Open JupyterLab on the first tutorial, on this machine only.

From a checkout the notebooks are opened where they are. From an installed wheel they are copied to a folder
of the user's first: what is installed must not be edited, and often cannot be.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from workbench.errors import ArgumentError, ResourceError

FIRST = "tutorials/01_prune_a_real_model.ipynb"
HOST = "127.0.0.1"
PORTS = range(8888, 8988)


def notebooks_folder(workspace: Path | None = None, *, fresh: bool = False) -> Path:
    """The folder of notebooks to open: the checkout's, or a writable copy of the installed ones.

    Parameters
    ----------
    workspace
        Where the copy goes; ``~/sparse-workbench/notebooks`` if None. With a checkout it forces a copy.
    fresh
        Whether notebooks that are in the copy already are replaced by the shipped ones; they are kept if not.

    Raises
    ------
    ResourceError
        If no notebooks are installed, or the copy cannot be written.
    """
    source = _shipped()
    if workspace is None and source == _checkout() and os.access(source, os.W_OK):
        return source
    target = (workspace or Path.home() / "sparse-workbench" / "notebooks").expanduser().absolute()
    try:
        for file in sorted(p for p in source.rglob("*") if p.is_file() and ".ipynb_checkpoints" not in p.parts):
            copy = target / file.relative_to(source)
            if fresh or not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)  # without the read-only mode of an installed file
    except OSError as error:
        raise ResourceError(
            f"cannot copy the notebooks to {target} ({error}): pass --folder with a writable one"
        ) from error
    return target


def _checkout() -> Path:
    return Path(__file__).resolve().parents[1] / "notebooks"


def _shipped() -> Path:
    if (_checkout() / FIRST).is_file():
        return _checkout()
    try:
        files = importlib.metadata.files("sparse-workbench") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.as_posix().endswith(f"notebooks/{FIRST}"):
            return Path(str(file.locate())).resolve().parents[1]
    raise ResourceError("the notebooks are not installed: install sparse-workbench again, or run it from a checkout")


def free_port(first: int | None = None) -> int:
    """A port on the loopback address that nobody listens on.

    Raises
    ------
    ArgumentError
        If ``first`` is given and taken.
    """
    for port in PORTS if first is None else (first,):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        return port
    wanted = f"{PORTS.start} to {PORTS.stop - 1}" if first is None else str(first)
    raise ArgumentError(f"port {wanted} is taken: pass --port with a free one")


def has_display() -> bool:
    """Whether a browser could open on this machine and be seen."""
    if sys.platform == "darwin" or os.name == "nt":
        return "SSH_CONNECTION" not in os.environ
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def address(port: int, notebook: str, token: str) -> str:
    """The page of one notebook."""
    return f"http://{HOST}:{port}/lab/tree/{notebook}?token={token}"


def server_command(folder: Path, port: int, notebook: str, *, browser: bool) -> list[str]:
    """The command that serves ``folder`` to this machine only, without news, updates or an extension shop."""
    command = [
        sys.executable,
        "-P",  # notebooks must not find modules that happen to lie in the current folder
        "-m",
        "jupyterlab",
        f"--ServerApp.ip={HOST}",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={folder}",
        f"--LabApp.default_url=/lab/tree/{notebook}",
        "--ServerApp.answer_yes=True",  # one Ctrl-C is enough
        "--Application.log_level=WARN",  # the address is not lost among notices
        "--LabApp.news_url=",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",
    ]
    if not browser:
        command.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # containers; the server listens to this machine only
    return command


def serve(
    notebook: str = FIRST,
    *,
    folder: Path | None = None,
    fresh: bool = False,
    port: int | None = None,
    browser: bool | None = None,
    extra: Sequence[str] = (),
) -> int:
    """Serve the notebooks until interrupted; the address goes to standard output first.

    Parameters
    ----------
    notebook
        Path below the notebooks' folder.
    folder, fresh
        As in `notebooks_folder`.
    port
        The first free one from 8888 on if None.
    browser
        Whether to open one; None decides by `has_display`.
    extra
        More options for JupyterLab.

    Returns
    -------
    int
        JupyterLab's exit status, on systems where this process does not become the server.

    Raises
    ------
    ArgumentError
        If there is no such notebook, or the port is taken.
    ResourceError
        If JupyterLab or the notebooks are not installed.
    """
    if importlib.util.find_spec("jupyterlab") is None:
        raise ResourceError("JupyterLab is not installed: pip install jupyterlab")
    root = notebooks_folder(folder, fresh=fresh)
    if not (root / notebook).is_file():
        there = ", ".join(sorted(p.relative_to(root).as_posix() for p in root.rglob("[0-9]*.ipynb")))
        raise ArgumentError(f"there is no notebook {notebook!r} in {root}; there are: {there}")
    token, chosen = secrets.token_hex(16), free_port(port)
    opens = has_display() if browser is None else browser
    sys.stdout.write(f"Open {address(chosen, notebook, token)}\nStop with Ctrl-C.\n")
    sys.stdout.flush()
    environment = dict(os.environ, JUPYTER_TOKEN=token)  # not on the command line, which every user can read
    command = [*server_command(root, chosen, notebook, browser=opens), *extra]
    if os.name == "posix":  # become the server, so that signals reach it and nothing is left behind
        os.execve(command[0], command, environment)  # noqa: S606
    return subprocess.call(command, env=environment)
