# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
#   workbench:
#     lesson:
#       covers:
#       - attention sinks
#       - kinds of heads
#       - induction heads
#       - sparse prefill
#       - smaller KV caches
#       - the lens
#       difficulty: 2
#       importance: 2
#       megabytes: 1330
#       minutes:
#       - 15
#       - 20
#       seconds: 32
#       title: Where attention goes
# ---

# %% [markdown]
# # Where attention goes
#
# *Most of attention lies on few keys. Which ones, how few would do, and what it costs to keep no more.*
#
# **Difficulty** ●●○ &nbsp; **Importance** ●●○ &nbsp; **Time** 15–20 minutes<br>
# **Costs** 32 seconds of computing, 1.33 GB of memory; no GPU, no network
#
# Every token of a text looks at every token before it: a thousand tokens make half a million looks, in each of the 270
# heads of the default model. You will see where these looks go, find heads with a job of their own, count how few keys
# would be enough, and then leave the rest out twice: while a long prompt is read, and in the cache that it leaves.
#
# Run the first cell, and you can begin at any of the parts below it.

# %%
import numpy as np
import torch

import workbench
from workbench.attention import capture, study
from workbench.attention.kv import kv_quality
from workbench.attention.patterns.curves import curves

torch.set_num_threads(1)
lm = workbench.load(dtype=torch.bfloat16)
ids = workbench.evaluation(lm, windows=1, seqlen=1024).ids[0]
print(lm.tokenizer.decode(ids[:60]), "...")

# %% [markdown]
# ## Read once, keep no map
#
# The last tokens of this text see a thousand keys. Attention is a share that a token gives to each of them, 100 % in
# all. **Predict**:

# %% jupyter={"source_hidden": true}
keys = workbench.predict(
    "How many keys hold 90 % of a token's attention, in a typical head?", low=1, high=1000,
    answer="Two dozen would do for half of the heads. What they are differs from head to head, and from token to token.",
)  # fmt: skip
keys

# %% jupyter={"source_hidden": true}
sink = workbench.predict(
    "How much of a typical head's attention goes to the first four tokens, whatever they say?", low=0, high=100, unit="%",
    answer="Shares have to add up to 1: a head that finds nothing to look for has to put them somewhere. Training makes "
    "the first token, which every later one can see, the place where attention does no harm: its value vector is close "
    "to nothing. It is called an attention sink (Xiao and others, 2023). Take it away, and the model breaks.",
)  # fmt: skip
sink

# %% [markdown]
# 1024 x 1024 shares in 270 heads are 1.1 GB of numbers, at 32 thousand tokens a thousand times as many. So nothing of it
# is kept: while the text is read, every row of shares is added to a few sums and forgotten. `study` does that, and sorts
# heads into kinds.

# %%
seen = study(lm, ids, patterns=(), kv=(), states=True)
metrics = seen.table.metrics
keys.reveal(float(np.median(metrics["keys for 90 %"])))

# %%
sink.reveal(100 * float(np.median(metrics["sink"])))

# %% [markdown]
# All heads of the model, layer by layer; letters and colours say what kind each is. Open one (Enter, or a click) and go
# into its map with the wheel or the keys `+`, `-` and the arrows: one cell is then one query and one key. Under **Text**
# choose a token and see what it looks at.

# %%
workbench.lens(seen)

# %% [markdown]
# Find these four:
#
# 1. a head that looks at the token just before, whatever the text says (a line beside the diagonal);
# 2. a head with one bright column: the sink;
# 3. a head that looks at the last few tokens only;
# 4. a head whose picture is almost empty apart from scattered points: *retrieval*. What do the points have in common?
#
# **Change one thing:** `study(lm, ids[:256], patterns=(), kv=())`, a quarter of the text. Are four times fewer keys enough?
#
# ## A head that finds what came before
#
# Read a list of random tokens twice. In the second round a head can know what comes next, if it looks at what followed
# the same token in the first round: an **induction head** (Olsson and others, 2022). That is a look at distance 63 for a
# list of 64. **Predict**:

# %% jupyter={"source_hidden": true}
finders = workbench.predict(
    "How many of the 270 heads give more than 30 % of their attention to that one place?", low=0, high=270,
    answer="A handful is enough: what one of them finds, all later layers can use. They sit in the middle and upper layers, "
    "since each needs a head below it that has told every token what stood before it.",
)  # fmt: skip
finders

# %%
random = np.random.default_rng(1).integers(0, 40_000, 64)
twice = capture(lm, np.concatenate([random, random]))
share = twice.slash[:, :, 63]
layer, head = np.unravel_index(share.argmax(), share.shape)
print(f"the sharpest, layer {layer}, head {head}: {share[layer, head]:.0%} of its attention lies 63 tokens back")
finders.reveal(int((share > 0.3).sum()))

