# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
#   workbench:
#     lesson:
#       covers:
#       - sessions
#       - pruning
#       - masks
#       - compiled models
#       - prompt lookup
#       - the studio
#       difficulty: 1
#       importance: 3
#       megabytes: 1330
#       minutes:
#       - 5
#       - 8
#       seconds: 30
#       title: Five-minute tour
# ---

# %% [markdown]
# # Five-minute tour
#
# *Open a model, throw half of it away, see what went, run what is left, compare.*
#
# **Difficulty** ●○○ &nbsp; **Importance** ●●● &nbsp; **Time** 5–8 minutes<br>
# **Costs** 30 seconds of computing, 1.33 GB of memory; no GPU, no network
#
# This is the whole workbench in one go. Run the cells from top to bottom (Shift+Enter); the other lessons go into each
# part.

# %% [markdown]
# ## Open
#
# A **session** holds one model and everything that you make of it. The model is SmolLM2-135M-Instruct: 135 million
# parameters, 30 layers, here with 2 bytes per weight (bf16) instead of 4, so that the lesson also fits into the 2 GB of a
# small machine such as Binder's. The session keeps itself in a folder; after a restart it goes on where it was.
#
# To come back later to one of the parts below, run this cell with `at="pruned"` or `at="compiled"` behind `"00"`, and go on
# at the part that begins after it.

# %%
import torch
from workbench_widgets import prune_panel

import workbench
from workbench import lessons

torch.set_num_threads(1)  # one busy core: what is measured depends less on what else runs
lm = workbench.load(dtype=torch.bfloat16)
bench = lessons.start("00", model=lm, samples=8, seqlen=128, windows=4, keep=1)
print(lm)
print(bench.generate("The capital of France is", variant=0, max_new_tokens=8).text)

# %% [markdown]
# ## Prune
#
# *Perplexity* says between how many equally likely words the model hesitates; lower is better. Half of all its weights
# will be set to zero, none is trained afterwards. **Predict** first; a guess can be made once. (The cell of a question is
# folded, since its answer stands in it: run it like all others.)

# %% jupyter={"source_hidden": true}
guess = workbench.predict(
    "How many times as high will the perplexity be with half of the weights?",
    low=1, high=10, unit="x",
    answer="Most weights do little. Wanda removes those that are small and also meet small inputs, so that the rest can "
    "carry on. With the smallest weights alone, whatever their inputs, it would be worse: lesson 01.",
)  # fmt: skip
guess

# %% [markdown]
# `prune` scores every weight, removes the lowest half and measures what is left beside the dense model, on the same text.

# %% checkpoint="pruned"
pruned = bench.prune(method="wanda", sparsity=0.5, speed=False)
print(pruned)

# %% tags=["look"]
first = bench.variants[0]
guess.reveal(first.after.perplexity / first.before.perplexity)

# %% [markdown]
# **Change one thing:** `workbench.perplexity(workbench.prune(lm, "magnitude", 0.5), bench.tokens()[1])` in a new cell: as many
# zeros, but the smallest weights whatever their inputs.
#
# ## See the mask
#
# One column per layer, one row per kind of matrix, bright is kept. In a matrix every output loses half of its weights; but
# which? **Predict**:

# %% jupyter={"source_hidden": true}
even = workbench.predict(
    "Half of all weights go. How many percent go of the matrix that loses most?", low=0, high=100, unit="%",
    answer="Wanda compares within each output of a matrix, so every output, and with it every matrix, loses the same half. "
    "Methods that let layers compete, such as OWL, take more from some than from others: choose it under Allocation.",
)  # fmt: skip
even

# %% tags=["look"]
frame = bench.preview().at(0.5)
even.reveal(100 * (1 - float(frame.kept.min())))

# %% tags=["look"]
prune_panel(bench)

# %% [markdown]
# **Change one thing:** move the slider, or take another method or allocation. Which matrices turn dark first?

# %% [markdown]
# ## Run it
#
# A zero that is multiplied costs what any number costs. `compile` packs the matrices so that zeros take one bit, rounds
# the rest to 8 bits, and runs a whole step of the model in one call. **Predict**:

# %% jupyter={"source_hidden": true}
faster = workbench.predict(
    "How many times as fast as the dense model in transformers will it say one token after the other?",
    low=0.5, high=20, unit="x",
    answer="Saying a token means reading all weights once, so fewer bytes are less time. But a good part of the gain is "
    "that compiled code has no Python between its multiplications. Lesson 02 takes the two apart.",
)  # fmt: skip
faster

# %% checkpoint="compiled"
compiled = bench.compile("bitmap", "int8")
print(compiled)

# %% tags=["look"]
fast = bench.variants[-1]
faster.reveal(fast.speed.decode.ratio)

# %% [markdown]
# **Change one thing:** `bench.compile("dense", "int8", variant=0)` packs the whole model as short, without any zero. How much
# of the speed was due to zeros? (The last column of the comparison below says; lesson 05 goes into it.)
#
# ## Decode with it
#
# The newest variant is the one that speaks, if none is named. An answer that repeats its prompt can be guessed ahead:
# **prompt lookup** proposes what followed the same words before, and the model checks many guesses in one pass. The text
# stays exactly what it would have been: what half of the model gets wrong, it gets wrong here too. **Predict**:

# %% jupyter={"source_hidden": true}
ahead = workbench.predict(
    "One by one, 40 tokens take about 40 passes. How many with guesses?", low=1, high=40,
    answer="A pass brings as many tokens as guesses were right, and one more. Where the answer repeats the list, that is many "
    "at once; where it goes its own way, one.",
)  # fmt: skip
ahead

# %%
prompt = "1. Ada was born in 1815.\n2. Alan was born in 1912.\n3. Grace was born in 1906.\nAnd once more:\n1. Ada was born in"
plain = bench.generate(prompt, max_new_tokens=40)
looked = bench.generate(prompt, "prompt-lookup", max_new_tokens=40)
print(looked.text)
print("the same tokens:", plain.tokens.tolist() == looked.tokens.tolist())
print("passes one by one:", plain.trace.cost.target_forwards)
ahead.reveal(looked.trace.cost.target_forwards)

# %% [markdown]
# **Change one thing:** a prompt that repeats nothing, such as `"Once upon a time"`. How many passes now?
#
# ## Compare
#
# Everything that the session has made, beside the dense model. The pictures show which of them nothing else beats; `.figure()`
# behind the same words draws a chart to hover over and zoom.

# %% tags=["look"]
bench.compare()

# %% [markdown]
# The session is also a program. In a fresh process this makes the same again:

# %% tags=["look"]
print(bench.to_python())

# %% [markdown]
# ## The studio: the same with your hands
#
# Five panels over this session: **Prune**, **Execute**, **Attend**, **Decode**, **Compare**. The variants from above are
# in it; what you make there is in `bench` too. Everything works by keyboard.

# %% tags=["look"]
workbench.studio(bench)

# %% [markdown]
# **Change one thing**, and guess before each:
#
# 1. In **Prune**, move the slider to 70 % and prune. What happens to the perplexity?
# 2. In **Decode**, continue the same prompt with the dense model and with your variant. Who makes sense longer?
# 3. In **Compare**, is there a model that is both smaller and better than another?
#
# **What you take along:** a figure of quality, one of size and one of speed belong together; the rest of the lessons is
# about how they hang together. Next: `01_prune_a_real_model`.
