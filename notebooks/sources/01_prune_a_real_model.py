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
#       megabytes: 1480
#       minutes:
#       - 10
#       - 15
#       seconds: 35
#       title: Prune a real model
# ---

# %% [markdown]
# # Prune a real model
#
# *Half of a language model's weights can go, if you choose the right half.*
#
# **Difficulty** ●○○ &nbsp; **Importance** ●●● &nbsp; **Time** 10–15 minutes<br>
# **Costs** 35 seconds of computing, 1.48 GB of memory; no GPU, no network
#
# You will load a real model, throw away half of its weights in two ways, measure what that cost, see which weights
# went, and write a smaller model that opens anywhere.

# %% [markdown]
# ## A real model, on your computer
#
# SmolLM2-135M-Instruct has 135 million parameters in 30 layers. It is small enough for two cores and good enough to
# answer. It is a plain Hugging Face model: nothing of ours is inside. Here it takes 2 bytes per weight (bf16) instead of
# 4, so that there is room for what you will make of it; its perplexity is the same to within a hundredth.
#
# A **session** keeps what you make. To come back later to one of the parts below, run this cell with
# `at="magnitude"`, `at="wanda"` or `at="flap"` behind `"01"`, and go on there.

# %%
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging

import workbench
from workbench import lessons

torch.set_num_threads(1)  # one busy core: what is measured depends less on what else runs
lm = workbench.load(dtype=torch.bfloat16)
tokens = workbench.calibration(lm, samples=8, seqlen=128)
held_out = workbench.evaluation(lm, seqlen=256, windows=6)
bench = lessons.start("01", model=lm, calibration=tokens, evaluation=held_out, keep=1)
prompt = "The capital of France is"


def say(variant):
    return prompt + bench.generate(prompt, variant=variant, max_new_tokens=16, detail=False).text


print(lm)
print(repr(say(0)))  # 0 is the model as it came

# %% tags=["look"]
workbench.size(lm)

# %% [markdown]
# ## How good is it?
#
# **Perplexity** says between how many equally likely tokens the model hesitates, on average. Lower is better.
# It only means something together with its text and its protocol, so the result carries both.
#
# Two texts, never the same words: `tokens` shows the pruning method what typical inputs look like (*calibration*),
# `held_out` is for measuring. **Predict** (the cell of a question is folded, since its answer stands in it: run it like all
# others):

# %% jupyter={"source_hidden": true}
dense = workbench.predict(
    "The model knows 49,152 tokens. Between how many does it hesitate?", low=1, high=1000,
    answer="Most of what comes next in a text is nearly certain: the rest of a word, a comma, 'of the'. A few places are wide "
    "open. The interval is wide because six short windows are little text; differences on the same windows are sharper.",
)  # fmt: skip
dense

# %% tags=["look"]
quality = workbench.perplexity(lm, held_out)
dense.reveal(quality.perplexity)

# %% tags=["look"]
quality

# %% [markdown]
# **Change one thing:** `workbench.perplexity(lm, workbench.evaluation(lm, seqlen=64, windows=24))`: as many tokens, but less
# to go by before each. Is the model as good?

# %% [markdown]
# ## Small weights first: magnitude
#
# Half of all weights will be set to zero: those with the smallest absolute value, since they seem to matter least. It is
# the oldest rule there is. **Predict** first. A guess can be made once; being wrong is how the picture sticks.

# %% jupyter={"source_hidden": true}
smallest = workbench.predict(
    "What will the perplexity be, with the smallest half of the weights gone?", low=10, high=1000,
    answer="A weight is small or large only beside what it multiplies. Some inputs of a layer are a hundred times as "
    "large as others, and the small weights behind those carry much of what the layer says.",
)  # fmt: skip
smallest

# %% checkpoint="magnitude"
magnitude = bench.prune(method="magnitude", sparsity=0.5, speed=False)

# %% tags=["look"]
smallest.reveal(bench.variants[0].after.perplexity)

# %% [markdown]
# **Change one thing:** `workbench.perplexity(workbench.prune(lm, "magnitude", 0.3), held_out)`, with 30 % instead of 50 %. Is
# the damage proportional?
#
# ## Small weights on large inputs: Wanda
#
# A small weight on a large input can matter more than a large weight on an input that is nearly always zero. Wanda
# (Sun and others, 2023) multiplies both: the score is $|W_{oi}| \cdot \lVert X_i \rVert_2$, with the input's norm taken
# over the calibration text. One forward pass, nothing is trained. **Predict**: what does it save?

