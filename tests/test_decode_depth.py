"""Layer by layer is the same model; early exits keep what they promise; the lens is what least squares says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import workbench
from workbench.decode import Generation, Run, Sampler, as_target, generate
from workbench.decode._exact import g_test, g_test_passes
from workbench.decode.depth import TunedLens, layer_paths, train_lens
from workbench.decode.depth._layers import DepthTarget, head_layers
from workbench.decode.depth._mixture import agreement_threshold, beta_mixture, posterior
from workbench.decode.depth._own import own_windows
from workbench.decode.depth._paths import parse_path, path_text
from workbench.decode.depth.dynamic_exit import DynamicExit, _EarlyLayers, per_layer
from workbench.decode.depth.lens import as_lens
from workbench.decode.depth.training import closed_form, default_layers, hidden_states
from workbench.errors import ArgumentError, Cancelled, DataError, ModelError, WorkbenchError
from workbench.jobs import Progress, Step
from workbench.models import LM
from workbench.testing import tiny_lm, tiny_tokens

PROMPT = [5, 9, 33, 70, 21, 8]
FAMILIES = ("llama", "qwen2", "qwen3", "mistral", "gemma2", "phi3", "olmo2", "smollm3", "gpt2", "gpt_neox", "opt")


@pytest.fixture(scope="module")
def lm() -> LM:
    return tiny_lm(eos_token_id=None)


@pytest.fixture(scope="module")
def lens(lm: LM) -> TunedLens:
    return train_lens(lm, tiny_tokens(60, 48), steps=40, frequent=97)


@pytest.fixture(scope="module")
def plain(lm: LM) -> Generation:
    return generate(lm, PROMPT, max_new_tokens=40)


def whole(lm: LM, ids: list[int]) -> np.ndarray:
    """Logits without a cache, by the model itself."""
    with torch.no_grad():
        return lm.module(torch.tensor([ids]), use_cache=False).logits[0].numpy()


def forced(monkeypatch: pytest.MonkeyPatch, seed: int = 0) -> None:
    """DEL drafts whether it pays or not, from any exit, at any length."""
    random = np.random.default_rng(seed)

    def choose(self: _EarlyLayers, longest: int) -> tuple[int, int]:
        return int(random.choice(list(self.right))), int(random.integers(0, longest + 1))

    monkeypatch.setattr(_EarlyLayers, "choose", choose)


# --- layer by layer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_exit_and_resume_equal_the_model(family: str) -> None:
    """Some tokens wait at an exit, others are new: together they come to the logits of one pass without a cache."""
    lm, ids = tiny_lm(family), [5, 9, 33, 70, 21, 8, 60]
    before, target = lm.fingerprint, DepthTarget(lm)
    target.forward(ids[:2])
    early = np.concatenate([target.shallow([token], 2).logits for token in ids[2:5]])
    rest = target.forward(ids[2:]).logits
    np.testing.assert_allclose(rest, whole(lm, ids)[2:], atol=2e-5)
    with torch.no_grad():
        states = lm.module(torch.tensor([ids]), use_cache=False, output_hidden_states=True).hidden_states[2]
    np.testing.assert_allclose(early, target.read(states[0])[2:5], atol=2e-5)
    assert lm.fingerprint == before
    assert all("forward" not in vars(layer) for layer in lm.architecture.layers)


def test_a_tree_behind_waiting_tokens(lm: LM) -> None:
    """The chain that waits may end in branches; each branch is as if it stood alone, and what is kept goes on."""
    target = DepthTarget(lm)
    target.forward(PROMPT)
    target.shallow([11], 2)
    target.shallow([12], 2)
    found = target.forward([11, 12, 40, 41, 50], [-1, 0, 1, 1, 3]).logits
    np.testing.assert_allclose(found[2], whole(lm, [*PROMPT, 11, 12, 40])[-1], atol=2e-5)
    np.testing.assert_allclose(found[4], whole(lm, [*PROMPT, 11, 12, 41, 50])[-1], atol=2e-5)
    target.keep([0, 1, 3])
    after = target.forward([60]).logits
    np.testing.assert_allclose(after[-1], whole(lm, [*PROMPT, 11, 12, 41, 60])[-1], atol=2e-5)


def test_layers_are_counted_once_per_pass(lm: LM) -> None:
    target = DepthTarget(lm)
    target.forward(PROMPT)
    assert (target.layers_run, target.heads_run) == (4, 1)
    for token in (7, 8, 9):
        target.shallow([token], 3)
    assert (target.layers_run, target.heads_run) == (4 + 9, 4)
    target.forward([7, 8, 9])
    assert (target.layers_run, target.heads_run) == (4 + 9 + 1, 5)
    assert target.length == len(PROMPT) + 3
    assert not target.waiting


def test_impossible_exits_are_refused_and_nothing_is_left(lm: LM) -> None:
    target = DepthTarget(lm)
    target.forward(PROMPT)
    for layer in (0, 4):
        with pytest.raises(ArgumentError, match="from 1 to 3"):
            target.shallow([7], layer)
    target.shallow([7], 2)
    with pytest.raises(ArgumentError, match="where others wait"):
        target.shallow([8], 3)
    with pytest.raises(ArgumentError, match="must begin with those that wait"):
        target.forward([8])
    target.crop(target.length)
    np.testing.assert_allclose(target.forward([8]).logits[-1], whole(lm, [*PROMPT, 8])[-1], atol=2e-5)
    with pytest.raises(ArgumentError, match="compiled"):
        DepthTarget.of(workbench.compile(tiny_lm(head_dim=32), "dense", threads=1))
    with pytest.raises(ArgumentError, match="each from 0 to 3"):
        DepthTarget(lm, (0, 4))
    windowed = DepthTarget(tiny_lm("gemma2"))
    with pytest.raises(ModelError, match="window of 8"):
        windowed.forward(list(range(3, 13)))


def test_a_path_with_a_layer_twice_equals_the_layers_by_hand(lm: LM) -> None:
    path = (0, 2, 1, 1, 3)
    found = DepthTarget(lm, path)
    one_by_one = [found.forward([token]).logits[-1] for token in PROMPT]
    model = lm.module.model
    with torch.no_grad():
        state = model.embed_tokens(torch.tensor([PROMPT]))
        places = torch.arange(len(PROMPT))[None]
        mask = torch.full((len(PROMPT), len(PROMPT)), -1e30).triu(1)[None, None]
        tables = model.rotary_emb(state, position_ids=places)
        for layer in path:
            state = model.layers[layer](state, attention_mask=mask, position_embeddings=tables, position_ids=places)
        wanted = lm.module.lm_head(model.norm(state))[0].numpy()
    np.testing.assert_allclose(np.stack(one_by_one), wanted, atol=2e-5)


# --- the lens ---------------------------------------------------------------------------------------------------------


def test_the_closed_form_equals_lstsq() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(200, 12)) + 0.5, random.normal(size=(200, 12))
    matrix, bias = closed_form(torch.from_numpy(x), torch.from_numpy(y), 0.0)
    unit = y / np.sqrt((y**2).mean(1, keepdims=True))
    best = np.linalg.lstsq(np.c_[x, np.ones(200)], unit, rcond=None)[0] * np.sqrt((x**2).mean())
    np.testing.assert_allclose(matrix.numpy(), best[:12] - np.eye(12), atol=1e-5)
    np.testing.assert_allclose(bias.numpy(), best[12], atol=1e-5)


def test_the_identity_lens_is_the_logit_lens(lm: LM) -> None:
    target, same = DepthTarget(lm), TunedLens.identity(lm, (1, 2, 3))
    state = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(same.apply(2, state), state)
    np.testing.assert_array_equal(target.read(state, same, 2), target.read(state))


def divergences(lm: LM, lens: TunedLens | None, tokens: workbench.data.Tokens, layers: tuple[int, ...]) -> np.ndarray:
    """Mean KL of the final distribution to what is read after each layer."""
    states, target = hidden_states(lm, tokens, layers, Progress()), DepthTarget(lm)
    truth = torch.log_softmax(torch.from_numpy(target.read(states[target.depth])).double(), -1)
    found = []
    for layer in layers:
        guess = torch.log_softmax(torch.from_numpy(target.read(states[layer], lens, layer)).double(), -1)
        found.append(float((truth.exp() * (truth - guess)).sum(-1).mean()))
    return np.array(found)


def test_a_trained_lens_is_closer_than_the_logit_lens_and_training_helps(lm: LM, lens: TunedLens) -> None:
    held_back = tiny_tokens(8, 48, seed=9)
    tuned, logit = (divergences(lm, one, held_back, lens.layers) for one in (lens, None))
    assert (tuned < logit).all()
    fitted = train_lens(lm, tiny_tokens(60, 48), steps=0)
    assert tuned.mean() < divergences(lm, fitted, held_back, lens.layers).mean()


def test_training_goes_on_where_it_was_killed(lm: LM, tmp_path: Path) -> None:
    path, text = tmp_path / "lens.safetensors", tiny_tokens(10, 24)
    wanted = train_lens(lm, text, layers=(1, 2, 3), steps=5)
    progress = Progress()

    def listen(step: Step) -> None:
        if (step.what, step.done) == ("training the lens", 2):
            progress.cancel()

    progress.listener = listen
    with pytest.raises(Cancelled):
        train_lens(lm, text, layers=(1, 2, 3), steps=5, resume=path, progress=progress)
    assert TunedLens.load(path).layers == (1, 2)
    found = train_lens(lm, text, layers=(1, 2, 3), steps=5, resume=path)
    assert torch.equal(found.matrix, wanted.matrix)
    assert torch.equal(found.bias, wanted.bias)
    with pytest.raises(DataError, match="another training"):
        train_lens(lm, text, layers=(1, 2, 3), steps=6, resume=path)


def test_a_lens_refuses_other_models(lm: LM, lens: TunedLens, tmp_path: Path) -> None:
    path = lens.save(tmp_path / "lens.safetensors")
    loaded = TunedLens.load(path)
    assert torch.equal(loaded.matrix, lens.matrix)
    assert as_lens(path, lm) is not None
    assert as_lens(None, lm) is None  # the one that comes with the workbench is another model's
    assert as_lens("none", lm) is None
    with pytest.raises(ModelError, match="train one with"):
        as_lens(loaded, tiny_lm(seed=1))
    with pytest.raises(ArgumentError, match="lens=3"):
        as_lens(3, lm)
    with pytest.raises(ArgumentError, match="reads after"):
        lens.apply(17, torch.zeros(1, 32))
    (tmp_path / "other").write_text("{}")
    with pytest.raises(DataError, match="cannot be read"):
        TunedLens.load(tmp_path / "other")
    with pytest.raises(ArgumentError, match="each from 1 to 3"):
        train_lens(lm, tiny_tokens(), layers=(4,))


def test_own_windows_repeat_and_the_layers_of_a_lens_are_spread(lm: LM) -> None:
    one, two = own_windows(lm, 3, 12, seed=1), own_windows(lm, 3, 12, seed=1)
    assert one.ids.shape == (3, 12)
    np.testing.assert_array_equal(one.ids, two.ids)
    assert default_layers(30) == (12, 16, 20, 22, 24, 26, 28, 29)
    assert default_layers(2) == (1,)


# --- DEL --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_del_is_lossless_from_any_exit(lm: LM, plain: Generation, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    forced(monkeypatch, seed)
    found = generate(lm, PROMPT, "del", max_new_tokens=40, exits=(1, 2, 3), stop_early=bool(seed % 2))
    assert found.tokens.tolist() == plain.tokens.tolist()
    assert found.trace.acceptance.accepted > 0
    assert found.trace.acceptance.accepted < found.trace.acceptance.drafted


def test_del_keeps_the_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chi-square against every text of two tokens; drafts are sampled, cut by confidence, and reach beyond."""
    forced(monkeypatch)
    lm = tiny_lm(vocab_size=5, eos_token_id=None)
    method, sampler = DynamicExit(exits=(2, 3), longest=3, warmup=1), Sampler(1.0)
    target = method.target(lm)
    after = {t: whole(lm, [3, 4, 2, t])[-1] for t in range(5)}
    first = sampler.probabilities(whole(lm, [3, 4, 2])[-1])
    chances = {(a, b): first[a] * sampler.probabilities(after[a])[b] for a in range(5) for b in range(5)}
    counts: Counter[tuple[int, ...]] = Counter()
    for seed in range(250):
        run = Run(target, [3, 4, 2], sampler=sampler, seed=seed, limit=3, detail=False)
        method.decode(run)
        target.crop()
        counts[tuple(run.tokens[3:5])] += 1
    assert g_test_passes(g_test(counts, chances))


