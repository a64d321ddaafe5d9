"""Statistics equal brute force over all tokens; a killed or cancelled collection leaves nothing wrong behind."""

import gc
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from references import EPS, gradients_of, inputs_of, streams_of

from workbench.data import Tokens
from workbench.errors import ArgumentError, Cancelled
from workbench.jobs import Progress
from workbench.prune import _runner, statistics
from workbench.prune._collector import KINDS, Collector
from workbench.prune.statistics import collect
from workbench.testing import tiny_lm, tiny_tokens

TOKENS = tiny_tokens()
LOOSE = 500 * EPS
FORWARD = ("norm", "moments", "absolute", "gram", "similarity")


def gather(lm, tokens=TOKENS, kinds=KINDS, **options):
    return collect(lm.architecture, tokens, kinds, fingerprint=lm.fingerprint, **options)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "phi3", "smollm3"])
def test_every_kind_by_brute_force(family, tmp_path):
    lm = tiny_lm(family)
    found, gradients = gather(lm, cache=tmp_path), gradients_of(lm, TOKENS)
    streams, arch = streams_of(lm, TOKENS), lm.architecture
    assert len(found) == 4
    names = dict(zip(arch.linear_names, arch.linear_paths, strict=True))
    for (layer, name), X in inputs_of(lm, TOKENS).items():
        one = found.layer(layer).sites[arch.site_of(names[name])]
        scale = np.abs(X).max()
        for got, want in (
            (one.square, (X**2).mean(0)),
            (one.mean, X.mean(0)),
            (one.variance, X.var(0)),
            (one.absolute, np.abs(X).mean(0)),
            (one.gram, X.T @ X / len(X)),
        ):
            assert np.allclose(got.double().numpy(), want, rtol=LOOSE, atol=LOOSE * max(scale, scale**2))
        assert torch.equal(one.rms, one.square.sqrt())
    for layer, (came, went) in enumerate(streams):
        cosines = [float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in zip(came, went, strict=True)]
        assert found.layer(layer).cosine == pytest.approx(np.mean(cosines), abs=LOOSE)
        assert found.layer(layer).angle == pytest.approx(np.mean(np.arccos(cosines)) / np.pi, abs=LOOSE)
        for name, got in found.layer(layer).gradients.items():
            want = gradients[f"{arch.family.layers}.{layer}.{name}"]
            assert float((got - want).abs().max()) <= 20 * LOOSE * float(want.abs().max())


@pytest.mark.parametrize("offset", [0.0, 10.0, 1e4])
def test_variance_far_from_zero(offset):
    """Of float32 numbers as they are: exact to rounding however far their mean is, in one batch or in three."""
    x = (offset + torch.randn(300, 32, generator=torch.Generator().manual_seed(0)) * 0.01).float()
    for parts in ([x], x.split([120, 7, 173])):
        collector = Collector(tiny_lm().architecture, ["moments"])
        for part in parts:
            collector._add("mlp_in", part)
        got = collector.result().sites["mlp_in"]
        assert np.allclose(got.mean.numpy(), x.double().mean(0).numpy(), rtol=2 * EPS)
        assert np.allclose(got.variance.numpy(), x.double().numpy().var(0), rtol=300 * EPS)


def test_batches_do_not_matter(monkeypatch, tmp_path):
    lm = tiny_lm()
    one = gather(lm, cache=tmp_path / "one")
    monkeypatch.setattr(_runner, "BATCH_TOKENS", 48)  # batches of 4 and 2 sequences
    two = gather(lm, cache=tmp_path / "two")
    for layer in range(4):
        a, b = one.layer(layer), two.layer(layer)
        for site in a.sites:
            for part in ("square", "mean", "variance", "absolute", "gram"):
                p, q = getattr(a.sites[site], part), getattr(b.sites[site], part)
                assert float((p - q).abs().max()) <= LOOSE * float(p.abs().max())
        assert a.cosine == pytest.approx(b.cosine, rel=LOOSE)


