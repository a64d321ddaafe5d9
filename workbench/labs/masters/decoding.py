# %% [markdown]
# # Lab: speculative decoding
#
# *A small model guesses, the large one checks. Why is the text exactly the large model's, and when does it pay?*
#
# **Difficulty** ●●● &nbsp; **Importance** ●●○ &nbsp; **Time** 90 minutes<br>
# **Costs** 20 seconds of computing, 1.1 GB of memory; no GPU, no network
#
# You build speculative sampling from its acceptance rule, prove that it is exact, on paper and by chi-square, and catch
# a rule that looks right and is not. Then a tree of guesses, and the question what all this costs. Every question has
# the same steps:
#
# 1. **Predict**, where a guess is asked, before you compute. It locks, and is drawn beside what comes out. Nobody marks
#    it; a wrong one teaches more than a right one.
# 2. **Write** the function where it says `YOUR CODE HERE`.
# 3. **Check**: run the cell below. Grading adds other cases, drawn anew each time.
# 4. **Explain**, then open the answer.
#
# Grade yourself at any time, in a terminal: `workbench check decoding`.
#
# All distributions are arrays over a small vocabulary: `p` is what the large model (the *target*) says of the next
# token, `q` what the small one (the *draft*) says.

# %% setup="start"
import numpy as np

import workbench
from workbench import labs

p5 = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
q5 = np.array([0.1, 0.5, 0.15, 0.25, 0.0])


def random_pair(random, size):
    """Two distributions that are not near each other, some of their entries zero."""
    while True:
        pair = random.dirichlet(np.full(size, 0.7), 2)
        pair[random.random(pair.shape) < 0.2] = 0
        pair[:, int(random.integers(size))] += 0.1
        p, q = pair / pair.sum(axis=1, keepdims=True)
        if np.abs(p - q).sum() > 0.5:
            return p, q


# %% [markdown]
# ## 1 · How often is a guess accepted? (1 point)
#
# The rule (Leviathan et al. 2023, arXiv:2211.17192; Chen et al. 2023, arXiv:2302.01318): the draft draws a token $x$
# from $q$; the target accepts it with probability $\min(1, p(x) / q(x))$. What is the probability that **some** drawn
# token is accepted?
#
# **Predict** for `p5` and `q5` above:

# %%
kept = workbench.predict(
    "Which share of the guesses is accepted?", low=0, high=100, unit="%",
    answer="The sum of the smaller of the two over all tokens: 0.1 + 0.3 + 0.15 + 0.1 + 0. Where the draft is "
    "generous, the surplus is refused.",
)  # fmt: skip
kept


# %% answer="acceptance"
def acceptance(p, q):
    """The probability that a token drawn from q is accepted."""
    ### BEGIN SOLUTION
    return np.minimum(p, q).sum()
    ### END SOLUTION


# %% test="acceptance" points=1
labs.close(acceptance(p5, q5), 0.65, "sum q(x) min(1, p(x) / q(x)) over x; mind q(x) = 0", what="the probability")
### BEGIN HIDDEN TESTS
for random in labs.cases(6):
    p, q = random_pair(random, random.integers(2, 30))
    expected = sum(float(b) * min(1.0, float(a) / float(b)) for a, b in zip(p, q, strict=True) if b > 0)
    labs.close(acceptance(p, q), expected, "q(x) times the probability that x is accepted", what="the probability")
### END HIDDEN TESTS
labs.passed()

# %%
kept.reveal(100 * acceptance(p5, q5))

# %% [markdown]
# <details><summary>Explain: what is it for p = q, and what has it to do with the distance between them?</summary>
#
# 1; and in general it is $1 - \frac12 \sum_x |p(x) - q(x)|$, one minus the total variation distance. A draft is as good
# as it is near.
# </details>
#
# ## 2 · What if it is refused? (1 point)
#
# Then the target draws itself, but **not from p**: tokens on which the draft is generous have had their chance. It
# draws from
#
# $$ r(x) = \frac{\max(0,\, p(x) - q(x))}{\sum_y \max(0,\, p(y) - q(y))} $$
#
# If $p = q$ nothing is ever refused, and any answer would do: return $p$.


