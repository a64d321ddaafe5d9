# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
#   workbench:
#     lesson:
#       covers:
#       - CSR
#       - bitmaps
#       - blocks
#       - break-even
#       - roofline
#       - bf16 and int8
#       - compiled models
#       - the kernel lab
#       difficulty: 2
#       importance: 2
#       megabytes: 1450
#       minutes:
#       - 15
#       - 20
#       seconds: 48
#       title: Make zeros pay
# ---

# %% [markdown]
# # Make zeros pay
#
# *A zero that is skipped is worth something only if skipping it is cheap.*
#
# **Difficulty** ●●○ &nbsp; **Importance** ●●○ &nbsp; **Time** 15–20 minutes<br>
# **Costs** 48 seconds of computing, 1.45 GB of memory; no GPU, no network
#
# Lesson 01 ended with a model whose weights are half zeros and that is not a bit faster. Here you will see why,
# find out from where on zeros pay, and make that same model decode several times faster than before. Measured, with the
# answers checked.

# %% [markdown]
# ## One matrix, one thread
#
# Nearly all the time of a language model goes into multiplying activations by matrices of weights. The piece of code
# that does one such multiplication is a **kernel**. Take a matrix of 4096 outputs and 1024 inputs, and one thread, so
# that you measure kernels and nothing else.
#
# Run the first cell, and you can begin at any of the parts below it, with `at="pruned"` behind `"02"` also at those that
# need a pruned model.

# %%
import torch
from IPython.display import display

import workbench
from workbench import lessons
from workbench.execute import break_even, instructions

torch.set_num_threads(1)
shape = (4096, 1024)
lm = workbench.load(dtype=torch.bfloat16)
bench = lessons.start("02", model=lm, samples=8, seqlen=64, windows=8, keep=1)


def show(timings, names, tokens):
    print(f"{tokens} token{'s' * (tokens > 1)}")
    for name in names:
        row = timings.row(name, tokens)
        print(f"  {name:14}{row.ms:7.3f} ms  {row.ratio:5.2f} x torch  {row.weight_bytes / 1e6:5.1f} MB")


# %% [markdown]
# ## Half of the multiplications
#
# Half of its weights are zero, at random places. The usual format for that is **CSR**, *compressed sparse rows*: only
# the other half is stored, each weight with the number of its column. That halves the multiplications. **Predict**:

# %% tags=["look"] jupyter={"source_hidden": true}
csr = workbench.predict(
    "How many times as fast as the dense kernel is PyTorch's CSR, with half of the weights?", low=0.1, high=4, unit="x",
    answer="Bytes: a weight takes 4 bytes, the number of its column another 8. Half of the weights times 12 bytes is "
    "more than all of them times 4.\n\nOrder: a dense kernel reads activations one after the other, 16 in one "
    "instruction. CSR has to look up for each weight which activation it needs, and fetches it from wherever it is.",
)  # fmt: skip
csr

# %% tags=["look"]
half = workbench.time_kernels(shape, pattern="unstructured", sparsity=0.5, formats="csr", tokens=1)
show(half, ["torch", "torch-csr"], tokens=1)
csr.reveal(half.row("torch-csr", 1).ratio)

# %% [markdown]
# Storing columns in 2 bytes, as our own `csr` does, mends the first. But look at who it is compared with: our own
# `dense` kernel is the stricter opponent.

# %% tags=["look"]
show(half, ["torch", "torch-csr", "csr", "dense"], tokens=1)

# %% [markdown]
# **Change one thing:** `sparsity=0.9` in the cell before. Who wins now?
#
# ## Where is the break-even?
#
# The time of a sparse kernel is roughly a straight line (the last column of the table says how roughly): something fixed,
# and something for each weight that is kept. Where the line crosses the time of the dense kernel, sparsity begins to pay.
# The opponent is our own dense kernel.
#
# A second format enters: **bitmap** stores the weights that are not zero and one *bit* per weight that says which they
# are. The kernel unpacks them in registers and then multiplies as if they were dense. **Predict**:

