"""The shape of the project: imports run one way, files stay small, and the pieces agree with each other."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import workbench

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
KERNELS, WORKBENCH, WIDGETS = (
    ROOT / "kernels" / "workbench_kernels",
    ROOT / "workbench",
    ROOT / "widgets" / "workbench_widgets",
)
LAYERS = ("workbench_kernels", "workbench", "workbench_widgets")
HEAVY = {"torch", "transformers", "numba"}


def imported(path: Path) -> set[str]:
    """Top-level names of all absolute imports of a file, those inside functions included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def test_kernels_know_numpy_and_numba_only() -> None:
    allowed = set(sys.stdlib_module_names) | {"numpy", "numba", "llvmlite", "workbench_kernels"}
    for path in sources(KERNELS):
        assert imported(path) <= allowed, path


def test_the_library_never_imports_a_widget() -> None:
    for path in sources(WORKBENCH):
        names = imported(path)
        if path == WORKBENCH / "__init__.py":  # `workbench.studio` is looked up when it is first used
            tree = ast.parse(path.read_text(encoding="utf-8"))
            names = {n for node in tree.body for n in module_level(node)}
        assert not names & {"workbench_widgets", "ipywidgets", "anywidget", "IPython"}, path


def module_level(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    return {node.module.split(".")[0]} if isinstance(node, ast.ImportFrom) and node.module else set()


def test_widgets_never_import_a_model_or_the_kernels() -> None:
    for path in sources(WIDGETS):
        assert not imported(path) & {"torch", "transformers", "workbench_kernels"}, path


def test_notebooks_use_the_public_interface() -> None:
    import json

    for path in (ROOT / "notebooks").rglob("*.ipynb"):
        if ".ipynb_checkpoints" in path.parts:
            continue
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
        assert not re.search(r"workbench\w*\._|from workbench\w* import _|workbench_kernels", code), path


def test_notebooks_are_stored_without_outputs() -> None:
    import json

    for path in (ROOT / "notebooks").rglob("*.ipynb"):
        if ".ipynb_checkpoints" in path.parts:
            continue
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            assert not cell.get("outputs"), path
            assert cell.get("execution_count") is None, path


@pytest.mark.parametrize("name", ["kernels", "widgets"])
def test_source_roots_are_no_packages(name: str) -> None:
    assert not (ROOT / name / "__init__.py").exists()  # `kernels` is a Hugging Face package


@pytest.mark.parametrize("name", LAYERS)
def test_importing_changes_nothing(name: str) -> None:
    code = f"""
import sys, threading, warnings
threads, filters = threading.active_count(), list(warnings.filters)
import {name}
assert threading.active_count() == threads
assert {name!r} == "workbench_widgets" or list(warnings.filters) == filters  # torch, which it needs, adds some
print(sorted(set(sys.modules) & {HEAVY!r}))
"""
    roots = [str(ROOT), str(ROOT / "kernels"), str(ROOT / "widgets")]
    program = f"import sys; sys.path[:0] = {roots!r}\n{code}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    if name == "workbench":
        assert done.stdout == "[]\n"  # torch waits until something is used


def test_files_stay_readable() -> None:
    lines = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for folder in (KERNELS, WORKBENCH, WIDGETS)
        for path in sources(folder)
    }
    documents = "workbench/labs/masters/"  # a whole notebook each
    assert not {name: n for name, n in lines.items() if n > 300 and not name.startswith(documents)}


def test_functions_stay_short() -> None:
    long = []
    for folder in (KERNELS, WORKBENCH, WIDGETS):
        for path in sources(folder):
            long += [
                f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {body_lines(node)}"
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and body_lines(node) > 40
            ]
    assert not long, long


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of code: without the docstring, which may be longer."""
    documented = ast.get_docstring(node) is not None
    body = node.body[1:] if documented else node.body
    return (node.end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_checks_raise_and_never_assert() -> None:
    for folder in (KERNELS, WORKBENCH, WIDGETS):
        for path in sources(folder):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert not any(isinstance(node, ast.Assert) for node in ast.walk(tree)), path


def test_every_direct_dependency_is_pinned() -> None:
    pins = re.findall(r"^([\w.-]+)==\S+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    pinned = {name.lower().replace("_", "-") for name in pins}
    assert len(pins) == len(pinned), "a package is pinned twice"
    wanted = list(PROJECT["project"]["dependencies"])
    for extra in PROJECT["project"]["optional-dependencies"].values():
        wanted += extra
    names = {re.split(r"[<>=!\[; ]", line)[0].lower().replace("_", "-") for line in wanted}
    assert names <= pinned


def test_constraints_install_everywhere() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"#.*|[\w.-]+==[\w.]+", line), line  # no local versions, no paths, no addresses


def test_every_warning_filter_says_why() -> None:
    block = (ROOT / "pyproject.toml").read_text().split("filterwarnings = [")[1].split("\n]")[0]
    entries = [line for line in block.splitlines() if line.strip().startswith('"')]
    assert entries[0].strip() == '"error",'
    assert all("#" in line for line in entries[1:])


def test_no_addresses_of_the_machine_it_was_made_on() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.is_file() and path.suffix in {".py", ".toml", ".md", ".txt", ".yaml", ".ipynb", ".js", ""}:
            text = path.read_text(encoding="utf-8", errors="replace")
            assert not re.search(r"(?<![\w.])/(home|Users)/\w+/|/tmp/(?!\{)\w+/\w+", text), name


def test_the_readme_shows_the_two_commands_and_ci_runs_one() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "make lab" in readme
    assert "make test" in readme
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_package_data_and_command_are_declared() -> None:
    assert PROJECT["project"]["version"] == workbench.__version__
    assert PROJECT["project"]["scripts"] == {"workbench": "workbench.cli:main"}
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["packages"] == ["workbench", "kernels/workbench_kernels", "widgets/workbench_widgets"]
    assert list(wheel["shared-data"]) == ["notebooks"]
