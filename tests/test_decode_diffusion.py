"""Masked diffusion: list tasks and their closed forms, the samplers against exact enumeration, the shipped model."""

from __future__ import annotations

import itertools
import math
from functools import cache

import numpy as np
import pytest
import torch

from workbench.claims import HELD, NOT_HELD
from workbench.decode import Run, Sampler, Trace, decoders, generate, resolve
from workbench.decode.diffusion import (
    TASKS,
    ListModel,
    ListTask,
    MaskedModel,
    Oracle,
    expected_evaluations,
    independent_accuracy,
    load,
    parallel_quality,
    sample,
    train_diffusion,
)
from workbench.decode.diffusion._base import Proposal
from workbench.decode.diffusion.checks import DiffusionContext, FewerEvaluations, measure, questions
from workbench.decode.diffusion.localleap import LocalLeap
from workbench.decode.diffusion.network import Network, Sizes
from workbench.decode.diffusion.radd import Radd
from workbench.decode.diffusion.tasks import ANSWER, MASK, NAMES, PROMPT, WORDS, answers, read
from workbench.decode.diffusion.training import draw_batch
from workbench.errors import ArgumentError, Cancelled, DataError, ModelError
from workbench.jobs import Progress
from workbench.results import Result
from workbench.testing import check_decoder, tiny_lm

TINY = Sizes(hidden=16, layers=1, heads=2)
PROMPT_TEXT = "reverse : Ada Ben Cleo Dan ->"


class Table(MaskedModel):
    """A joint distribution over three places of three tokens; its conditionals are exact."""

    def __init__(self, joint):
        self.joint, self.vocabulary, self.context, self.tokenizer, self.source = joint, 5, 8, None, "table"
        self.mask, self.seen = 4, {}

    def slots(self, prompt):
        return self.joint.ndim

    def _evaluate(self, canvas, prompt):
        key = canvas.tobytes()
        if key not in self.seen:
            self.seen[key] = self.logits(canvas, prompt)
        return self.seen[key]

    def logits(self, canvas, prompt):
        return np.log(np.pad(np.stack(self.marginals(canvas[prompt:])), ((0, 0), (0, 2))) + 1e-30).astype(np.float32)

    def marginals(self, shown):
        return _marginals(self, tuple(shown))


@cache
def _marginals(table, shown):
    keep = table.joint[tuple(slice(None) if t == table.mask else slice(t, t + 1) for t in shown)]
    others = [tuple(a for a in range(keep.ndim) if a != place) for place in range(keep.ndim)]
    return [
        keep.sum(others[n]) / keep.sum() if token == table.mask else np.eye(3)[token] for n, token in enumerate(shown)
    ]


@pytest.fixture(scope="module")
def table():
    joint = np.random.default_rng(0).dirichlet(np.full(27, 0.4)).reshape(3, 3, 3)
    return Table(joint / joint.sum())


@pytest.fixture(scope="module")
def shipped():
    return load()


def p_value(counts, expected):
    counts, expected = np.asarray(counts, float), np.asarray(expected, float)
    few = expected < 5  # pooled, as the approximation asks
    if few.any():
        counts = np.append(counts[~few], counts[few].sum())
        expected = np.append(expected[~few], expected[few].sum())
    statistic = ((counts - expected) ** 2 / expected).sum()
    return float(torch.special.gammaincc(torch.tensor((len(counts) - 1) / 2), torch.tensor(statistic / 2)))


# --- list tasks


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_read_back_from_its_words_and_knows_its_answers(name):
    for seed in range(5):
        task = sample(name, np.random.default_rng(seed), 3 + seed)
        assert read(task.prompt) == task
        assert Oracle().tokenizer(task.text)["input_ids"] == list(task.prompt)
        right = answers(task)
        assert right.shape[1] == task.length
        assert len({tuple(a) for a in right.tolist()}) == len(right)
        assert all(task.right(a) for a in right[:20])
        assert not task.right([*right[0][1:], MASK])


def test_answers_in_words():
    def said(prompt):
        return {" ".join(WORDS[t] for t in a) for a in answers(read(Oracle().tokenizer(prompt)["input_ids"]))}

    assert said("sort: Dan, Ada, Cleo") == {"Ada Cleo Dan"}
    assert said("insert 1 Zoe : Ada Ben ->") == {"Zoe Ada Ben"}
    assert said("insert Zoe : Ada Ben ->") == {"Zoe Ada Ben", "Ada Zoe Ben", "Ada Ben Zoe"}
    assert said("replace Zoe : Ada Ben ->") == {"Zoe Ben", "Ada Zoe"}
    assert said("remove 2 : Ada Ben Cleo ->") == {"Ada Cleo"}
    assert said("shuffle : Ada Ben ->") == {"Ada Ben", "Ben Ada"}