# %% tags=["look"] jupyter={"source_hidden": true}
crossing = workbench.predict(
    "From how many percent of zeros on is CSR faster than our dense kernel, with one token?", low=0, high=100, unit="%",
    answer="A weight in CSR costs some three times what a dense one costs: its column has to be read, and its input fetched "
    "from wherever it is. So about two of three have to be zero before skipping them pays.",
)  # fmt: skip
crossing

# %% tags=["look"]
lines = break_even((2048, 1024), formats=("csr", "bitmap"), tokens=(1, 128), peer="dense", repeats=9)
found = next(row.sparsity for row in lines.rows if row.name == "csr" and row.tokens == 1)
crossing.reveal(100 * found if found < 1 else 100)

# %% tags=["look"]
lines

# %% [markdown]
# *Density* is the share of weights kept: sparsity grows to the left, and the dense kernel's time is 1. CSR's line is
# steep, since every weight that is kept costs more than a dense one. The bitmap's line is nearly flat: with 128 tokens it
# takes about as long as the dense kernel whatever is zero, with one token it is below.
#
# <details><summary>Why does the bitmap gain with one token and not with 128?</summary>
#
# It saves bytes, no multiplications. So the question is which of the two the kernel waits for. That is the next section.
# </details>
#
# **Change one thing:** `tokens=(8,)`. Does CSR pay sooner or later?

# %% [markdown]
# ## Waiting for memory, or for arithmetic?
#
# A kernel has to fetch bytes and to multiply, at the same time. The slower of the two decides:
#
#     time >= max( operations / peak,  bytes / bandwidth )
#
# With one token (decoding) every weight is fetched to be used once. With 128 (reading a prompt) it is used 128 times.
# In the **roofline**, the last picture of the result, further right means more work per byte. The slopes are bandwidths
# (dashed: what lies in a cache can be fetched faster), the flat roofs are what the processor can multiply. Nothing can
# lie above.
#
# Now 80 % zeros, in two formats: the bitmap saves bytes and still multiplies everything; `csr-panels` reads more bytes, and
# skips what is zero. **Predict**:

# %% tags=["look"] jupyter={"source_hidden": true}
waits = workbench.predict(
    "Which of the two is faster while a prompt of 128 tokens is read?", options=["bitmap", "csr-panels"],
    answer="A prompt waits for arithmetic, so what is multiplied counts, and csr-panels multiplies a fifth. With one token it is "
    "the other way round: fewer bytes win.",
)  # fmt: skip
waits

# %% tags=["look"]
random = {"pattern": "unstructured", "sparsity": 0.8}
both = workbench.time_kernels(shape, **random, formats=("bitmap", "csr-panels"), tokens=(1, 128))
waits.reveal(min(("bitmap", "csr-panels"), key=lambda name: both.row(name, 128).ms))

# %% tags=["look"]
both

# %% [markdown]
# Circles lie under the slopes: decoding waits for memory, so **fewer bytes are more speed**. Squares lie under the roof:
# a prompt waits for arithmetic, so only **fewer multiplications** help, provided that a sparse kernel does them nearly as
# fast as a dense one.
#
# **Change one thing:** `tokens=(4, 16)`. Where do the points move, and when does the winner change?

# %% [markdown]
# ## What blocks buy
#
# Let zeros come in blocks. In a `16x1` block 16 outputs keep or lose the same input: one column number serves 16
# weights, and these fill a register of the processor exactly. Same sparsity, same number of multiplications. **Predict**:

# %% tags=["look"] jupyter={"source_hidden": true}
blocks = workbench.predict(
    "80 % zeros in 16x1 blocks, 128 tokens: how many times as fast as the dense kernel?", low=0.5, high=8, unit="x",
    answer="Skipping perfectly would give 5. A block that fills a register needs one look-up for 16 multiplications, so "
    "most of the five is really gained. Scattered zeros need a look-up each, and gain less than half of it.",
)  # fmt: skip
blocks

