"""A recipe does again what was done, reads back from JSON, and notices another model or text."""

import dataclasses

import pytest

import workbench
from workbench.errors import ArgumentError, DataError
from workbench.models import fingerprint
from workbench.prune import Recipe, registry
from workbench.testing import tiny_lm, tiny_tokens


@pytest.mark.parametrize("method", sorted(registry()))
def test_a_recipe_does_it_again(method, tmp_path):
    lm, tokens = tiny_lm(), tiny_tokens()
    pruned = workbench.prune(lm, method, 0.4, calibration=tokens)
    workbench.save(pruned, tmp_path / "out")
    again = workbench.repeat(lm, tmp_path / "out" / "recipe.json", calibration=tokens)
    assert fingerprint(again.lm.module) == fingerprint(pruned.lm.module)
    assert again.recipe == pruned.recipe


def test_stages_of_ones_own_come_back():
    lm, tokens = tiny_lm(), tiny_tokens()
    pruned = workbench.prune(
        lm, "flap", 0.3, units="neuron", allocation="owl", repair="least_squares", calibration=tokens, of="all"
    )
    recipe = Recipe.from_json(pruned.recipe.to_json())
    assert recipe == pruned.recipe
    again = workbench.repeat(lm, recipe, calibration=tokens)
    assert fingerprint(again.lm.module) == fingerprint(pruned.lm.module)


def test_another_model_or_text_is_noticed():
    lm, tokens = tiny_lm(), tiny_tokens()
    recipe = workbench.prune(lm, "wanda", 0.5, calibration=tokens).recipe
    with pytest.raises(ArgumentError, match="is not the one of the recipe"):
        workbench.repeat(tiny_lm(seed=1), recipe, calibration=tokens)
    with pytest.raises(DataError, match="is not what the recipe was made with"):
        workbench.repeat(lm, recipe, calibration=tiny_tokens(seed=1))


def test_another_outcome_is_noticed():
    lm, tokens = tiny_lm(), tiny_tokens()
    recipe = workbench.prune(lm, "shortgpt", 0.25, calibration=tokens).recipe
    other = dataclasses.replace(recipe, removed_layers=(recipe.removed_layers[0] ^ 1,))
    with pytest.raises(ArgumentError, match="differs from the recipe in removed_layers"):
        workbench.repeat(lm, other, calibration=tokens)


def test_diff_names_what_differs():
    lm, tokens = tiny_lm(), tiny_tokens()
    a = workbench.prune(lm, "wanda", 0.5, calibration=tokens).recipe
    b = workbench.prune(lm, "ria", 0.4, calibration=tokens).recipe
    assert set(a.diff(b)) == {"method", "parameters", "sparsity"}
    assert a.diff(b)["method"] == ("wanda", "ria")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 99}', '{"version": 1}'])
def test_what_is_no_recipe(text):
    with pytest.raises(ArgumentError, match=r"recipe"):
        Recipe.from_json(text)


@pytest.mark.parametrize("method", ["magnitude", "shortened-llama", "wanda"])
def test_a_recipe_of_pruning_in_place_names_the_dense_model(method):
    lm, tokens = tiny_lm(), tiny_tokens()
    dense = lm.fingerprint
    recipe = workbench.prune(lm, method, 0.5, calibration=tokens, inplace=True).recipe
    assert recipe.fingerprint == dense != lm.fingerprint