# %% answer="residual"
def residual(p, q):
    """The distribution of the token that replaces a refused one."""
    ### BEGIN SOLUTION
    rest = np.maximum(p - q, 0)
    return rest / rest.sum() if rest.sum() > 0 else p
    ### END SOLUTION


# %% test="residual" points=1
labs.close(
    residual(p5, q5), np.array([0.3, 0, 0, 0, 0.05]) / 0.35, "what p has more than q, made to sum to 1", what="r"
)
labs.close(residual(p5, p5), p5, "p = q: return p, do not divide by zero", what="r")
### BEGIN HIDDEN TESTS
for random in labs.cases(6):
    p, q = random_pair(random, random.integers(2, 30))
    more = [max(0.0, float(a) - float(b)) for a, b in zip(p, q, strict=True)]
    labs.close(residual(p, q), np.array(more) / sum(more), "clip at zero first, then divide by the sum", what="r")
    labs.close(residual(q, q), q, "p = q: return p", what="r")
### END HIDDEN TESTS
labs.passed()

# %% [markdown]
# ## 3 · One step of speculative sampling (3 points)
#
# Put both together. You get a token `x` that was drawn from `q`, and a generator `random` of random numbers
# (`random.random()` gives one in [0, 1), `random.choice(len(p), p=r)` draws from `r`).


# %% answer="step"
def step(p, q, x, random):
    """(token, accepted): x and True, or a token drawn from the residual and False."""
    ### BEGIN SOLUTION
    if random.random() * q[x] < p[x]:
        return x, True
    rest = np.maximum(p - q, 0)
    return int(random.choice(len(p), p=rest / rest.sum())), False
    ### END SOLUTION


# %% test="step" points=3
random = np.random.default_rng(labs.seed())
labs.same(
    [step(p5, q5, 0, random)[0] for _ in range(50)],
    [0] * 50,
    "q(0) < p(0): token 0 is always accepted",
    what="the tokens",
)
drawn = [step(p5, q5, 3, random) for _ in range(2000)]
labs.same(np.shape(drawn), (2000, 2), "return a pair: token, accepted", what="the shape of the answers")
share = np.mean([accepted for _, accepted in drawn])
labs.require(
    abs(share - 0.4) < 0.06, f"token 3 is accepted in {share:.0%} of cases, expected 40 %", "p(3) / q(3) = 0.4"
)
### BEGIN HIDDEN TESTS
for random in labs.cases(3):
    p, q = random_pair(random, 6)
    count = 20_000
    got, accepted = np.zeros(6), 0
    for x in random.choice(6, count, p=q):
        token, kept = step(p, q, int(x), random)
        labs.require(not kept or token == x, f"token {x} was accepted, and {token} came out", "an accepted token stays")
        got[int(token)] += 1
        accepted += bool(kept)
    # bounds that a right answer passes but once in a million runs
    sigma = np.sqrt(count * np.maximum(p * (1 - p), 1 / count))
    far = np.abs(got - count * p) > 6 * sigma
    if far.any() or (got[p == 0] > 0).any():
        labs.close(got / count, p, "the tokens that come out must follow p", what="the distribution", tolerance=1e-9)
    rate = np.minimum(p, q).sum()
    labs.require(
        abs(accepted - count * rate) < 6 * np.sqrt(count * max(rate * (1 - rate), 1 / count)),
        f"{accepted / count:.1%} of the drafts were accepted, expected {rate:.1%}",
        "accept x with probability min(1, p(x) / q(x))",
    )
### END HIDDEN TESTS
labs.passed()

# %% [markdown]
# ## 4 · The proof, on paper (2 points)
#
# Take *any* rule of this kind: `accept[x]` is the probability to accept $x$, `rest` the distribution of replacements.
# What comes out is
#
# $$ s(x) = q(x)\, a(x) + \Big(1 - \sum_y q(y)\, a(y)\Big)\, r(x) $$
#
# Write that down as code. Before you do: for which $a$ and $r$ is $s = p$, whatever $p$ and $q$ are? **Predict**:

