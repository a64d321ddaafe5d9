"""The tables of the README, generated from the registries, so that they cannot be out of date."""

from __future__ import annotations

from collections.abc import Iterable

from workbench.families import FAMILIES
from workbench.prune import Citation, MethodInfo, methods

NEEDS = {
    "absolute": "mean sizes of inputs",
    "gradient": "gradients of the loss",
    "gram": "products of inputs",
    "moments": "means and variances of inputs",
    "norm": "norms of inputs",
    "similarity": "what a layer changes",
}
UNITS = {"weight": "weights", "neuron": "neurons", "kv_group": "head groups", "layer": "layers"}
FAMILY_NAMES = {
    "gemma2": "Gemma 2",
    "gemma3_text": "Gemma 3 (text)",
    "gpt2": "GPT-2",
    "gpt_neox": "GPT-NeoX, Pythia",
    "llama": "Llama 1 to 3, SmolLM 1 and 2, TinyLlama",
    "mistral": "Mistral",
    "olmo2": "OLMo 2",
    "opt": "OPT",
    "phi3": "Phi-3, Phi-4",
    "qwen2": "Qwen 2 and 2.5",
    "qwen3": "Qwen 3",
    "smollm3": "SmolLM3",
}
PROMISES = {"greedy": "greedy text", "distribution": "distribution", "lossy": "neither"}
LAYOUTS = {
    "separate": "query, key and value apart",
    "stacked": "in one weight, one after the other",
    "interleaved": "in one weight, head by head",
}


def needed(info: MethodInfo) -> str:
    """What a method wants to know of the calibration text, in words."""
    if not info.needs:
        return "the loss on text" if info.family == "layers" else "no text"
    return ", ".join(NEEDS[kind] for kind in info.needs if not (kind == "norm" and len(info.needs) > 1))


def removed(info: MethodInfo) -> str:
    """What it prunes, in words."""
    return ", ".join(UNITS[unit] for unit in info.units)


def short(paper: Citation | None, none: str = "none: a control") -> str:
    """Authors by last name, year and a link."""
    if paper is None:
        return none
    names = [name.split()[-1] for name in paper.authors.removesuffix(" et al.").split(", ")]
    more = len(names) > 2 or paper.authors.endswith(" et al.")
    who = f"{names[0]} et al." if more else " and ".join(names)
    link = f"[arXiv:{paper.arxiv}](https://arxiv.org/abs/{paper.arxiv})" if paper.arxiv else paper.venue
    return f"{who} {paper.year}, {link}"


def methods_table() -> str:
    """All methods as a Markdown table."""
    rows = [(f"`{i.name}`", i.title, removed(i), needed(i), f"`{i.formula}`", short(i.citation)) for i in methods()]
    return markdown(("Name", "Method", "Prunes", "Reads", "Score: higher stays", "Paper"), rows)


def decoders_table() -> str:
    """All ways of decoding as a Markdown table."""
    from workbench.decode import decoders

    rows = [
        (f"`{d.name}`", d.title, d.family, PROMISES[d.promises], f"`{d.formula}`", short(d.citation, "-"))
        for d in decoders()
    ]
    return markdown(("Name", "Method", "Family", "Keeps", "Rule", "Paper"), rows)


def attention_table() -> str:
    """Sparse patterns, smaller caches and structured prompts as a Markdown table."""
    from workbench.attention import kv, patterns, segments

    kinds = {"long prompts": patterns, "KV cache": kv, "structured prompts": segments}
    rows = [
        (f"`{name}`", cls.title, kind, f"`{cls.formula}`", short(cls.citation, "-"))
        for kind, home in kinds.items()
        for name, cls in sorted(home.registry().items())
    ]
    return markdown(("Name", "Method", "For", "Rule", "Paper"), rows)


def families_table() -> str:
    """All families of models as a Markdown table."""
    rows = [(f"`{name}`", FAMILY_NAMES[name], LAYOUTS[family.layout]) for name, family in sorted(FAMILIES.items())]
    return markdown(("`model_type`", "Models", "Attention weights"), rows)


def markdown(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    r"""A Markdown table.

    Examples
    --------
    >>> print(markdown(("a", "b"), [("1", "|x|")]))
    | a | b |
    |---|---|
    | 1 | \|x\| |
    """
    lines = [header, *rows]
    text = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]
    return "\n".join([text[0], "|" + "---|" * len(header), *text[1:]])
