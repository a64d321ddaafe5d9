"""Search: samples follow the model, particles what they are weighted by, RPC its parts; scorers and tasks are exact."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from tiny_lm import tiny_lm as byte_lm

import workbench
from workbench.decode import Run, Sampler, as_target, generate
from workbench.decode.search import PMI, TASKS, Hypothesis, Question, Scorer, Votes, accuracy, particle_filter
from workbench.decode.search._hypotheses import Pool
from workbench.decode.search._weibull import Weibull, fit, fit_mixture
from workbench.decode.search.particle_filter import resample
from workbench.decode.search.rpc import confidences, keep
from workbench.decode.search.scorers import as_scorer, last_number
from workbench.errors import ArgumentError
from workbench.models import LM
from workbench.testing import tiny_lm

PROMPT = [1, 3, 0]
LIMIT = 3


@pytest.fixture(scope="module")
def lm() -> LM:
    return tiny_lm(vocab_size=4, seed=3)


@pytest.fixture(scope="module")
def exact(lm: LM) -> dict[tuple[int, ...], float]:
    """Probability of every text of at most three tokens; token 2 ends one."""
    found = {}
    for length in range(1, LIMIT + 1):
        for text in itertools.product(range(4), repeat=length):
            if 2 not in text[:-1] and (text[-1] == 2 or length == LIMIT):
                with torch.no_grad():
                    log_p = lm.module(torch.tensor([[*PROMPT, *text]])).logits[0].double().log_softmax(-1).numpy()
                found[text] = math.exp(sum(log_p[len(PROMPT) - 1 + n, t] for n, t in enumerate(text)))
    assert sum(found.values()) == pytest.approx(1, abs=1e-6)
    return found


def chi_square(counts: Counter, chances: dict, total: int) -> float:
    """p-value, of cells with at least five expected; the others are one cell (Wilson and Hilferty's normal)."""
    large = [k for k, c in chances.items() if c * total >= 5]
    rest = 1 - sum(chances[k] for k in large)
    seen = [counts[k] for k in large] + [total - sum(counts[k] for k in large)]
    wanted = [chances[k] * total for k in large] + [rest * total]
    value = sum((s - w) ** 2 / w for s, w in zip(seen, wanted, strict=True) if w > 1)
    freedom = len(large)
    z = ((value / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / math.sqrt(2 / (9 * freedom))
    return 0.5 * math.erfc(z / math.sqrt(2))


def drawn(lm: LM, count: int, temperature: float = 1.0) -> list[Hypothesis]:
    run = Run(as_target(lm), PROMPT, sampler=Sampler(temperature), seed=5, limit=LIMIT, detail=False)
    return Pool(run, count).finish()


def test_samples_follow_the_model(lm: LM, exact: dict) -> None:
    found = drawn(lm, 3000)
    assert chi_square(Counter(h.tokens for h in found), exact, 3000) > 1e-4
    for h in found[:50]:
        assert h.total == pytest.approx(math.log(exact[h.tokens]), abs=1e-4)
        assert h.finished == ("stop token" if h.tokens[-1] == 2 else "limit")
    skewed = drawn(lm, 3000, temperature=0.7)
    assert chi_square(Counter(h.tokens for h in skewed), exact, 3000) < 1e-6


def test_best_of_n_says_the_best(lm: LM) -> None:
    for scorer in ("log-p", "mean-log-p", "votes"):
        found = generate(lm, PROMPT, "best-of-n", max_new_tokens=6, n=7, scorer=scorer, temperature=1.0, seed=2)
        notes = found.trace.notes["hypotheses"]
        best = max(notes, key=lambda h: h["score"])
        assert found.tokens.tolist() == [t for t in best["tokens"] if t != 2]
        sums = [h["log_p"] / (len(h["tokens"]) if scorer == "mean-log-p" else 1) for h in notes]
        if scorer != "votes":
            assert [h["score"] for h in notes] == pytest.approx(sums)
        trace = found.trace
        assert len(trace.rows("score")) == 7
        assert len(trace.rows("prune")) == 6
        assert set(trace.origins) <= {"expand"}
        assert trace.token[trace.parent[trace.rows("emit")]].tolist() == found.tokens.tolist()
        assert notes == generate(lm, PROMPT, "best-of-n", max_new_tokens=6, n=7, scorer=scorer, temperature=1.0,
                                 seed=2, detail=False).trace.notes["hypotheses"]  # fmt: skip


def test_without_a_temperature_searches_take_their_own(lm: LM) -> None:
    for method, temperature in (("best-of-n", 0.8), ("particle-filter", 0.8), ("rpc", 1.0)):
        assert generate(lm, PROMPT, method, max_new_tokens=3).trace.notes["temperature"] == temperature
        given = generate(lm, PROMPT, method, max_new_tokens=3, temperature=0.5)
        assert given.trace.notes["temperature"] == 0.5


@dataclass(frozen=True)
class Likes(Scorer):
    """A log-weight that needs no model: more of token 3, less of token 1."""

    def score(self, run: Run, hypotheses: Sequence[Hypothesis]) -> np.ndarray:
        return np.array([likes(h.tokens) for h in hypotheses])


def likes(tokens: Sequence[int]) -> float:
    return 1.2 * tokens.count(3) - 0.9 * tokens.count(1) * (len(tokens) > 1)


def weighted(exact: dict, weights: str) -> tuple[dict, float]:
    """``p(y) w(y)`` by enumeration, and its sum; what is finished keeps its last score."""

    def weight(text: tuple[int, ...]) -> float:
        if weights == "change":
            return math.exp(likes(text))
        return math.exp(sum(likes(text[: n + 1]) if n < len(text) else likes(text) for n in range(LIMIT)))

    found = {text: p * weight(text) for text, p in exact.items()}
    return found, sum(found.values())


def estimate(found: object) -> dict[tuple[int, ...], float]:
    """Of ``p w``: the particles' last chances times the estimate of Z."""
    notes = found.trace.notes
    result: dict[tuple[int, ...], float] = {}
    for h, chance in zip(notes["hypotheses"], notes["chances"], strict=True):
        key = tuple(h["tokens"])
        result[key] = result.get(key, 0.0) + chance * math.exp(notes["log_z"])
    return result


@pytest.mark.parametrize("weights", ["score", "change"])
@pytest.mark.parametrize("resampling", ["multinomial", "systematic"])
def test_particles_are_properly_weighted(lm: LM, exact: dict, weights: str, resampling: str) -> None:
    """A few particles estimate every ``p w`` without bias, Z too; many follow ``p w / Z``."""
    wanted, z = weighted(exact, weights)
    options = {"max_new_tokens": LIMIT, "temperature": 1.0, "scorer": Likes(), "step": 1, "weights": weights,
               "resampling": resampling, "detail": False}  # fmt: skip
    runs = [estimate(generate(lm, PROMPT, "particle-filter", seed=s, particles=4, **options)) for s in range(80)]
    texts = [t for t, w in wanted.items() if w > 0.03 * z]
    table = np.array([[r.get(t, 0.0) for t in texts] + [sum(r.values())] for r in runs])
    away = table.mean(axis=0) - np.array([wanted[t] for t in texts] + [z])
    assert np.abs(away / (table.std(axis=0, ddof=1) / math.sqrt(len(runs)))).max() < 4.5
    assert distance(lm, wanted, z, options) < 0.06


def distance(lm: LM, wanted: dict, z: float, options: dict) -> float:
    """Total variation between many particles and ``p w / Z``."""
    many = generate(lm, PROMPT, "particle-filter", seed=1, particles=6000, **options)
    found = estimate(many)
    total = sum(found.values())
    return 0.5 * sum(abs(found.get(t, 0.0) / total - w / z) for t, w in wanted.items())


def test_particles_that_ignore_weights_are_found_out(lm: LM, exact: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, z = weighted(exact, "score")
    options = {"max_new_tokens": LIMIT, "temperature": 1.0, "scorer": Likes(), "step": 1, "detail": False}
    monkeypatch.setattr(particle_filter, "resample", lambda chances, random, how: list(range(len(chances))))
    assert distance(lm, wanted, z, options) > 0.15


def test_a_drawn_particle_follows_the_weights(lm: LM, exact: dict) -> None:
    wanted, z = weighted(exact, "change")
    counts: Counter = Counter()
    for seed in range(100):
        found = generate(
            lm, PROMPT, "particle-filter", seed=seed, particles=12, scorer=Likes(), step=2, weights="change",
            choose="draw", temperature=1.0, max_new_tokens=LIMIT, detail=False,
        )  # fmt: skip
        said = tuple(found.tokens.tolist())
        counts[said if found.finished == "limit" else (*said, 2)] += 1
    assert chi_square(counts, {t: w / z for t, w in wanted.items()}, 100) > 1e-4


def test_resampling_keeps_shares() -> None:
    random, chances = np.random.default_rng(0), np.array([0.5, 0.0, 0.2, 0.3])
    counts = sum(np.bincount(resample(chances, random), minlength=4) for _ in range(2000))
    assert np.abs(counts / 8000 - chances).max() < 0.02
    assert counts[1] == 0
    for _ in range(50):
        many = np.bincount(resample(np.repeat(chances, 5) / 5, random, "systematic"), minlength=20)
        assert (np.abs(many - 20 * np.repeat(chances, 5) / 5) < 1).all()


def test_the_trace_of_particles(lm: LM) -> None:
    found = generate(lm, PROMPT, "particle-filter", max_new_tokens=6, particles=5, step=2, temperature=1.0, seed=4)
    trace = found.trace
    assert set(trace.origins) <= {"expand"}
    expand, again = trace.rows("expand"), trace.rows("resample")
    assert len(again) % 5 == 0
    assert len(again) >= 5
    assert set(trace.parent[again]) <= set(expand)
    assert all(trace.position[r] == trace.position[trace.parent[r]] + 1 for r in expand if trace.parent[r])
    assert json.loads(json.dumps(trace.to_dict()))["notes"]["log_z"] == trace.notes["log_z"]


def test_hopeless_particles_all_have_the_same_chance(lm: LM) -> None:
    found = generate(lm, PROMPT, "particle-filter", max_new_tokens=2, particles=3, step=1, scorer=lambda _: -math.inf)
    assert found.trace.notes["log_z"] is None
    assert found.trace.notes["chances"] == pytest.approx([1 / 3] * 3)
    json.dumps(found.trace.to_dict(), allow_nan=False)


@pytest.mark.parametrize("compiled", [False, True])
def test_pmi_is_the_difference_of_two_readings(compiled: bool) -> None:
    torch.manual_seed(1)
    lm = tiny_lm(head_dim=32, seed=1)
    model = workbench.compile(lm, "dense", threads=1) if compiled else lm
    prompt, without = [1, 9, 20, 33], (1, 50)
    for scorer, start in ((PMI(without), [*without]), (PMI(), [1])):
        found = generate(model, prompt, "best-of-n", n=3, max_new_tokens=5, scorer=scorer, temperature=1.0)
        for h in found.trace.notes["hypotheses"]:
            tokens, sums = h["tokens"], []
            for head in (prompt, start):
                with torch.no_grad():
                    log_p = lm.module(torch.tensor([[*head, *tokens]])).logits[0].double().log_softmax(-1).numpy()
                sums.append(sum(log_p[len(head) - 1 + n, t] for n, t in enumerate(tokens)))
            assert h["score"] == pytest.approx((sums[0] - sums[1]) / len(tokens), abs=2e-4)


def test_scores_during_a_search_leave_it_as_it_is() -> None:
    lm = tiny_lm(head_dim=32, seed=1)
    for model in (lm, workbench.compile(lm, "dense", threads=1)):
        found = generate(model, [1, 9, 20], "particle-filter", scorer="pmi", step=2, max_new_tokens=8, temperature=1.0)
        for h in found.trace.notes["hypotheses"]:
            with torch.no_grad():
                log_p = lm.module(torch.tensor([[1, 9, 20, *h["tokens"]]])).logits[0].log_softmax(-1).numpy()
            assert h["log_p"] == pytest.approx(sum(log_p[2 + n, t] for n, t in enumerate(h["tokens"])), abs=1e-3)


def test_votes_and_verifiers() -> None:
    lm = byte_lm()
    run = Run(as_target(lm), [65])
    hypotheses = [Hypothesis(n, tuple(lm.tokenizer(t)["input_ids"])) for n, t in enumerate(("so 7", "9", "is 7."))]
    assert Votes().score(run, hypotheses).tolist() == pytest.approx([2 / 3, 1 / 3, 2 / 3])
    assert as_scorer(len).score(run, hypotheses).tolist() == [4, 1, 5]
    assert as_scorer(len).source == "Verifier(len)"
    found = generate(lm, "ab", "best-of-n", scorer=len, n=2, max_new_tokens=3)
    assert found.trace.parameters["scorer"] == "Verifier(len)"
    assert [last_number(t) for t in ("1,200 or 3.5", "-4", " no ")] == ["3.5", "-4", "no"]


def test_a_stop_text_ends_a_hypothesis() -> None:
    lm = byte_lm()
    found = generate(lm, "ab", "best-of-n", n=30, max_new_tokens=20, stop=("a", "e", "i"), temperature=1.5)
    texts = [h["text"] for h in found.trace.notes["hypotheses"]]
    lengths = {len(h["tokens"]) for h in found.trace.notes["hypotheses"]}
    assert len(lengths) > 1
    assert not any(set(t) & {"a", "e", "i"} for t in texts)
    assert not set(found.text) & {"a", "e", "i"}


def test_confidence_is_the_probability_of_different_texts() -> None:
    log_p = np.log([0.2, 0.2, 0.1, 0.25])
    found = confidences([(1,), (1,), (2,), (3,)], ["a", "a", "a", "b"], log_p)
    assert found == pytest.approx({"a": 0.3 / 0.55, "b": 0.25 / 0.55})
    assert list(found) == ["a", "b"]


def test_weibull_parts_are_those_of_the_closed_forms() -> None:
    for shape, scale in ((0.7, 2.0), (1.0, 0.5), (3.0, 1.5)):
        w = Weibull(shape, math.log(scale))
        x = np.exp(np.linspace(-40, 8, 400_000))
        density = np.exp(w.log_density(np.log(x)))
        assert np.trapezoid(density, x) == pytest.approx(1, abs=1e-3)
        assert np.trapezoid(density * x, x) == pytest.approx(math.exp(w.log_mean), rel=1e-3)
        assert density[1000] == pytest.approx(
            shape / scale * (x[1000] / scale) ** (shape - 1) * math.exp(-((x[1000] / scale) ** shape))
        )
    exponential = Weibull(1.0, math.log(0.5))
    assert math.exp(exponential.log_mean) == pytest.approx(0.5)


def test_a_fit_is_the_most_likely_one() -> None:
    random = np.random.default_rng(0)
    log_x, weights = np.log(2.5 * random.weibull(1.7, 4000)), random.random(4000)
    found = fit(log_x, weights)
    assert found.shape == pytest.approx(1.7, rel=0.05)
    assert math.exp(found.log_scale) == pytest.approx(2.5, rel=0.05)
    best = weights @ found.log_density(log_x)
    for shape, scale in ((1.01, 0), (0.99, 0), (1, 0.01), (1, -0.01)):
        assert weights @ Weibull(found.shape * shape, found.log_scale + scale).log_density(log_x) < best
    tiny = fit(log_x - 300, weights)  # as probabilities of texts are
    assert tiny.shape == pytest.approx(found.shape, rel=1e-6)


def test_a_planted_mixture_is_found() -> None:
    random = np.random.default_rng(1)
    high, low = np.log(random.weibull(6.0, 600)) - 2, np.log(random.weibull(2.0, 1400)) - 6
    found = fit_mixture(np.concatenate([high, low]))
    assert found.share == pytest.approx(0.3, abs=0.03)
    assert found.high.shape == pytest.approx(6.0, rel=0.15)
    assert found.low.shape == pytest.approx(2.0, rel=0.15)
    assert found.high.log_scale == pytest.approx(-2, abs=0.05)
    assert found.low.log_scale == pytest.approx(-6, abs=0.08)
    assert found.chance_high(high).mean() > 0.98
    assert found.chance_high(low).mean() < 0.02


def test_unlikely_texts_are_pruned() -> None:
    log_p = np.array([-2.0, -2.2, -2.1, -2.4, -9.0, -9.5, -8.8, -9.2])
    assert keep(log_p).tolist() == [True] * 4 + [False] * 4
    assert keep(np.array([-1.0, -5.0, -5.0])).all()  # too few to tell
    assert keep(np.full(8, -3.0)).all()
    assert keep(log_p - 400).tolist() == keep(log_p).tolist()
    for seed in range(20):
        assert keep(-20 * np.random.default_rng(seed).random(8)).any()


def test_rpc_says_the_answer_of_most_probability(lm: LM) -> None:
    for prune in (True, False):
        found = generate(lm, PROMPT, "rpc", n=12, max_new_tokens=3, seed=3, prune=prune)
        notes = found.trace.notes["hypotheses"]
        stays = keep(np.array([h["log_p"] for h in notes])) if prune else np.ones(12, bool)
        mass: dict[str, float] = {}
        for text, log_p in {tuple(h["tokens"]): h["log_p"] for h, s in zip(notes, stays, strict=True) if s}.items():
            mass[str(last_number(""))] = mass.get("", 0.0) + math.exp(log_p)
            assert text
        assert list(found.trace.notes["answers"]) == list(mass)
        likely = max((h for h, s in zip(notes, stays, strict=True) if s), key=lambda h: h["log_p"])
        assert found.tokens.tolist() == [t for t in likely["tokens"] if t != 2]
        assert len(found.trace.rows("prune")) == int((~stays).sum())
    lm = byte_lm()
    found = generate(lm, "ab", "rpc", n=10, max_new_tokens=2, answer=len, prune=False, temperature=2.0)
    assert found.trace.parameters["answer"] == "len"
    assert str(len(found.text)) == next(iter(found.trace.notes["answers"]))


def test_tasks_are_exact_and_repeatable() -> None:
    for name, task in TASKS.items():
        questions = task.questions(12, seed=1)
        assert questions == task.questions(12, seed=1)
        assert questions != task.questions(12, seed=2)
        assert len({q.prompt for q in questions}) == 12
        for q in questions:
            asked = q.prompt.split("\n\n")[-1].split("\nA:")[0]
            assert q.prompt.count("Q: ") == task.shots + 1
            said = "\n".join(q.lines) or f" {q.answer}"
            assert q.right(said)
            assert not q.right(said + "7")
            numbers = [int(w.strip(".,?")) for w in asked.split() if w.strip(".,?").isdigit()]
            words = asked.split(": ")[-1].split()
            by_hand = {
                "add": lambda n=numbers: str(sum(n)),
                "largest": lambda n=numbers: str(max(n)),
                "swap": lambda w=words: " ".join(w[::-1]),
                "chain": lambda a=asked: str(chained(a)),
            }
            assert by_hand[name]() == q.answer


def chained(asked: str) -> int:
    start, *steps = asked.removeprefix("Q: Start with ").replace(".", "").split()
    signs, numbers = steps[::2], steps[1::2]
    return int(start) + sum(int(n) * (1 if s == "+" else -1) for s, n in zip(signs, numbers, strict=True))


def test_a_reward_counts_right_and_wrong_lines() -> None:
    q = Question("", "12", "chain 1", ("9 - 4 = 5", "5 + 3 = 8", "8 + 4 = 12"))
    assert q.reward("9 - 4 = 5\n5 + 3 = 8") == 8
    assert q.reward("9 - 4 = 5\n5 + 3 = 9\n9 + 4 = 13\n1 + 1 = 2") == -8
    assert q.reward("") == 0


def test_accuracy_counts_right_answers() -> None:
    lm = byte_lm()
    prompts = []

    def always(question: Question) -> object:
        prompts.append(question.prompt)
        return workbench.decode.resolve("best-of-n", {"n": 2, "scorer": question.reward})

    sure = TASKS["add"].questions(4)
    found = accuracy(lm, always, "add", count=4, max_new_tokens=2)
    assert prompts == [q.prompt for q in sure]
    assert found.right.tolist() == [q.right(t) for q, t in zip(sure, found.texts, strict=True)]
    assert found.method == "best-of-n"
    assert "of 4 right" in repr(found)


def test_searches_say_what_is_wrong(lm: LM) -> None:
    for method, options, message in (
        ("best-of-n", {"n": 0}, "n=0: at least 1"),
        ("best-of-n", {"scorer": "logp"}, "did you mean 'log-p'"),
        ("best-of-n", {"scorer": 3}, "scorer=3: a name"),
        ("best-of-n", {"scorer": PMI("Q:")}, "no tokenizer"),
        ("particle-filter", {"particles": 0}, "particles=0"),
        ("particle-filter", {"step": 0}, "step=0: a text"),
        ("particle-filter", {"step": ""}, "step='': a text"),
        ("particle-filter", {"tau": 0}, "tau=0: a positive"),
        ("particle-filter", {"weights": "scores"}, "did you mean 'score'"),
        ("particle-filter", {"resampling": "stratified"}, "Known: multinomial, systematic"),
        ("particle-filter", {"choose": "worst"}, "Known: best, draw"),
        ("rpc", {"n": 0}, "n=0: at least 1"),
        ("rpc", {"answer": "number"}, "answer='number': a function"),
    ):
        with pytest.raises(ArgumentError, match=message):
            generate(lm, PROMPT, method, max_new_tokens=3, **options)
    with pytest.raises(ArgumentError, match="unknown task 'ad'"):
        accuracy(lm, "greedy", "ad")
    with pytest.raises(ArgumentError, match="count=0"):
        TASKS["add"].questions(0)
