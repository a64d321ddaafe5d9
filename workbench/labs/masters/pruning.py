# %% [markdown]
# # Lab: pruning
#
# *Which weights can go, and how do the others make up for them?*
#
# **Difficulty** ●●○ &nbsp; **Importance** ●●● &nbsp; **Time** 90 minutes<br>
# **Costs** 15 seconds of computing, 1.2 GB of memory; no GPU, no network
#
# You write four ways to prune a layer, from the oldest to a small SparseGPT, and then decide how much each layer of a
# model should lose. Every question has the same steps:
#
# 1. **Predict**, where a guess is asked, before you compute. It locks, and is drawn beside what comes out. Nobody marks
#    it; a wrong one teaches more than a right one.
# 2. **Write** the function where it says `YOUR CODE HERE`.
# 3. **Check**: run the cell below. It compares on a 5 x 5 example. Grading adds other shapes, drawn anew each time.
# 4. **Explain**, then open the answer.
#
# Grade yourself at any time, in a terminal: `workbench check pruning`.
#
# A layer multiplies inputs `X` (tokens x inputs) by weights `W` (outputs x inputs): `Y = X @ W.T`. A **mask** has the
# shape of `W`; `True` means the weight is kept.

# %% setup="start"
import numpy as np

import workbench
from workbench import labs


def hessian(X, damp=0.01):
    """X^T X, with a little of its mean diagonal added so that it can be inverted."""
    H = X.T @ X
    return H + damp * np.mean(np.diag(H)) * np.eye(len(H))


W5 = np.array(
    [
        [4, -1, 2, 0.5, 3],
        [-6, 2.5, 1.2, -3.5, 0.2],
        [0.3, 7, -2.2, 1.5, -4.5],
        [5, -0.7, 0.9, 2.1, 1.1],
        [-8, 5.8, 5.5, 1.3, -0.1],
    ]
)
X5 = np.array(
    [
        [1, 0, 3, 1, 10],
        [-1, 0.1, 3, 2, -9],
        [2, 0, -3, -1, 11],
        [0, -0.1, 4, 1, -10],
        [1, 0, -2, 2, 8],
        [1, 0.2, 1, 0, 9],
    ]
)

# %% [markdown]
# ## 1 · Magnitude (1 point)
#
# The oldest idea: small weights matter least. Of the whole matrix, the `sparsity` smallest by absolute value go, as
# exactly `round(sparsity * W.size)` weights. No two absolute values are equal here.


# %% answer="magnitude"
def magnitude_mask(W, sparsity):
    """bool [N, K]: True for the weights that stay."""
    ### BEGIN SOLUTION
    gone = round(sparsity * W.size)
    order = np.argsort(np.abs(W), axis=None)
    mask = np.ones(W.size, dtype=bool)
    mask[order[:gone]] = False
    return mask.reshape(W.shape)
    ### END SOLUTION


# %% test="magnitude" points=1
kept = np.array([[1, 0, 0, 0, 1], [1, 0, 0, 1, 0], [0, 1, 0, 0, 1], [1, 0, 0, 0, 0], [1, 1, 1, 0, 0]], dtype=bool)
labs.same(magnitude_mask(W5, 0.6), kept, "sort all absolute values together, not row by row", what="the mask")
### BEGIN HIDDEN TESTS
for random in labs.cases(6):
    W, sparsity = random.standard_normal(random.integers(2, 30, 2)), random.choice([0.0, 0.3, 0.5, 0.77, 1.0])
    gone, sizes = round(sparsity * W.size), np.sort(np.abs(W).ravel())
    smallest_kept = sizes[gone] if gone < W.size else np.inf
    labs.same(magnitude_mask(W, sparsity), np.abs(W) >= smallest_kept, f"sparsity {sparsity}: {gone} weights go")
    before = W.copy()
    magnitude_mask(W, sparsity)
    labs.same(W, before, "leave W as it is: return a mask")
### END HIDDEN TESTS
labs.passed()

# %% [markdown]
# <details><summary>Explain: half of a matrix goes by magnitude. Do all rows lose half?</summary>
#
# No. A row of small weights may lose everything, and its output is then constant. That is why later methods compare
# within a row.
# </details>
#
# ## 2 · N:M (2 points)
#
# Hardware likes order. In `2:4`, of every 4 neighbours in a row exactly the 2 largest stay. **Predict**: both leave
# half of the weights. The free choice of question 1 keeps 93 % of the sum of squares of random weights. And 2:4?