@pytest.fixture
def forwards(monkeypatch):
    """The layers that ran, in order, over all batches."""
    ran = []
    plain = _runner.LayerRunner.layer
    monkeypatch.setattr(_runner.LayerRunner, "layer", lambda self, i, h: (ran.append(i), plain(self, i, h))[1])
    return ran


def test_what_is_known_is_not_collected_again(forwards, tmp_path):
    lm = tiny_lm()
    gather(lm, kinds=["norm", "gram"], cache=tmp_path)
    assert forwards == [0, 1, 2, 3]
    gather(lm, kinds=["gram"], cache=tmp_path)
    gather(lm, Tokens.of(TOKENS.ids.copy(), name="another name"), ["norm", "gram"], cache=tmp_path)
    gather(tiny_lm(), kinds=["norm"], cache=tmp_path)
    assert forwards == [0, 1, 2, 3]
    gather(lm, kinds=["norm", "absolute"], cache=tmp_path)
    assert forwards == [0, 1, 2, 3] * 2


def test_other_data_or_another_model_is_another_key(forwards, tmp_path):
    lm = tiny_lm()
    first = gather(lm, kinds=["norm"], cache=tmp_path)
    changed = tiny_lm()
    changed.module.model.layers[2].mlp.up_proj.weight.data[0, 0] += 1e-3
    ids = TOKENS.ids.copy()
    ids[-1, -1] = 3 + (ids[-1, -1] == 3)
    others = [
        gather(lm, Tokens.of(ids, name="random ids"), ["norm"], cache=tmp_path),
        gather(lm, Tokens.of(TOKENS.ids.reshape(12, 6), name="random ids"), ["norm"], cache=tmp_path),
        gather(changed, kinds=["norm"], cache=tmp_path),
    ]
    assert len(forwards) == 4 * 4
    assert len({str(s.folders["norm"]) for s in (first, *others)}) == 4


CHILD = """
import sys, time
from pathlib import Path
from workbench.jobs import Progress
from workbench.prune import statistics
from workbench.testing import tiny_lm, tiny_tokens
statistics.CHECKPOINT_SECONDS = 0.0
def slow(step):
    print(step.what, step.done, flush=True)
    time.sleep(0.3)
lm = tiny_lm()
statistics.collect(lm.architecture, tiny_tokens(), ["norm", "gram"], fingerprint=lm.fingerprint,
                   cache=Path(sys.argv[1]), progress=Progress(slow))
"""


@pytest.fixture(scope="module")
def remains(tmp_path_factory):
    """A cache whose collector was killed while it was at layer 2."""
    folder = tmp_path_factory.mktemp("killed")
    path = os.pathsep.join(p for p in sys.path if p)
    command = [sys.executable, "-c", CHILD, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path}, text=True) as child:
        for line in child.stdout:
            if line.strip() == "statistics 2":
                time.sleep(0.1)
                child.send_signal(signal.SIGKILL)
                break
    assert child.returncode == -signal.SIGKILL
    return folder


@pytest.fixture
def killed(remains, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(remains, tmp_path / "killed"))


def same(one, other):
    for layer in range(4):
        for site, values in one.layer(layer).sites.items():
            for part in ("square", "gram"):
                assert torch.equal(getattr(values, part), getattr(other.layer(layer).sites[site], part))


def test_a_killed_collection_goes_on(killed, forwards, tmp_path_factory):
    assert len(list(killed.rglob("layer_*.safetensors"))) == 4  # two layers of two kinds
    again = gather(tiny_lm(), kinds=["norm", "gram"], cache=killed)
    assert forwards == [2, 3]
    same(again, gather(tiny_lm(), kinds=["norm", "gram"], cache=tmp_path_factory.mktemp("whole")))
    assert not list(killed.rglob("hidden-*"))
    assert not list(killed.rglob("*.part"))