# %% tags=["look"]
formats = {"unstructured": "csr-panels", "4x1": "4x1", "16x1": "16x1", "bsr16": "bsr16"}
print("Speed relative to the dense kernel")
for pattern, name in formats.items():
    timed = workbench.time_kernels(shape, pattern=pattern, sparsity=0.8, formats=name, tokens=(1, 128))
    one, many = timed.row(name, 1).own_ratio, timed.row(name, 128).own_ratio
    print(f"  {pattern:13} 1 token {one:4.1f}x   128 tokens {many:4.1f}x")
    if pattern == "16x1":
        found = many
blocks.reveal(found)

# %% [markdown]
# (`bsr16` has blocks of 16 outputs by 16 inputs.) With 80 % zeros, 5x is what skipping perfectly would give. With one
# token there can be more: a fifth of the matrix may fit into a cache that is too small for all of it.
#
# What the processor does in the innermost loop shows where the rest goes. Multiply-adds have `fma` or `fmla` in their
# names; everything else is the price of skipping.

# %% tags=["look"]
for name in ("csr", "16x1"):
    print(f"{name:5}", instructions(name, tokens=8))

# %% [markdown]
# Blocks make skipping cheap, and choosing hard: a block goes with everything in it, the important weights too. Once a
# block fills the registers, larger ones gain little. The shape is a bargain between the kernel and the model.
#
# **Change one thing:** `sparsity=0.95`. What would skipping perfectly give, and how much of it is there?

# %% [markdown]
# ## Fewer bits
#
# If bytes are what decoding waits for, then besides leaving weights out one can store them shorter: **bf16** keeps the
# first half of each float's bits, **int8** rounds to 255 steps per row. Both go with any format. **Predict**, for one token:

# %% tags=["look"] jupyter={"source_hidden": true}
short = workbench.predict(
    "How many times as fast as our dense fp32 kernel is dense int8, without a single zero?", low=0.5, high=10, unit="x",
    answer="A quarter of the bytes is about four times the speed. Where the shorter matrix fits into a cache that is too small "
    "for the longer one, it is more.",
)  # fmt: skip
short

# %% tags=["look"]
kinds = ("fp32", "bf16", "int8")
random = {"pattern": "unstructured", "sparsity": 0.5}
bits = workbench.time_kernels(shape, **random, formats="bitmap", values=kinds, tokens=1)
show(bits, ["dense", "bitmap", "dense-bf16", "bitmap-bf16", "dense-int8", "bitmap-int8"], tokens=1)
short.reveal(bits.row("dense", 1).ms / bits.row("dense-int8", 1).ms)

# %% [markdown]
# <details><summary>A bitmap of half-empty fp32 takes 53 % of the bytes, of int8 63 %. Why not 50?</summary>
#
# The bit per weight. Beside 32 bits it is nothing; beside 8 it is an eighth. The shorter the weights, the less a zero is
# worth.
# </details>
#
# **Change one thing:** `sparsity=0.8`. What does the bitmap gain in fp32, what in int8?

# %% [markdown]
# ## Your own model
#
# This is the model of lesson 01: SmolLM2-135M with half of its weights set to zero by Wanda.

# %% checkpoint="pruned"
bench.prune(method="wanda", sparsity=0.5, speed=False)

# %% [markdown]
# ## A kernel for each layer
#
# `sparsify` times the formats on each layer's own weight and gives it the fastest, or leaves the layer to torch and says
# why. It tells you what it did, layer by layer. **Predict**:

# %% jupyter={"source_hidden": true}
layered = workbench.predict(
    "Every layer with its fastest kernel: how many times as fast as dense does the whole model decode?",
    low=0.5, high=15, unit="x",
    answer="A model this small spends most of a step between its multiplications: Python calls one layer after the other, "
    "thousands of small operations for a single token. No kernel for matrices can make that faster.",
)  # fmt: skip
layered

# %%
sparse = workbench.sparsify(bench.model(1), values="int8", tokens=1)
whole = workbench.speed(sparse, lm, prompt_tokens=64, new_tokens=16, repeats=3)
display(sparse)
del sparse  # it takes memory
layered.reveal(whole.decode.ratio)

# %%
whole