# %% jupyter={"source_hidden": true}
chosen = workbench.predict(
    "And the perplexity with the half that Wanda would take?", low=10, high=1000,
    answer="Just as many zeros, other places. The calibration text tells which inputs are large, and that is nearly all "
    "there is to know, since it hardly depends on what the text says.",
)  # fmt: skip
chosen

# %% checkpoint="wanda"
wanda = bench.prune(method="wanda", sparsity=0.5, speed=False)

# %% tags=["look"]
chosen.reveal(bench.variants[1].after.perplexity)

# %% [markdown]
# Both models have exactly as many zeros. The difference is *which* weights went. Measured on the same windows the two
# can be compared in pairs, which is far sharper than two separate intervals:

# %% tags=["look"]
workbench.compare(bench.variants[1].after, bench.variants[0].after)

# %% tags=["look"]
for number, name in enumerate(["dense", "magnitude", "wanda"]):
    print(f"{name:10}", repr(say(number)))

# %% [markdown]
# Half of a model this small is a lot, and nothing was trained afterwards: even Wanda's half has lost Paris. Larger models
# have more to spare.
#
# **Change one thing:** let in every four neighbours two go, as graphics cards like it, still half of all:
# `workbench.perplexity(workbench.prune(lm, "wanda", 0.5, pattern="2:4", calibration=tokens), held_out)`. What does the
# freedom to choose *anywhere* buy?
#
# ## Zeroed is not removed
#
# Half of the weights are zero. **Predict**: how large is the model now?

# %% jupyter={"source_hidden": true}
size = workbench.predict(
    "How many megabytes are the weights of the half-empty model, if the whole one has 269?", low=0, high=300, unit="MB",
    answer="A zero is stored like any other number, and multiplied like any other. A mask makes a model smaller only for "
    "a kernel or a file format that knows about it; lesson 02 has some.",
)  # fmt: skip
size

# %% tags=["look"]
size.reveal(workbench.size(bench.model(2)).weight_bytes / 1e6)

# %% [markdown]
# **FLAP** (An and others, 2023) removes whole neurons and attention heads instead, so that the matrices really shrink.
# That is a blunter knife, so it gets a smaller share: one fifth. **Predict**, and think of the size too:

# %% jupyter={"source_hidden": true}
blunt = workbench.predict(
    "What will the perplexity be with a fifth of the neurons and heads gone?", low=10, high=1000,
    answer="A neuron goes with all its weights, the good ones too: a fifth in whole neurons costs nearly half of what half "
    "in single weights does. In return it is really gone, and the megabytes say so. They fall by less than a fifth, since "
    "the embeddings stay as they are.",
)  # fmt: skip
blunt

# %% checkpoint="flap"
flap = bench.prune(method="flap", sparsity=0.2, speed=False)

# %% tags=["look"]
blunt.reveal(bench.variants[2].after.perplexity)

# %% tags=["look"]
print(
    "dense         ",
    f"perplexity {bench.dense_quality.perplexity:6.1f}   {workbench.size(lm).weight_bytes / 1e6:4.0f} MB",
)
for variant in bench.variants:
    print(
        f"{variant.name:18}", f"perplexity {variant.after.perplexity:6.1f}   {variant.size.weight_bytes / 1e6:4.0f} MB"
    )

# %% [markdown]
# **Change one thing:** `workbench.prune(lm, "flap", 0.1, calibration=tokens)`, a tenth. Which layers lose most, and is it
# smaller?
#
# ## Keep it: a checkpoint that opens anywhere
#
# What is written is read back and compared before it counts as written; the largest difference is in the result. The
# Wanda model has the shapes that it always had, so plain `transformers` reads it.

# %% tags=["look"]
place = tempfile.TemporaryDirectory()  # goes when the kernel ends; to keep the model name a folder of yours
folder = Path(place.name) / "wanda-half"
bench.export(folder, variant=2)

# %% tags=["look"]
logging.disable_progress_bar()
plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
ids = lm.tokenizer(prompt, return_tensors="pt")
answer = lm.tokenizer.decode(plain.generate(**ids, max_new_tokens=16, do_sample=False)[0])
del plain
print(answer == say(2), repr(answer))

# %% [markdown]
# ## The studio: the same with your hands
#
# Under **Prune**, move the slider and watch which weights would go, in every matrix of every layer: one column per
# layer, one row per kind of matrix, bright is kept. Press **Prune** to do it and measure it. **Copy as Python** shows
# the code.
#
# Everything works by keyboard too: in the picture the arrow keys walk from matrix to matrix.

# %% tags=["look"]
workbench.studio(lm, calibration=tokens, evaluation=held_out, method="wanda")

# %% [markdown]
# **Change one thing**, and guess before each:
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