def test_del_chooses_the_largest_tpl(lm: LM) -> None:
    drafter = DynamicExit(exits=(1, 2, 3), longest=5).drafter(Run(DepthTarget(lm), PROMPT))
    assert isinstance(drafter, _EarlyLayers)
    random, head = np.random.default_rng(0), head_layers(drafter.target)
    for _ in range(50):
        drafter.right = dict(zip((1, 2, 3), random.uniform(0, 20, 3).tolist(), strict=True))
        drafter.seen = dict.fromkeys((1, 2, 3), 20.0)
        best, wanted = 1 / (4 + head), (0, 0)
        for layer, right in drafter.right.items():
            rate = (right + 1) / 22
            for length in range(1, 6):
                tpl = (1 - rate ** (length + 1)) / (1 - rate) / (length * (layer + head) + 4 + head)
                if tpl > best:
                    best, wanted = tpl, (layer, length)
        assert drafter.choose(5) == wanted
    assert per_layer(1.0, 1.0, 3, 4.0) == pytest.approx(4 / 7)


def test_shadow_tokens_are_what_each_exit_would_have_drafted(lm: LM, plain: Generation) -> None:
    """Every exit's rate equals the share of positions at which its own head agrees with the full model."""
    found = generate(lm, PROMPT, "del", max_new_tokens=30, exits=(1, 2, 3), omega=1.0, warmup=1, rest=1, head_layers=99)
    ids = [*PROMPT, *plain.tokens[:29].tolist()]
    with torch.no_grad():
        states = lm.module(torch.tensor([ids]), use_cache=False, output_hidden_states=True).hidden_states
    own, target = whole(lm, ids).argmax(-1), DepthTarget(lm)
    for layer in (1, 2, 3):
        agreed = (target.read(states[layer][0]).argmax(-1) == own)[len(PROMPT) - 1 :]
        assert found.trace.notes["rates"][str(layer)] == pytest.approx((agreed.sum() + 1) / (agreed.size + 2))