@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_a_damaged_checkpoint_only_costs_its_time(damage, killed, forwards, tmp_path_factory):
    (saved,) = killed.rglob("hidden-*.safetensors")
    whole = saved.read_bytes()
    saved.write_bytes({"cut": whole[: len(whole) // 2], "noise": b"\x07" * 500, "empty": b""}[damage])
    again = gather(tiny_lm(), kinds=["norm", "gram"], cache=killed)
    assert forwards == [0, 1, 2, 3]
    same(again, gather(tiny_lm(), kinds=["norm", "gram"], cache=tmp_path_factory.mktemp("whole")))


def test_a_damaged_layer_is_collected_again(forwards, tmp_path):
    """A disk that filled up or lost power may leave a file cut short."""
    lm = tiny_lm()
    gather(lm, kinds=["norm"], cache=tmp_path)
    (file,) = tmp_path.rglob("layer_002.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    gather(lm, kinds=["norm"], cache=tmp_path)
    assert len(forwards) == 8
    assert file.read_bytes() == whole


def hooks_on(module):
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in module.modules())


@pytest.mark.parametrize("at", [0, 1, 3])
@pytest.mark.parametrize("kinds", [["gram"], ["similarity"], ["gradient"]])
def test_cancelling_leaves_the_model_as_it_was(kinds, at, tmp_path):
    lm, progress = tiny_lm(), Progress()
    before, wanted = lm.fingerprint, [p.requires_grad for p in lm.module.parameters()]
    progress.listener = lambda step: step.done == at and progress.cancel()
    with pytest.raises(Cancelled, match="nothing was changed"):
        gather(lm, kinds=kinds, cache=tmp_path, progress=progress)
    assert hooks_on(lm.module) == 0
    assert not any("forward" in layer.__dict__ for layer in lm.architecture.layers)
    assert [p.requires_grad for p in lm.module.parameters()] == wanted
    assert lm.fingerprint == before
    assert len(gather(lm, kinds=kinds, cache=tmp_path)) == 4


@pytest.mark.parametrize("kinds", [["gram", "similarity"], ["gradient"]])
def test_an_error_inside_the_model_leaves_no_hooks(kinds, monkeypatch, tmp_path):
    lm = tiny_lm()
    broken = lm.architecture.layers[2].mlp
    monkeypatch.setattr(broken, "forward", lambda *_: (_ for _ in ()).throw(ZeroDivisionError("inside")))
    with pytest.raises(ZeroDivisionError, match="inside"):
        gather(lm, kinds=kinds, cache=tmp_path)
    monkeypatch.undo()
    assert hooks_on(lm.module) == 0
    assert not any("forward" in layer.__dict__ for layer in lm.architecture.layers)
    assert not list(tmp_path.rglob("*.part"))
    assert len(gather(lm, kinds=kinds, cache=tmp_path)) == 4


def test_one_layers_gram_at_a_time(tmp_path):
    """While a layer runs, no Gram matrix of another is alive."""
    lm, held = tiny_lm(num_hidden_layers=6), []

    def count(step):
        alive = (o for o in gc.get_objects() if type(o) is torch.Tensor and o.shape == (48, 48))
        held.append(len({t.data_ptr() for t in alive}))

    gather(lm, kinds=["gram"], cache=tmp_path, progress=Progress(count))
    assert len(held) == 7
    assert max(held) == 0


def test_unknown_kinds():
    with pytest.raises(ArgumentError, match="unknown statistic 'grams': did you mean 'gram'"):
        gather(tiny_lm(), kinds=["grams"])
    with pytest.raises(ArgumentError, match="unknown statistic 'means'"):
        Collector(tiny_lm().architecture, ["means"])


def test_what_was_used_longest_ago_is_forgotten(monkeypatch, tmp_path):
    lm = tiny_lm()
    folders = []
    for seed in range(3):
        found = gather(lm, tiny_tokens(seed=seed), ["gram"], cache=tmp_path)
        folders.append(Path(found.folders["gram"]).parent)
        os.utime(folders[-1], (seed, seed))
    size = sum(f.stat().st_size for f in folders[0].rglob("*") if f.is_file())
    monkeypatch.setattr(statistics, "CACHE_BYTES", int(2.5 * size))
    gather(lm, tiny_tokens(seed=3), ["gram"], cache=tmp_path)
    assert [f.exists() for f in folders] == [False, False, True]