# %%
hasty_sum = workbench.predict(
    "If refused tokens were replaced from p itself, how likely would token 0 be? Under p it is 40 %.",
    low=0, high=100, unit="%",
    answer="10 % of all tokens come from the draft and are accepted. The 35 % that are refused bring 0.4 of "
    "themselves: 14 %. Together 24 %; the residual would have brought the missing 30 %.",
)  # fmt: skip
hasty_sum


# %% answer="emitted"
def emitted(q, accept, rest):
    """The distribution of the token that comes out."""
    ### BEGIN SOLUTION
    passed = q * accept
    return passed + (1 - passed.sum()) * rest
    ### END SOLUTION


# %% test="emitted" points=2
half = emitted(q5, np.full(5, 0.5), np.array([1.0, 0, 0, 0, 0]))
labs.close(
    half, np.array([0.55, 0.25, 0.075, 0.125, 0]), "accepted mass, and the refused mass spread as rest says", what="s"
)
### BEGIN HIDDEN TESTS
for random in labs.cases(6):
    size = int(random.integers(2, 12))
    p, q = random_pair(random, size)
    accept, rest = random.random(size), random.dirichlet(np.ones(size))
    expected = np.zeros(size)
    for x in range(size):  # every way that a token can come out
        expected[x] += q[x] * accept[x]
        for y in range(size):
            expected[y] += q[x] * (1 - accept[x]) * rest[y]
    labs.close(emitted(q, accept, rest), expected, "for any accept and rest, not the right ones only", what="s")
### END HIDDEN TESTS
labs.passed()

# %%
right = np.divide(np.minimum(p5, q5), q5, out=np.zeros(5), where=q5 > 0)
print("p           ", p5)
print("right rule  ", emitted(q5, right, residual(p5, q5)))
print("rest = p    ", emitted(q5, right, p5))
hasty_sum.reveal(100 * emitted(q5, right, p5)[0])

# %% [markdown]
# <details><summary>Explain: why does drawing the replacement from p itself favour the wrong tokens?</summary>
#
# $q\,a = \min(p, q)$ is what was accepted. To get $p$ one has to add $p - \min(p, q) = \max(0, p - q)$, and that is the
# residual times the refused mass. Drawn from $p$, a token that the draft often proposes gets a second chance.
# </details>
#
# ## 5 · The proof, by chi-square (2 points)
#
# Code has bugs that paper has not. Draw many tokens, count them, and ask whether the counts fit $p$:
#
# $$ \chi^2 = \sum_{x:\, p(x) > 0} \frac{(n_x - N p(x))^2}{N p(x)}, \qquad \text{degrees of freedom} = \#\{x: p(x) >
# 0\} - 1 $$
#
# with $N = \sum n_x$. A token that came up although $p(x) = 0$ refutes the rule at once: $\chi^2 = \infty$.


# %% answer="chisquare"
def chi_square(counts, p):
    """(statistic, degrees of freedom)."""
    ### BEGIN SOLUTION
    possible = p > 0
    degrees = int(possible.sum()) - 1
    if counts[~possible].any():
        return np.inf, degrees
    expected = counts.sum() * p[possible]
    return float(((counts[possible] - expected) ** 2 / expected).sum()), degrees
    ### END SOLUTION


