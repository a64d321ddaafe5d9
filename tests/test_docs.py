"""The documents keep what they promise: tables equal the registries, examples run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import workbench
from tests.tiny_lm import byte_tokenizer
from workbench import _docs, cli
from workbench.execute.compiled import FORMATS
from workbench.execute.forms import FORMS
from workbench.families import FAMILIES
from workbench.prune import _method, registry
from workbench.prune._collector import KINDS
from workbench.testing import check_method

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
METHODS = registry()
MODULES = sorted(
    m.name
    for package in (workbench, importlib.import_module("workbench_widgets"))
    for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not m.name.endswith("._convert")  # a program of its own
)


def between(name: str) -> str:
    return README.split(f"<!-- {name}:begin -->\n")[1].split(f"\n<!-- {name}:end -->")[0]


def python_blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("name", ["methods", "families", "decoders", "attention"])
def test_the_tables_are_those_of_the_registries(name):
    wanted = getattr(_docs, f"{name}_table")()
    assert between(name) == wanted, f"put the new table between the marks in README.md:\n{wanted}"


def test_the_table_of_formats_is_that_of_the_kernels():
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in between("formats").splitlines()[2:]]
    assert [row[0] for row in rows] == list(FORMS)
    assert {row[0] for row in rows if row[3] == "yes"} == set(FORMATS) - {"auto"}


def test_the_command_prints_the_table(capsys):
    assert cli.main(["methods", "--markdown"]) == 0
    assert capsys.readouterr().out == between("methods") + "\n"


def test_one_method_is_one_file_and_one_row():
    files = {
        path.stem: len(re.findall(r"^@method$", path.read_text(encoding="utf-8"), re.MULTILINE))
        for path in (ROOT / "workbench" / "prune").glob("*.py")
    }
    assert set(files.values()) <= {0, 1}
    with_method = {f"workbench.prune.{stem}" for stem, count in files.items() if count}
    assert with_method == {cls.__module__ for cls in METHODS.values()}
    assert {name.replace("-", "_") for name in METHODS} == {module.rsplit(".", 1)[1] for module in with_method}
    assert set(re.findall(r"^\| `([\w-]+)` \|", between("methods"), re.MULTILINE)) == set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_where_it_comes_from(name):
    cls = METHODS[name]
    header = sys.modules[cls.__module__].__doc__
    assert cls.title
    assert cls.formula
    assert cls().needs <= set(KINDS) <= set(_docs.NEEDS)
    if name == "random":
        assert cls.citation is None
        return
    paper = cls.citation
    assert paper.authors.split(", ")[0] in header
    assert str(paper.year) in header
    assert paper.arxiv in header
    assert re.fullmatch(r"\d{4}\.\d{4,5}", paper.arxiv) or paper.venue
    assert paper.title.split(":")[0].split()[0] in header
    assert "epart" in header, "the header says where we depart from the paper, or that we do not"
    assert cls.claim.statement.endswith(".")
    assert cls.claim.setting
    undocumented = [f.name for f in fields(cls) if f.name not in (cls.__doc__ or "")]
    assert not undocumented


def test_every_family_has_a_name():
    assert set(_docs.FAMILY_NAMES) == set(FAMILIES)


def test_the_examples_of_the_readme_run(tmp_path, monkeypatch, capsys):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256, hidden_size=16, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512,
    )  # fmt: skip
    tiny, load = workbench.wrap(LlamaForCausalLM(config), byte_tokenizer()), workbench.load
    monkeypatch.setitem(vars(workbench), "load", lambda source=None: load(source) if source else tiny)
    monkeypatch.chdir(tmp_path)
    (code,) = python_blocks(README)
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)  # the example of our own document
    assert re.search(r"Pruned\(flap, .* removed, .*\n\d+\.\d -> \d+\.\d\n", capsys.readouterr().out)
    assert names["again"].fingerprint == names["pruned"].lm.fingerprint


def test_the_commands_of_the_readme_parse():
    lines = [line.split("#")[0].strip() for line in README.splitlines() if line.startswith("    workbench ")]
    assert len(lines) > 8
    for line in lines:
        cli.build_parser().parse_args(shlex.split(line)[1:])


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LOG.md"])
def test_files_that_documents_name_exist(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:workbench|tests|notebooks|widgets|kernels)/[\w/.]+)`", text))
    named |= set(re.findall(r"\]\(([^)#:]+)\)", re.sub(r"`[^`]*`", "", text)))  # a formula is no link
    for path in named - {"workbench/prune/obd.py"}:
        assert (ROOT / path).exists(), path


def test_the_method_of_the_guide_keeps_the_rules(tmp_path, monkeypatch):
    (code,) = python_blocks(CONTRIBUTING)
    (tmp_path / "guide_obd.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(_method.METHODS, "known", dict(_method.METHODS.known))
    try:
        importlib.import_module("guide_obd")
        check_method("obd")
        info = next(m for m in workbench.methods() if m.name == "obd")
        assert "1989, NeurIPS" in _docs.short(info.citation)
    finally:
        sys.modules.pop("guide_obd", None)
    assert len(CONTRIBUTING.splitlines()) <= 130


def test_the_method_of_the_guide_is_in_our_style(tmp_path):
    ruff = Path(sys.executable).with_name("ruff")
    if not ruff.exists():
        pytest.skip("ruff is not installed beside this Python")
    (code,) = python_blocks(CONTRIBUTING)
    file = tmp_path / "obd.py"
    file.write_text(code)
    (tmp_path / "__init__.py").write_text("")
    for command in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        done = subprocess.run(
            [ruff, *command, "--config", ROOT / "pyproject.toml", file], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_docstrings_print_what_they_say(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert not failed


def test_the_examples_of_docstrings_are_found():
    finder = doctest.DocTestFinder()
    examples = [e for name in MODULES for t in finder.find(importlib.import_module(name)) for e in t.examples]
    assert len([e for e in examples if not e.options.get(doctest.SKIP)]) >= 15
