# %% [markdown]
# # Lab: sparse kernels
#
# *Half of the weights are zero. Why is it not twice as fast, and when is it?*
#
# **Difficulty** ●●○ &nbsp; **Importance** ●●○ &nbsp; **Time** 90 minutes<br>
# **Costs** 15 seconds of computing, 0.7 GB of memory; no GPU, no network
#
# You store a matrix without its zeros in two ways, multiply with what you stored, and work out on paper when that pays.
# In the end your own compiled kernel runs against ours. Every question has the same steps:
#
# 1. **Predict**, where a guess is asked, before you compute. It locks, and is drawn beside what comes out. Nobody marks
#    it; a wrong one teaches more than a right one.
# 2. **Write** the function where it says `YOUR CODE HERE`.
# 3. **Check**: run the cell below. Grading adds other shapes, drawn anew each time.
# 4. **Explain**, then open the answer.
#
# Grade yourself at any time, in a terminal: `workbench check kernels`.
#
# A layer multiplies inputs `x` by weights `W` (outputs x inputs): `y = W @ x`.

# %% setup="start"
import numba
import numpy as np

import workbench
from workbench import labs

W5 = np.array([[0, 2, 0, 0, 1], [0, 0, 0, 0, 0], [3, 0, 0, 4, 0], [0, 0, 5, 0, 0], [6, 0, 0, 0, 7]], dtype=np.float32)
x5 = np.array([1, 2, 3, 4, 5], dtype=np.float32)


def random_sparse(random, rows, columns, density):
    """A matrix float32 with about this share of weights that are not zero."""
    kept = random.random((rows, columns)) < density
    return np.where(kept, random.standard_normal((rows, columns)), 0).astype(np.float32)


# %% [markdown]
# ## 1 · CSR by hand (2 points)
#
# *Compressed sparse rows* reads the matrix row by row and writes down, for every weight that is not zero, its value and
# its column. A third array tells where each row begins: row `n` owns the entries `starts[n]` to `starts[n + 1] - 1`.
#
# **Predict**, and think what two equal neighbours in `starts` mean:

# %%
long = workbench.predict(
    "How many numbers does starts have for a matrix of 5 rows?", low=1, high=10,
    answer="One per row, and one more that says where the last row ends. Two equal neighbours are an empty row.",
)  # fmt: skip
long


# %% answer="csr"
def to_csr(W):
    """values [nnz] like W, columns int [nnz], starts int [rows + 1]."""
    ### BEGIN SOLUTION
    rows, columns = np.nonzero(W)
    starts = np.zeros(len(W) + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=len(W)), out=starts[1:])
    return W[rows, columns], columns, starts
    ### END SOLUTION


# %% test="csr" points=2
values, columns, starts = to_csr(W5)
labs.close(values, np.array([2, 1, 3, 4, 5, 6, 7]), "row by row, from left to right", what="values")
labs.same(columns, np.array([1, 4, 0, 3, 2, 0, 4]), "the column of each value", what="columns")
labs.same(
    starts,
    np.array([0, 2, 2, 4, 5, 7]),
    "one more than there are rows; the last one is the number of values",
    what="starts",
)
### BEGIN HIDDEN TESTS
for number, random in enumerate(labs.cases(6)):
    rows, inputs = random.integers(1, 20, 2)
    W = random_sparse(random, rows, inputs, random.choice([0.0, 0.2, 0.6, 1.0]))
    W[rows - number % 2 :] = 0  # every other time the last row is empty
    expected_values, expected_columns, expected_starts = [], [], [0]
    for row in W:
        for column, value in enumerate(row):
            if value != 0:
                expected_values.append(value)
                expected_columns.append(column)
        expected_starts.append(len(expected_values))
    values, columns, starts = to_csr(W)
    labs.close(values, np.array(expected_values, dtype=np.float32), "only what is not zero", what="values")
    labs.same(columns, np.array(expected_columns, dtype=np.int64), "as many columns as values", what="columns")
    labs.same(starts, np.array(expected_starts), "rows at the end may be empty too", what="starts")