# --- FREE -------------------------------------------------------------------------------------------------------------


def test_free_never_sure_is_the_full_model(lm: LM, plain: Generation) -> None:
    found = generate(lm, PROMPT, "free", max_new_tokens=40, threshold=1.0, exit=2)
    assert found.tokens.tolist() == plain.tokens.tolist()
    assert found.trace.notes["exited"] == 0
    assert found.trace.notes["layers_run"] == 4 * 39


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.4, "adaptive"])
def test_free_with_rollback_is_lossless(lm: LM, plain: Generation, threshold: float | str) -> None:
    found = generate(lm, PROMPT, "free", max_new_tokens=40, threshold=threshold, exit=3, rollback="differs")
    assert found.tokens.tolist() == plain.tokens.tolist()


def test_free_says_what_the_shallow_layers_say_on_full_keys_and_values(lm: LM) -> None:
    """Against a loop without any cache: a sure token by the exit, else by all layers, which saw the same text."""
    found = generate(lm, PROMPT, "free", max_new_tokens=40, threshold=0.05, exit=3, longest=64)
    ids, exits, target = list(PROMPT), [], DepthTarget(lm)
    ids.append(int(whole(lm, ids)[-1].argmax()))
    while len(ids) < len(PROMPT) + 40:
        with torch.no_grad():
            out = lm.module(torch.tensor([ids]), use_cache=False, output_hidden_states=True)
        early = np.exp(target.read(out.hidden_states[3][0])[-1].astype(np.float64))
        early = np.sort(early / early.sum())[::-1], int(early.argmax())
        sure = early[0][0] - early[0][1] > 0.05
        if sure:
            exits.append(len(ids))
        ids.append(early[1] if sure else int(out.logits[0, -1].argmax()))
    assert found.tokens.tolist() == ids[len(PROMPT) :]
    rows = found.trace.rows("exit")
    assert found.trace.position[rows].tolist() == exits
    assert set(found.trace.layer[rows].tolist()) == {3}
    assert (np.diff(found.trace.step[rows]) >= 0).all()
    assert 0 < len(exits) < 39