def exact(task, each):
    """The same chance by walking through every choice of places and every token drawn."""
    right = answers(task)

    def go(shown):
        left = [i for i, t in enumerate(shown) if t is None]
        if not left:
            return float(any(tuple(shown) == tuple(a) for a in right.tolist()))
        fits = [a for a in right if all(t is None or a[i] == t for i, t in enumerate(shown))]
        if not fits:
            return 0.0
        rounds = list(itertools.combinations(left, min(each, len(left))))
        total = 0.0
        for places in rounds:
            shares = [{int(t): np.mean([a[i] == t for a in fits]) for t in {a[i] for a in fits}} for i in places]
            for drawn in itertools.product(*shares):
                now = list(shown)
                for i, t in zip(places, drawn, strict=True):
                    now[i] = t
                total += math.prod(s[t] for s, t in zip(shares, drawn, strict=True)) * go(now)
        return total / len(rounds)

    return go([None] * right.shape[1])


@pytest.mark.parametrize("name", TASKS)
def test_the_closed_form_for_all_places_at_once(name):
    task = sample(name, np.random.default_rng(1), 4)
    assert independent_accuracy(task) == pytest.approx(exact(task, 99), abs=1e-12)


@pytest.mark.parametrize("each", [1, 2, 3])
@pytest.mark.parametrize("name", ["shuffle", "replace-random", "copy"])
def test_the_closed_form_for_some_places_at_a_time(name, each):
    task = sample(name, np.random.default_rng(2), 4)
    assert independent_accuracy(task, each) == pytest.approx(exact(task, each), abs=1e-12)


def test_known_values_of_the_closed_form():
    def task(name, size):
        return sample(name, np.random.default_rng(0), size)

    assert independent_accuracy(task("shuffle", 5)) == pytest.approx(math.factorial(5) / 5**5)
    assert independent_accuracy(task("replace-random", 6)) == pytest.approx((5 / 6) ** 5)
    assert independent_accuracy(task("sort", 7)) == 1
    with pytest.raises(ArgumentError, match="each=2 on insert-random"):
        independent_accuracy(task("insert-random", 5), 2)
    with pytest.raises(ArgumentError, match="each=0"):
        independent_accuracy(task("shuffle", 5), 0)


@pytest.mark.parametrize(
    ("name", "each"), [("shuffle", 2), ("shuffle", 4), ("replace-random", 2), ("insert-random", 9), ("reverse", 9)]
)
def test_unmasking_by_the_oracle_is_as_often_right_as_the_closed_form_says(name, each):
    task, draws = sample(name, np.random.default_rng(3), 4), 500
    method = resolve("unmask", {"each": each, "order": "random"})
    _, found = measure(Oracle(), method, [task] * draws, 1.0)
    chance = independent_accuracy(task, None if each >= task.length else each)
    assert abs(found - chance) <= 3.9 * math.sqrt(chance * (1 - chance) / draws)  # p > 1e-4


def test_the_oracle_one_by_one_is_always_right():
    for name in TASKS:
        found = measure(Oracle(), resolve("unmask"), questions(name, 5, 0), 1.0)
        assert found[1] == 1


# --- RADD


def radd_chances(table, steps):
    """Every place moves at a step uniform on all, independently; places of one step are drawn independently."""
    found = np.zeros((3, 3, 3))
    for moves in itertools.product(range(steps), repeat=3):
        for answer in itertools.product(range(3), repeat=3):
            shown, p = [table.mask] * 3, 1.0
            for step in sorted(set(moves)):
                now, marginals = [i for i in range(3) if moves[i] == step], table.marginals(shown)
                p *= math.prod(marginals[i][answer[i]] for i in now)
                shown = [answer[i] if i in now else t for i, t in enumerate(shown)]
                if p == 0:
                    break
            found[answer] += p / steps**3
    return found


def drawn(table, method, count):
    counts = np.zeros((3, 3, 3))
    for seed in range(count):
        run = Run(table, [0], sampler=Sampler(1.0), seed=seed, detail=False)
        method.decode(run)
        counts[tuple(run.tokens[1:])] += 1
    return counts