### END HIDDEN TESTS
labs.passed()

# %%
long.reveal(len(to_csr(W5)[2]))

# %% [markdown]
# <details><summary>Explain: can you find the weight in row 2, column 3 as quickly as in a dense matrix?</summary>
#
# No: you have to search row 2. CSR is made to be read from front to back, which is all that a product needs.
# </details>
#
# ## 2 · Multiply what is stored (2 points)
#
# Use the three arrays only, never the dense matrix. A loop over rows is fine.


# %% answer="product"
def csr_product(values, columns, starts, x):
    """float [rows]: W @ x."""
    ### BEGIN SOLUTION
    y = np.zeros(len(starts) - 1, dtype=np.float32)
    for n in range(len(y)):
        mine = slice(starts[n], starts[n + 1])
        y[n] = values[mine] @ x[columns[mine]]
    return y
    ### END SOLUTION


# %% test="product" points=2
arrays = np.array([2, 1, 3, 4, 5, 6, 7.0]), np.array([1, 4, 0, 3, 2, 0, 4]), np.array([0, 2, 2, 4, 5, 7])
labs.close(csr_product(*arrays, x5), np.array([9, 0, 19, 15, 41]), "each value times the x of its column", what="y")
### BEGIN HIDDEN TESTS
for random in labs.cases(6):
    rows, inputs = random.integers(1, 30, 2)
    counts = random.integers(0, inputs + 1, rows)
    columns = np.concatenate([np.sort(random.choice(inputs, c, replace=False)) for c in counts])
    values, x = random.standard_normal(len(columns)), random.standard_normal(inputs)
    expected, entry = np.zeros(rows), 0
    for row, count in enumerate(counts):
        for _ in range(count):
            expected[row] += values[entry] * x[columns[entry]]
            entry += 1
    starts = np.append(0, np.cumsum(counts))
    labs.close(csr_product(values, columns, starts, x), expected, "an empty row gives 0", what="y", tolerance=1e-5)
### END HIDDEN TESTS
labs.passed()

# %% [markdown]
# ## 3 · What it weighs (1 point)
#
# A kernel that decodes one token reads every weight once, so its time is mostly bytes. Count them: `nnz` values of
# `value_bytes`, as many column numbers of `index_bytes`, and `rows + 1` starts of 8 bytes each.
#
# **Predict**:

# %%
smaller = workbench.predict(
    "From which share of zeros on is CSR smaller than dense, with float32 values and 4-byte columns?",
    low=0, high=100, unit="%",
    answer="Each weight that is kept takes 8 bytes instead of 4, so half of them take as much as all. The starts "
    "are little.",
)  # fmt: skip
smaller


# %% answer="bytes"
def csr_bytes(rows, nnz, value_bytes=4, index_bytes=4):
    """Bytes of the three arrays."""
    ### BEGIN SOLUTION
    return nnz * (value_bytes + index_bytes) + (rows + 1) * 8
    ### END SOLUTION


# %% test="bytes" points=1
labs.same(csr_bytes(5, 7), 104, "7 values and columns of 8 bytes together, 6 starts", what="the number of bytes")
labs.same(csr_bytes(5, 7, 2, 2), 76, "use both sizes", what="the number of bytes")
### BEGIN HIDDEN TESTS
for random in labs.cases(4):
    rows, nnz, value, index = (int(n) for n in random.integers(1, [1000, 10**6, 9, 9]))
    arrays = [np.zeros(nnz, f"V{value}"), np.zeros(nnz, f"V{index}"), np.zeros(rows + 1, np.int64)]
    labs.same(
        csr_bytes(rows, nnz, value, index), sum(a.nbytes for a in arrays), "three arrays", what="the number of bytes"
    )
### END HIDDEN TESTS
labs.passed()