def test_free_saves_the_deep_layers_of_exited_tokens(lm: LM) -> None:
    found = generate(lm, PROMPT, "free", max_new_tokens=40, threshold=0.0, exit=3, longest=4)
    notes, deep = found.trace.notes, len(found.trace.rows("verify"))
    assert notes["exited"] == found.trace.origins.count("exit")
    assert notes["layers_run"] == 3 * (notes["exited"] + deep) + deep
    waits = np.diff([0, *np.flatnonzero(np.array(found.trace.origins) != "exit"), 40]) - 1
    assert waits.max() <= 4


def test_the_mixture_finds_the_crossing_of_two_betas() -> None:
    random = np.random.default_rng(0)
    sure, unsure = random.beta(8, 2, 4000), random.beta(2, 6, 4000)
    pairs = [(float(c), True) for c in sure] + [(float(c), False) for c in unsure]
    found = beta_mixture(pairs)
    assert found is not None
    grid = np.linspace(0.05, 0.95, 181)
    a = grid**7 * (1 - grid) * 72  # the density of Beta(8, 2), and of Beta(2, 6)
    b = grid * (1 - grid) ** 5 * 42
    assert np.abs(posterior(grid, *found) - a / (a + b)).max() < 0.1
    wanted = grid[np.argmax(a / (a + b) > 0.4)]
    assert agreement_threshold(pairs, 0.4, 0.9) == pytest.approx(wanted, abs=0.05)
    assert agreement_threshold(pairs[:3], 0.4, 0.77) == 0.77
    assert agreement_threshold([(0.99, False)] * 50 + [(0.01, True)] * 50, 0.9, 0.5) in (0.3, 0.9)