# %% [markdown]
# *Prefill* is the prompt, *decode* the answer. Compare with the speed-ups of the matrices alone: much of what they gained
# is gone.
#
# **Change one thing:** `values="fp32"` in `sparsify`. Which layers are left to torch now?

# %% [markdown]
# ## One call per token
#
# `compile` packs all matrices anew and runs the whole step (multiplications, attention, norms) in one call of compiled
# code. The pruned model itself is not touched. In a session it is measured at once: everything runs in turns with the
# *dense* model in transformers.
#
# One thing at a time: first the pruned model in int8 with all its zeros stored, so that nothing is skipped, then without
# them. **Predict** the second:

# %% jupyter={"source_hidden": true}
last = workbench.predict(
    "How many times as fast as transformers does the half-empty int8 model decode?", low=0.5, high=30, unit="x",
    answer="Compiling takes away what was not multiplication, and short weights take away bytes: that is the first line. "
    "The zeros take away some more bytes, and time follows. So little of it is due to sparsity; the two lines say how "
    "much, and lesson 05 goes through it step by step.",
)  # fmt: skip
last

# %%
for form, values in [("dense", "int8"), ("bitmap", "int8")]:
    made = bench.compile(form, values, variant=1)
    speed, stored = made.speed.decode, bench.model(made.number).nbytes / 1e6
    print(
        f"{form:7}{values:5}{stored:5.0f} MB a token   {speed.ratio:5.1f} x transformers ({speed.low:.1f} to {speed.high:.1f})"
    )
last.reveal(speed.ratio)

# %% [markdown]
# Is it still the same model? Its perplexity says so, and so does a greedy answer. Int8 rounds; where two words are nearly
# equally likely it may take the other one.

# %%
prompt = "Photosynthesis is the process"
for variant in (bench.variants[-1], bench.variants[0]):
    text = bench.generate(prompt, variant=variant.number, max_new_tokens=16, detail=False).text
    print(f"perplexity {variant.after.perplexity:6.2f}  {variant.name:40} {text!r}")

# %% [markdown]
# (`workbench.execute.whole.time_model` is stricter: before it times anything, it compares all logits with those of a twin
# in float64. That takes 5 GB.)
#
# **Change one thing:** `("bitmap", "bf16")` as a third line of the loop. Do the zeros bring more where weights are longer?

# %% [markdown]
# ## The kernel lab: the same with your hands
#
# Pick a layer of your model or a matrix of your own, choose a pattern, and press **Run**: bars, roofline and, if you ask
# for it, the break-even. **Copy as Python** shows the code.

# %%
workbench.kernel_lab({"pruned": bench.model(1), "dense": lm}, "layers.3.mlp.up_proj")

# %% [markdown]
# **Change one thing**, and guess before each:
#
# 1. A random matrix under `2:4`: half of the weights, two of every four. Is it faster than the bitmap at 50 %?
# 2. `16x1` at 50, 80 and 95 %. Where does the speed-up stop following the zeros?
# 3. The same with *cold* caches, as if the weights came from memory. Which kernels suffer most?

# %% [markdown]
# ## What would break this?
#
# Think first, then open.
#
# <details><summary>What if the opponent were the slowest dense kernel one can find?</summary>
#
# Any sparse kernel would look good. That is why the column <em>to own dense</em> is there, and why
# <code>break_even</code> takes <code>peer="dense"</code>.
# </details>
#
# <details><summary>What if one pruned to 16x1 blocks, 80 %, to have the fastest kernel?</summary>
#
# You would get it, and a model that babbles: try <code>workbench.prune(lm, "magnitude", 0.8, pattern="16x1")</code> and
# its perplexity. Speed that nobody can use is not measured in milliseconds.
# </details>
#
# <details><summary>What if the whole model fitted into the cache?</summary>
#
# Bytes would be cheap even with one token, arithmetic would decide, and the bitmap would lose its advantage.
# </details>
#
# **What you take along:** a zero is worth what skipping it saves, minus what knowing about it costs; decoding waits for
# bytes, a prompt for arithmetic; and before you speed up a step, find out what it spends its time on.