# %% test="chisquare" points=2
statistic, degrees = chi_square(np.array([50, 20, 15, 10, 5]), p5)
labs.close(statistic, 35 / 6, "100/40 + 100/30 + 0 + 0 + 0", what="the statistic")
labs.same(degrees, 4, "one less than there are possible tokens", what="the degrees of freedom")
labs.same(
    chi_square(np.array([5, 1]), np.array([1.0, 0.0]))[0], np.inf, "an impossible token came up", what="the statistic"
)
### BEGIN HIDDEN TESTS
for random in labs.cases(6):
    p = random_pair(random, int(random.integers(2, 20)))[0]
    counts = np.where(p > 0, random.integers(0, 100, len(p)), 0)
    counts[np.argmax(p)] += 1
    total, expected = sum(int(n) for n in counts), 0.0
    for n, share in zip(counts, p, strict=True):
        if share > 0:
            expected += n * n / (total * share)  # sum of n^2 / E, less N: the same by algebra
    statistic, degrees = chi_square(counts, p)
    labs.close(
        statistic,
        expected - total,
        "divide by what was expected, not by what came",
        what="the statistic",
        tolerance=1e-5,
    )
    labs.same(degrees, sum(1 for share in p if share > 0) - 1, "possible tokens only", what="the degrees of freedom")
### END HIDDEN TESTS
labs.passed()

# %% [markdown]
# Below, your `step` and a rule that draws replacements from $p$, 20,000 tokens each. With 4 degrees of freedom, chance
# alone goes above 18.5 once in a thousand times. **Predict**:

# %%
caught = workbench.predict(
    "The chi-square of the right rule, and of the one that draws from p?", low=1, high=10_000,
    answer="Chance alone gives about as much as there are degrees of freedom. A distribution that is off by a tenth "
    "gives hundreds and more with so many draws, and the more draws, the more.",
)  # fmt: skip
caught


# %%
def hasty(p, q, x, random):
    """Looks right: accepts as it should, draws again from p."""
    return (x, True) if random.random() * q[x] < p[x] else (int(random.choice(len(p), p=p)), False)


random, found = np.random.default_rng(0), {}
for rule in (step, hasty):
    tokens = [rule(p5, q5, int(x), random)[0] for x in random.choice(5, 20_000, p=q5)]
    statistic, degrees = chi_square(np.bincount(tokens, minlength=5), p5)
    found[rule.__name__] = statistic
    print(f"{rule.__name__:6} chi-square {statistic:8.1f} with {degrees} degrees of freedom")
caught.reveal(found)

# %% [markdown]
# <details><summary>Explain: a rule passes with 200 tokens. Is it right?</summary>
#
# Not shown to be wrong. A test has power: a wrong rule whose distribution is off by little needs many draws to be
# caught. Before you believe a test that passes, see it fail, as here with the hasty rule.
# </details>
#
# ## 6 · How many tokens does a pass bring? (1 point)
#
# The draft guesses $k$ tokens; each is accepted with probability $\alpha$, independently, until the first refusal. The
# target's own token comes on top in any case. The expected number of tokens per pass is
#
# $$ 1 + \alpha + \alpha^2 + \dots + \alpha^k $$


# %% answer="tokens"
def tokens_per_pass(alpha, k):
    """Expected tokens per pass; alpha from 0 to 1, both included."""
    ### BEGIN SOLUTION
    return sum(alpha**n for n in range(k + 1))
    ### END SOLUTION


# %% test="tokens" points=1
labs.close(tokens_per_pass(0.5, 2), 1.75, "1 + 0.5 + 0.25", what="the number of tokens")
labs.close(tokens_per_pass(1.0, 4), 5, "everything is accepted: mind a division by zero", what="the number of tokens")
### BEGIN HIDDEN TESTS
for random in labs.cases(6):
    alpha, k = float(random.choice([0.0, random.random(), 1.0])), int(random.integers(0, 12))
    expected = sum((n + 1) * alpha**n * (1 - alpha) for n in range(k)) + (k + 1) * alpha**k  # by how many are accepted
    labs.close(
        tokens_per_pass(alpha, k), expected, "k guesses and one token of the target's own", what="the number of tokens"
    )
### END HIDDEN TESTS
labs.passed()

# %% [markdown]
# ## 7 · A tree of guesses (2 points)
#
# Why guess one continuation only? In a **draft tree** every node is a token, `parents[n]` is the node before it, and -1
# means that it hangs on the text itself; parents come before their children. One pass checks all nodes at once, if
# every node sees its own past only: itself and its ancestors, not its siblings. That is a mask.


