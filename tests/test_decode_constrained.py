"""Constrained decoding: proper weights against enumeration, grammars never violated, names that exist."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import workbench
from tests.table_target import TableTarget
from workbench.decode import Run, Sampler, generate
from workbench.decode.constrained import PythonNames, Texts, json_schema, regex
from workbench.decode.constrained._rejection import _geometric, _recursive, best, descending, draw
from workbench.decode.constrained.awrs import AWRS
from workbench.decode.constrained.masked import Masked
from workbench.errors import ArgumentError
from workbench.testing import tiny_lm


@pytest.fixture(scope="module")
def lm():
    return workbench.load()


def properly_weighted(drawer, p, good, draws=20_000):
    """Worst z-score of E[weight 1(token = x)] against p_x 1(x allowed), over all x."""
    random = np.random.default_rng(5)
    sums, squares = np.zeros(p.size), np.zeros(p.size)
    for _ in range(draws):
        found = drawer(p, lambda t: bool(good[t]), random)
        if found.token >= 0:
            weight = np.exp(found.log_weight)
            sums[found.token] += weight
            squares[found.token] += weight**2
    mean = sums / draws
    wanted = p * good
    error = np.sqrt(np.maximum(squares / draws - mean**2, 1e-12) / draws)
    return np.abs(mean - wanted)[wanted > 0] / error[wanted > 0], mean[wanted == 0]


@pytest.mark.parametrize("drawer", [_recursive, _geometric, draw])
@pytest.mark.parametrize("peaked", [False, True])
def test_weights_are_proper(drawer, peaked):
    random = np.random.default_rng(1)
    p = random.dirichlet(np.ones(6))
    if peaked:
        p = np.array([0.8, 0.02, 0.05, 0.03, 0.06, 0.04])
    for good in (np.array([0, 1, 0, 1, 1, 0]), np.array([1, 1, 1, 1, 1, 1]), np.array([0, 0, 0, 1, 0, 0])):
        scores, never = properly_weighted(drawer, p, good)
        assert scores.max() < 4.5
        assert not never.any()


def test_a_wrong_weight_is_noticed():
    """The mutation: forgetting the mass that was refused."""

    def careless(p, allowed, random):
        found = _recursive(p, allowed, random)
        return type(found)(found.token, 0.0, found.tried)

    p = np.random.default_rng(1).dirichlet(np.ones(6))
    assert properly_weighted(careless, p, np.array([0, 1, 0, 1, 1, 0]), 4000)[0].max() > 10


def test_nothing_allowed_and_order():
    p = np.array([0.5, 0.5, 0.0])
    for drawer in (_recursive, _geometric):
        found = drawer(p, lambda _: False, np.random.default_rng(0))
        assert found.token == -1
        assert found.log_weight == -np.inf
        assert {t for t, _ in found.tried} == {0, 1}  # impossible tokens are not tried
    keys = np.random.default_rng(0).normal(size=1000)
    assert list(descending(keys)) == np.argsort(-keys).tolist()
    assert best(np.array([1.0, 3.0, 2.0]), lambda t: t != 1).token == 2


def test_particles_tend_to_the_conditional_distribution_and_masking_does_not():
    target = TableTarget(5, seed=3)
    good = lambda text: text[0] != text[1] and (text[0] < 3 or text[1] == 0)  # noqa: E731
    exact = {text: p for text, p in target.chances([1], 2).items() if good(text)}
    exact = {text: p / sum(exact.values()) for text, p in exact.items()}
    constraint = Texts(lambda t: len(t) < 2 or good([int(c) for c in t]), lambda t: len(t) == 2, str)

    def chi_square(method):
        counts = dict.fromkeys(exact, 0)
        for seed in range(1500):
            run = Run(target, [1], sampler=Sampler(1.0), seed=seed, limit=2, detail=False)
            method.decode(run)
            target.crop()
            counts[tuple(run.tokens[1:])] += 1
        return sum((counts[t] - 1500 * p) ** 2 / (1500 * p) for t, p in exact.items()), len(exact) - 1

    statistic, freedom = chi_square(AWRS(constraint=constraint, particles=24))
    assert statistic < freedom + 5 * (2 * freedom) ** 0.5
    statistic, freedom = chi_square(Masked(constraint=constraint))
    assert statistic > freedom + 10 * (2 * freedom) ** 0.5


def test_expressions_and_schemas_are_kept(lm):
    prompt = "The date of the moon landing, as year-month-day: "
    for temperature in (0.0, 1.5):
        for method in ("awrs", "masked"):
            done = generate(
                lm, prompt, method, pattern=r"[0-9]{4}-[0-9]{2}-[0-9]{2}", temperature=temperature, max_new_tokens=20
            )
            assert re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", done.text), done
            assert done.finished in ("constraint", "stop token")
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "maximum": 200}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    done = generate(lm, "A person as JSON: ", "awrs", schema=schema, temperature=1.0, seed=3, max_new_tokens=40)
    assert set(json.loads(done.text)) == {"name", "age"}
    kinds = done.trace.rows("constrain")
    assert len(kinds) >= len(done.tokens)
    assert len(kinds) < 60 * len(done.tokens)  # not the whole vocabulary


def test_names_behind_dots_exist(lm):
    code = "import math\n\ndef area(radius):\n    return math."
    free = [generate(lm, code, "greedy", temperature=1.5, seed=s, max_new_tokens=4).text for s in range(4)]
    kept = [generate(lm, code, "monitor", temperature=1.5, seed=s, max_new_tokens=4).text for s in range(4)]
    import math

    def exists(text):
        name = re.match(r"\w*", text).group()
        return any(n.startswith(name) for n in dir(math)) and (name in dir(math) or name == text)

    assert all(exists(t) for t in kept), kept
    assert not all(exists(t) for t in free), free


def test_the_monitor_reads_characters():
    pieces = [".", "sq", "rt", "(2)", " + math.pi", ".nonsense", "x", "3.5", "'a.b'", "\n"]
    names = PythonNames("import math\ny = math", lambda t: pieces[t])
    assert not names.allows(5)
    assert names.allows(0)
    names.take(0)
    assert names.allows(1)
    assert not names.allows(6)
    assert not names.allows(3)
    names.take(1)
    assert not names.complete()
    assert not names.allows(3)  # "sq" is no whole name
    copy = names.copy()
    names.take(2)
    assert names.complete()
    assert names.allows(3)
    assert copy.allows(2)
    assert not copy.complete()
    names.take(3)
    for free in (4, 7, 8, 9):
        assert names.allows(free)


def test_errors():
    lm = tiny_lm()
    for options, message in (
        ({}, "awrs needs a constraint"),
        ({"pattern": "a", "schema": {}}, "2 of pattern, schema and constraint"),
        ({"pattern": "a", "particles": 0}, "particles=0: at least 1"),
        ({"pattern": "a"}, "grammars need the model's tokenizer"),
    ):
        with pytest.raises(ArgumentError, match=message):
            generate(lm, [1], "awrs", max_new_tokens=2, **options)


def test_refused_grammars(lm):
    with pytest.raises(ArgumentError, match="the grammar is refused"):
        regex("(", lm.tokenizer, 49152)
    with pytest.raises(ArgumentError, match="is no JSON schema"):
        json_schema("{", lm.tokenizer, 49152)