def test_radd_draws_what_its_time_steps_say(table):
    expected = radd_chances(table, 2)
    assert expected.sum() == pytest.approx(1)
    assert p_value(drawn(table, Radd(steps=2), 2000).ravel(), 2000 * expected.ravel()) > 1e-4
    assert abs(expected - table.joint).max() > 0.01  # independence costs something
    assert abs(radd_chances(table, 8) - table.joint).max() < abs(expected - table.joint).max() / 2


def test_a_radd_that_never_looks_again_is_found_out(table):
    class Blind(Radd):
        def unmask(self, canvas):
            canvas.evaluate()
            places = canvas.masked
            canvas.unmask(places, [canvas.run.sampler.choose(canvas.logits[p], canvas.run.random) for p in places])

    expected = 2000 * radd_chances(table, 2)
    assert p_value(drawn(table, Blind(steps=2), 2000).ravel(), expected.ravel()) < 1e-4


def test_cached_and_uncached_radd_say_the_same(shipped):
    for seed in range(6):
        options = {"temperature": 1.0, "seed": seed, "steps": 40}
        own = generate(shipped, "shuffle : Ada Ben Cleo Dan Eve ->", "radd", **options)
        other = generate(shipped, "shuffle : Ada Ben Cleo Dan Eve ->", "radd", cache=False, **options)
        assert own.tokens.tolist() == other.tokens.tolist()
        moved = len(set(own.trace.step[own.trace.rows("unmask")]))
        assert own.trace.target_forwards.max() == moved < other.trace.target_forwards.max()


def test_evaluations_of_radd_match_their_closed_form():
    task, draws = sample("copy", np.random.default_rng(0), 8), 200
    for steps in (1, 6, 32):
        counts = []
        for seed in range(draws):
            run = Run(Oracle(), task.prompt, seed=seed, detail=False)
            Radd(steps=steps).decode(run)
            counts.append(run.trace.target_forwards)
        expected = expected_evaluations(8, steps)
        assert expected == pytest.approx(steps * (1 - (1 - 1 / steps) ** 8))
        assert abs(np.mean(counts) - expected) <= 3.9 * np.std(counts) / math.sqrt(draws) + 1e-9
        assert max(counts) <= min(steps, 8)


# --- thresholds


def test_threshold_1_unmasks_one_by_one_and_0_all_at_once(shipped):
    for model in (shipped, Oracle()):
        one, plain = (
            generate(model, PROMPT_TEXT, "confidence", threshold=1).trace,
            generate(model, PROMPT_TEXT, "unmask").trace,
        )
        for column in ("kind", "token", "position", "value", "step"):
            assert np.array_equal(getattr(one, column), getattr(plain, column), equal_nan=True)
        assert one.cost.target_forwards == model.slots(one.prompt)
        every = generate(model, PROMPT_TEXT, "confidence", threshold=0).trace
        assert every.cost.target_forwards == 1


def test_localleap_keeps_what_its_definition_says():
    random, method = np.random.default_rng(0), LocalLeap(threshold=0.8, relaxed=0.5, radius=2)
    for _ in range(200):
        places = np.sort(random.choice(16, random.integers(1, 12), replace=False))
        sure = random.random(len(places))
        anchors = [p for p, c in zip(places, sure, strict=True) if c >= 0.8]
        wanted = {
            int(p)
            for p, c in zip(places, sure, strict=True)
            if c >= 0.8 or (c >= 0.5 and any(abs(p - a) <= 2 for a in anchors))
        }
        wanted = wanted or {int(places[sure.argmax()])}
        kept = method.select(Proposal(places, np.zeros_like(places), sure), random)
        assert set(places[kept].tolist()) == wanted


def test_confidence_is_the_models_probability_whatever_the_sampler(shipped):
    made = generate(shipped, "shuffle : Ada Ben Cleo Dan ->", "confidence", temperature=2.0, top_k=3, seed=3)
    rows = made.trace.rows("unmask")
    assert np.allclose(made.trace.value[rows], np.exp(made.trace.log_p[rows]), rtol=1e-4)


# --- what is recorded


