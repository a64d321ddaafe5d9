"""Every notebook runs from top to bottom in a fresh kernel, without a network and without an error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from workbench import weights

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted(
    p.relative_to(ROOT).as_posix()
    for p in (ROOT / "notebooks").rglob("*.ipynb")
    if not {".ipynb_checkpoints", "labs"} & set(p.parts)
)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_runs(name: str, tmp_path: Path) -> None:
    if not weights.is_complete(weights.default_target()):
        pytest.skip("the default model is not in the cache: run `workbench models --fetch`")
    roots = [str(ROOT / root) for root in ("", "kernels", "widgets")]  # the kernel finds the checkout uninstalled
    private = {f"{name}_DIR": str(tmp_path / name) for name in ("JUPYTER_CONFIG", "JUPYTER_DATA", "JUPYTER_RUNTIME")}
    environment = {
        **os.environ,
        **private,
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "PYTHONPATH": os.pathsep.join(roots),
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", str(ROOT / name)]
    options = ["--output", "done.ipynb", "--output-dir", str(tmp_path), "--ExecutePreprocessor.timeout=600"]
    done = subprocess.run(
        [*command, *options], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    cells = json.loads((tmp_path / "done.ipynb").read_text(encoding="utf-8"))["cells"]
    outputs = [out for cell in cells for out in cell.get("outputs", ())]
    assert not [out for out in outputs if out.get("name") == "stderr" and "Warning" in "".join(out["text"])]
    assert any("text/html" in out.get("data", {}) for out in outputs)  # what a reader without a kernel sees
    assert len(json.dumps(cells)) < 2_000_000  # as it is saved, its static pictures with it
