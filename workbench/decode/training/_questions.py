"""Varied prompts, so that a model writes the text that its drafting heads learn from; none is used to measure them."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench._text import load_text

TOPICS = (
    "bees", "volcanoes", "the water cycle", "chess", "jazz", "the Roman Empire", "solar panels", "coral reefs",
    "bread", "photosynthesis", "the moon landing", "electric cars", "libraries", "sleep", "recycling", "dinosaurs",
    "gravity", "vaccines", "football", "coffee", "black holes", "the French Revolution", "gardening", "poetry",
    "robots", "inflation", "whales", "bridges", "the immune system", "tea ceremonies", "mountain climbing",
    "online shopping", "elephants", "the printing press", "meditation", "earthquakes", "cheese", "databases",
    "public transport", "the violin", "penguins", "glaciers", "cooking pasta", "school uniforms", "probability",
    "the Silk Road", "wind turbines", "owls", "time zones", "healthy breakfasts", "negotiation", "rainforests",
    "the human heart", "photography", "budgeting", "street art", "operating systems", "honey", "the Olympic Games",
    "friendship", "rivers", "magnets", "a lost key", "remote work", "the Great Wall", "spiders", "origami", "climate",
    "a brave knight", "clouds", "the brain", "tigers", "sorting algorithms", "old maps", "running a bakery",
    "swimming", "museums", "the internet", "kites", "a harbour", "job interviews", "astronomy", "soil", "typography",
    "tides", "batteries", "folk music", "hospitals", "satellites", "vegetable soup", "democracy", "a talking cat",
    "pottery", "deserts", "language learning", "steam engines", "snow",
)  # fmt: skip
TASKS = (
    "Explain {} to a child.", "What is special about {}?", "Write a short story about {}.",
    "Give me five facts about {}.", "Write a poem about {}.", "What are the advantages and disadvantages of {}?",
    "How did {} change over time?", "List ten words that have to do with {}.",
    "Write an email to a colleague about {}.", "Why do people care about {}?",
    "Summarize what you know about {} in three sentences.", "Make a table of contents for a book about {}.",
    "What questions would you ask an expert on {}?", "Describe {} without using the letter q.",
    "Write a dialogue between two friends about {}.", "Give step by step instructions that involve {}.",
    "What is the most common misunderstanding about {}?", "Write the introduction of an essay on {}.",
    "Invent a product that has to do with {} and advertise it.", "Compare {} with something else.",
    "Write a quiz of three questions about {}, with answers.", "What should a beginner know about {}?",
    "Write a news report about {}.", "Tell me about {}.", "Write a JSON object that describes {}.", "Define {}.",
)  # fmt: skip
CODE = (
    "adds two numbers", "reverses a string", "checks whether a number is prime", "counts the vowels of a text",
    "reads a file line by line", "sorts a list of pairs by the second element", "computes a factorial",
    "merges two dictionaries", "finds the largest element of a list", "removes duplicates from a list",
    "converts Celsius to Fahrenheit", "counts words in a text", "prints a multiplication table", "computes a mean",
    "checks whether a word is a palindrome", "generates Fibonacci numbers", "flattens nested lists", "parses a date",
    "searches a sorted list", "writes rows to a CSV file", "computes the greatest common divisor", "draws a triangle",
    "finds common elements of two lists", "validates an email address", "transposes a matrix", "rolls two dice",
)  # fmt: skip
ON_TEXT = (
    "Summarize this text.", "Rewrite this text in simple words.", "Repeat this text exactly.", "Copy this text.",
    "List the main points of this text.", "Explain this text.", "Correct the mistakes in this text and show all of it.",
    "Which things does this text name? List them.",
)  # fmt: skip
ON_LIST = (
    "Repeat this list.", "Sort this list by name.", "Write one sentence on each of these.", "Number these backwards.",
    "Add three more to this list and print the whole list.",
)  # fmt: skip
ON_CODE = (
    "Rename `found` to `kept` and print all of the code:", "Explain this code:", "Add a docstring to this code:",
    "Make this code shorter:", "Repeat this code:",
)  # fmt: skip
OPENINGS = (
    "The history of {} begins", "{} are known for", "Once upon a time there was", "In the early days of {},",
    "Question: What is {}?\nAnswer:", "# Notes on {}\n\n", "The following article is about {}.\n\n",
    "Dear Sir or Madam,\n\nI am writing to you about {}.", "1. {}\n2.", "Most people believe that {}",
    "def main():\n    \"\"\"Prints something about {}.\"\"\"\n",
)  # fmt: skip


def questions(tokenizer: Any, count: int, seed: int = 0) -> list[list[int]]:
    """Token ids of ``count`` prompts: questions in the chat template, code, sums, texts to work on, openings.

    Parameters
    ----------
    tokenizer
        Of the model; with a chat template if it has one.
    seed
        Same seed, same prompts.
    """
    random = np.random.default_rng(seed)
    text = load_text().split()[0].content
    return [_encode(tokenizer, *_question(random, text)) for _ in range(count)]


def _question(random: np.random.Generator, text: str) -> tuple[str, bool]:
    """A prompt, and whether it is a turn of a conversation."""
    topic, sort = str(random.choice(TOPICS)), random.random()
    if sort < 0.5:
        return str(random.choice(TASKS)).format(topic), True
    if sort < 0.62:
        language = str(random.choice(["Python", "Python", "Python", "JavaScript"]))
        return f"Write a {language} function that {random.choice(CODE)}.", True
    if sort < 0.7:
        a, b, c = (int(n) for n in random.integers(2, 60, 3))
        asked = (
            f"What is {a} + {b} * {c}?", f"A shop sells {a} apples at {b} cents each. What do they cost together?",
            f"Tom has {a + b} marbles and gives {b} to Ann, who had {c}. How many does each have?",
            f"Count from {a} to {a + 15}.", f"Convert {a} hours and {b} minutes to minutes.",
        )  # fmt: skip
        return str(random.choice(asked)), True
    at = int(random.integers(0, len(text) - 800))
    piece = text[at : at + int(random.integers(100, 400))].strip()
    if sort < 0.85:
        return _exercise(random, piece)
    if sort < 0.92:
        return piece, False
    return str(random.choice(OPENINGS)).format(topic), False


def _exercise(random: np.random.Generator, piece: str) -> tuple[str, bool]:
    """A text to work on, or a list to go on with."""
    words = [str(w) for w in random.choice(TOPICS, int(random.integers(4, 8)), replace=False)]
    listed = "\n".join(f"{n}. {w}" for n, w in enumerate(words, 1))
    sort = random.random()
    if sort < 0.4:
        return f"{random.choice(ON_TEXT)}\n\n{piece}", True
    if sort < 0.6:
        return f"{random.choice(ON_LIST)}\n\n{listed}", True
    if sort < 0.75:
        verb = random.choice(CODE)
        code = f"def {verb.split()[0]}(values):\n    # {verb}\n    found = []\n    for value in values:\n"
        code += "        if value:\n            found.append(value)\n    return found\n"
        return f"{random.choice(ON_CODE)}\n\n{code}", True
    if sort < 0.9:
        return f"Original:\n{listed}\n\nThe same again:\n1.", False
    return "\n".join(f"{n:02d}:00 {words[0]}: {n + 3} seen, all well" for n in range(4)), False


def _encode(tokenizer: Any, prompt: str, turn: bool) -> list[int]:
    if turn and getattr(tokenizer, "chat_template", None):
        message = [{"role": "user", "content": prompt}]
        prompt = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    return [int(t) for t in tokenizer(prompt)["input_ids"]]
