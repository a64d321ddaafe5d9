"""Installed versions beside those that the project asks for."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from workbench.doctor.finding import Finding, note, ok, problem

DISTRIBUTION = "sparse-workbench"
SHOWN = ("torch", "transformers", "numba", "numpy")


def packages() -> Finding:
    """Whether every dependency is there in a version that fits."""
    wanted, installed = requirements()
    if not wanted:
        return problem("packages", f"{DISTRIBUTION} is not installed", "install it: make lab, or pip install")
    wrong = [text for requirement in wanted if (text := misfit(requirement))]
    if wrong:
        return problem("packages", "; ".join(wrong), "make clean, then make lab; or pip install -U sparse-workbench")
    told = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in SHOWN)
    if not installed:
        return note("packages", f"{told}; {DISTRIBUTION} itself is not installed", "make lab installs it")
    return ok("packages", told)


def requirements() -> tuple[list[Requirement], bool]:
    """What the project needs to run, and whether it is installed or only lies here."""
    try:
        lines, installed = importlib.metadata.requires(DISTRIBUTION) or [], True
    except importlib.metadata.PackageNotFoundError:
        file, installed = Path(__file__).resolve().parents[2] / "pyproject.toml", False
        lines = tomllib.loads(file.read_text(encoding="utf-8"))["project"]["dependencies"] if file.is_file() else []
    found = [Requirement(line) for line in lines]
    return [r for r in found if r.marker is None or r.marker.evaluate({"extra": ""})], installed


def misfit(requirement: Requirement) -> str:
    """What is wrong with one dependency; empty if nothing is."""
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{requirement.name} is missing"
    except InvalidRequirement as error:
        return f"{requirement.name}: {error}"
    fits = requirement.specifier.contains(version, prereleases=True)
    return "" if fits else f"{requirement.name} {version} is not {requirement.specifier}"
