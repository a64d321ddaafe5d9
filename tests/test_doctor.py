"""The doctor: what it finds on a machine that lacks something, and what it advises."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from workbench import cli, doctor, weights
from workbench.doctor import checks, frontend, packages
from workbench.doctor.finding import LEVELS, Finding, problem


def test_every_check_answers_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = doctor.examine()
    assert len(found) == len(doctor.CHECKS)
    assert len({f.name for f in found}) == len(found)
    for finding in found:
        assert finding.level in LEVELS
        assert finding.found
        assert finding.advice or finding.level != "problem"
    good = {f.name for f in found if f.level == "ok"}
    assert {"Python", "imports", "cores", "widgets in Lab", "lessons"} <= good


def test_a_check_that_fails_does_not_end_the_report() -> None:
    def broken() -> Finding:
        raise RuntimeError("no such file")

    found = doctor.examine((broken, checks.python))
    assert [f.level for f in found] == ["problem", "ok"]
    assert "RuntimeError: no such file" in found[0].found


def test_an_unsupported_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.sys, "version_info", (3, 9, 1))
    found = checks.python()
    assert found.level == "problem"
    assert found.advice == "the workbench needs 3.11 to 3.13: make lab PYTHON=python3.13"


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("numpy>=1", ""),
        ("numpy<1", r"numpy \S+ is not <1"),
        ("no-such-package>=1", "no-such-package is missing"),
    ],
)
def test_packages_are_held_to_what_the_project_asks(line: str, wanted: str) -> None:
    assert re.fullmatch(wanted, packages.misfit(Requirement(line)))


def test_requirements_of_an_extra_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["numpy>=1", "pytest>=9; extra == 'dev'", "torch>=2; python_version < '3'"]
    monkeypatch.setattr(packages.importlib.metadata, "requires", lambda name: lines)
    wanted, installed = packages.requirements()
    assert [r.name for r in wanted] == ["numpy"]
    assert installed


def test_a_wrong_package_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "requirements", lambda: ([Requirement("numpy<1")], True))
    assert packages.packages().level == "problem"
    monkeypatch.setattr(packages, "requirements", lambda: ([], False))
    assert "is not installed" in packages.packages().found


def test_a_package_that_does_not_import_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        if name == "numba":
            raise OSError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr(checks.importlib, "import_module", broken)
    found = checks.imports()
    assert found.level == "problem"
    assert found.found == "numba: OSError: libgomp.so.1: cannot open shared object file"


@pytest.mark.parametrize(("free", "level"), [(500_000_000, "problem"), (1_900_000_000, "note"), (8_000_000_000, "ok")])
def test_memory(monkeypatch: pytest.MonkeyPatch, free: int, level: str) -> None:
    monkeypatch.setattr("workbench.measure.memory.available_memory", lambda: free)
    found = checks.memory()
    assert found.level == level
    assert ("dtype" in found.advice) == (level == "note")


def test_a_missing_model_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    found = checks.model()
    assert (found.level, found.advice) == ("problem", "workbench models --fetch")
    assert weights.DEFAULT_NAME in found.found


def test_a_full_disk_and_a_locked_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "not" / "yet"))
    monkeypatch.setattr(checks, "ROOM", 0)
    assert checks.disk().level == "ok"
    monkeypatch.setattr(checks, "ROOM", 10**18)
    assert "make room" in checks.disk().advice
    monkeypatch.setattr(checks.os, "access", lambda path, mode: False)
    assert "cannot be written" in checks.disk().found


def test_kernels_are_counted_and_old_ones_mentioned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own, old = tmp_path / "workbench-1", tmp_path / "workbench-0"
    for folder in (own, old):
        folder.mkdir()
    monkeypatch.setattr("workbench_kernels._jit.folder", lambda: own)
    assert checks.kernels().level == "note"
    (own / "a.nbc").write_bytes(b"1234")
    assert checks.kernels().found.startswith("1 compiled, 4 B in")
    with (old / "b.nbc").open("wb") as file:
        file.truncate(600_000_000)
    assert "600 MB of other versions" in checks.kernels().found
    monkeypatch.setattr("workbench_kernels._jit.folder", lambda: None)
    assert checks.kernels().level == "problem"


def test_widgets_without_their_extension(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(frontend, "extension_folders", lambda: [tmp_path])
    found = frontend.front_end()
    assert found.level == "problem"
    assert "@jupyter-widgets/jupyterlab-manager, anywidget" in found.found
    assert "jupyterlab_widgets anywidget" in found.advice
    for name in frontend.EXTENSIONS:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "package.json").write_text("{}")
    assert frontend.front_end().level == "ok"
    monkeypatch.setattr(frontend, "disabled", lambda: {"anywidget", "other"})
    assert frontend.front_end().found == "disabled: anywidget"


def test_disabled_extensions_are_read_from_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = tmp_path / "labconfig" / "page_config.json"
    settings.parent.mkdir()
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path))
    settings.write_text('{"disabledExtensions": {"anywidget": true, "b": false}}')
    assert "anywidget" in frontend.disabled()
    assert "b" not in frontend.disabled()
    settings.write_text("{")
    assert "anywidget" not in frontend.disabled()


def test_a_missing_package_of_the_front_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frontend, "PYTHON_SIDE", ("jupyterlab", "no-such-package"))
    assert frontend.front_end().advice == "pip install no-such-package"


def test_the_network_is_not_asked_when_offline_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str, seconds: float) -> bool:
        raise AssertionError(url)

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(checks.bootstrap, "is_reachable", refuse)
    assert checks.network().level == "note"
    monkeypatch.delenv("HF_HUB_OFFLINE")
    for reachable, level in ((True, "ok"), (False, "note")):
        monkeypatch.setattr(checks.bootstrap, "is_reachable", lambda url, seconds, answer=reachable: answer)
        assert checks.network().level == level


def test_the_browser_is_only_for_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, level in ((None, "note"), ("/no/such/browser", "note"), ("sh", "ok")):
        monkeypatch.setattr(checks.bootstrap, "find_browser", lambda answer=found: answer)
        assert checks.browser().level == level


def test_a_portable_processor_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench_kernels._cpu import Features

    monkeypatch.setattr("workbench_kernels.features", lambda: Features("old", False, False, False, False))
    assert checks.processor().level == "note"
    monkeypatch.setattr("workbench_kernels.features", lambda: Features("new", True, True, False, True))
    assert checks.processor() == Finding("processor", "ok", "new: wide, expand, dot_int8")


def test_the_command_prints_advice_and_says_it_by_its_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = Finding("Python", "ok", "3.12"), problem("model", "none " * 40, "workbench models --fetch")
    monkeypatch.setattr(doctor, "examine", lambda: (good, bad))
    assert cli.main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "  ok  Python  3.12\n" in text
    assert "-> workbench models --fetch\n" in text
    assert text.endswith("\n1 problem\n")
    assert max(map(len, text.splitlines())) <= 120
    assert cli.main(["doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert found["findings"][1]["advice"] == "workbench models --fetch"
    monkeypatch.setattr(doctor, "examine", lambda: (good,))
    assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().out.endswith("\nAll is well.\n")