# %%
ordered = workbench.predict(
    "How much of the sum of squares of random weights does 2:4 keep?", low=50, high=100, unit="%",
    answer="The free choice is the best of all masks with as many zeros, so any rule can only lose; 2:4 loses a "
    "little, since the two largest of four are not always among the largest half.",
)  # fmt: skip
ordered


# %% answer="nm"
def nm_mask(W, n, m):
    """bool [N, K]: of every m neighbours in a row the n largest by absolute value stay; K is a multiple of m."""
    ### BEGIN SOLUTION
    groups = np.abs(W).reshape(-1, m)
    mask = np.zeros(groups.shape, dtype=bool)
    best = np.argsort(groups, axis=1)[:, m - n :]
    np.put_along_axis(mask, best, True, axis=1)
    return mask.reshape(W.shape)
    ### END SOLUTION


# %% test="nm" points=2
kept = np.array([[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0], [1, 0, 0, 1], [1, 1, 0, 0]], dtype=bool)
labs.same(
    nm_mask(W5[:, :4], 2, 4), kept, "cut each row into pieces of m, and choose within each piece", what="the mask"
)
### BEGIN HIDDEN TESTS
for random in labs.cases(6):
    n, m = [(2, 4), (1, 4), (3, 4), (4, 8), (1, 2), (2, 3)][random.integers(6)]
    W = random.standard_normal((random.integers(1, 12), m * random.integers(1, 7)))
    kept = np.zeros(W.shape, dtype=bool)
    for row in range(W.shape[0]):
        for start in range(0, W.shape[1], m):
            piece = list(np.abs(W[row, start : start + m]))
            for value in sorted(piece)[m - n :]:
                kept[row, start + piece.index(value)] = True
    labs.same(nm_mask(W, n, m), kept, f"{n}:{m}: of every {m} neighbours {n} stay", what="the mask")
### END HIDDEN TESTS
labs.passed()

# %%
random = np.random.default_rng(0)
W = random.standard_normal((64, 64))
masks = {"free choice": magnitude_mask(W, 0.5), "2:4": nm_mask(W, 2, 4)}
ordered.reveal({name: 100 * np.sum(W[mask] ** 2) / np.sum(W**2) for name, mask in masks.items()})

# %% [markdown]
# <details><summary>Explain: what is the price of order, and who pays it?</summary>
#
# Some of the squares, here a few percent. The model pays, in quality; the kernel gains, since it knows where to look.
# </details>
#
# ## 3 · What a layer notices (1 point)
#
# A layer does not see weights, it sees outputs. The **relative output error** is
#
# $$ e = \frac{\lVert X W^T - X (W \odot M)^T \rVert^2}{\lVert X W^T \rVert^2} $$
#
# with squares summed over all tokens and outputs.


# %% answer="error"
def output_error(W, mask, X):
    """The relative output error, a number."""
    ### BEGIN SOLUTION
    return np.sum((X @ (W * ~mask).T) ** 2) / np.sum((X @ W.T) ** 2)
    ### END SOLUTION


# %% test="error" points=1
labs.close(
    output_error(W5, W5 > 0, X5),
    0.5433833,
    "squares of differences of outputs, over squares of outputs",
    what="the error",
)
### BEGIN HIDDEN TESTS
for random in labs.cases(5):
    (N, K), T = random.integers(2, 12, 2), random.integers(1, 20)
    W, X, mask = random.standard_normal((N, K)), random.standard_normal((T, K)), random.random((N, K)) < 0.6
    above = below = 0.0
    for t in range(T):
        for n in range(N):
            full = sum(X[t, k] * W[n, k] for k in range(K))
            above += (full - sum(X[t, k] * W[n, k] for k in range(K) if mask[n, k])) ** 2
            below += full**2
    labs.close(output_error(W, mask, X), above / below, "sum the squares before you divide", what="the error")
### END HIDDEN TESTS
labs.passed()

# %% [markdown]
# ## 4 · Wanda (2 points)
#
# A large weight on an input that is always near zero does nothing. Wanda (Sun et al. 2023, arXiv:2306.11695) scores
#
# $$ S_{ij} = |W_{ij}| \cdot \lVert X_j \rVert_2 $$
#
# where $\lVert X_j \rVert_2$ is the norm of input $j$ over all tokens, and compares **within each row**: every row
# loses its `round(sparsity * K)` lowest scores. Look at `X5`: input 1 is nearly silent, input 4 loud. **Predict**:

