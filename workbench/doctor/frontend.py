"""Whether JupyterLab can show widgets: the Python side, and the extensions that it loads into the browser."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

from workbench.doctor.finding import Finding, ok, problem

PYTHON_SIDE = ("jupyterlab", "ipykernel", "ipywidgets", "anywidget")
EXTENSIONS = {"@jupyter-widgets/jupyterlab-manager": "jupyterlab_widgets", "anywidget": "anywidget"}


def front_end() -> Finding:
    """JupyterLab, ipykernel, and the two extensions without which widgets stay text."""
    name = "widgets in Lab"
    versions, missing = {}, []
    for package in PYTHON_SIDE:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        return problem(name, f"missing: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    places = extension_folders()
    lost = [
        extension for extension in EXTENSIONS if not any((p / extension / "package.json").is_file() for p in places)
    ]
    if lost:
        again = " ".join(EXTENSIONS[extension] for extension in lost)
        advice = f"pip install --force-reinstall --no-deps {again}, then reload the page"
        return problem(name, f"Lab has no extension {', '.join(lost)}", advice)
    off = sorted(set(EXTENSIONS) & disabled())
    if off:
        return problem(name, f"disabled: {', '.join(off)}", f"jupyter labextension enable {' '.join(off)}")
    return ok(name, ", ".join(f"{package} {version}" for package, version in versions.items()))


def extension_folders() -> list[Path]:
    """Where JupyterLab looks for prebuilt extensions."""
    from jupyter_core.paths import jupyter_path

    return [Path(folder) for folder in jupyter_path("labextensions")]


def disabled() -> set[str]:
    """Extensions that a settings file turns off."""
    from jupyter_core.paths import jupyter_config_path

    found: set[str] = set()
    for folder in jupyter_config_path():
        try:
            content = json.loads((Path(folder) / "labconfig" / "page_config.json").read_text(encoding="utf-8"))
            found |= {name for name, off in content.get("disabledExtensions", {}).items() if off}
        except (OSError, ValueError, AttributeError):
            continue
    return found
