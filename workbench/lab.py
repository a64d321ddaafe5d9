"""Open JupyterLab on a lesson, on this machine only.

Lessons and labs are copied to a folder of the user's first, and opened there: what is installed must not be edited
and often cannot be, and a checkout stays as it was. Work is never overwritten: a copy is brought up to date only while
it is as it was copied, and ``fresh`` puts a changed one aside.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from workbench.errors import ArgumentError, ResourceError
from workbench.lessons import warming

HOST = "127.0.0.1"
PORTS = range(8888, 8988)
SETTINGS = Path(__file__).parent / "lab_settings"
FOLDERS = ("tutorials", "labs")
COPIED = ".copied.json"  # what the copies were like when they were made


def first(folder: Path) -> str:
    """The notebook to open: the one with the lowest number."""
    found = sorted(p.relative_to(folder).as_posix() for p in folder.glob("tutorials/[0-9]*.ipynb"))
    if not found:
        raise ResourceError(f"there are no tutorials in {folder}: get them again with --fresh")
    return found[0]


def notebooks_folder(
    workspace: Path | None = None, *, fresh: bool = False, only: str | None = None, in_place: bool = False
) -> Path:
    """The folder of notebooks to open: a writable copy of those that came with the workbench.

    Parameters
    ----------
    workspace
        Where the copy goes; ``~/sparse-workbench/notebooks`` if None.
    fresh
        Whether notebooks that were changed are replaced by the shipped ones. What was there stays beside them as
        ``NAME.mine.ipynb``.
    only
        The one notebook that ``fresh`` is about; all of them if None.
    in_place
        The checkout's own folder instead, for those who write lessons.

    Raises
    ------
    ArgumentError
        If ``in_place`` is asked for without a checkout.
    ResourceError
        If no notebooks are installed, or the copy cannot be written.
    """
    source = shipped()
    if in_place:
        if source != _checkout():
            raise ArgumentError("--in-place is for a checkout, and this is an installed package: leave it out")
        return source
    target = (workspace or Path.home() / "sparse-workbench" / "notebooks").expanduser().absolute()
    try:
        _copy(source, target, lambda name: fresh and only in (None, name))
    except OSError as error:
        raise ResourceError(
            f"cannot copy the notebooks to {target} ({error}): pass --folder with a writable one"
        ) from error
    return target


def _copy(source: Path, target: Path, fresh: Callable[[str], bool]) -> None:
    made, record = _made(target), target / COPIED
    patterns = ["README.md", *(f"{folder}/{name}" for folder in FOLDERS for name in ("README.md", "*.ipynb"))]
    files = [path for pattern in patterns for path in sorted(source.glob(pattern))]
    for file in files:
        if not file.is_file():
            continue
        name, content = file.relative_to(source).as_posix(), file.read_bytes()
        copy, digest = target / name, hashlib.sha256(content).hexdigest()
        there = hashlib.sha256(copy.read_bytes()).hexdigest() if copy.exists() else None
        changed = there not in (None, digest, made.get(name))
        if changed and not fresh(name):
            continue
        if changed:
            copy.rename(_aside(copy))
        if there != digest:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)  # without the read-only mode of an installed file
        made[name] = digest
    text = json.dumps(made, indent=1, sort_keys=True) + "\n"
    if not record.exists() or record.read_text(encoding="utf-8") != text:
        record.write_text(text, encoding="utf-8")


def _made(target: Path) -> dict[str, str]:
    try:
        found = json.loads((target / COPIED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _aside(copy: Path) -> Path:
    names = (copy.with_name(f"{copy.stem}.mine{n}{copy.suffix}") for n in ("", *range(2, 1000)))
    return next(path for path in names if not path.exists())


def _checkout() -> Path:
    return Path(__file__).resolve().parents[1] / "notebooks"


def shipped() -> Path:
    """The notebooks that came with the workbench: a checkout's, or the installed ones. They are not to be edited.

    Raises
    ------
    ResourceError
        If there are none.
    """
    if any(_checkout().glob("tutorials/[0-9]*.ipynb")):
        return _checkout()
    try:
        files = importlib.metadata.files("sparse-workbench") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if "notebooks/tutorials/" in file.as_posix() and file.suffix == ".ipynb":
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
        f"--LabApp.app_settings_dir={SETTINGS}",  # nobody is asked whether to fetch news
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
    notebook: str | None = None,
    *,
    folder: Path | None = None,
    fresh: bool = False,
    in_place: bool = False,
    port: int | None = None,
    browser: bool | None = None,
    extra: Sequence[str] = (),
) -> int:
    """Serve the notebooks until interrupted; the address goes to standard output first.

    Parameters
    ----------
    notebook
        Path below the notebooks' folder; the `first` if None. With ``fresh`` only a named one is replaced.
    folder, fresh, in_place
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
    root = notebooks_folder(folder, fresh=fresh, only=notebook, in_place=in_place)
    opened = first(root) if notebook is None else notebook
    if not (root / opened).is_file():
        there = ", ".join(sorted(p.relative_to(root).as_posix() for p in root.rglob("[0-9]*.ipynb")))
        raise ArgumentError(f"there is no notebook {notebook!r} in {root}; there are: {there}")
    token, chosen = secrets.token_hex(16), free_port(port)
    opens = has_display() if browser is None else browser
    sys.stdout.write(f"Open {address(chosen, opened, token)}\nThe notebooks are in {root}. Stop with Ctrl-C.\n")
    sys.stdout.flush()
    warming.beside()  # the first lesson would wait for kernels otherwise
    environment = dict(os.environ, JUPYTER_TOKEN=token)  # not on the command line, which every user can read
    command = [*server_command(root, chosen, opened, browser=opens), *extra]
    if os.name == "posix":  # become the server, so that signals reach it and nothing is left behind
        os.execve(command[0], command, environment)  # noqa: S606
    return subprocess.call(command, env=environment)
