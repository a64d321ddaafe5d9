# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
#   workbench:
#     lesson:
#       covers:
#       - folders, GGUF files and hub ids
#       - families
#       - tokenizers
#       - memory
#       - errors and what they say
#       difficulty: 1
#       importance: 2
#       megabytes: 1390
#       minutes:
#       - 10
#       - 15
#       seconds: 16
#       title: Your own model
# ---

# %% [markdown]
# # Your own model
#
# *A folder, a file or a name of the hub: what to check before you prune it.*
#
# **Difficulty** ●○○ &nbsp; **Importance** ●●○ &nbsp; **Time** 10–15 minutes<br>
# **Costs** 16 seconds of computing, 1.39 GB of memory; no GPU, no network
#
# All other lessons use the model that comes with the workbench. Here you bring one. Nothing needs to be downloaded: the
# cells below run on a folder that the first one writes, and you change **one line** to use yours.

# %% [markdown]
# ## Three ways to name a model
#
#     workbench.load("/models/my-llama")                     a folder: config.json, safetensors, tokenizer
#     workbench.load("/models/my-llama-Q8_0.gguf")           a GGUF file, as llama.cpp has them
#     workbench.load("HuggingFaceTB/SmolLM2-360M-Instruct")  a name of the hub; from the cache if you are offline
#
# Run the first cell, and you can begin at any of the parts below it.

# %%
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from IPython.display import display

import workbench
from workbench.data import Tokens
from workbench.errors import WorkbenchError

torch.set_num_threads(1)  # one busy core: what is measured depends less on what else runs
here = tempfile.TemporaryDirectory()  # for all that this lesson writes; goes when the kernel ends
folder = Path(here.name) / "a-model"
workbench.save(workbench.load(dtype=torch.bfloat16), folder)

where = folder  # change this line: a folder, a GGUF file or a name of the hub
model = workbench.load(where, dtype=torch.bfloat16)
model

# %% [markdown]
# ## Does it fit?
#
# Weights take (number of parameters) x (bytes of each): 4 in float32, 2 in bf16. A pruned copy takes as much again, and a
# forward pass some more. **Predict**:

# %% jupyter={"source_hidden": true}
most = workbench.predict(
    "A model of 7 billion parameters: how many gigabytes for it and one pruned copy, in bf16?", low=1, high=100, unit="GB",
    answer="7 billion x 2 bytes x 2 models. In float32 it would be 56. What is too large is refused before it is read: "
    "the message says how much is wanted and how much there is.",
)  # fmt: skip
most

# %%
most.reveal(7e9 * 2 * 2 / 1e9)

# %% tags=["look"]
workbench.size(model)

# %% [markdown]
# `workbench.load(where, dtype="fit")` takes float32 where there is room for it, and bf16 where there is not.
#
# **Change one thing:** `workbench.size(workbench.load(where, dtype=torch.float32))`. Which lines change?
#
# ## Is its family known?
#
# Pruning has to know what is a head, what is a neuron, and which matrices belong together. A **family** is that
# description, one row per kind of model. **Predict**:

# %% jupyter={"source_hidden": true}
matrices = workbench.predict(
    "How many matrices does a layer have that can be pruned?", low=1, high=20,
    answer="Four of attention (queries, keys, values, output) and, in this family, three of the MLP: one that opens gates, one "
    "up, one down. Norms and embeddings are left alone.",
)  # fmt: skip
matrices

# %%
print(model.module.config.model_type)
print("layers", model.architecture.num_layers, " width of a head", model.architecture.head_dim)
print("matrices of a layer:", ", ".join(model.architecture.linears(0)))
matrices.reveal(len(model.architecture.linears(0)))

# %% [markdown]
# A family that is not described is refused, with the names of those that are. Compiling asks for more than pruning does:
# it knows Llama, Mistral, Qwen2, Qwen3 and SmolLM3.
#
# **Change one thing:** `model.architecture.heads_per_group` says how many query heads share a key-value head. What does
# removing one key-value head take along?
#
# ## Does it have its tokenizer?
#
# A model without its tokenizer can be pruned and timed, but it cannot read text: then you have to give token ids. And a
# wrong tokenizer is worse than none, since nothing complains. Two questions find out:

# %%
text = "The capital of France is"
ids = model.tokenizer(text)["input_ids"] if model.tokenizer else []
print(ids, repr(model.tokenizer.decode(ids)) if ids else "no tokenizer")
if ids:
    print(repr(workbench.generate(model, text, max_new_tokens=12, detail=False).text))

