# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
#   workbench:
#     lesson:
#       covers:
#       - dense, pruned, compiled, speculative
#       - the price of each step
#       - int8
#       - Pareto
#       - pruned models as drafts
#       - sessions as programs
#       difficulty: 2
#       importance: 3
#       megabytes: 1480
#       minutes:
#       - 15
#       - 20
#       seconds: 35
#       title: From dense to fast
# ---

# %% [markdown]
# # From dense to fast
#
# *Prune, pack, guess ahead: what each step gains, and what it costs.*
#
# **Difficulty** ●●○ &nbsp; **Importance** ●●● &nbsp; **Time** 15–20 minutes<br>
# **Costs** 35 seconds of computing, 1.48 GB of memory; no GPU, no network
#
# The earlier lessons took one step each. Here they follow each other, on one model, and every step has to pay: with
# perplexity, bytes, the speed of reading a prompt (*prefill*) and of answering (*decode*), and tokens per pass.

# %% [markdown]
# ## The start
#
# The dense model in transformers, with 2 bytes per weight: what most people run. All speeds below are relative to it,
# measured in turns with it, on one thread.
#
# To come back later, run this cell with `at="compiled"`, `at="pruned"`, `at="packed"` or `at="control"` behind `"05"`, and
# go on at the part that begins after it.

# %%
import torch

import workbench
from workbench import lessons
from workbench.decode.prompts import prompts

torch.set_num_threads(1)
lm = workbench.load(dtype=torch.bfloat16)
bench = lessons.start("05", model=lm, samples=8, seqlen=96, windows=8, keep=1)
copying = next(p for p in prompts("echo")).ids(lm.tokenizer)
story = next(p for p in prompts("story") if not p.chat).ids(lm.tokenizer)
print(lm)


def row(variant):
    """What a step brought and what it cost."""
    quality, speed = variant.after.perplexity / variant.before.perplexity, variant.speed
    print(f"{variant.name}")
    print(f"  perplexity {variant.after.perplexity:6.1f}   {quality:.2f} x dense")
    print(f"  weights    {variant.size.weight_bytes / 1e6:6.0f} MB")
    if speed is not None:
        print(
            f"  prefill    {speed.prefill.ratio:6.1f} x   decode {speed.decode.ratio:.1f} x, {speed.decode.ms:.0f} ms a token"
        )


# %% [markdown]
# ## Step 1: compile, and change nothing
#
# First what costs no quality at all. `compile` runs a whole step of the *dense* model in one call of compiled code, the
# weights still with 2 bytes each. **Predict** what that alone brings.

# %% jupyter={"source_hidden": true}
alone = workbench.predict(
    "How many times as fast does the dense model decode when it is only compiled?", low=0.5, high=20, unit="x",
    answer="A small model spends most of a step between its multiplications, in Python and in calls of small operations. "
    "Compiled code has none of that. The larger the model, the smaller this gain.",
)  # fmt: skip
alone

# %% checkpoint="compiled"
bench.compile("dense", "bf16", variant=0)

# %% tags=["look"]
row(bench.variants[0])
alone.reveal(bench.variants[0].speed.decode.ratio)

# %% [markdown]
# Remember this figure. What follows has to be compared with it, not with the slow start: otherwise the zeros would get
# the credit for what the compiler did.
#
# **Change one thing:** `workbench.speed(bench.model(1), lm, prompt_tokens=512, new_tokens=8, repeats=3)`, a longer prompt.
# What does reading it gain?
#
# ## Step 2: prune
#
# Wanda sets half of the weights to zero. In transformers that makes nothing faster, so no time is measured here, only
# quality. **Predict**:

# %% jupyter={"source_hidden": true}
price = workbench.predict(
    "How many times as high will the perplexity be?", low=1, high=10, unit="x",
    answer="Half of a small model, without any training afterwards: nearly twice as many words to hesitate between. Larger "
    "models pay less, and one that is trained afterwards pays little.",
)  # fmt: skip
price

# %% checkpoint="pruned"
bench.prune(method="wanda", sparsity=0.5, speed=False)

# %% tags=["look"]
row(bench.variants[1])
price.reveal(bench.variants[1].after.perplexity / bench.variants[1].before.perplexity)

