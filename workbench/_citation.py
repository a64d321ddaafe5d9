"""Where something was published."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Citation:
    """A publication."""

    authors: str
    title: str
    year: int
    arxiv: str = ""
    venue: str = ""

    def __str__(self) -> str:
        where = f"arXiv:{self.arxiv}" if self.arxiv else self.venue
        return f"{self.authors}. {self.title}. {self.year}. {where}".rstrip(". ")