# --- CoLa -------------------------------------------------------------------------------------------------------------


def test_all_layers_in_order_is_plain(lm: LM, plain: Generation) -> None:
    for path in (None, "0-3", (0, 1, 2, 3)):
        assert generate(lm, PROMPT, "cola", max_new_tokens=40, path=path).tokens.tolist() == plain.tokens.tolist()
    other = generate(lm, PROMPT, "cola", max_new_tokens=40, path="0,1,1,3")
    ids = [*PROMPT, *other.tokens[:-1].tolist()]
    rows = DepthTarget(lm, (0, 1, 1, 3)).forward(ids).logits[len(PROMPT) - 1 :]
    assert rows.argmax(-1).tolist() == other.tokens.tolist()
    assert parse_path(path_text((0, 1, 2, 2, 4))) == (0, 1, 2, 2, 4)
    for wrong in ("a", "1-", ""):
        with pytest.raises(ArgumentError, match="neither"):
            parse_path(wrong)


def test_paths_that_are_said_to_be_right_are(lm: LM, plain: Generation) -> None:
    answer = plain.tokens[:2].tolist()
    found = layer_paths(lm, PROMPT, answer, simulations=60, seed=1)
    assert found.plain.right
    assert found.best.right
    assert found.saved == 1 - len(found.best.layers) / 4
    assert found.shorter == tuple(sorted(found.shorter, key=lambda p: (len(p.layers), -p.probability)))
    for path in found.shorter[:5]:
        said = generate(lm, PROMPT, "cola", max_new_tokens=2, path=path.layers)
        assert said.tokens.tolist() == answer
    assert layer_paths(lm, PROMPT, answer, simulations=60, seed=1).to_dict() | {"provenance": 0} == found.to_dict() | {
        "provenance": 0
    }
    assert "Shorter paths" in found.to_text()
    with pytest.raises(ArgumentError, match="at least"):
        layer_paths(lm, PROMPT, [])


def test_a_wrong_answer_may_be_found_on_another_path(lm: LM) -> None:
    """Against brute force over all paths of one edit: what the search calls best is at least as probable."""
    said = DepthTarget(lm, (0, 1, 1, 2, 3)).forward(PROMPT).logits[-1].argmax()
    found = layer_paths(lm, PROMPT, [int(said)], simulations=150, seed=0)
    assert found.best.right


# --- everything -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "wrong"),
    [
        ("del", {"longest": 0}),
        ("del", {"omega": 0.0}),
        ("del", {"head_layers": -1.0}),
        ("free", {"threshold": 1.5}),
        ("free", {"threshold": "often"}),
        ("free", {"rollback": "always"}),
        ("free", {"longest": 0}),
    ],
)
def test_impossible_hyper_parameters_are_named(lm: LM, method: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(WorkbenchError, match=next(iter(wrong))):
        generate(lm, PROMPT, method, **wrong)


def test_exits_must_exist(lm: LM) -> None:
    with pytest.raises(ArgumentError, match="exits"):
        generate(lm, PROMPT, "del", exits=(4,))
    with pytest.raises(ArgumentError, match="exit=9"):
        generate(lm, PROMPT, "free", exit=9)


def test_the_default_model_with_its_lens() -> None:
    """The lens that comes with the workbench fits, beats the logit lens at every layer; self-speculation is exact."""
    lm = workbench.load()
    lens = as_lens(None, lm)
    assert lens is not None
    tokens = workbench.data.evaluation(lm, windows=1, seqlen=48)
    tuned, logit = (divergences(lm, one, tokens, lens.layers) for one in (lens, None))
    assert (tuned < 0.5 * logit).all()
    tokenizer: Any = lm.tokenizer
    prompt = tokenizer("The capital of France is Paris. The capital of Italy is")["input_ids"]
    wanted = generate(lm, prompt, max_new_tokens=10, detail=False).tokens.tolist()
    found = generate(lm, prompt, "free", max_new_tokens=10, threshold=0.5, rollback="differs", detail=False)
    assert found.tokens.tolist() == wanted
    assert as_target(lm).length == 0