# %% [markdown]
# **Change one thing:** 30 % instead of half, without making a variant of it:
# `workbench.perplexity(workbench.prune(lm, "wanda", 0.3, calibration=bench.tokens()[0]), bench.tokens()[1])`.
#
# ## Step 3: pack the zeros, and round the rest
#
# The *bitmap* format keeps one bit per weight that says whether it is there, and the weights that are. `int8` rounds
# those to 255 steps per row. **Predict**: a weight takes 2 bytes so far; half of them are zero now, the rest are rounded
# to 1 byte.

# %% jupyter={"source_hidden": true}
packed = workbench.predict(
    "How many times as fast as dense in transformers will it decode?", low=0.5, high=30, unit="x",
    answer="Decoding waits for bytes. A weight of the layers takes 16 bits in bf16, and here 5 on average: one that says "
    "whether it is there, and 8 for every second one. But the output head stays dense, and attention and norms take the "
    "time that they took. So a third of the bytes is not three times the speed.",
)  # fmt: skip
packed

# %% checkpoint="packed"
bench.compile("bitmap", "int8", variant=2)

# %% tags=["look"]
row(bench.variants[2])
packed.reveal(bench.variants[2].speed.decode.ratio)

# %% [markdown]
# **Change one thing:** `bench.model(3).profile(1)` and `.profile(16)` say where the milliseconds of a pass go, with one token
# and with sixteen. Which steps grow, and which do not?
#
# ## The control: no zeros
#
# How much of this is due to zeros? Only a model without them, packed just as short, can tell. It needs no pruning, and
# keeps its quality. **Predict**:

# %% jupyter={"source_hidden": true}
alone_zeros = workbench.predict(
    "How many times as fast is the half-empty model as the full one, both in int8?", low=0.5, high=4, unit="x",
    answer="Of 8 bits per weight 5 are left, in the layers. The head, attention and norms have none to save, and unpacking "
    "costs a little. So the zeros bring a part, at the price of the perplexity above.",
)  # fmt: skip
alone_zeros

# %% checkpoint="control"
bench.compile("dense", "int8", variant=0)

# %% tags=["look"]
row(bench.variants[3])
zeros = bench.variants[2].speed.decode.ratio / bench.variants[3].speed.decode.ratio  # both timed in turns with dense
print(
    f"\nThe price of the zeros: {bench.variants[2].after.perplexity / bench.variants[3].after.perplexity:.2f} x the perplexity."
)
alone_zeros.reveal(zeros)

# %% [markdown]
# <details><summary>Was pruning worth it, then?</summary>
#
# On this small model, by half, hardly: rounding gave nearly as much and took nearly nothing. That is the usual outcome
# of an honest comparison at 50 % without retraining. Zeros pay where there are more of them (80 % and up, which needs
# retraining), where they come in blocks, where a model is large enough to spare them, or where memory is what is short.
# </details>
#
# **Change one thing:** `bench.variants[2].size.weight_bytes / bench.variants[3].size.weight_bytes` compares bytes in place of
# time. Which of the two gains more?
#
# ## Step 4: guess ahead
#
# Decoding reads all weights for one token. **Prompt lookup** guesses what comes next from what stood in the prompt, and
# checks up to 15 guesses in the same pass. The text stays what it would have been. **Predict** the tokens per pass, for
# an answer that copies from its prompt:

# %% jupyter={"source_hidden": true}
passes = workbench.predict(
    "How many tokens does a pass bring, where the answer copies the prompt?", low=1, high=16,
    answer="A pass brings as many tokens as guesses were right, and one more. In the long copied stretches nearly all of "
    "them are; where the answer leaves them, a pass brings one token, as ever.",
)  # fmt: skip
passes


# %%
def decode(ids, method, variant, rounds=2):
    """Tokens per pass and milliseconds per token, the best of some rounds."""
    found = [
        bench.generate(ids, method, variant=variant, max_new_tokens=48, detail=False).trace.cost for _ in range(rounds)
    ]
    return found[0].tokens_per_forward, 1000 * min(c.decode_seconds / c.tokens for c in found)