# %% answer="mask"
def tree_mask(parents):
    """bool [N, N]: row n is True at node n and at its ancestors."""
    ### BEGIN SOLUTION
    mask = np.eye(len(parents), dtype=bool)
    for n, parent in enumerate(parents):
        if parent >= 0:
            mask[n] |= mask[parent]
    return mask
    ### END SOLUTION


# %% test="mask" points=2
seen = np.array([[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 0, 1, 0, 0], [0, 0, 0, 1, 0], [1, 0, 1, 0, 1]], dtype=bool)
labs.same(tree_mask([-1, 0, 0, -1, 2]), seen, "node 4 hangs on 2, which hangs on 0", what="the mask")
### BEGIN HIDDEN TESTS
for random in labs.cases(6):
    parents = [int(random.integers(-1, n)) for n in range(int(random.integers(1, 20)))]
    seen = np.zeros((len(parents), len(parents)), dtype=bool)
    for n in range(len(parents)):
        at = n
        while at != -1:
            seen[n, at] = True
            at = parents[at]
    labs.same(tree_mask(parents), seen, "follow parents up to -1", what="the mask")
### END HIDDEN TESTS
labs.passed()

# %% [markdown]
# ## 8 · Walk down the tree (2 points)
#
# Greedy text: the target's most likely token after node $n$ is `best[n + 1]`, and `best[0]` is the one after the text
# itself. Start at the text; as long as a child holds the target's token, go there; where none does, the target's token
# ends the pass. Two children of a node never hold the same token.


# %% answer="walk"
def walk(tokens, parents, best):
    """The list of all new tokens: those of the accepted nodes, and the target's own at the end."""
    ### BEGIN SOLUTION
    found, node = [], -1
    while True:
        found.append(int(best[node + 1]))
        node = next((n for n in range(len(tokens)) if parents[n] == node and tokens[n] == found[-1]), None)
        if node is None:
            return found
    ### END SOLUTION


# %% test="walk" points=2
labs.same(
    walk([7, 1, 2, 8, 3], [-1, 0, 0, -1, 2], [7, 2, 9, 3, 9, 5]),
    [7, 2, 3, 5],
    "7, then 2, then 3 were guessed; 5 was not",
    what="the new tokens",
)
labs.same(
    walk([7, 1], [-1, 0], [6, 1, 1]),
    [6],
    "nothing was guessed right: the target's own token still comes",
    what="the new tokens",
)
labs.same(walk([], [], [4]), [4], "an empty draft is plain decoding", what="the new tokens")
### BEGIN HIDDEN TESTS
for random in labs.cases(12):
    paths = {()}  # the tree as a set of texts: a trie
    for _ in range(int(random.integers(0, 14))):
        start = sorted(paths)[int(random.integers(len(paths)))]
        paths.add((*start, int(random.integers(3))))
    order = sorted(paths - {()}, key=len)
    tokens = [path[-1] for path in order]
    parents = [order.index(path[:-1]) if len(path) > 1 else -1 for path in order]
    after = {path: int(random.integers(3)) for path in paths}
    text = ()
    while text in paths:
        text = (*text, after[text])
    best = [after[()], *(after[path] for path in order)]
    labs.same(
        walk(tokens, parents, best), list(text), "go to the child that holds best[node + 1]", what="the new tokens"
    )
### END HIDDEN TESTS
labs.passed()

# %% [markdown]
# <details><summary>Explain: the tree has 5 nodes and 3 tokens came of it. What did the others cost?</summary>
#
# The pass had 6 columns instead of 4. As long as it waits for weights, more columns cost little; past some width each
# one costs its share. That is the last question.
# </details>
#
# ## 9 · When does it pay? (2 points)
#
# `v[n - 1]` is the time of a pass over `n` tokens, relative to one (`v[0]` is 1), and drafting a token takes `c` such
# times. With `k` guesses, a pass checks `k + 1` tokens. The speed-up over plain decoding is
#
# $$ S(k) = \frac{1 + \alpha + \dots + \alpha^k}{v_{k+1} + c\,k} $$
#
# and `k = 0` is plain decoding, $S = 1$. Find the best `k`: the least one if several are equally good.


