"""The set-up script: what it decides, without installing anything."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from workbench import bootstrap

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("version", "good"),
    [
        ((3, 10), False),
        ((3, 11), True),
        ((3, 12, 4), True),
        ((3, 13), True),
        ((3, 14), False),
        ((4, 0), False),
    ],
)
def test_supported_pythons(version: tuple[int, ...], good: bool) -> None:
    assert bootstrap.is_supported(version) is good


def test_an_old_python_is_replaced_by_one_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: "/x/python3.12" if name == "python3.12" else None)
    assert bootstrap.find_python() == "/x/python3.12"


def test_no_fitting_python_says_which_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: None)
    with pytest.raises(bootstrap.SetupError, match=r"needs 3\.11 to 3\.13.*PYTHON=python3\.12"):
        bootstrap.find_python()


CPU = [bootstrap.TORCH, "--index-url", bootstrap.CPU_INDEX]
PLAIN = [bootstrap.TORCH]


@pytest.mark.parametrize(
    ("gpu", "system", "chosen", "reachable", "wanted"),
    [
        (False, "linux", None, True, [CPU, PLAIN]),
        (False, "linux", None, False, [PLAIN]),
        (True, "linux", None, False, [PLAIN]),
        (True, "linux", None, True, [PLAIN]),
        (False, "darwin", None, True, [PLAIN]),
        (True, "linux", "https://example.org/cu", True, [[*PLAIN, "--index-url", "https://example.org/cu"]]),
    ],
)
def test_torch_comes_from_the_right_place(
    gpu: bool, system: str, chosen: str | None, reachable: bool, wanted: list[list[str]]
) -> None:
    assert bootstrap.torch_sources(gpu, system, chosen, reachable) == wanted


def test_torch_version_is_the_pinned_one() -> None:
    assert re.search(rf"^{re.escape(bootstrap.TORCH)}$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)


def test_a_silent_server_costs_no_more_than_the_time_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        start = time.perf_counter()
        assert bootstrap.is_reachable(f"http://127.0.0.1:{server.getsockname()[1]}/", seconds=0.3) is False
        assert time.perf_counter() - start < 2


def test_a_refused_connection_is_not_reachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert bootstrap.is_reachable(f"http://127.0.0.1:{port}/", seconds=2) is False


def test_second_source_is_tried_when_the_first_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[list[str]] = []

    def fail_first(command: list[str], hint: str) -> None:
        tried.append(command)
        if len(tried) == 1:
            raise bootstrap.SetupError(hint)

    monkeypatch.setattr(bootstrap, "run", fail_first)
    monkeypatch.setattr(bootstrap, "has_gpu", lambda: False)
    monkeypatch.setattr(bootstrap, "is_reachable", lambda url: True)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("TORCH_INDEX", raising=False)
    monkeypatch.setattr(bootstrap.subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 1))
    bootstrap.install_torch(Path("python"))
    assert bootstrap.CPU_INDEX in tried[0]
    assert bootstrap.CPU_INDEX not in tried[1]
    assert all("--no-deps" in command for command in tried)


def make_root(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text("a")
    (tmp_path / "constraints.txt").write_text("b")
    return tmp_path


def test_digest_changes_with_what_is_installed(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    first = bootstrap.digest(root, "lab", "/usr/bin/python3")
    assert bootstrap.digest(root, "lab", "/usr/bin/python3") == first
    assert bootstrap.digest(root, "test", "/usr/bin/python3") != first
    (root / "constraints.txt").write_text("c")
    assert bootstrap.digest(root, "lab", "/usr/bin/python3") != first


def test_second_run_installs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, calls = make_root(tmp_path), []
    python = bootstrap.venv_python(root / ".venv")

    def make(venv: Path, base: str, uv: str | None) -> None:
        python.parent.mkdir(parents=True)
        python.touch()

    monkeypatch.setattr(bootstrap, "make_venv", make)
    monkeypatch.setattr(bootstrap, "install_torch", lambda python: calls.append("torch"))
    monkeypatch.setattr(bootstrap, "install_rest", lambda *a: calls.append("rest"))
    monkeypatch.setattr(bootstrap, "fetch_model", lambda python: calls.append("model"))
    monkeypatch.setattr(bootstrap, "ensure_browser", lambda: calls.append("browser"))
    bootstrap.set_up(root, "test", "pip")
    assert calls == ["torch", "rest", "model", "browser"]
    calls.clear()
    bootstrap.set_up(root, "test", "pip")
    bootstrap.set_up(root, "lab", "pip")
    assert calls == ["model", "browser", "model"]


def test_a_folder_that_is_no_environment_is_left_alone(tmp_path: Path) -> None:
    venv = tmp_path / ".venv"
    venv.mkdir()
    (venv / "mine.txt").touch()
    with pytest.raises(bootstrap.SetupError, match="is no virtual environment: move it away"):
        bootstrap.make_venv(venv, sys.executable, None)
    assert (venv / "mine.txt").exists()


def test_uv_asked_for_but_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: None)
    with pytest.raises(bootstrap.SetupError, match="uv is not on the path"):
        bootstrap.set_up(make_root(tmp_path), "lab", "uv")


@pytest.mark.parametrize(
    ("text", "debian"),
    [('PRETTY_NAME="x"\nID=debian\n', True), ("ID=ubuntu\nID_LIKE=debian\n", False), ("", False)],
)
def test_only_debian_itself_gets_chromium_from_apt(text: str, debian: bool) -> None:
    assert bootstrap.is_debian(text) is debian


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Puts fake commands on the path, alone there; each notes its words in ``log``."""
    commands = tmp_path / "bin"
    commands.mkdir()
    monkeypatch.setenv("PATH", str(commands))
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setattr(bootstrap, "APPLICATIONS", ())
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (tmp_path / "log").touch()

    def add(name: str, status: int = 0, then: str = "") -> Path:
        script = commands / name
        script.write_text(f'#!/bin/sh\necho "{name} $*" >> "{tmp_path}/log"\n{then}\nexit {status}\n')
        script.chmod(0o755)
        return script

    return add