table = {}
for name, ids in (("copying", copying), ("a story", story)):
    for method in ("greedy", "prompt-lookup"):
        table[name, method] = decode(ids, method, 4)
        print(
            f"{name:8} {method:14}{table[name, method][0]:5.2f} tokens a pass {table[name, method][1]:6.1f} ms a token"
        )
passes.reveal(table["copying", "prompt-lookup"][0])

# %% [markdown]
# This step costs no quality, but it depends on the text: a story repeats nothing, and there guessing brings nothing. A
# *gate* sees that it does not pay and stops it, so that little is lost.
#
# **Change one thing:** `bench.generate(copying, "prompt-lookup", variant=4, max_new_tokens=48, draft_tokens=3)`. How many
# tokens does a pass bring with at most three guesses?
#
# ## The pruned model as a draft
#
# The pruned model says less well what the dense one says, but packed it says it faster. So let it guess four tokens and
# let the dense one check them in one pass: the text is the dense model's, guessed by its own half. **Predict** whether
# that would pay:

# %% jupyter={"source_hidden": true}
draft = workbench.predict(
    "The packed half drafts, the compiled whole checks: how many times as fast as the whole alone?",
    low=0.2, high=3, unit="x",
    answer="A draft has to be much cheaper than what checks it, and right most of the time. This one takes more than half "
    "of the time of its parent for every guess, and four guesses have to be paid whether they are right or not. Papers use "
    "drafts of a tenth of the size.",
)  # fmt: skip
draft

# %% [markdown]
# How often a guess is right does not depend on how fast anything runs. So count it with the two plain models, and
# reckon with the times that were measured above:

# %%
drafted = bench.generate(story, "draft-model", variant=0, draft=2, draft_tokens=4, max_new_tokens=24, detail=False)
each = drafted.trace.cost.tokens_per_forward
# What a token of the half takes, and what a check of five tokens takes (lesson 04 measures that); 1: a token of the whole.
guess, check = bench.variants[3].speed.decode.ratio / bench.variants[2].speed.decode.ratio, 1.5
print(f"{each:.2f} tokens a pass; a pass costs 4 x {guess:.2f} + {check} of a token alone")
draft.reveal(each / (4 * guess + check))

# %% [markdown]
# **Change one thing:** `draft_tokens=1` there, and `1 * guess` in place of 4. Is one guess better than four?
#
# ## The bill
#
# All steps beside the start. In the pictures, what lies on the line is beaten by nothing else in both: better *and*
# faster, or better *and* smaller.

# %% tags=["look"]
bench.compare()

# %% [markdown]
# And the way there, as a program that makes the same models again:

# %% tags=["look"]
print(bench.to_python())

# %% [markdown]
# ## The studio: the same with your hands
#
# Your steps are in it. Under **Compare** choose a point to go to its recipe; under **Decode** let two models answer side
# by side.

# %% tags=["look"]
workbench.studio(bench)

# %% [markdown]
# **Change one thing**, and guess before each:
#
# 1. `bench.prune(method="wanda", sparsity=0.7, speed=False)` and `bench.compile("bitmap", "int8")`. Is it on the line?
# 2. SparseGPT repairs the weights that stay: `bench.prune(method="sparsegpt", sparsity=0.5, speed=False)` (a minute).
#    How much of the lost quality comes back?
# 3. Two threads: `bench.compile("bitmap", "int8", variant=2, threads=2)`. What does decoding gain?
#
# ## What would break this?
#
# Think first, then open.
#
# <details><summary>What if every step were compared with the dense model in transformers only?</summary>
#
# Each would look like a success, the zeros too. The compiler's share would be counted again in every line.
# </details>
#
# <details><summary>What if prompts were long and answers short?</summary>
#
# Then prefill decides. There the processor multiplies and does not wait: fewer bytes bring little, only fewer or shorter
# multiplications do.
# </details>
#
# <details><summary>What if quality meant a task, not perplexity?</summary>
#
# The order may change: a model can lose facts and keep its grammar. Measure the task that you need.
# </details>
#
# **What you take along:** take the steps that cost nothing first; give each step its own control; and keep only what lies
# on the line.