# %%
silent = workbench.predict(
    "Which column of the 5 x 5 mask will be empty, with 40 % of each row gone?", options=["0", "1", "2", "3", "4"],
    answer="That of the silent input 1, although it holds some of the largest weights: what they multiply is next to "
    "nothing.",
)  # fmt: skip
silent


# %% answer="wanda"
def wanda_mask(W, X, sparsity):
    """bool [N, K]: True for the weights that stay; each row keeps equally many."""
    ### BEGIN SOLUTION
    score = np.abs(W) * np.linalg.norm(X, axis=0)
    gone = round(sparsity * W.shape[1])
    mask = np.ones(W.shape, dtype=bool)
    np.put_along_axis(mask, np.argsort(score, axis=1)[:, :gone], False, axis=1)
    return mask
    ### END SOLUTION


# %% test="wanda" points=2
kept = np.array([[1, 0, 1, 0, 1], [1, 0, 1, 1, 0], [0, 0, 1, 1, 1], [1, 0, 0, 1, 1], [1, 0, 1, 1, 0]], dtype=bool)
labs.same(
    wanda_mask(W5, X5, 0.4), kept, "norms of the columns of X (over tokens), ranks within each row", what="the mask"
)
### BEGIN HIDDEN TESTS
for random in labs.cases(6):
    (N, K), T = random.integers(3, 20, 2), random.integers(4, 30)
    W, X, sparsity = (
        random.standard_normal((N, K)),
        random.standard_normal((T, K)),
        random.choice([0.0, 0.25, 0.5, 0.7]),
    )
    X *= 10.0 ** random.uniform(-2, 2, K)
    kept = np.ones((N, K), dtype=bool)
    for n in range(N):
        score = [abs(W[n, k]) * sum(x * x for x in X[:, k]) ** 0.5 for k in range(K)]
        for k in sorted(range(K), key=score.__getitem__)[: round(sparsity * K)]:
            kept[n, k] = False
    labs.same(
        wanda_mask(W, X, sparsity), kept, f"sparsity {sparsity}: every row loses {round(sparsity * K)}", what="the mask"
    )
### END HIDDEN TESTS
labs.passed()

# %%
for name, mask in {"magnitude": magnitude_mask(W5, 0.4), "Wanda": wanda_mask(W5, X5, 0.4)}.items():
    print(f"{name:10} loses {output_error(W5, mask, X5):.1%} of the output")
silent.reveal(str(wanda_mask(W5, X5, 0.4).sum(axis=0).argmin()))

# %% [markdown]
# <details><summary>Explain: Wanda needs data but no gradients and no inverse. What does it overlook?</summary>
#
# It treats each weight as if the others could not help. Two inputs that always rise together can stand in for each
# other: the first may go if the second takes over its weight. That takes a repair, which is what comes next.
# </details>
#
# ## 5 · One weight goes, the others help (2 points)
#
# If row $w$ loses weight $q$, which new values of the others keep the output closest? With $H = X^T X$ the answer has a
# closed form, the Optimal Brain Surgeon (Hassibi and Stork 1993):
#
# $$ w' = w - \frac{w_q}{[H^{-1}]_{qq}} \, H^{-1}_{:,q} $$
#
# **Predict**, and find the reason in the formula:

# %%
exact = workbench.predict(
    "What is the new weight q, whatever H is?", options=["w_q / 2", "exactly zero", "it depends on H"],
    answer="Entry q of the column is the one that it is divided by, so all of w_q is taken away: it is gone exactly.",
)  # fmt: skip
exact


# %% answer="surgeon"
def remove_one(w, H, q):
    """float [K]: the row w after weight q went and the others were adjusted."""
    ### BEGIN SOLUTION
    inverse = np.linalg.inv(H)
    return w - w[q] / inverse[q, q] * inverse[:, q]
    ### END SOLUTION


# %% test="surgeon" points=2
H5 = np.array([[2, 1, 0, 0, 0], [1, 2, 0, 0, 0], [0, 0, 3, 0, 0], [0, 0, 0, 4, 2], [0, 0, 0, 2, 4.0]])
labs.close(
    remove_one(np.array([4, 2, 1, 8, 6.0]), H5, 0),
    np.array([0, 4, 1, 8, 6]),
    "input 0 moves with input 1 only",
    what="w'",
)
### BEGIN HIDDEN TESTS
for random in labs.cases(6):
    K = int(random.integers(2, 12))
    X, w, q = random.standard_normal((3 * K, K)), random.standard_normal(K), int(random.integers(K))
    others = [k for k in range(K) if k != q]
    best = np.zeros(K)  # least squares: the others alone imitate the old output
    best[others] = np.linalg.lstsq(X[:, others], X @ w, rcond=None)[0]
    labs.close(remove_one(w, X.T @ X, q), best, "the result is the least-squares best without weight q", what="w'")
