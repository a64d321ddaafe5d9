"""Claims: the verdict follows the interval, budgets must be equal, the ledger says what was recorded."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from workbench import _ledger
from workbench import claims as module
from workbench._checks import layer_errors
from workbench.claims import (
    HELD,
    INCONCLUSIVE,
    NOT_HELD,
    Claim,
    CloseTo,
    Context,
    Faster,
    LowerLayerError,
    LowerPerplexity,
    Measurement,
    ModelConditions,
    Outcome,
    Run,
    replicate,
)
from workbench.commands import replicate as command
from workbench.data import Text, check_disjoint
from workbench.errors import ArgumentError, DataError
from workbench.measure._statistics import crossed_interval, mean_interval
from workbench.models import LM
from workbench.prune import registry
from workbench.prune._controls import RandomChannels, RandomLayers
from workbench.results import Provenance


@dataclass
class FakeContext:
    """Answers with made-up windows: ``level[method] + seed effect + window effect + noise``."""

    level: dict[str, float]
    sparsity: dict[str, float] = field(default_factory=dict)
    windows: int = 20
    noise: float = 0.01
    asked: list[tuple[str, int, dict[str, Any]]] = field(default_factory=list)

    def run(self, method: str, seed: int, **stages: Any) -> Run:
        self.asked.append((method, seed, stages))
        rng = np.random.default_rng([seed, len(method)])
        shared = np.random.default_rng(7).normal(3, 1, self.windows)
        nll = self.level[method] + shared + rng.normal(0, self.noise, self.windows)
        return Run(method, seed, self.sparsity.get(method, 0.5), math.exp(nll.mean()), 1.0, nll)


def check(kind: Any, own: float, other: float, **options: Any) -> Measurement:
    fake = {k: options.pop(k) for k in ("noise", "windows", "sparsity") if k in options}
    context = FakeContext({"mine": own, "other": other}, **fake)
    return kind(than="other", sparsity=0.5, **options)(context, "mine")


def test_lower_perplexity_can_hold_fail_and_stay_open() -> None:
    held = check(LowerPerplexity, 0.0, 0.5)
    assert held.status == HELD
    assert held.estimate == pytest.approx(math.exp(-0.5), rel=0.02)
    assert held.low < held.estimate < held.high < 1
    assert check(LowerPerplexity, 0.5, 0.0).status == NOT_HELD
    assert check(LowerPerplexity, 0.0, 0.001, noise=0.5).status == INCONCLUSIVE
    assert "perplexity ratio to other" in held.quantity
    assert held.asked == "at 50 %, lower perplexity than other"


def test_close_to() -> None:
    assert check(CloseTo, 0.01, 0.0).status == HELD
    assert check(CloseTo, 0.5, 0.0).status == check(CloseTo, -0.5, 0.0).status == NOT_HELD
    assert check(CloseTo, math.log(1.1), 0.0, noise=0.1).status == INCONCLUSIVE
    assert check(CloseTo, 0.5, 0.0, factor=2.0).status == HELD


def test_unequal_budgets_and_too_few_windows_decide_nothing() -> None:
    unequal = check(LowerPerplexity, 0.0, 0.5, sparsity={"mine": 0.45})
    assert (unequal.status, unequal.note) == (INCONCLUSIVE, "the budgets differ by 5 %")
    assert check(LowerPerplexity, 0.0, 0.5, windows=1).status == INCONCLUSIVE


def test_every_seed_and_stage_is_run_for_both() -> None:
    context = FakeContext({"mine": 0, "other": 0})
    LowerPerplexity("other", 0.3, units=("neuron",), seeds=(3, 4))(context, "mine")
    stages = {"sparsity": 0.3, "units": ("neuron",)}
    assert context.asked == [(m, s, stages) for s in (3, 4) for m in ("mine", "other")]
    assert "at 50 %, 2:4" in check(LowerPerplexity, 0.0, 0.5, pattern="2:4").asked


def test_false_alarms_are_rare() -> None:
    """Of equal methods, whose seeds and windows both matter, hardly any is called better or worse."""
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(400):
        effects = rng.normal(0, 0.1, (3, 1)) + rng.normal(0, 0.1, (1, 24)) + rng.normal(0, 0.1, (3, 24))
        _, low, high = crossed_interval(effects)
        wrong += not low < 0 < high
    assert wrong / 400 < 0.06


def test_crossed_interval_of_one_seed_is_the_t_interval() -> None:
    values = np.random.default_rng(0).normal(size=(1, 9))
    assert crossed_interval(values) == pytest.approx(mean_interval(values[0]), rel=1e-12)
    assert crossed_interval(np.repeat(values, 3, 0)) == pytest.approx(mean_interval(values[0]), rel=1e-9)
    assert crossed_interval(np.zeros((3, 5))) == (0.0, 0.0, 0.0)


def tiny_lm() -> LM:
    torch.manual_seed(0)
    vocabulary = {"[UNK]": 0, **{f"w{i}": i + 1 for i in range(96)}}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    config = LlamaConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.3,
    )  # fmt: skip
    return LM(
        LlamaForCausalLM(config).eval(),
        PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]"),
        "tiny",
    )


@pytest.fixture(scope="module")
def context() -> Context:
    numbers = np.random.default_rng(0).integers(0, 96, 2000)
    content = " ".join(f"w{i}" for i in numbers)
    return Context.of(tiny_lm(), Text(content, "numbers", "abc", (0, len(content))), samples=4, seqlen=16, windows=6)


def test_real_methods_run_and_are_remembered(context: Context) -> None:
    before = context.lm.fingerprint
    found = LowerPerplexity("magnitude", 0.5)(context, "wanda")
    assert [(r.method, r.seed) for r in found.runs] == [
        *(("wanda", s) for s in range(3)),
        ("magnitude", 0),  # without data or chance there is one run, whatever the seed
        ("magnitude", 0),
        ("magnitude", 0),
    ]
    assert all(r.true_sparsity == pytest.approx(0.5, abs=0.01) for r in found.runs)
    assert all(math.isfinite(x) for x in (found.estimate, found.low, found.high))
    assert context.run("wanda", 1, sparsity=0.5) is found.runs[1]
    assert context.lm.fingerprint == before
    check_disjoint(context.calibration(2), context.tokens)


def test_methods_that_draw_get_the_seed(context: Context) -> None:
    runs = [context.run("random", seed, sparsity=0.5) for seed in (0, 1)]
    assert runs[0].perplexity != runs[1].perplexity
    assert context.run("random", 0, sparsity=0.5) is runs[0]


def test_layer_error_equals_the_slow_way(context: Context) -> None:
    pruned = context.prune("magnitude", 0, sparsity=0.5)
    ids = context.tokens.ids[:2]
    errors = layer_errors(context.lm, pruned, ids)
    states = context.lm.module.model.embed_tokens(torch.tensor(ids)).detach()
    layers = context.lm.module.model.layers, pruned.lm.module.model.layers
    x = layers[0][0].input_layernorm(states)
    right, got = (x.detach() @ side[0].self_attn.q_proj.weight.detach().T for side in layers)
    assert errors[0] == pytest.approx(float((got - right).square().sum() / right.square().sum()), rel=1e-4)
    assert len(errors) == 3 * 7
    assert not any(m._forward_hooks for m in context.lm.module.modules())


def test_sparsegpt_has_lower_layer_error_than_random(context: Context) -> None:
    found = LowerLayerError("random", 0.5, seeds=(0, 1))(context, "sparsegpt")
    assert found.status == HELD
    assert "lower error of the weights' outputs than random" in found.asked


def test_faster_times_both(context: Context) -> None:
    found = Faster("flap", 0.34, repeats=3)(context, "shortgpt")
    assert found.status in (HELD, NOT_HELD, INCONCLUSIVE)
    assert found.quantity == "decode speed relative to flap"
    assert [r.method for r in found.runs] == ["shortgpt", "flap"]


def outcome(method: str = "mine", status: str = HELD) -> Outcome:
    found = check(LowerPerplexity, 0.0, 0.5)
    protocol = {"text": "book", "sha256": "a" * 64, "selection": "all 6", "seqlen": 16, "dtype": "float32"}
    calibrated = {"samples": 4, "seqlen": 16}
    where = Provenance.here(seed=0, method=method)
    return Outcome(
        method,
        "Better | than other",
        "Llama, 50 %",
        status,
        found,
        ModelConditions(20.5, "tiny", protocol, calibrated),
        12.0,
        where,
    )


def test_replicate_reports_the_claim(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"wanda": Claim("Better than magnitude.", "LLaMA-7B, 50 %", LowerPerplexity("magnitude", 0.5))}
    monkeypatch.setattr(module, "claims", lambda: known)
    result = replicate("wanda", context)
    assert result.status == result.measurement.status
    data = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert data["conditions"]["dense_perplexity"] == context.dense().perplexity
    assert len(data["measurement"]["runs"]) == 6
    assert "nll" not in data["measurement"]["runs"][0]
    for part in ("Claim", "Runs", "Protocol", "Better than magnitude.", "LLaMA-7B", result.status):
        assert part in result.to_text()
        assert part in result.to_html()
    assert repr(result).startswith("wanda: ")
    with pytest.raises(ArgumentError, match="unknown method with a claim 'wnda': did you mean 'wanda'"):
        replicate("wnda", context)


def test_ledger_round_trip(tmp_path: Path) -> None:
    _ledger.record(outcome("beta", NOT_HELD), tmp_path)
    _ledger.record(outcome("alpha", HELD), tmp_path)
    path = _ledger.record(outcome("alpha", INCONCLUSIVE), tmp_path)
    assert path == tmp_path / "alpha.json"
    page = _ledger.write_page(tmp_path).read_text()
    assert page == _ledger.page(_ledger.recorded(tmp_path))
    assert "2 claims: 1 not held, 1 inconclusive." in page
    assert page.index("`alpha`") < page.index("`beta`")
    assert "Better \\| than other" in page
    assert "**not held**" in page
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["README.md", "alpha.json", "beta.json"]


def test_damaged_records_are_named(tmp_path: Path) -> None:
    (tmp_path / "wanda.json").write_text("{")
    with pytest.raises(DataError, match=r"wanda\.json is not JSON .*: run workbench replicate wanda again"):
        _ledger.recorded(tmp_path)
    for damaged in ("{}", "[]", '{"version": 3}', '{"version": 1, "method": "wanda"}'):
        (tmp_path / "wanda.json").write_text(damaged)
        with pytest.raises(DataError, match="is no record of a claim"):
            _ledger.recorded(tmp_path)


def test_records_of_the_first_version_are_read(tmp_path: Path) -> None:
    new = json.loads(_ledger.record(outcome("alpha"), tmp_path).read_text())
    old = {k: v for k, v in new.items() if k not in ("conditions", "summary", "table")}
    old["measurement"]["runs"][0]["perplexity"] = None  # as checks of layers record it
    page = _ledger.page(_ledger.recorded(tmp_path))
    (tmp_path / "alpha.json").write_text(json.dumps({**old, **new["conditions"], "version": 1}))
    (run,) = _ledger.recorded(tmp_path)
    upgraded = _ledger.page((run,))
    assert [row[3] for row in run["table"]["rows"]].count("-") == 1
    assert upgraded.splitlines()[:-7] == page.splitlines()[:-7]  # all but the six runs
    assert upgraded.splitlines()[-5:] == page.splitlines()[-5:]
    assert "dense perplexity 20.5; all 6 of 16 tokens of book (SHA-256 aaaaaaaaaaaa), float32" in upgraded
    assert "| pruned by | seed | true sparsity | perplexity | seconds to prune |" in upgraded


def test_the_committed_page_matches_the_records() -> None:
    page = _ledger.FOLDER / _ledger.PAGE
    assert page.read_text(encoding="utf-8") == _ledger.page(_ledger.recorded())


def test_recorded_claims_are_those_of_the_methods() -> None:
    known = module.claims()
    for run in _ledger.recorded():
        claim = known[run["method"]]
        assert (run["statement"], run["setting"]) == (claim.statement, claim.setting)


def given(**options: Any) -> Any:
    plain = {
        "method": None,
        "all": False,
        "ledger": None,
        "json": None,
        "model": None,
        "text": None,
        "threads": None,
    }
    return SimpleNamespace(**{**plain, "samples": 4, "seqlen": 16, "windows": 6, **options})


def test_command_records_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], context: Context
) -> None:
    known = {"wanda": Claim("Better than random.", "LLaMA-7B", LowerPerplexity("random", 0.5, seeds=(0,)))}
    monkeypatch.setattr(module, "claims", lambda: known)
    monkeypatch.setattr(Context, "of", classmethod(lambda cls, *a, **k: context))
    monkeypatch.setattr(command, "load_model", lambda source, progress: context.lm)
    assert command.run(given(all=True, json=tmp_path / "x.json", ledger=str(tmp_path / "ledger"))) == 0
    assert json.loads((tmp_path / "x.json").read_text())["claims"][0]["method"] == "wanda"
    assert (tmp_path / "ledger" / "wanda.json").is_file()
    assert capsys.readouterr().out.startswith("wanda: ")
    assert command.run(given(method="wanda")) == 0
    assert "Better than random." in capsys.readouterr().out
    with pytest.raises(ArgumentError, match="nothing to replicate"):
        command.run(given())
    with pytest.raises(ArgumentError, match="give one of them"):
        command.run(given(method="wanda", all=True))
    with pytest.raises(ArgumentError, match="did you mean 'wanda'"):
        command.run(given(method="wnda"))


@pytest.mark.parametrize("control", [RandomChannels(), RandomLayers()])
def test_controls_are_seeded_and_meet_the_budget(context: Context, control: Any) -> None:
    pruned = [context.prune(control, seed, sparsity=0.34) for seed in (0, 0, 1)]
    removed = [(p.recipe.removed, p.recipe.removed_layers) for p in pruned]
    assert removed[0] == removed[1]
    assert pruned[0].report.true_sparsity == pytest.approx(0.34, abs=0.05)
    runs = {context.run(control, seed, sparsity=0.34).perplexity for seed in range(6)}
    assert len(runs) > 1


def test_every_published_method_carries_a_claim_that_can_fail() -> None:
    known = module.claims()
    for name, cls in registry().items():
        assert (name in known) == (cls.citation is not None)
    for name, claim in ((n, c) for n, c in known.items() if n in registry()):
        assert claim.statement.endswith(".")
        assert claim.setting
        assert claim.check.than != name