@pytest.mark.parametrize("method", [d.name for d in decoders("diffusion")])
def test_every_method_leaves_a_whole_trace(method, shipped, tmp_path):
    made = generate(shipped, PROMPT_TEXT, method, stream=(said := []).append)
    trace = made.trace
    assert made.text == "Dan Cleo Ben Ada" == "".join(said)
    assert made.finished == "stop token"
    assert trace.method == method
    assert trace.parameters["model"] == "diffusion"
    unmasked, emitted, asked = (trace.rows(k) for k in ("unmask", "emit", "verify"))
    start = len(trace.prompt)
    assert sorted(trace.position[unmasked]) == list(range(start, start + ANSWER))
    assert trace.position[emitted].tolist() == list(range(start, start + 4))
    assert len(asked) == trace.cost.target_forwards == trace.target_forwards.max()
    assert set(trace.value[asked]) == {start + ANSWER}
    assert trace.origins == ["unmask"] * 4
    assert trace.cost.tokens_per_forward == 4 / len(asked)
    assert (trace.position[trace.parent[emitted]] == trace.position[emitted]).all()
    assert set(trace.parent[unmasked]) <= set(asked)
    assert Trace.load(trace.save(tmp_path / "trace.json")).tokens.tolist() == made.tokens.tolist()


@pytest.mark.parametrize("method", [d.name for d in decoders("diffusion")])
def test_every_method_passes_the_battery(method):
    check_decoder(method)


def test_fewer_tokens_are_said_if_fewer_are_asked_for(shipped):
    made = generate(shipped, PROMPT_TEXT, "confidence", max_new_tokens=2)
    assert (made.text, made.finished) == ("Dan Cleo", "limit")


def test_none_and_the_default_model_stand_for_the_shipped_one():
    assert generate(None, PROMPT_TEXT, "confidence").text == "Dan Cleo Ben Ada"
    lm = tiny_lm()
    object.__setattr__(lm, "source", "default")
    assert resolve("radd").target(lm).source == "diffusion"


def test_what_cannot_be_unmasked_is_refused(shipped):
    with pytest.raises(ArgumentError, match=r"predicts the next token, but radd fills in masked ones.*load\(\)"):
        generate(tiny_lm(), [3, 4], "radd")
    with pytest.raises(ArgumentError, match="has no next token: take a method of the family diffusion"):
        generate(shipped, PROMPT_TEXT, "greedy")
    with pytest.raises(ArgumentError, match="the word 'What', which this model of list tasks does not know"):
        generate(shipped, "What is a list?", "radd")
    for text in ("Ada Ben ->", "copy 2 : Ada Ben ->", "insert 2 : Ada ->", "remove 3 : Ada Ben ->", "sort :"):
        with pytest.raises(ArgumentError, match="prompt"):
            generate(shipped, text, "radd")
    with pytest.raises(ArgumentError, match="at most 8 names"):
        generate(shipped, f"insert 2 Zoe : {' '.join(NAMES[:9])} ->", "radd")


@pytest.mark.parametrize(
    ("method", "parameters", "message"),
    [
        ("unmask", {"each": 0}, "each=0"),
        ("unmask", {"order": "left"}, "unknown order 'left'"),
        ("confidence", {"threshold": 1.5}, "threshold=1.5"),
        ("localleap", {"relaxed": 0.95}, "relaxed=0.95: at most the threshold, 0.9"),
        ("localleap", {"radius": -1}, "radius=-1"),
        ("radd", {"steps": 0}, "steps=0"),
    ],
)
def test_hyper_parameters_out_of_range(method, parameters, message):
    with pytest.raises(ArgumentError, match=message):
        resolve(method, parameters)
    with pytest.raises(ArgumentError, match="unknown list task"):
        sample("copi", np.random.default_rng(0))
    with pytest.raises(ArgumentError, match="size=12"):
        sample("copy", np.random.default_rng(0), 12)


# --- the shipped model and its recipe


@pytest.mark.parametrize("name", ["copy", "reverse"])
def test_the_shipped_model_solves(name, shipped):
    assert measure(shipped, resolve("unmask"), questions(name, 30, seed=11))[1] >= 0.9


def test_the_weights_are_saved_and_read_back(shipped, tmp_path):
    again = load(shipped.save(tmp_path / "own.safetensors"))
    canvas = np.array([*Oracle().tokenizer(PROMPT_TEXT)["input_ids"], *[MASK] * ANSWER])
    assert np.array_equal(again.evaluate(canvas, 7), shipped.evaluate(canvas, 7))
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be read"):
        load(tmp_path / "bad.safetensors")


def test_padding_before_the_prompt_is_not_seen(shipped):
    network = shipped.network
    ids = torch.full((1, PROMPT + ANSWER), MASK)
    ids[0, : PROMPT - 4] = 0
    first = network(ids)[0, PROMPT:]
    network.position.weight.data[0] += 1
    try:
        assert torch.equal(network(ids)[0, PROMPT:], first)
    finally:
        network.position.weight.data[0] -= 1


