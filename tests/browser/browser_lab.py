"""A JupyterLab server of its own for the tests: no settings of the user, no news, no network."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TOKEN = "tests"
READY = """() => {
  const widget = window.jupyterapp?.shell.currentWidget;
  const session = widget?.context?.sessionContext;
  return Boolean(session?.isReady && session.session?.kernel?.status === "idle");
}"""
RUN_ALL = """async () => {
  await window.jupyterapp.restored;
  return await window.jupyterapp.commands.execute("notebook:run-all-cells");
}"""
SETTINGS = {
    "apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    "docmanager-extension/plugin": {"autosave": False},
}
FOLDERS = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")


class Lab:
    """A running server."""

    def __init__(self, base: str, root: Path) -> None:
        self.base, self.root = base, root

    def api(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"{self.base}{path}?token={TOKEN}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    @contextmanager
    def notebook(self, page: Any, source: Path) -> Iterator[Any]:
        """A copy of a notebook open on a page with an idle kernel; the kernel goes afterwards."""
        shutil.copy(source, self.root / source.name)
        kind = {"path": source.name, "name": source.name, "type": "notebook", "kernel": {"name": "python3"}}
        session = self.api("POST", "/api/sessions", kind)  # before the page, which would start a second kernel
        try:
            page.goto(f"{self.base}/doc/tree/{source.name}?token={TOKEN}", wait_until="domcontentloaded")
            page.locator(".jp-Notebook").wait_for(timeout=90_000)
            page.wait_for_function(READY, timeout=90_000)
            yield page
        finally:
            self.api("DELETE", f"/api/sessions/{session['id']}")


@contextmanager
def serve(folder: Path, **environment: str) -> Iterator[Lab]:
    """Start a server whose every folder lies in ``folder``, and stop it."""
    root = folder / "root"
    root.mkdir()
    _write_settings(folder / "settings")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (folder / "server.log").open("w", encoding="utf-8")
    process = subprocess.Popen(
        _command(port, root),
        env={**os.environ, **_environment(folder), **environment},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    lab = Lab(f"http://127.0.0.1:{port}", root)
    try:
        _await(lab, process, folder / "server.log")
        yield lab
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def _command(port: int, root: Path) -> list[str]:
    options = {
        "ip": "127.0.0.1",
        "port": port,
        "ServerApp.port_retries": 0,
        "IdentityProvider.token": TOKEN,
        "ServerApp.root_dir": root,
        "LabApp.expose_app_in_browser": True,
        "LabApp.news_url": "",
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        "LabApp.extension_manager": "readonly",
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", *flags]


def _environment(folder: Path) -> dict[str, str]:
    own = {f"JUPYTER_{name}": str(folder / name.lower()) for name in FOLDERS}
    settings = {
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_NO_CONFIG": "1",
        "HF_HUB_OFFLINE": "1",
    }
    roots = [str(Path(__file__).parents[2] / part) for part in ("", "kernels", "widgets")]
    inherited = [path for path in [os.environ.get("PYTHONPATH")] if path]
    return {**own, **settings, "PYTHONPATH": os.pathsep.join([*roots, *inherited])}


def _write_settings(folder: Path) -> None:
    for name, values in SETTINGS.items():
        target = folder / "@jupyterlab" / f"{name}.jupyterlab-settings"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(values), encoding="utf-8")


def _await(lab: Lab, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError(f"JupyterLab ended:\n{log.read_text(encoding='utf-8')[-3000:]}")
        try:
            lab.api("GET", "/api/status")
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("JupyterLab did not answer within a minute")