### END HIDDEN TESTS
labs.passed()

# %%
left = remove_one(W5[0], hessian(X5), 3)[3]
exact.reveal("exactly zero" if abs(left) < 1e-9 else "it depends on H")

# %% [markdown]
# <details><summary>Explain: what does the formula say when H is diagonal?</summary>
#
# Then $H^{-1}_{:,q}$ has one entry only: $w_q$ becomes zero and nothing else changes. Inputs that have nothing to do
# with each other cannot help each other out.
# </details>
#
# ## 6 · Whom will the others miss least? (2 points)
#
# The formula also tells the damage: $w_q^2 / [H^{-1}]_{qq}$. A tiny SparseGPT can choose by it: **within each row**
# the `round(sparsity * K)` weights with the least
#
# $$ S_{ij} = \frac{W_{ij}^2}{[H^{-1}]_{jj}} $$
#
# go, with `H = hessian(X)` from the first cell.


# %% answer="choice"
def surgeon_mask(W, X, sparsity):
    """bool [N, K]: True for the weights that stay."""
    ### BEGIN SOLUTION
    damage = W**2 / np.diag(np.linalg.inv(hessian(X)))
    mask = np.ones(W.shape, dtype=bool)
    np.put_along_axis(mask, np.argsort(damage, axis=1)[:, : round(sparsity * W.shape[1])], False, axis=1)
    return mask
    ### END SOLUTION


# %% test="choice" points=2
twins = np.array([[1, 1, 0], [2, 2, 0], [-1, -1, 1], [1, 1.1, 1], [0, 0, -1.0]])  # inputs 0 and 1 say the same
kept = np.array([[0, 1, 1], [1, 0, 1]], dtype=bool)
labs.same(
    surgeon_mask(np.array([[3, 3.1, 1], [3.1, 3, 1]]), twins, 1 / 3),
    kept,
    "one of the twins can go, though its weight is large",
    what="the mask",
)
### BEGIN HIDDEN TESTS
for random in labs.cases(6):
    (N, K), T = random.integers(3, 10, 2), 40
    W, X, gone = random.standard_normal((N, K)), random.standard_normal((T, K)) @ random.standard_normal((K, K)), K // 2
    H, kept = hessian(X), np.ones((N, K), dtype=bool)
    for n in range(N):
        damage = []
        for q in range(K):  # the damage itself: without weight q, with the others at their best
            others = [k for k in range(K) if k != q]
            w = np.zeros(K)
            w[others] = np.linalg.solve(H[np.ix_(others, others)], (H @ W[n])[others])
            damage.append((W[n] - w) @ H @ (W[n] - w))
        kept[n, np.argsort(damage)[:gone]] = False
    labs.same(
        surgeon_mask(W, X, gone / K), kept, "squares of weights over the diagonal of the inverse", what="the mask"
    )
### END HIDDEN TESTS
labs.passed()

# %% [markdown]
# ## 7 · A tiny SparseGPT (3 points)
#
# Many weights go at once, and repairing after each in every order would take forever. SparseGPT (Frantar and Alistarh
# 2023, arXiv:2301.00774) goes through the columns **once, from left to right**. In column $j$, every weight that the
# mask drops becomes zero, and only the columns **to the right** make up for it:
#
# $$ W_{:,R} \leftarrow W_{:,R} + (w_j - w_j \odot m_j) \; H_{jR} \, H_{RR}^{-1}, \qquad R = \{j+1, \dots, K-1\} $$
#
# The columns to the left are settled and stay. Then the mask is applied to column $j$ itself.


# %% answer="repair"
def repair(W, mask, X):
    """float [N, K]: zero where the mask is False, the rest adjusted from left to right; uses hessian(X)."""
    ### BEGIN SOLUTION
    W, upper = W.copy(), np.linalg.cholesky(np.linalg.inv(hessian(X))).T  # row j: the inverse without columns < j
    for j in range(W.shape[1]):
        lost = np.where(mask[:, j], 0, W[:, j]) / upper[j, j]
        W[:, j:] -= np.outer(lost, upper[j, j:])
    return W * mask
    ### END SOLUTION