# %% answer="pays"
def best_length(alpha, v, c):
    """(k, speed-up) for the k from 0 to len(v) - 1 with the largest speed-up."""
    ### BEGIN SOLUTION
    gains = [sum(alpha**n for n in range(k + 1)) / (v[k] + c * k) for k in range(len(v))]
    k = int(np.argmax(gains))
    return k, gains[k]
    ### END SOLUTION


# %% test="pays" points=2
k, gain = best_length(0.8, [1, 1, 1, 1.5, 2], 0.1)
labs.same(k, 2, "with k guesses the pass has k + 1 tokens: v[k]", what="k")
labs.close(gain, 2.44 / 1.2, "(1 + 0.8 + 0.64) / (1 + 0.2)", what="the speed-up")
labs.same(best_length(0.3, [1, 2, 3], 0.5)[0], 0, "guessing may not pay at all", what="k")
### BEGIN HIDDEN TESTS
for random in labs.cases(10):
    alpha, c = float(random.random()), float(random.uniform(0, 0.6))
    v = np.append(1, 1 + np.cumsum(random.uniform(0, 0.3, int(random.integers(1, 9)))))
    expected, most, gained = 0, 1.0, 1.0
    for k in range(1, len(v)):
        gained += alpha**k
        if gained / (v[k] + k * c) > most:
            expected, most = k, gained / (v[k] + k * c)
    k, gain = best_length(alpha, v, c)
    labs.same(k, expected, f"try every k from 0 to {len(v) - 1}", what="k")
    labs.close(gain, most, "tokens of a pass over its time", what="the speed-up")
### END HIDDEN TESTS
labs.passed()

# %% [markdown]
# Now a real model. **Predict**: the answer repeats much of the prompt, and the draft is nothing but a look-up of what
# followed the last words when they stood there before.

# %%
passes = workbench.predict(
    "How many passes of the model do 40 tokens take?", low=1, high=40,
    answer="A pass whose guesses are all right brings up to 16 tokens, one without a guess or with a wrong one brings "
    "one. The answer is copied in long stretches.",
)  # fmt: skip
passes

# %%
from workbench.decode.prompts import prompts

lm = workbench.load(dtype="fit")  # in bf16 where memory is small, and then it says so
print(lm)
echo = next(p for p in prompts("echo"))
print(echo.text, "\n")
ids = echo.ids(lm.tokenizer)
plain = workbench.generate(lm, ids, "greedy", max_new_tokens=40)
guessed = workbench.generate(lm, ids, "prompt-lookup", max_new_tokens=40, gate=False)
print("the same tokens as plain decoding:", plain.tokens.tolist() == guessed.tokens.tolist())
passes.reveal(guessed.trace.cost.target_forwards)

# %%
guessed

# %%
alphas = np.linspace(0, 0.95, 11)
measured = [1, 1.1, 1.2, 1.3, 1.4, 1.6, 1.8, 2.0, 2.2]  # put in those of your machine: workbench.decode.costs
lines = {
    name: [best_length(a, measured, c)[1] for a in alphas]
    for name, c in [("free draft", 0), ("a draft of a fifth", 0.2)]
}
labs.plot(alphas, lines, title="Best speed-up", x_label="share of guesses accepted", y_label="times plain decoding")

# %% [markdown]
# <details><summary>Explain: a draft of a fifth of the size accepts 60 %. A better one, half the size, accepts 80 %.
# Which one?</summary>
#
# Work it out with your `best_length`: the cost of the draft counts once per guess, the acceptance grows by powers.
# Often the small, quick, worse one wins.
# </details>
#
# **What you take along:** a guess that is checked costs time, never truth; the rule is exact because what was refused
# is made up for by the residual; a test is worth something once it has caught a wrong rule; and whether guessing pays
# is a matter of measured time.
#
# Grade the lab with `workbench check decoding`.