def test_the_loss_drawn_is_that_of_the_paper():
    places = 5
    costs = {s: np.random.default_rng(s).random() for s in range(2**places)}  # any function of what is masked
    nodes, weights = np.polynomial.legendre.leggauss(40)
    paper = own = 0.0
    for s, cost in costs.items():
        k = s.bit_count()
        if k:
            t = (nodes + 1) / 2
            paper += cost * float(weights / 2 @ (t ** (k - 1) * (1 - t) ** (places - k)))
            own += cost * (places / k) / (places * math.comb(places, k))
    assert own == pytest.approx(paper, rel=1e-12)


def test_a_batch_masks_every_number_of_places_alike():
    whole, weight = draw_batch(ANSWER * 4, np.random.default_rng(0))
    assert not weight[:, :PROMPT].any()
    counts = (weight > 0).sum(1)
    assert np.bincount(counts, minlength=ANSWER + 1).tolist() == [0, *[4] * ANSWER]
    assert np.allclose(weight.max(1), ANSWER / counts)
    for row in whole:
        prompt = [t for t in row[:PROMPT] if t]
        answer = row[PROMPT:]
        assert read(prompt).right(answer[: read(prompt).length])


def test_training_lowers_the_loss_and_resumes_with_the_same_bits(tmp_path):
    options = {"steps": 60, "batch": 20, "sizes": TINY, "rate": 1e-2, "every": 20}
    whole = train_diffusion(**options)
    assert whole.losses[-10:].mean() < 0.8 * whole.losses[:10].mean()
    path, stop = tmp_path / "run.safetensors", Progress()
    stop.listener = lambda step: stop.cancel() if step.done == 45 else None
    with pytest.raises(Cancelled):
        train_diffusion(**options, checkpoint=path, progress=stop)
    heard = []
    again = train_diffusion(**options, checkpoint=path, progress=Progress(heard.append))
    assert heard[0].done == 41
    assert np.array_equal(again.losses, whole.losses)
    for own, other in zip(again.network.parameters(), whole.network.parameters(), strict=True):
        assert torch.equal(own, other)
    assert isinstance(again, Result)
    assert "nats per answer" in again.to_text()
    with pytest.raises(DataError, match="of other settings"):
        train_diffusion(**options | {"seed": 1}, checkpoint=path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="cannot be read"):
        train_diffusion(**options, checkpoint=path)
    with pytest.raises(ArgumentError, match="steps=0"):
        train_diffusion(steps=0)


# --- results and claims


def test_parallel_quality_shows_the_error_of_independence():
    methods = {"one": ("unmask", {}), "all": ("unmask", {"each": 9}), "sure": ("confidence", {})}
    found = parallel_quality(Oracle(), ("copy", "shuffle"), methods, samples=12, size=5)
    assert found.accuracy[0].tolist() == [1, 1]
    assert found.evaluations[1].tolist() == [1, 1]
    assert found.evaluations[2].tolist() == [1, 5]  # the last place is certain once the fourth is known, and asked for
    assert found.accuracy[1, 0] == 1
    assert found.independent.tolist() == pytest.approx([1, 120 / 5**5])
    assert found.accuracy[1, 1] < 0.5
    assert "<svg" in found.to_html()
    assert "exact, all at once" in found.to_text()
    assert found.to_dict()["methods"] == ["one", "all", "sure"]
    with pytest.raises(ArgumentError, match="samples=0"):
        parallel_quality(Oracle(), samples=0)


def test_claims_are_checked_and_can_fail():
    context = DiffusionContext(Oracle(), tasks=("copy", "sort", "shuffle"), samples=2, seeds=(0, 1))
    assert all(method.claim is not None for method in decoders("diffusion"))
    found = resolve("confidence").claim.check(context, "confidence")
    assert found.runs[0].cells()[3:] == ("100 %", "100 %")
    assert Radd.claim.check(DiffusionContext(Oracle(), samples=4), "radd").status == HELD
    assert FewerEvaluations(at_most=0.01)(context, "localleap").status == NOT_HELD
    at_once = FewerEvaluations(at_most=1.0, parameters={"each": 9}, temperature=1.0)
    assert (
        at_once(DiffusionContext(Oracle(), ("shuffle", "remove-random", "insert-random"), samples=6), "unmask").status
        == NOT_HELD
    )


def test_a_network_is_a_list_model():
    model = ListModel(Network(TINY), "own")
    assert generate(model, ListTask("copy", (21, 22, 23)).prompt, "unmask").trace.parameters["model"] == "own"