# %% test="repair" points=3
twins = np.array([[1, 1, 0], [2, 2, 0], [-1, -1, 1], [1, 1.1, 1], [0, 0, -1.0]])  # inputs 0 and 1 say the same
result = repair(np.array([[3, 3.0, 1]]), np.array([[False, True, True]]), twins)
labs.close(result, np.array([[0, 5.93223, 0.904093]]), "input 1 takes over what input 0 said", what="W", tolerance=1e-5)
### BEGIN HIDDEN TESTS
for random in labs.cases(6):
    (N, K), T = random.integers(2, 9, 2), 40
    W, X = random.standard_normal((N, K)), random.standard_normal((T, K)) @ random.standard_normal((K, K))
    mask, H, expected = random.random((N, K)) < 0.5, hessian(X), W.copy()
    for j in range(K):
        lost, right = np.where(mask[:, j], 0, expected[:, j]), slice(j + 1, K)
        expected[:, j] -= lost
        if j + 1 < K:
            expected[:, right] += np.linalg.solve(H[right, right], np.outer(H[right, j], lost)).T
    before = W.copy()
    labs.close(
        repair(W, mask, X),
        expected,
        "only columns to the right of j change; use their part of H",
        what="W",
        tolerance=1e-5,
    )
    labs.same(W, before, "leave W as it is: work on a copy")
### END HIDDEN TESTS
labs.passed()

# %% [markdown]
# Now all of them on a layer of a real model: magnitude, 2:4, Wanda, and your SparseGPT, all without half of the
# weights. **Predict** which loses least; and the order of the other three?

# %%
least = workbench.predict(
    "Which of them loses the least of the output?", options=["magnitude", "2:4", "Wanda", "tiny SparseGPT"],
    answer="The first three only choose. The last one also lets the weights that stay make up for those that went, and "
    "inputs of a real layer are alike enough for that to be worth much.",
)  # fmt: skip
least

# %%
lm = workbench.load(dtype="fit")  # in bf16 where memory is small, and then it says so
print(lm)
real = labs.real_layers(lm, [f"layers.{n}.{part}" for n in (0, 10, 29) for part in ("self_attn.o_proj", "mlp.up_proj")])
W, X = real["layers.10.mlp.up_proj"]
ways = {
    "magnitude": W * magnitude_mask(W, 0.5),
    "2:4": W * nm_mask(W, 2, 4),
    "Wanda": W * wanda_mask(W, X, 0.5),
    "tiny SparseGPT": repair(W, surgeon_mask(W, X, 0.5), X),
}
lost = {name: np.sum((X @ (W - pruned).T) ** 2) / np.sum((X @ W.T) ** 2) for name, pruned in ways.items()}
for name in sorted(lost, key=lost.get, reverse=True):
    print(f"{name:15} loses {lost[name]:.1%} of the output")
least.reveal(min(lost, key=lost.get))

# %% [markdown]
# <details><summary>Explain: these are the tokens that were used to choose. Is that fair?</summary>
#
# To compare masks, yes. As a promise, no: the repair fits these very tokens. On others it gains less, and with few
# tokens it may do harm. That is why the workbench never measures on calibration text.
# </details>
#
# ## 8 · Sensitivity (1 point)
#
# Layers differ. Prune each one alone, at several sparsities, and note the error: that is its **sensitivity curve**.
# Your function gets the way to make a mask and the way to measure as arguments, so that it works with any.


# %% answer="sensitivity"
def sensitivity(layers, sparsities, mask_of, error_of):
    """float [layers, sparsities]: the error of each layer (W, X) at each sparsity.

    mask_of(W, X, sparsity) makes a mask, error_of(W, mask, X) measures it.
    """
    ### BEGIN SOLUTION
    return np.array([[error_of(W, mask_of(W, X, s), X) for s in sparsities] for W, X in layers])
    ### END SOLUTION


# %% test="sensitivity" points=1
pairs = [(np.full((2, 2), 3.0), np.ones((1, 2))), (np.full((2, 2), 5.0), 2 * np.ones((1, 2)))]
curves = sensitivity(pairs, [0.1, 0.5], lambda W, X, s: W + s, lambda W, mask, X: float(mask[0, 0] * X[0, 0]))
labs.close(curves, np.array([[3.1, 3.5], [10.2, 11.0]]), "a row per layer, a column per sparsity", what="the curves")
### BEGIN HIDDEN TESTS
for random in labs.cases(3):
    count, steps = random.integers(1, 6, 2)
    pairs, sparsities = (
        [(random.random((3, 3)), random.random((2, 3))) for _ in range(count)],
        list(random.random(steps)),
    )
    expected = np.empty((count, steps))
    for a, (W, X) in enumerate(pairs):
        for b, s in enumerate(sparsities):
            expected[a, b] = W.sum() * s + X.sum()
    curves = sensitivity(pairs, sparsities, lambda W, X, s: W * s, lambda W, mask, X: mask.sum() + X.sum())
    labs.close(curves, expected, "each layer with its own W and X", what="the curves")
