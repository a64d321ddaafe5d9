# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
#   workbench:
#     lesson:
#       covers:
#       - prompt lookup
#       - acceptance rules
#       - draft trees
#       - when drafting pays
#       - masked diffusion
#       - the theatre
#       difficulty: 2
#       importance: 2
#       megabytes: 1300
#       minutes:
#       - 15
#       - 20
#       seconds: 22
#       title: Several tokens per step
# ---

# %% [markdown]
# # Several tokens per step
#
# *Guess ahead, check all guesses in one pass, keep what is right: the same text in fewer steps.*
#
# **Difficulty** ●●○ &nbsp; **Importance** ●●○ &nbsp; **Time** 15–20 minutes<br>
# **Costs** 22 seconds of computing, 1.3 GB of memory; no GPU, no network
#
# A language model says one token per pass, and while it does so the processor mostly waits for weights. You will watch a
# model check many guessed tokens in one pass, see why the text stays exactly what it would have been, find out when
# guessing loses time, and meet two methods that do change the text.

# %% [markdown]
# ## One pass, one token
#
# Lesson 02 ended with a compiled runtime; it is what decodes here. Everything that happens is recorded: a `Generation`
# has the text and a **trace** of every event. Run the first cell, and you can begin at any of the parts below it.

# %%
import numpy as np
import torch

import workbench
from workbench.decode import DraftTree, Sampler, as_target, diffusion
from workbench.decode.acceptance import SpeculativeSampling, Typical
from workbench.decode.costs import costs_of
from workbench.decode.prompts import prompts

torch.set_num_threads(1)
fast = workbench.compile(workbench.load(dtype=torch.bfloat16), "dense", "bf16")  # 2 bytes per weight
copying = next(p for p in prompts("echo"))
story = next(p for p in prompts("story") if not p.chat)


def decode(prompt, method="greedy", **settings):
    ids = prompt.ids(fast.tokenizer)
    return workbench.generate(fast, ids, method, **{"max_new_tokens": 64, **settings})


def race(prompt, method, rounds=2, **settings):
    """Plain decoding and a method in turns: tokens per pass, and how many times as fast it was."""
    seconds, found = {"greedy": [], method: []}, {}
    for _ in range(rounds):
        for name, options in (("greedy", {}), (method, settings)):
            found[name] = decode(prompt, name, detail=False, max_new_tokens=48, **options)
            seconds[name].append(found[name].trace.cost.decode_seconds)
    return found[method].trace.cost.tokens_per_forward, min(seconds["greedy"]) / min(seconds[method])


print(copying.text)

# %%
plain = decode(copying)
print(plain.text)
print(plain.trace.cost.target_forwards, "passes for", plain.trace.cost.tokens, "tokens")

# %% [markdown]
# ## Guess ahead, check in one pass
#
# The answer repeats what stands in the prompt. So here is a cheap way of guessing: look where the last few tokens stood
# before, and guess that what followed *there* follows again. That is **prompt lookup** (Saxena, 2023). Up to 15 guessed
# tokens go through the model in one pass, which tells for each of them what the model itself would have said. Guesses
# are kept as far as they agree; the first that does not is replaced by the model's own token. **Predict**:

# %% jupyter={"source_hidden": true}
passes = workbench.predict(
    "How many passes will the same tokens take?", low=1, high=64,
    answer="A pass that gets all of its 15 guesses right brings 16 tokens, one whose first guess is wrong brings one. The "
    "answer is copied in long stretches, so most passes bring many.",
)  # fmt: skip
passes

# %%
plain, looked = decode(copying), decode(copying, "prompt-lookup")
print("the same tokens:", looked.tokens.tolist() == plain.tokens.tolist())
passes.reveal(looked.trace.cost.target_forwards)

# %% [markdown]
# The theatre replays a trace; no model is needed for that. Press **Play**, or move with `,` and `.` from step to step.
# Left, one token at a time; right, with guesses. Colours and lines under the tokens say how each came to be; point at a
# token (or walk with the arrow keys) to see what else was likely.

# %%
workbench.theatre(plain, looked)

# %% [markdown]
# Find these three:
#
# 1. A draft that was accepted in full. What is the *bonus* token behind it?
# 2. A draft whose first token was refused. What did that pass bring?
# 3. Choose **Scrub by: the clock** and press Play: both run at the speed at which they were decoded.
#
# **Change one thing:** `decode(copying, "prompt-lookup", draft_tokens=3)`, shorter drafts. More passes; also slower?

