"""Binder's folder: what repo2docker will read is well-formed and agrees with the project's own pins."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BINDER = ROOT / "binder"


def pins(path: Path) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;]+)", path.read_text(), flags=re.MULTILINE)
    return {name.lower().replace("_", "-"): version for name, version in found}


def test_python_is_one_that_the_project_supports() -> None:
    major, minor = map(int, re.fullmatch(r"python-(\d+)\.(\d+)\n", (BINDER / "runtime.txt").read_text()).groups())
    assert (3, 11) <= (major, minor) <= (3, 13)


def test_the_workbench_itself_is_installed() -> None:
    lines = (BINDER / "requirements.txt").read_text().splitlines()
    assert "-e ." in lines  # without it Binder builds an environment that lacks the package


def test_torch_is_the_cpu_build() -> None:
    text = (BINDER / "requirements.txt").read_text()
    assert pins(BINDER / "requirements.txt")["torch"].endswith("+cpu")
    assert "--extra-index-url https://download.pytorch.org/whl/cpu" in text


def test_pins_agree_with_the_constraints() -> None:
    ours = pins(ROOT / "constraints.txt")
    for name, version in pins(BINDER / "requirements.txt").items():
        assert ours[name] == version.split("+")[0], name


def test_names_are_direct_dependencies_or_torchs_pins() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = {re.split(r"[<>=!\[; ]", line)[0].lower() for line in project["dependencies"]}
    assert set(pins(BINDER / "requirements.txt")) - direct == {"tokenizers"}


@pytest.mark.parametrize("name", ["postBuild", "start"])
def test_scripts_run_under_bash_and_stop_at_errors(name: str) -> None:
    script = BINDER / name
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in script.read_text()
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


def test_start_hands_over_to_its_command() -> None:
    done = subprocess.run(
        [str(BINDER / "start"), "bash", "-c", "echo $OMP_NUM_THREADS $HF_HUB_OFFLINE"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["1", "1"]


def test_post_build_fetches_the_default_model() -> None:
    assert "workbench models --fetch" in (BINDER / "postBuild").read_text()