# %% [markdown]
# What went in should come out again, and the answer should be words. If it is noise, the model is a base model that
# wants another beginning, or tokenizer and weights do not belong together. How would one notice? **Predict**:

# %% jupyter={"source_hidden": true}
strange = workbench.predict(
    "The same text in the token numbers of another tokenizer: what does the perplexity become?", low=10, high=1_000_000,
    answer="Worse than a model that knows nothing at all, which hesitates between all of its tokens alike: this one is sure, "
    "and wrong. Nothing complains, and only this figure tells.",
)  # fmt: skip
strange

# %%
quality = None
if model.tokenizer:
    english = workbench.evaluation(model, seqlen=128, windows=4)
    quality = workbench.perplexity(model, english)
    numbers = np.random.default_rng(0).permutation(len(model.tokenizer))
    other = workbench.perplexity(model, Tokens.of(numbers[english.ids]))
    display(strange.reveal({"its own": quality.perplexity, "another": other.perplexity}))

# %%
quality

# %% [markdown]
# Below about 50 on plain English is what a language model gives; thousands mean that something does not fit.
#
# **Change one thing:** `seqlen=32`, with `windows=16`. Why is it worse, although model and text are the same?
#
# ## When loading fails
#
# `load` never guesses: where something is missing or does not fit, it says what, and what to do. Break the folder in a few
# ways and read. **Predict** first:

# %% jupyter={"source_hidden": true}
unfit = workbench.predict(
    "The weights are of 9 heads, and config.json now says 12. What becomes of the model?",
    options=["loaded, and babbles", "loaded, with random heads", "refused"],
    answer="transformers would fill what does not fit with random numbers and print a warning. Such a model runs, and all "
    "that you measure of it is noise. So it is refused here.",
)  # fmt: skip
unfit


# %%
def attempt(name, source):
    """Load it, and say what came of it."""
    try:
        said = repr(workbench.load(source, dtype=torch.bfloat16))
    except WorkbenchError as error:
        said = f"{type(error).__name__}: {error}"
    print(f"{name}\n    {said.replace(str(folder.parent), '...')[:300]}\n")
    return said


def changed(name, **settings):
    """The same folder with another config.json, its weights linked and not copied."""
    place = folder.parent / name
    place.mkdir(exist_ok=True)
    for file in folder.iterdir():
        link = place / file.name
        link.unlink(missing_ok=True)
        link.symlink_to(file)
    config = place / "config.json"
    content = json.loads(config.read_text()) | settings
    config.unlink()
    config.write_text(json.dumps(content))
    return place


said = attempt("12 heads", changed("heads", num_attention_heads=12, head_dim=64))
unfit.reveal("refused" if "Error" in said else "loaded, and babbles")

# %%
cut = changed("cut")
(cut / "model.safetensors").unlink()
(cut / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1_000_000])
wrong = {"weights cut short": cut, "no such folder": folder.parent / "nothing", "no such file": "nothing.gguf"}
for name, source in wrong.items():
    attempt(name, source)

# %% [markdown]
# Weights as pickles (`.bin`) are refused too: reading one can run any code that its author put in. Code that comes with a
# checkpoint runs only with `trust_remote_code=True`; look at it first.
#
# **Change one thing:** `attempt("more layers", changed("layers", num_hidden_layers=40))`: the folder has weights of 30. What do
# you expect it to say?
#
# ## Then everything is as before
#
# A session takes any model. It is kept in a folder of its own, so that several models do not get mixed up. **Predict**:

# %% jupyter={"source_hidden": true}
third = workbench.predict(
    "Wanda takes 30 % of the weights: how many times as high is the perplexity?", low=1, high=5, unit="x",
    answer="Hardly more than with all of them: the first third of the weights does little. Lesson 01 goes on to half.",
)  # fmt: skip
third

# %%
bench = workbench.open(folder.parent / "bench", model, samples=4, seqlen=64, windows=4, keep=1)
made = bench.prune(method="wanda", sparsity=0.3, speed=False)
display(third.reveal(made.after.perplexity / made.before.perplexity))
print(bench.export(folder.parent / "pruned"))
print(workbench.load(folder.parent / "pruned", dtype=torch.bfloat16))
bench.close()

# %% [markdown]
# **Change one thing**, and guess before each:
#
# 1. Set `where` in the first cell to a model of yours. What does its perplexity say?
# 2. Write a tokenizer of another model over the folder's `tokenizer.json`. Does anything complain? What does perplexity
#    say?
#
# **What you take along:** four questions before any figure: does it fit, is its family known, is it its own tokenizer, and
# is its perplexity that of a language model?
