"""Teaching labs: what is handed out, what is graded, and that nothing but a right answer earns points."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import numpy as np
import pytest

from workbench import cli, labs, weights
from workbench.errors import ArgumentError, DataError
from workbench.labs import checking, notebooks, percent
from workbench.labs.__main__ import main as make_notebooks

ROOT = Path(__file__).resolve().parents[1]
WRONG = {
    "pruning": {
        "magnitude": "def magnitude_mask(W, sparsity):\n"
        "    return np.abs(W) >= np.quantile(np.abs(W), sparsity, axis=1, keepdims=True)",
        "wanda": "def wanda_mask(W, X, sparsity):\n"
        "    score = np.abs(W) * np.linalg.norm(X, axis=0)\n"
        "    return score > np.sort(score.ravel())[round(sparsity * W.size) - 1]",
        "repair": "def repair(W, mask, X):\n    return W * mask",
    },
    "kernels": {
        "csr": "def to_csr(W):\n"
        "    rows, columns = np.nonzero(W)\n"
        "    return W[rows, columns], columns, np.append(0, np.cumsum(np.bincount(rows)))",
        "roofline": "def roofline(rows, inputs, tokens, nnz, weight_bytes, peak, bandwidth):\n"
        "    a, b = 2 * nnz * tokens / peak, tokens * (weight_bytes + 4 * (rows + inputs)) / bandwidth\n"
        "    return max(a, b), 'memory' if b > a else 'arithmetic'",
        "contest": "@numba.njit\ndef fast_csr(values, columns, starts, x, out):\n"
        "    for n in range(len(starts) - 1):\n"
        "        for e in range(starts[n], starts[n + 1]):\n"
        "            out[n] = values[e] * x[columns[e]] + (0 if e == starts[n] else out[n])",
    },
    "decoding": {
        "step": "def step(p, q, x, random):\n"
        "    return (x, True) if random.random() * q[x] < p[x] else (int(random.choice(len(p), p=p)), False)",
        "mask": "def tree_mask(parents):\n"
        "    n = np.arange(len(parents))\n"
        "    return (n == n[:, None]) | (n == np.array(parents)[:, None])",
        "pays": "def best_length(alpha, v, c):\n"
        "    gains = [sum(alpha**n for n in range(k + 1)) / (v[k] + c) for k in range(len(v))]\n"
        "    return int(np.argmax(gains)), max(gains)",
    },
}
ACCIDENTS = {
    "magnitude": ("time", "def magnitude_mask(W, sparsity):\n    while True:\n        pass"),
    "nm": ("crash", "import sys\nsys.exit(0)"),
    "error": ("crash", "def output_error(W, mask, X):\n    import ctypes\n    return ctypes.string_at(0)"),
    "wanda": ("memory", "def wanda_mask(W, X, sparsity):\n    return [bytearray(10**6) for _ in range(10**9)]"),
    "surgeon": ("wrong", "def remove_one(w, H, q):\n    return w[:-1]"),
    "choice": ("crash", "def surgeon_mask(W, X, sparsity):\n    import os\n    os._exit(0)"),
    "repair": ("error", "def repair(W, mask, X):\n    return W / (mask.sum() - mask.sum()) + nothing"),
}


def edited(lab: str, changes: dict[str, str | None], kind: str = "solution") -> dict[str, Any]:
    """A notebook with other answers; None takes a cell out."""
    content = notebooks.notebook(lab, kind)
    for name, source in changes.items():
        place = next(n for n, cell in enumerate(content["cells"]) if cell["id"] == f"{lab}-{name}-answer")
        if source is None:
            del content["cells"][place]
        else:
            content["cells"][place]["source"] = source
    return content


def text_of(content: dict[str, Any]) -> str:
    return "\n".join("".join(cell["source"]) for cell in content["cells"])


def added(source: str) -> dict[str, Any]:
    return {"cell_type": "code", "id": "mine", "metadata": {}, "outputs": [], "execution_count": None, "source": source}


@pytest.mark.parametrize("lab", percent.LABS)
def test_a_master_is_what_jupytext_reads(lab: str) -> None:
    theirs = jupytext.read(percent.MASTERS / f"{lab}.py", fmt="py:percent").cells
    ours = percent.read(lab).cells
    assert [c.cell_type == "markdown" for c in theirs] == [c.kind == "markdown" for c in ours]
    assert [c.source for c in theirs] == [c.source for c in ours]
    assert 6 <= len(percent.read(lab).questions) <= 9


@pytest.mark.parametrize("kind", notebooks.KINDS)
def test_notebooks_are_valid_and_their_ids_unique(kind: str) -> None:
    seen: list[str] = []
    for lab in percent.LABS:
        content = notebooks.notebook(lab, kind)
        nbformat.validate(nbformat.from_dict(content))
        graded = [c["metadata"]["nbgrader"] for c in content["cells"] if "nbgrader" in c["metadata"]]
        asked = [c for c in content["cells"] if "workbench.predict(" in "".join(c["source"])]
        assert asked
        assert all(c["metadata"]["jupyter"] == {"source_hidden": True} for c in asked)  # the answer stands in it
        seen += [g["grade_id"] for g in graded]
        assert all(g["schema_version"] == 3 and not g["task"] for g in graded)
        assert all(g["locked"] and g["points"] >= 1 and not g["solution"] for g in graded if g["grade"])
        assert sum(g.get("points", 0) for g in graded) == percent.read(lab).points
        assert sum(g["solution"] for g in graded) == sum(g["grade"] for g in graded) == len(percent.read(lab).questions)
    assert len(seen) == len(set(seen)) > 30


@pytest.mark.parametrize("lab", percent.LABS)
def test_what_is_handed_out_holds_no_answer(lab: str) -> None:
    student, master = text_of(notebooks.notebook(lab)), percent.read(lab)
    assert "BEGIN" not in student
    assert "HIDDEN" not in student
    visible = "\n".join(notebooks.source(cell, "student") for cell in master.cells).splitlines()
    for cell in master.cells:
        kept = notebooks.source(cell, "student").splitlines()
        secret = [line for line in percent.unmarked(cell.source).splitlines() if line not in kept and line.strip()]
        if cell.kind in {"answer", "test"}:
            assert secret, f"{cell.name}: nothing to hide"
        assert not [line for line in secret if len(line.strip()) > 30 and line in visible], cell.name
    assert student.count(percent.STUB[1]) == len(master.questions)


def test_what_is_committed_is_what_the_masters_make(tmp_path: Path) -> None:
    for path in notebooks.write_student(tmp_path):
        committed = (notebooks.STUDENT_FOLDER / path.name).read_text(encoding="utf-8")
        assert committed == path.read_text(encoding="utf-8"), "run: python -m workbench.labs --refresh"


def test_a_teacher_gets_all_kinds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_notebooks([str(tmp_path)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 9
    assert "### BEGIN HIDDEN TESTS" in (tmp_path / "instructor" / "pruning.ipynb").read_text(encoding="utf-8")
    (tmp_path / "file").write_text("")
    assert make_notebooks([str(tmp_path / "file")]) == 2


@pytest.mark.parametrize("lab", percent.LABS)
def test_the_solution_earns_everything_and_the_empty_notebook_nothing(lab: str) -> None:
    solved = labs.grade(lab, notebooks.notebook(lab, "solution"))
    assert solved.full, str(solved)
    assert solved.points == percent.read(lab).points
    empty = labs.grade(lab, notebooks.STUDENT_FOLDER / f"{lab}.ipynb")
    assert {mark.verdict for mark in empty.marks} == {"empty"}
    assert empty.points == 0
    assert empty.seed != solved.seed or empty.seed == solved.seed == 0


@pytest.mark.parametrize("lab", percent.LABS)
def test_wrong_answers_are_caught_and_cost_their_own_points_only(lab: str) -> None:
    found = labs.grade(lab, edited(lab, dict(WRONG[lab])))
    verdicts = {mark.question: mark.verdict for mark in found.marks}
    assert verdicts == {q.name: "wrong" if q.name in WRONG[lab] else "ok" for q in percent.read(lab).questions}
    for mark in found.marks:
        if mark.verdict == "wrong":
            assert mark.points == 0
            assert mark.hint
            assert mark.expected
            assert max(len(line.split()) for line in mark.expected.splitlines()[1:] or [""]) <= 6
    assert f"(seed {found.seed})" in str(found)
    assert "expected" in str(found)


def test_accidents_cost_one_question_each() -> None:
    content = edited("pruning", {name: source for name, (_, source) in ACCIDENTS.items()})
    found = labs.grade("pruning", content, seconds=2, memory_bytes=256 << 20)
    wanted = {name: verdict for name, (verdict, _) in ACCIDENTS.items()}
    assert {m.question: m.verdict for m in found.marks} == {**wanted, "sensitivity": "ok", "allocate": "ok"}
    said = {mark.question: mark.message for mark in found.marks}
    assert "never ends" in said["magnitude"]
    assert "sys.exit" in said["nm"]
    assert "SIGSEGV" in said["error"]
    assert "256 MiB" in said["wanda"]
    assert "has shape" in said["surgeon"]
    assert "ended the Python process" in said["choice"]
    assert "nothing" in said["repair"]
    assert "line 2 of your answer" in said["repair"]


def test_more_accidents() -> None:
    changes: dict[str, str | None] = {
        "magnitude": "def magnitude_mask(W, sparsity:\n    return 1",
        "nm": None,
        "error": "while True: pass",
        "wanda": "def wanda_mask(W, X, sparsity):\n    raise KeyboardInterrupt",
        "repair": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)",
        "surgeon": "def remove_one(w, H, q):\n    return None",
        "choice": "def surgeon_mask(W, X, sparsity):\n    return [[True], [True, False]]",
        "sensitivity": "def sensitivity(*arguments):\n    return input('curves?')",
    }
    found = labs.grade("pruning", edited("pruning", changes), seconds=1)
    said = {mark.question: (mark.verdict, mark.message) for mark in found.marks}
    assert said["magnitude"][0] == "error"
    assert "SyntaxError" in said["magnitude"][1]
    assert said["nm"][0] == "missing"
    assert said["error"][0] == "time"
    assert said["wanda"] == ("error", "KeyboardInterrupt (line 2 of your answer: raise KeyboardInterrupt)")
    assert said["surgeon"][0] == said["choice"][0] == "wrong"
    assert "None" in said["surgeon"][1]
    assert "EOFError" in said["sensitivity"][1]
    assert said["repair"] == ("crash", "the code ended the grading process")
    assert said["allocate"][0] == "ok"


def test_what_students_do_to_notebooks() -> None:
    solved = notebooks.notebook("pruning", "solution")
    sources = {cell["id"]: "".join(cell["source"]) for cell in solved["cells"]}
    content = edited(
        "pruning",
        {
            "magnitude": "%time 1\n" + sources["pruning-magnitude-answer"],
            "error": "def output_error(W, mask, X):\n    return loss(W, W * mask, X)",  # a helper in a cell of its own
            "surgeon": "def remove_one(w, H, q):\n    raise NotImplementedError()",  # answered in a new cell
        },
    )
    helper = "def loss(W, V, X):\n    return np.sum((X @ (W - V).T) ** 2) / np.sum((X @ W.T) ** 2)"
    content["cells"].insert(1, added("1 / 0"))
    content["cells"].insert(2, added(helper))
    place = next(n for n, cell in enumerate(content["cells"]) if cell["id"] == "pruning-surgeon-test")
    content["cells"].insert(place, added(sources["pruning-surgeon-answer"]))
    twice = next(cell for cell in content["cells"] if cell["id"] == "pruning-wanda-answer")
    content["cells"].insert(content["cells"].index(twice), {**twice, "source": "def wanda_mask(*a):\n    return 1"})
    test = next(cell for cell in content["cells"] if cell["id"] == "pruning-repair-test")
    test["source"] = "pass"  # tests come from the master
    found = labs.grade("pruning", content)
    assert found.full, str(found)


def test_cases_differ_from_run_to_run_unless_the_seed_is_given() -> None:
    source = "def magnitude_mask(W, sparsity):\n    print(W.shape, W[0, 0])\n    return 1"
    after = source.replace("return 1", "return SOLVED(W, sparsity)")
    content = edited("pruning", {})
    place = next(n for n, cell in enumerate(content["cells"]) if cell["id"] == "pruning-magnitude-answer")
    cell = content["cells"][place]
    cell["source"] = "".join(cell["source"]).replace("def magnitude_mask", "def SOLVED") + "\n" + after
    outputs = [labs.grade("pruning", content, seed=seed).marks[0] for seed in (1, 1, 2)]
    assert {mark.verdict for mark in outputs} == {"ok"}
    assert outputs[0].output == outputs[1].output
    ours, others = outputs[0].output.splitlines(), outputs[2].output.splitlines()
    assert ours[0] == others[0]  # the visible example
    assert [line.split(")")[0] for line in ours[1:]] != [line.split(")")[0] for line in others[1:]]  # shapes


def test_what_cannot_be_graded_says_why(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="did you mean 'pruning'"):
        labs.grade("prunning", {"cells": []})
    with pytest.raises(DataError, match="is it the right file"):
        labs.grade("pruning", notebooks.notebook("kernels"))
    (tmp_path / "a.ipynb").write_text("{")
    with pytest.raises(DataError, match="cannot be read as a notebook"):
        labs.grade("pruning", tmp_path / "a.ipynb")
    with pytest.raises(DataError, match="one test after each answer"):
        percent.parse("x", '# %% answer="a"\npass\n')
    with pytest.raises(DataError, match="cannot read the head"):
        percent.parse("x", "# %% answr=1\npass\n")
    with pytest.raises(DataError, match="one name"):
        percent.parse("x", '# %% answer="a"\n# %% answer="a"\n')
    with pytest.raises(ArgumentError, match="lacks"):
        percent.without("### BEGIN SOLUTION", percent.SOLUTION)


def test_expected_beside_got() -> None:
    big = np.arange(100.0).reshape(10, 10)
    wrong = big.copy()
    wrong[8, 7] = -1
    with pytest.raises(checking.Wrong) as caught:
        checking.close(wrong, big, "look at row 8", what="y")
    assert "wrong in 1 of 100 places" in str(caught.value)
    assert "Hint: look at row 8" in str(caught.value)
    assert "from [5, 5] on" in caught.value.expected
    assert "87" in caught.value.expected
    assert "-1" in caught.value.got
    for got, message in [(None, "is None"), (big[0], "has shape"), ("text", "is str"), (big + np.nan, "100 of 100")]:
        with pytest.raises(checking.Wrong, match=message):
            checking.close(got, big)
    with pytest.raises(checking.Wrong, match="expected bool"):
        checking.same(np.ones(3), np.ones(3, dtype=bool))
    checking.close(big + 1e-5, big)
    checking.same(np.inf, np.inf)
    checking.close(big.tolist(), big)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli.main(["check", "pruning", "--solution"]) == 0
    assert "pruning: 16 of 16 points" in capsys.readouterr().out
    notebooks.write(tmp_path, ("student",), ("pruning",))
    monkeypatch.chdir(tmp_path / "student")
    (tmp_path / "broken.ipynb").write_text("{")
    table = tmp_path / "points.csv"
    assert cli.main(["check", "pruning", "--seed", "7", "pruning.ipynb", "../broken.ipynb", "--csv", str(table)]) == 1
    shown = capsys.readouterr().out
    assert "(seed 7)" in shown
    assert "broken.ipynb: not graded" in shown
    rows = list(csv.reader(table.read_text(encoding="utf-8").splitlines()))
    assert rows[0][:4] == ["notebook", "points", "of", "seed"]
    assert rows[1][:5] == ["pruning.ipynb", "0", "16", "7", "0"]
    assert cli.main(["check", "pruning"]) == 1  # finds the one that is here
    assert cli.main(["check", "pruning", "--empty", "pruning.ipynb"]) == 2
    assert cli.main(["check", "pruning", "none.ipynb"]) == 2


def environment(tmp_path: Path) -> dict[str, str]:
    private = {f"{name}_DIR": str(tmp_path / name) for name in ("JUPYTER_CONFIG", "JUPYTER_DATA", "JUPYTER_RUNTIME")}
    return {
        **os.environ,
        **private,
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),  # nbgrader calls alembic
        "PYTHONPATH": os.pathsep.join(str(ROOT / root) for root in ("", "kernels", "widgets")),
        "HF_HUB_OFFLINE": "1",
    }


@pytest.mark.slow
def test_nbgrader_gives_the_same_points(tmp_path: Path) -> None:
    course = tmp_path / "course"
    handed_in: dict[str, dict[str, dict[str, Any]]] = {"solved": {}, "empty": {}, "mixed": {}}
    for lab in percent.LABS:
        looks = {cell.source for cell in percent.read(lab).cells if cell.kind == "look"}  # these load the real model
        versions = {"solved": edited(lab, {}), "empty": edited(lab, {}, "student")}
        if lab == "pruning":
            versions["mixed"] = edited(lab, dict(WRONG[lab]))
        for name, content in {"": notebooks.notebook(lab, "instructor"), **versions}.items():
            folder = course / "submitted" / name / lab if name else course / "source" / lab
            folder.mkdir(parents=True)
            if name:
                content["cells"] = [c for c in content["cells"] if "".join(c["source"]) not in looks]
                handed_in[name][lab] = content
            (folder / f"{lab}.ipynb").write_text(notebooks.dumps(content), encoding="utf-8")
    command = [sys.executable, str(ROOT / "tests" / "nbgrader_course.py"), *percent.LABS]
    done = subprocess.run(
        command, cwd=course, env=environment(tmp_path), capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]
    theirs = json.loads(done.stdout.splitlines()[-1])
    assert theirs.keys() == handed_in.keys()
    for name, versions in handed_in.items():
        for lab, content in versions.items():
            ours = {f"{lab}-{mark.question}-test": mark.points for mark in labs.grade(lab, content).marks}
            assert theirs[name][lab] == ours, (name, lab)
    for lab in percent.LABS:  # what nbgrader would hand out is what we do
        released = json.loads((course / "release" / lab / f"{lab}.ipynb").read_text(encoding="utf-8"))
        assert text_of(released) == text_of(notebooks.notebook(lab))


@pytest.mark.slow
def test_solutions_run_from_top_to_bottom(tmp_path: Path) -> None:
    if not weights.is_complete(weights.default_target()):
        pytest.skip("the default model is not in the cache: run `workbench models --fetch`")
    for lab in percent.LABS:
        cells = [c for c in notebooks.notebook(lab, "solution")["cells"] if c["cell_type"] == "code"]
        (tmp_path / f"lab_{lab}.py").write_text("\n".join("".join(c["source"]) for c in cells), encoding="utf-8")
    code = f"import runpy\nfor lab in {percent.LABS!r}:\n    runpy.run_path(f'lab_{{lab}}.py')"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "the same tokens as plain decoding: True" in done.stdout
    assert "Warning" not in done.stderr