# %%
rows, inputs = 2048, 1024
shares = [0.3, 0.5, 0.7, 0.8, 0.9]
kept = [round((1 - s) * rows * inputs) for s in shares]
sizes = {
    "dense fp32": [rows * inputs * 4 / 1e6] * len(shares),
    "CSR fp32": [csr_bytes(rows, n) / 1e6 for n in kept],
    "CSR fp32, short index": [csr_bytes(rows, n, 4, 2) / 1e6 for n in kept],
    "dense int8": [rows * inputs / 1e6] * len(shares),
    "CSR int8, short index": [csr_bytes(rows, n, 1, 2) / 1e6 for n in kept],
}
needed = min(n for n in range(101) if csr_bytes(rows, (100 - n) * rows * inputs // 100) < rows * inputs * 4)
smaller.reveal(needed)

# %%
labs.plot(shares, sizes, title="What is read for one token", x_label="share of zeros", y_label="MB")

# %% [markdown]
# <details><summary>Explain: why is CSR a poor match for int8?</summary>
#
# The column takes twice the room of the weight. The shorter the weights, the more it costs to say where they are; with
# int8 a *bit* per place is cheaper up to 94 % zeros. Formats are bargains between values and places.
# </details>
#
# ## 4 · Blocks (2 points)
#
# If zeros come in blocks, one column number can serve several weights. Take blocks of `height` outputs by 1 input: the
# rows are cut into strips of `height`; in a strip, a column is stored if **any** of its weights is not zero, and then
# whole, with its zeros. `starts` counts columns per strip. The number of rows is a multiple of `height`.


# %% answer="blocks"
def to_blocks(W, height):
    """values [blocks, height], columns int [blocks], starts int [rows / height + 1]."""
    ### BEGIN SOLUTION
    strips = W.reshape(-1, height, W.shape[1]).transpose(0, 2, 1)  # strip, column, row within the strip
    strip, columns = np.nonzero(strips.any(axis=2))
    counts = np.bincount(strip, minlength=len(strips))
    return strips[strip, columns], columns, np.append(0, np.cumsum(counts))
    ### END SOLUTION


# %% test="blocks" points=2
values, columns, starts = to_blocks(W5[:4], 2)
labs.close(
    values, np.array([[2, 0], [1, 0], [3, 0], [0, 5], [4, 0]]), "a row of values is a piece of a column", what="values"
)
labs.same(columns, np.array([1, 4, 0, 2, 3]), "from left to right within a strip", what="columns")
labs.same(starts, np.array([0, 2, 5]), "two strips", what="starts")
### BEGIN HIDDEN TESTS
for random in labs.cases(6):
    strips, height, inputs = random.integers(1, 6), int(random.choice([1, 2, 4, 16])), random.integers(1, 12)
    W = random_sparse(random, strips * height, inputs, random.choice([0.0, 0.1, 0.5]))
    expected_values, expected_columns, expected_starts = [], [], [0]
    for top in range(0, len(W), height):
        for column in range(inputs):
            piece = W[top : top + height, column]
            if np.count_nonzero(piece):
                expected_values.append(piece)
                expected_columns.append(column)
        expected_starts.append(len(expected_columns))
    values, columns, starts = to_blocks(W, height)
    labs.close(values, np.array(expected_values).reshape(-1, height), "store the zeros of a block too", what="values")
    labs.same(columns, np.array(expected_columns, dtype=np.int64), "one column number per block", what="columns")
    labs.same(starts, np.array(expected_starts), "starts count blocks, not weights", what="starts")
### END HIDDEN TESTS
labs.passed()

# %% [markdown]
# ## 5 · Multiply with blocks (2 points)
#
# A block is `height` weights that share one input: one number of `x` times a short vector. That is exactly what a
# processor's wide registers do in one instruction.


# %% answer="blockproduct"
def block_product(values, columns, starts, x):
    """float [rows]: W @ x, from what to_blocks returns."""
    ### BEGIN SOLUTION
    strips, height = len(starts) - 1, values.shape[1]
    y = np.zeros((strips, height))
    for s in range(strips):
        mine = slice(starts[s], starts[s + 1])
        y[s] = x[columns[mine]] @ values[mine]
    return y.reshape(-1)
    ### END SOLUTION


# %% test="blockproduct" points=2
pieces = np.array([[2, 0], [1, 0], [3, 0], [0, 5], [4, 0.0]])
result = block_product(pieces, np.array([1, 4, 0, 2, 3]), np.array([0, 2, 5]), x5)
labs.close(
    result, np.array([9, 0, 19, 15]), "add x of the column times the whole block to the strip's outputs", what="y"
)
### BEGIN HIDDEN TESTS
for random in labs.cases(6):
    strips, height, inputs = random.integers(1, 6), int(random.choice([1, 2, 4, 16])), random.integers(1, 12)
    counts = random.integers(0, inputs + 1, strips)
    columns = np.concatenate([np.sort(random.choice(inputs, c, replace=False)) for c in counts])
    values, x = random.standard_normal((len(columns), height)), random.standard_normal(inputs)
    dense = np.zeros((strips * height, inputs))
    owner = np.repeat(np.arange(strips), counts)
    for block in range(len(columns)):
        dense[owner[block] * height : (owner[block] + 1) * height, columns[block]] = values[block]
    result = block_product(values, columns, np.append(0, np.cumsum(counts)), x)
    labs.close(result, dense @ x, "a strip without blocks gives zeros", what="y", tolerance=1e-5)
### END HIDDEN TESTS
labs.passed()

# %% [markdown]
# The workbench has such kernels. **Predict**:

# %%
blocks = workbench.predict(
    "80 % zeros, one token: how many times as fast as our dense kernel are single weights (csr), and blocks of 16?",
    low=0.5, high=20, unit="x",
    answer="Bytes: 16 weights share a column number. Order: a block reads 16 neighbouring weights into a register and "
    "one x; CSR has to collect an x from another place for every single weight.",
)  # fmt: skip
blocks

# %%
found = {}
for pattern, form in [("unstructured", "csr"), ("16x1", "16x1")]:
    timed = workbench.time_kernels((2048, 1024), pattern=pattern, sparsity=0.8, formats=form, tokens=1, repeats=5)
    row = timed.row(form, 1)
    found[form] = row.own_ratio
    print(f"{form:5} {row.weight_bytes / 1e6:4.1f} MB")
blocks.reveal(found)

# %% [markdown]
# ## 6 · The roofline (2 points)
#
# A kernel has to compute and to read, at the same time. The slower one decides:
#
# $$ t \ge \max\left(\frac{\text{operations}}{\text{peak}}, \frac{\text{bytes}}{\text{bandwidth}}\right) $$
#
# For `tokens` inputs at once, each stored weight costs one multiplication and one addition **per token**, but is read
# once. Count the bytes of weights, of inputs and of outputs, the last two in float32.


# %% answer="roofline"
def roofline(rows, inputs, tokens, nnz, weight_bytes, peak, bandwidth):
    """Seconds, and what decides: "memory" or "arithmetic".

    nnz weights are stored in weight_bytes bytes all together; peak is in operations per second, bandwidth in bytes per
    second.
    """
    ### BEGIN SOLUTION
    computing = 2 * nnz * tokens / peak
    reading = (weight_bytes + 4 * tokens * (rows + inputs)) / bandwidth
    return max(computing, reading), "memory" if reading > computing else "arithmetic"
    ### END SOLUTION


# %% test="roofline" points=2
seconds, limit = roofline(1000, 500, 1, 500_000, 2_000_000, 100e9, 20e9)
labs.close(seconds, 1.003e-4, "one token: 2 MB of weights and 6 kB of activations at 20 GB/s", what="the time")
labs.same(limit, "memory", "reading takes longer", what="what decides")
seconds, limit = roofline(1000, 500, 128, 500_000, 2_000_000, 100e9, 20e9)
labs.close(seconds, 1.28e-3, "128 tokens: 128 million operations at 100 billion a second", what="the time")
labs.same(limit, "arithmetic", "every weight is used 128 times", what="what decides")
### BEGIN HIDDEN TESTS
for random in labs.cases(12):
    rows, inputs, tokens = (int(n) for n in random.integers(1, [3000, 3000, 200]))
    nnz = int(rows * inputs * random.random())
    peak, bandwidth, size = random.uniform(1e10, 1e12), random.uniform(1e9, 1e11), nnz * int(random.integers(1, 9))
    operations, moved = 0, size
    for _ in range(tokens):
        operations += nnz + nnz
        moved += 4 * rows + 4 * inputs
    seconds, limit = roofline(rows, inputs, tokens, nnz, size, peak, bandwidth)
    expected = max(operations / peak, moved / bandwidth)
    labs.close(seconds, expected, "operations and activations grow with tokens, weights do not", what="the time")
    labs.same(limit, "memory" if expected > operations / peak else "arithmetic", what="what decides")
### END HIDDEN TESTS
labs.passed()

# %%
tokens = [1, 2, 4, 8, 16, 32, 64, 128]
machine = {"peak": 100e9, "bandwidth": 20e9}  # change them to your machine's
lines = {}
for name, nnz, size in [("dense", 2**21, 2**23), ("CSR, 80 % zeros", 419_430, csr_bytes(2048, 419_430, 4, 2))]:
    lines[name] = [roofline(2048, 1024, t, nnz, size, **machine)[0] / t * 1e6 for t in tokens]
labs.plot(tokens, lines, title="Least time per token", x_label="tokens at once", y_label="microseconds")

# %% [markdown]
# <details><summary>Explain: the roofline says that skipping 80 % helps with 128 tokens too. Does it, in a real
# kernel?</summary>
#
# Only if the few operations that remain run at the same peak. A dense kernel keeps its registers full and nearly
# reaches it; CSR, which collects its inputs one by one, stays far below. The roofline is a bound, not a promise.
# </details>
#
# ## 7 · Break-even (2 points)
#
# The time of a sparse kernel is nearly a straight line in its density: something fixed, and something for each weight
# that is kept. From a few measurements, fit the line by least squares, and find the **density at which it meets the
# time of the dense kernel**: below it, sparse wins. If the line stays below up to density 1 return 1, and if sparse
# never wins return 0.


# %% answer="breakeven"
def break_even(densities, seconds, dense_seconds):
    """The density in [0, 1] below which the sparse kernel is faster."""
    ### BEGIN SOLUTION
    slope, fixed = np.polyfit(densities, seconds, 1)
    if slope <= 0:
        return 1.0 if fixed + slope <= dense_seconds else 0.0
    return float(np.clip((dense_seconds - fixed) / slope, 0, 1))
    ### END SOLUTION


# %% test="breakeven" points=2
labs.close(break_even([0.1, 0.2, 0.5], [2, 3, 6], 4), 0.3, "time = 1 + 10 x density meets 4 at 0.3", what="the density")
labs.close(break_even([0.1, 0.5], [5, 6], 4), 0.0, "dearer than dense even when nearly empty", what="the density")
labs.close(break_even([0.1, 0.5], [1, 2], 4), 1.0, "below dense everywhere", what="the density")
### BEGIN HIDDEN TESTS
for random in labs.cases(8):
    points = np.linspace(0.1, 0.9, random.integers(3, 9)) + random.uniform(-0.05, 0.05)
    fixed, slope, dense = random.uniform(0, 2), random.uniform(0.5, 4), random.uniform(0, 6)
    seconds = fixed + slope * points + random.normal(0, 0.02, len(points))
    middle = points - points.mean()  # least squares once more, from its definition
    tilt = (middle @ seconds) / (middle @ middle)
    expected = points.mean() + (dense - seconds.mean()) / tilt
    expected = min(max(expected, 0.0), 1.0)
    labs.close(
        break_even(list(points), list(seconds), dense),
        expected,
        "a straight line through all points",
        what="the density",
    )
### END HIDDEN TESTS
labs.passed()

# %%
shares = [0.5, 0.7, 0.9]
for form in ("csr", "bitmap"):
    times = [
        workbench.time_kernels((2048, 1024), pattern="unstructured", sparsity=s, formats=form, tokens=1, repeats=5)
        for s in shares
    ]
    dense = np.median([t.row("dense", 1).ms for t in times])
    found = break_even([1 - s for s in shares], [t.row(form, 1).ms for t in times], dense)
    print(f"{form:7} pays from {1 - found:.0%} zeros on")

# %% [markdown]
# <details><summary>Explain: who should the opponent be?</summary>
#
# The best dense kernel there is, with the same kind of values. Against a slow one, every format looks good.
# </details>
#
# ## 8 · The contest (3 points)
#
# Now a real kernel: compiled by numba, on bare arrays, writing into `out`. The points are for being right, on any
# matrix. Then it runs against our `csr` kernel, in turns, on one thread; the score is the ratio, 1 is as fast as ours.
# It earns no points, only respect.
#
# Think of: what the inner loop does per weight; whether a sum has to be finished before the next one can begin; what
# `fastmath=True` allows; how far apart the values of `x` are that you need. **Predict**:

# %%
score = workbench.predict(
    "What will your first score be?", low=0.05, high=2, unit="x",
    answer="A plain loop waits for each sum before it begins the next. Several sums at once, or leave to reorder them, "
    "is most of the way; registers that hold 16 weights are the rest.",
)  # fmt: skip
score


# %% answer="contest"
@numba.njit
def fast_csr(values, columns, starts, x, out):
    """out[:] = W @ x; values float32, columns int32, starts int64, x and out float32."""
    ### BEGIN SOLUTION
    for n in range(len(starts) - 1):
        first, end = starts[n], starts[n + 1]
        middle = first + (end - first) // 4 * 4
        a = b = c = d = np.float32(0)  # four sums that do not wait for each other
        for e in range(first, middle, 4):
            a += values[e] * x[columns[e]]
            b += values[e + 1] * x[columns[e + 1]]
            c += values[e + 2] * x[columns[e + 2]]
            d += values[e + 3] * x[columns[e + 3]]
        for e in range(middle, end):
            a += values[e] * x[columns[e]]
        out[n] = a + b + c + d
    ### END SOLUTION


# %% test="contest" points=3 seconds=60
out = np.full(5, np.nan, dtype=np.float32)
arrays = (
    np.array([2, 1, 3, 4, 5, 6, 7], np.float32),
    np.array([1, 4, 0, 3, 2, 0, 4], np.int32),
    np.array([0, 2, 2, 4, 5, 7]),
)
fast_csr(*arrays, x5, out)
labs.close(out, np.array([9, 0, 19, 15, 41]), "write every element of out, also for an empty row", what="out")
labs.require(hasattr(fast_csr, "py_func"), "fast_csr is not compiled", "keep @numba.njit above it")
### BEGIN HIDDEN TESTS
for random in labs.cases(6):
    rows, inputs = (int(n) for n in random.integers(1, 60, 2))
    W = random_sparse(random, rows, inputs, random.choice([0.0, 0.1, 0.5, 1.0]))
    W[random.random(rows) < 0.2] = 0
    row, column = np.nonzero(W)
    starts = np.searchsorted(row, np.arange(rows + 1))
    x, out = random.standard_normal(inputs).astype(np.float32), np.full(rows, np.nan, dtype=np.float32)
    fast_csr(W[row, column], column.astype(np.int32), starts, x, out)
    expected = [sum(float(w) * float(v) for w, v in zip(line, x, strict=True)) for line in W]
    labs.close(
        out, np.array(expected), "rows of any length, also shorter than what you do at once", what="out", tolerance=1e-4
    )
### END HIDDEN TESTS
labs.contest(fast_csr)
labs.passed()

# %%
score.reveal(labs.contest(fast_csr))  # once more, beside your guess

# %% [markdown]
# <details><summary>Explain: what does ours do that yours does not?</summary>
#
# It multiplies 16 weights in one instruction and collects their 16 inputs in another, with 2-byte columns where the
# matrix is narrow enough. Read it: `kernels/workbench_kernels/csr.py` in the sources, or print
# <code>workbench.execute.instructions("csr", tokens=1)</code>.
# </details>
#
# **What you take along:** a format is a bargain between values and places; one token waits for bytes, many tokens for
# arithmetic; and a kernel is fast when what it needs next lies next to what it has.
#
# Grade the lab with `workbench check kernels`.
