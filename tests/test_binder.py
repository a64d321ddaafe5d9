"""Binder's folder: what repo2docker will read is well-formed and agrees with the project's own pins."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
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


def test_pins_cover_what_comes_with_binary_wheels() -> None:
    pinned = set(pins(BINDER / "requirements.txt"))
    assert {"torch", "transformers", "numpy", "numba", "safetensors", "llguidance", "ipykernel"} <= pinned


def test_post_build_makes_everything_that_a_first_cell_would_wait_for() -> None:
    text = (BINDER / "postBuild").read_text()
    steps = [text.index(step) for step in ("models --fetch", "rm -rf", "binder/warm.py", "workbench doctor")]
    assert steps == sorted(steps)


def test_post_build_stops_at_the_first_failure(tmp_path: Path) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    log = tmp_path / "log"
    for name in ("workbench", "python", "pip"):
        (commands / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {log}\ntest "$1" != "$FAIL"\n')
        (commands / name).chmod(0o755)
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"
    own = {**os.environ, "PATH": path, "WORKBENCH_CACHE": str(tmp_path / "cache")}
    (tmp_path / "cache" / "gguf").mkdir(parents=True)
    for fail, status, ran in (("models", 1, 1), ("binder/warm.py", 1, 2), ("cache", 0, 4), ("", 0, 4)):
        log.write_text("")
        done = subprocess.run([str(BINDER / "postBuild")], env={**own, "FAIL": fail}, check=False)
        assert (done.returncode, len(log.read_text().splitlines())) == (status, ran), fail
    assert not (tmp_path / "cache" / "gguf").exists()
    assert (tmp_path / "cache").exists()


def test_the_start_keeps_the_servers_own_words() -> None:
    words = ["jupyter-lab", "--ip", "127.0.0.1", "a b"]
    command = [str(BINDER / "start"), "bash", "-c", 'printf "%s\\n" "$@"', "-", *words]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines() == words


# What Binder would build, from repo2docker itself


@pytest.fixture(scope="module")
def dockerfile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Dockerfile for the files that repo2docker looks at; nothing is built."""
    copy = tmp_path_factory.mktemp("repository")
    shutil.copytree(BINDER, copy / "binder")
    shutil.copy(ROOT / "pyproject.toml", copy)
    command = [sys.executable, "-m", "repo2docker", "--no-build", "--debug", "."]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr


def test_binder_would_install_our_requirements_and_run_our_scripts(dockerfile: str) -> None:
    install = 'pip install --no-cache-dir -r "binder/requirements.txt"'
    steps = [install, "RUN ./binder/postBuild", 'ENV R2D_ENTRYPOINT="${REPO_DIR}/binder/start"']
    places = [dockerfile.index(step) for step in steps]
    assert places == sorted(places)
    assert "pip install --no-cache-dir .\n" not in dockerfile  # the project's own file counts for nothing here


def test_binder_would_take_our_python(dockerfile: str) -> None:
    wanted = (BINDER / "runtime.txt").read_text().strip().removeprefix("python-")
    assert f"Building conda environment for python={wanted}\n" in dockerfile


# The link


def link(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(cwd / "binder" / "link.sh"), *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "address",
    [
        "someone/some.thing",
        "https://github.com/someone/some.thing",
        "https://github.com/someone/some.thing.git",
        "https://me@github.com/someone/some.thing/",
        "git@github.com:someone/some.thing.git",
        "ssh://git@github.com/someone/some.thing.git",
    ],
)
def test_the_badge_opens_the_tour(address: str) -> None:
    done = link(address)
    assert done.returncode == 0, done.stderr
    first = min((ROOT / "notebooks" / "tutorials").glob("[0-9]*.ipynb"))
    opened = f"lab/tree/{first.relative_to(ROOT).as_posix()}"
    assert f"(https://mybinder.org/v2/gh/someone/some.thing/HEAD?urlpath={opened})" in done.stdout


def test_the_badge_is_put_into_the_readme_again_and_again(tmp_path: Path) -> None:
    shutil.copytree(BINDER, tmp_path / "binder")
    shutil.copytree(ROOT / "notebooks" / "tutorials", tmp_path / "notebooks" / "tutorials")
    before = (ROOT / "README.md").read_text(encoding="utf-8")
    (tmp_path / "README.md").write_text(before, encoding="utf-8")
    for name in ("someone/first", "someone/second"):
        badge = link("--write", name, cwd=tmp_path).stdout.strip()
        after = (tmp_path / "README.md").read_text(encoding="utf-8")
        assert after == before.replace("<!-- badge -->", f"{badge} <!-- badge -->")
        assert name in badge


def test_a_repository_that_binder_cannot_reach_has_no_badge(tmp_path: Path) -> None:
    shutil.copytree(BINDER, tmp_path / "binder")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for words in ((), ("/srv/somewhere/else",), ("https://example.org/a/b",)):
        done = link(*words, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert "binder/link.sh OWNER/NAME" in done.stderr


def test_the_check_by_hand_runs_the_same_scripts() -> None:
    text = (BINDER / "check.sh").read_text()
    assert "binder/postBuild" in text
    assert "binder/start" in text
    for name in ("check.sh", "link.sh"):
        assert os.access(BINDER / name, os.X_OK)
        assert "set -euo pipefail" in (BINDER / name).read_text()
        assert subprocess.run(["bash", "-n", str(BINDER / name)], check=False).returncode == 0
