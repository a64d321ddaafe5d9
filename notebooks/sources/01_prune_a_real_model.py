# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
#   workbench:
#     lesson:
#       covers:
#       - perplexity and its protocol
#       - magnitude
#       - Wanda
#       - FLAP
#       - zeroed against removed
#       - checkpoints
#       - the studio
#       difficulty: 1
#       importance: 3
#       megabytes: 3100
#       minutes:
#       - 10
#       - 15
#       seconds: 60
#       title: Prune a real model
# ---

# %% [markdown]
# # Prune a real model
#
# *Half of a language model's weights can go, if you choose the right half.*
#
# **Difficulty** ●○○ &nbsp; **Importance** ●●● &nbsp; **Time** 10–15 minutes<br>
# **Costs** a minute of computing, 3.1 GB of memory; no GPU, no network
#
# You will load a real model, throw away half of its weights in two ways, measure what that cost, see which weights
# went, and write a smaller model that opens anywhere.

# %% [markdown]
# ## A real model, on your computer
#
# SmolLM2-135M-Instruct has 135 million parameters in 30 layers. It is small enough for two cores and good enough to
# answer. It is a plain Hugging Face model: nothing of ours is inside.

# %%
import tempfile
from pathlib import Path

import workbench

lm = workbench.load()
lm

# %%
workbench.size(lm)

# %%
prompt = "The capital of France is"


def say(model):
    ids = model.tokenizer(prompt, return_tensors="pt")
    answer = model.module.generate(**ids, max_new_tokens=16, do_sample=False)
    return model.tokenizer.decode(answer[0])


say(lm)

# %% [markdown]
# ## How good is it?
#
# **Perplexity** says between how many equally likely tokens the model hesitates, on average. Lower is better.
# It only means something together with its text and its protocol, so the result carries both.
#
# Two texts, never the same words: `tokens` shows the pruning method what typical inputs look like (*calibration*),
# `held_out` is for measuring.

# %%
tokens = workbench.calibration(lm, samples=8, seqlen=128)
held_out = workbench.evaluation(lm, seqlen=256, windows=6)

dense = workbench.perplexity(lm, held_out)
dense

# %% [markdown]
# ## Predict
#
# Half of all weights will be set to zero: those with the smallest absolute value, since they seem to matter least.
# What will the perplexity be? Write your guess down before you go on; being wrong is how the picture sticks.

# %%
my_guess = 20.0  # change this

# %% [markdown]
# ## Small weights first: magnitude
#
# The oldest rule there is: a weight's score is its absolute value.

# %%
magnitude = workbench.prune(lm, "magnitude", sparsity=0.5)
magnitude

# %%
after_magnitude = workbench.perplexity(magnitude, held_out)
print(f"dense {dense.perplexity:.1f}, your guess {my_guess:.1f}, magnitude {after_magnitude.perplexity:.1f}")

# %% [markdown]
# ## Small weights on large inputs: Wanda
#
# A small weight on a large input can matter more than a large weight on an input that is nearly always zero. Wanda
# (Sun and others, 2023) multiplies both: the score is $|W_{oi}| \cdot \lVert X_i \rVert_2$, with the input's norm taken
# over the calibration text. One forward pass, nothing is trained.

# %%
wanda = workbench.prune(lm, "wanda", sparsity=0.5, calibration=tokens)
after_wanda = workbench.perplexity(wanda, held_out)
after_wanda

# %% [markdown]
# Both models have exactly as many zeros. The difference is *which* weights went. Measured on the same windows the two
# can be compared in pairs, which is far sharper than two separate intervals:

# %%
workbench.compare(after_wanda, after_magnitude)

# %%
for name, model in [("dense", lm), ("magnitude", magnitude.lm), ("wanda", wanda.lm)]:
    print(f"{name:10}", repr(say(model)))

# %% [markdown]
# ## Zeroed is not removed
#
# Half of the weights are zero. Is the model half as large?

# %%
workbench.size(wanda)

# %% [markdown]
# No: a zero is stored like any other number, and multiplied like any other. A mask makes a model smaller only for a
# kernel or a file format that knows about it.
#
# **FLAP** (An and others, 2023) removes whole neurons and attention heads instead, so that the matrices really shrink.
# That is a blunter knife, so it gets a smaller share: one fifth.

# %%
flap = workbench.prune(lm, "flap", sparsity=0.2, calibration=tokens)
after_flap = workbench.perplexity(flap, held_out)
workbench.size(flap)

# %%
for name, quality, model in [
    ("dense", dense, lm),
    ("wanda 50 %", after_wanda, wanda),
    ("flap 20 %", after_flap, flap),
]:
    megabytes = workbench.size(model).weight_bytes / 1e6
    print(f"{name:11} perplexity {quality.perplexity:6.1f}   {megabytes:4.0f} MB")

# %% [markdown]
# ## Keep it: a checkpoint that opens anywhere
#
# What is written is read back and compared before it counts as written; the largest difference is in the result. The
# Wanda model has the shapes that it always had, so plain `transformers` reads it.

# %%
folder = Path(tempfile.mkdtemp()) / "wanda-half"
saved = workbench.save(wanda, folder)
saved

# %%
from transformers import AutoModelForCausalLM
from transformers.utils import logging

logging.disable_progress_bar()
plain = workbench.wrap(AutoModelForCausalLM.from_pretrained(folder), lm.tokenizer)
print(say(plain) == say(wanda.lm), repr(say(plain)))

# %% [markdown]
# ## The studio: the same with your hands
#
# Move the slider and watch which weights would go, in every matrix of every layer: one column per layer, one row per
# kind of matrix, bright is kept. Press **Prune** to do it and measure it. **Copy as Python** shows the code.
#
# Everything works by keyboard too: in the picture the arrow keys walk from matrix to matrix.

# %%
studio = workbench.studio(lm, calibration=tokens, evaluation=held_out, method="wanda")
studio

# %% [markdown]
# Try these three, and guess before each:
#
# 1. Wanda at 50 % and at 70 %. Is the damage proportional?
# 2. Pattern `2:4` at the same 50 %. What does the freedom to choose *anywhere* buy?
# 3. FLAP at 20 %. Which layers lose most? Which line of *Size* moves now?

# %% [markdown]
# ## What would break this?
#
# Think first, then open.
#
# <details><summary>What if the calibration text were random letters?</summary>
#
# Wanda would still run. The input norms would be those of nonsense, and so would be the choice of weights. Try
# <code>Tokens</code> of random ids; magnitude would not notice, as it looks at no text.
# </details>
#
# <details><summary>What if perplexity were measured on the calibration text?</summary>
#
# The figure would flatter every method that looks at data. The workbench refuses: the two texts must not overlap.
# </details>
#
# <details><summary>Why did half of the zeros not make anything faster?</summary>
#
# A dense kernel multiplies zeros like all other numbers. The studio measures prefill and decode beside the dense model,
# so you can see it.
# </details>
#
# **What you take along:** which weights go matters more than how many; *zeroed*, *removed* and *faster* are three
# different things; a figure without its protocol says nothing.