def log(tmp_path: Path) -> list[str]:
    return (tmp_path / "log").read_text().splitlines()


def release(tmp_path: Path, name: str = "debian") -> Path:
    path = tmp_path / "os-release"
    path.write_text(f"ID={name}\n")
    return path


def installs(tmp_path: Path) -> str:
    """What a fake apt-get does: ``install`` puts a chromium on the path."""
    chromium = tmp_path / "bin" / "chromium"
    return f'[ "$1" = install ] && printf "#!/bin/sh\\nexit 0\\n" > {chromium} && /bin/chmod 755 {chromium}'


@pytest.mark.parametrize("name", ["chromium", "google-chrome", "google-chrome-stable"])
def test_an_installed_browser_is_taken(machine: Callable[..., Path], tmp_path: Path, name: str) -> None:
    program = machine(name)
    machine("apt-get")
    bootstrap.ensure_browser(release(tmp_path))
    assert bootstrap.find_browser() == str(program)
    assert not any(line.startswith("apt-get") for line in log(tmp_path))


def test_a_command_that_only_points_to_a_snap_is_no_browser(machine: Callable[..., Path]) -> None:
    machine("chromium-browser", status=1)
    assert bootstrap.find_browser() is None
    chrome = machine("google-chrome")
    assert bootstrap.find_browser() == str(chrome)


def test_the_browser_can_be_named(
    machine: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    machine("chromium")
    named = machine("mine")
    monkeypatch.setenv("CHROMIUM", str(named))
    assert bootstrap.find_browser() == str(named)
    machine("apt-get")
    monkeypatch.setenv("CHROMIUM", "/no/such/browser")
    bootstrap.ensure_browser(release(tmp_path))
    assert bootstrap.find_browser() is None  # and not another one than was asked for
    assert "CHROMIUM=/no/such/browser does not run" in capsys.readouterr().out
    assert not any(line.startswith("apt-get") for line in log(tmp_path))


def test_root_on_debian_gets_chromium(
    machine: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine("apt-get", then=installs(tmp_path))
    bootstrap.ensure_browser(release(tmp_path))
    assert log(tmp_path) == ["apt-get update -qq", "apt-get install -y -qq --no-install-recommends chromium"]
    assert bootstrap.find_browser() == str(tmp_path / "bin" / "chromium")
    assert "will skip" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("user", "system", "apt", "tried"),
    [
        (1000, "debian", 0, 0),
        (0, "ubuntu", 0, 0),
        (0, "debian", None, 0),
        (0, "debian", 100, 1),
    ],
    ids=["no root", "not Debian", "no apt", "apt fails"],
)
def test_where_nothing_can_be_installed_the_tests_will_skip(
    machine: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    user: int,
    system: str,
    apt: int | None,
    tried: int,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    if apt is not None:
        machine("apt-get", status=apt)
    bootstrap.ensure_browser(release(tmp_path, system))
    assert len(log(tmp_path)) == tried
    assert "browser tests will skip: install Chromium" in capsys.readouterr().out


def test_without_a_browser_its_tests_are_skipped_or_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "browser"))
    spec = importlib.util.spec_from_file_location("conftest_of_the_browser", ROOT / "tests" / "browser" / "conftest.py")
    conftest = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conftest)
    monkeypatch.setenv("CHROMIUM", "/no/such/browser")
    for needed, outcome in (("", pytest.skip.Exception), ("1", pytest.fail.Exception)):
        monkeypatch.setenv("WORKBENCH_NEED_BROWSER", needed)
        with pytest.raises(outcome, match="no Chromium that runs"):
            next(conftest.browser.__wrapped__())


def test_errors_are_plain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(*_: object) -> None:
        raise bootstrap.SetupError("no disk")

    monkeypatch.setattr(bootstrap, "set_up", refuse)
    assert bootstrap.main(["--target", "lab"]) == 1
    assert capsys.readouterr().err == "[setup] ERROR: no disk\n"


def test_the_script_runs_isolated_with_the_standard_library_alone() -> None:
    script = ROOT / "workbench" / "bootstrap.py"
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(script), "--help"],
        capture_output=True,
        text=True,
        check=False,
        env={},
    )
    assert done.returncode == 0, done.stderr
    assert "--target" in done.stdout


def test_ci_calls_what_the_readme_says() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text()
    assert script.read_text().splitlines()[-2:] == ["export WORKBENCH_NEED_BROWSER=1", "make test"]