# %% [markdown]
# **Change one thing:** a list of 16 instead of 64; what is looked for lies 15 back then. Do the same heads find it?
#
# ## Fewer blocks
#
# If most of a map is empty, why compute it? Kernels work in blocks, here of 64 x 64; a **pattern** says which blocks of a
# head are worth it, without having seen the map. *Recall* is how much of the attention falls into the chosen blocks,
# *cost* is how many blocks they are.
#
# - **a-shape**: the first blocks and those along the diagonal, the same for all heads;
# - **block-top**: the blocks whose mean key is most like the mean query;
# - **vertical-slash**: the columns and diagonals that the last 64 queries look at most (MInference, 2024);
# - **minference**: for each head whichever of the three served it best on a text read before.

# %%
PATTERNS = ["a-shape", "block-top", "vertical-slash", "minference"]
best = workbench.predict(
    "Which of them has the highest recall with a third of the blocks?", options=PATTERNS,
    answer="Attention lies on the sinks and on what is near, in most heads, whatever the text says. So a fixed shape comes "
    "within a few percent of those that look at the text. Mean keys hide single ones: block-top misses what matters.",
)  # fmt: skip
best

# %%
found = curves(lm, ids, PATTERNS, points=(0.2, 0.35, 0.6), divergence=0.35)
at_third = {name: found.recall_at(name, 1 / 3) for name in PATTERNS}
for name, recall in sorted(at_third.items(), key=lambda x: -x[1]):
    print(f"{name:16}{recall:.1%}")
best.reveal(max(PATTERNS, key=at_third.get))

# %%
found

# %% [markdown]
# Two prices stand in that table. **KL** is what the answers lose: how far the next-token distribution moved, in nats. The
# other is time, in the block-sparse kernel of lesson 02, against the same kernel with all blocks. At a thousand tokens
# attention is a small part of the work, so there is little to win; its cost grows with the square of the length, and
# from some thousand tokens on it is most of it.
#
# Compare the orders: the pattern with the highest recall need not be the one with the lowest KL.
#
# <details><summary>Why is recall not the same as quality?</summary>
#
# Recall counts shares, not what the values behind them say. Losing 5 % that point at the sink changes nothing; losing
# the 5 % with which a retrieval head finds a name loses the name. Look at KL, or better, at the task.
# </details>
#
# **Change one thing:** `points=(0.1,)` with `divergence=0.1`. Which pattern falls first?
#
# ## A smaller cache
#
# What was read stays in memory: the keys and values of all tokens, 23 KB each here. A method for smaller caches keeps a
# share of them after the prompt. Two tests of what is left: **perplexity** of the text that follows, and a **needle**: a
# number that was said once, somewhere in the prompt, and is asked for at the end.
#
# - **streaming** keeps the first four and the newest keys;
# - **snapkv** keeps those that the end of the prompt looked at;
# - **knorm** keeps keys of small norm;
# - **mustafar** keeps all keys, and of each the larger half of its numbers.
#
# **Predict**:

# %% jupyter={"source_hidden": true}
loser = workbench.predict(
    "With a quarter of the keys, of which cache does the text suffer least?",
    options=["streaming", "snapkv", "knorm", "mustafar"],
    answer="What comes next depends mostly on what just came, and on the sink: every one of them keeps enough of that to "
    "lose only a few percent, and who loses least changes with the text. The needle is another matter.",
)
loser

# %%
kept = kv_quality(lm, ids[:384], ["streaming", "snapkv", "knorm", "mustafar"], 0.25, continuation=64, tasks=1)
loser.reveal(min(kept.rows[1:], key=lambda row: row.perplexity).method)

# %%
kept

# %% [markdown]
# Perplexity alone says that all is well: with a quarter of the keys the text loses a few percent. The needle is another
# matter. SnapKV sees the question before it forgets, and so keeps what the question is about. That is also its weakness:
# ask something *else* about the same prompt, and it is gone. (One needle is an example and no measurement:
# `workbench kv` runs more of them.)
#
# **Change one thing:** `0.1` in place of `0.25`: which method falls first? Or take the sink away: `from
# workbench.attention.kv import streaming`, and `streaming.Streaming(sinks=0)` in place of a name. Four keys less, and the
# perplexity?
#
# In the lens below, **KV** shows which rows are kept while the text goes on, **Sparsity** the blocks over the map.

# %%
workbench.lens(study(lm, ids[:192], patterns=["a-shape", "vertical-slash"], kv=["streaming", "snapkv"]))

# %% [markdown]
# ## Go on
#
# Prune the model (lesson 01), and pass `pruned` for `lm` above. Do its heads need more keys or fewer?
#
# In a terminal: `workbench attention --text FILE --out report.html` writes this lens as a page that needs no kernel, and
# `workbench kv --budget 0.25` compares all methods.
#
# ## What would break this?
#
# Think first, then open.
#
# <details><summary>What if all heads were given the same pattern?</summary>
#
# Most would not notice: they look at the sink and at what is near. The few that search the whole text would be blind, and
# what they find is often what the answer needs.
# </details>
#
# <details><summary>What if the text were random tokens?</summary>
#
# There would be nothing to retrieve, and every method would look good. A method is tested by what has to be found.
# </details>
#
# **What you take along:** attention is sparse, but differently in every head; recall and perplexity are averages, and what
# is lost is seldom average; keep the sink, and test with a question.