# %% [markdown]
# ## Why the text stays the same
#
# For the most likely token it is plain: a guess stays only if it *is* what the model says. But with a temperature tokens
# are *drawn* from the model's distribution $p$. Can a guess be accepted without changing what is drawn?
#
# A guess $x$ comes from a draft distribution $q$. The rule (Leviathan and others, 2023; Chen and others, 2023):
#
#     accept x if  u <= p(x) / q(x),  u uniform in [0, 1];   else draw from what p has beyond q:  norm max(p - q, 0)
#
# Here is a vocabulary of five tokens, and a draft that knows nothing: all are equally likely to it. **Predict**, and
# think whether the tokens will be distributed like $p$, like $q$, or in between:

# %% jupyter={"source_hidden": true}
accepted = workbench.predict(
    "Which share of the guesses will be accepted?", low=0, high=100, unit="%",
    answer="A guess x is made with chance q(x) and then stays with chance min(1, p(x) / q(x)). Summed over all tokens that "
    "is the sum of min(p, q): here 0.2 + 0.2 + 0.15 + 0.1 + 0.05.",
)  # fmt: skip
accepted

# %%
words = ["the", "a", "one", "my", "no"]
p = np.array([0.50, 0.20, 0.15, 0.10, 0.05])  # the model
q = np.array([0.20, 0.20, 0.20, 0.20, 0.20])  # the draft


def first_token(rule, random):
    """Draft one token from q, let the rule decide; the token that comes out, and whether it was the draft's."""
    tree = DraftTree.of([random.choice(5, p=q)], q={-1: q})
    verdict = rule.judge(tree, lambda node: np.log(p), Sampler(temperature=1.0), random)
    return (int(tree.tokens[0]), True) if verdict.path else (verdict.token, False)


def redraw(random):
    """Looks as good: what was refused is simply drawn anew from p."""
    x = random.choice(5, p=q)
    return x if random.random() <= p[x] / q[x] else random.choice(5, p=p)


random, draws = np.random.default_rng(0), 8000
right = [first_token(SpeculativeSampling(), random) for _ in range(draws)]
wrong = [redraw(random) for _ in range(draws)]
lossy = [first_token(Typical(), random)[0] for _ in range(draws)]

columns = [p, *(np.bincount(x, minlength=5) / draws for x in ([t for t, _ in right], wrong, lossy))]
print("        p      the rule   redrawn   typical")
for n, word in enumerate(words):
    print(f"{word:5}", "".join(f"{c[n]:9.3f}" for c in columns))
accepted.reveal(100 * np.mean([kept for _, kept in right]))

# %% [markdown]
# The rule gives $p$, to within what 8000 draws can tell, although the draft knew nothing. What a draft knows decides only
# *how often* it is accepted: $\sum_x \min(p(x), q(x))$. The share that you see is that sum.
#
# <details><summary>Why does drawing anew from p go wrong?</summary>
#
# Guesses that q makes too rarely ("the") are always accepted, but still come too rarely. The missing part is p - q, so
# the second draw has to make up for exactly that. Drawing from p instead leaves the text between p and q.
# </details>
#
# *Typical acceptance* (Medusa, 2024) accepts whatever is likely enough. It accepts more, and the text is no longer the
# model's: *typical* in the last column is not $p$. That can be a fair bargain, if one knows that one has made it.
#
# `check_lossless` holds any method to what it promises: greedy answers token by token, and on a tiny model whole sampled
# texts against their exact probabilities.

# %%
workbench.check_lossless("prompt-lookup", fast, [copying], max_new_tokens=32, samples=1000)

# %% [markdown]
# **Change one thing:** a draft that knows something, `q = np.array([0.4, 0.3, 0.1, 0.1, 0.1])`. What is accepted, and what
# comes out?

# %% [markdown]
# ## When does it pay?
#
# A pass with 15 guesses multiplies the same weights with 16 columns instead of one. How much longer that takes,
# $v(n)$, is a matter of the machine, so it is measured, on yours and now:

# %%
costs = costs_of(as_target(fast))
costs

# %% [markdown]
# A draft of $n$ tokens pays if it brings more than $v(n + 1)$ tokens on average. Copying, it did. Now a story, where
# nothing repeats. **Predict**:

# %% jupyter={"source_hidden": true}
telling = workbench.predict(
    "Prompt lookup without a gate, on a story that repeats nothing:",
    options=["slower than plain decoding", "about equal (5 %)", "faster"],
    answer="Now and then two words occur a second time, a draft is made, and it is wrong. Such a pass costs v(n) and "
    "brings one token. How much that loses depends on how often it happens.",
)  # fmt: skip
telling

# %%
for prompt in (copying, story):
    for gate in (False, True):
        each, faster = race(prompt, "prompt-lookup", gate=gate, costs=costs if gate else None)
        print(f"{prompt.name:9} gate {str(gate):6}{each:5.2f} tokens a pass  {faster:5.2f} x plain")
        if prompt is story and not gate:
            found = (
                "faster" if faster > 1.05 else "slower than plain decoding" if faster < 0.95 else "about equal (5 %)"
            )
telling.reveal(found)