### END HIDDEN TESTS
labs.passed()

# %%
grid = [0.3, 0.5, 0.7, 0.8]
measured = sensitivity(list(real.values()), grid, wanda_mask, output_error)
lines = {name.removeprefix("layers."): errors for name, errors in zip(real, measured, strict=True)}
labs.plot(grid, lines, title="Sensitivity, Wanda", x_label="sparsity", y_label="output error")

# %% [markdown]
# <details><summary>Explain: an output error of 10 % in layer 0 and in layer 29: the same harm?</summary>
#
# No. The error of an early layer goes through all layers behind it, that of the last one through none. Output error
# ranks masks of one layer; between layers it is a first guess. What counts in the end is measured on the model.
# </details>
#
# ## 9 · Who should lose how much? (2 points)
#
# Each layer may take one of the sparsities of its curve, and their **mean** has to reach a target. Choose so that the
# **sum of errors** is least. There are few layers here: trying everything is fine.


# %% answer="allocate"
def allocate(curves, sparsities, target):
    """A list with one index into sparsities per layer: mean sparsity at least target, least sum of errors."""
    ### BEGIN SOLUTION
    import itertools

    layers = len(curves)
    fits = (
        choice
        for choice in itertools.product(range(len(sparsities)), repeat=layers)
        if sum(sparsities[c] for c in choice) >= target * layers - 1e-9
    )
    return list(min(fits, key=lambda choice: sum(curves[n][c] for n, c in enumerate(choice))))
    ### END SOLUTION


# %% test="allocate" points=2
example = np.array([[0.1, 0.2, 0.9], [0.1, 0.15, 0.2], [0.0, 0.5, 0.8]])
labs.same(allocate(example, [0.0, 0.5, 1.0], 0.5), [1, 2, 0], "0.5, 1 and 0: the mean is 0.5", what="the choice")
### BEGIN HIDDEN TESTS
for random in labs.cases(5):
    layers, steps = random.integers(2, 5), random.integers(2, 5)
    sparsities = [round(0.9 * k / (steps - 1), 3) for k in range(steps)]
    curves = np.cumsum(random.random((layers, steps)), axis=1)
    target = float(random.uniform(0.1, 0.85))
    best = {0.0: 0.0}  # least error by sum of sparsities, layer by layer
    for row in curves:
        reached = {}
        for total, error in best.items():
            for s, more in zip(sparsities, row, strict=True):
                key = round(total + s, 6)
                reached[key] = min(reached.get(key, np.inf), error + more)
        best = reached
    expected = min(error for total, error in best.items() if total >= target * layers - 1e-6)
    choice = allocate(curves, sparsities, target)
    labs.same(np.shape(choice), (layers,), "one index per layer", what="the shape of the choice")
    mean = np.mean([sparsities[c] for c in choice])
    labs.require(
        mean >= target - 1e-6,
        f"a mean sparsity of {mean:.3f} is below the target {target:.3f}",
        "the mean has to reach it",
    )
    labs.close(
        sum(curves[n][c] for n, c in enumerate(choice)), expected, "another choice costs less", what="the sum of errors"
    )
### END HIDDEN TESTS
labs.passed()

# %%
choice = allocate(measured, grid, 0.5)
uniform = measured[:, grid.index(0.5)].sum()
for name, index in zip(real, choice, strict=True):
    print(f"{name:28} {grid[index]:.0%}")
print(f"sum of errors {sum(measured[n][c] for n, c in enumerate(choice)):.3f}; 50 % everywhere: {uniform:.3f}")

# %% [markdown]
# <details><summary>Explain: with 210 matrices and 4 sparsities, trying everything takes 4 to the power of 210 steps.
# What then?</summary>
#
# If every curve bends upwards, going greedily works: always raise the sparsity where one more step costs least. In
# general, build up best sums layer by layer, as the hidden check does; or search.
# </details>
#
# **What you take along:** what counts is the output, not the weight; inputs decide which weights matter; what is left
# can make up for much of what went; and layers do not deserve equal treatment.
#
# Grade the lab with `workbench check pruning`.