# %% [markdown]
# Without a **gate** every guess is tried, also a hopeless one. With it a draft is left out, or cut short, where its
# acceptance so far and the measured $v(n)$ say that it loses. (Times of a busy computer differ from run to run; tokens
# per pass do not.)
#
# **Change one thing:** `decode(copying, "prompt-lookup", temperature=1.0)`: drawn tokens. Are fewer guesses accepted?

# %% [markdown]
# ## How large a draft?
#
# **Token Recycling** (Luo and others, 2024) does not look for repetitions: it remembers which tokens the model found
# likely after each token, and drafts a *tree*: several continuations that share their beginnings, checked in one pass.
# More nodes, more hits. **Predict**:

# %% jupyter={"source_hidden": true}
nodes_guess = workbench.predict(
    "At how many nodes will it be fastest here?", options=["3", "7", "15", "24"],
    answer="Tokens per pass soon grow no more, the price does: past some size each further node costs more than it "
    "brings. A processor's v(n) goes up in steps, as wide as the tiles in which it multiplies; the best trees end just "
    "below one.",
)  # fmt: skip
nodes_guess

# %%
costs, measured = costs_of(as_target(fast)), {}
print("nodes  tokens a pass   v(nodes + 1)   their ratio   measured")
for nodes in (3, 7, 15, 24):
    each, measured[nodes] = race(copying, "token-recycling", rounds=1, nodes=nodes, gate=False)
    price = costs.ratio(nodes + 1, tree=True)
    print(f"{nodes:5}{each:12.2f}{price:15.2f}{each / price:14.2f}{measured[nodes]:11.2f} x")
nodes_guess.reveal(str(max(measured, key=measured.get)))

# %% [markdown]
# Papers use 60 nodes and more, on graphics cards, where $v$ stays near 1 for long.
#
# In the theatre, look at *Circles: what passes brought*. Every circle under the line is a pass that did not pay.

# %%
recycled = decode(copying, "token-recycling", costs=costs)
workbench.theatre(recycled, frame=8)

# %% [markdown]
# **Change one thing:** `decode(story, "token-recycling", gate=False)`: a tree on a text that does not repeat. Does it pay?
#
# ## Filling in instead of going on
#
# A **masked diffusion** model starts from an answer that is all masks and fills in any places, several at a time. It is
# never checked by anything: each place is drawn from *its own* distribution, as if the others did not matter.
#
# A tiny one comes with the workbench; it knows lists of names. Copying a list has one right answer. Shuffling has many,
# and each place may hold any name, but not all the same. **Predict**:

# %% jupyter={"source_hidden": true}
shuffled = workbench.predict(
    "Four names, filled in all at once: how often is the result a shuffled list?", low=0, high=100, unit="%",
    answer="Each place draws a name without knowing of the others, so it is right only by chance: 4! / 4^4 = 9 % with "
    "exact probabilities. It is not the model's fault, and no training mends it.",
)  # fmt: skip
shuffled

# %%
ways = {"one by one": ("unmask", {}), "all at once": ("unmask", {"each": 64}), "when sure": ("confidence", {})}
quality = diffusion.parallel_quality(tasks=("copy", "shuffle"), methods=ways, samples=60, size=4)
shuffled.reveal(100 * quality.independent[1])

# %%
quality

# %% [markdown]
# Copying suffers nothing, since there every place is certain. *When sure* fills in what is above 90 % and waits with the
# rest: fast where that is safe.

# %%
question = "shuffle : Ada Ben Cleo Dan Eve ->"
slow = workbench.generate(diffusion.load(), question, "unmask", temperature=1.0, seed=1)
quick = workbench.generate(diffusion.load(), question, "unmask", temperature=1.0, seed=1, each=64)
print(slow.text, "|", quick.text)
workbench.theatre(slow, quick)

# %% [markdown]
# **Change one thing:** `size=2` in `parallel_quality`, two names to shuffle. Reckon first how often it can be right.
#
# ## What would break this?
#
# Think first, then open.
#
# <details><summary>What if the draft came from a much better model?</summary>
#
# The text would still be the target's, word for word. A draft can only be accepted or refused; quality comes from the
# model that checks.
# </details>
#
# <details><summary>What if the target were the model in transformers, in bf16?</summary>
#
# Rounding differs between a pass of one token and a pass of sixteen. Where two tokens are nearly equally likely the other
# one may win, though the rule is right. <code>check_lossless</code> tells such ties from mistakes.
# </details>
#
# <details><summary>What if many users were served at once?</summary>
#
# Then a pass already holds many columns, the processor is busy with arithmetic and no longer waits for weights: v(n) grows
# at once, and guesses cost what they weigh.
# </details>
#
# **What you take along:** a guess that is checked costs time, never truth; how often it is right depends on the draft,
# whether it pays on v(n) of your machine; and what is drawn at the same time cannot know of each other.
