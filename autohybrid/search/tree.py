"""Which candidate lies inside which."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from autohybrid.search.candidates import Candidate


class Tree:
    """The candidates of one root as their paths place them; a shared Layer stands at each of its paths."""

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        self._at = {path: each for each in candidates for path in each.paths()}
        # Shorter paths first: what lies above is there before what lies below.
        self._above = {path: self._next_above(path) for path in sorted(self._at, key=len)}
        self._children: dict[int, list[Candidate]] = defaultdict(list)
        for path, each in self._at.items():
            above = self._above[path]
            if above is not None and path == each.path:
                self._children[id(self._at[above])].append(each)

    def _next_above(self, path: str) -> str | None:
        while path:
            path = path.rpartition(".")[0]
            if path in self._at:
                return path
        return None

    def children(self, candidate: Candidate) -> Sequence[Candidate]:
        """The candidates next below: those between which and ``candidate`` no other one lies."""
        return self._children[id(candidate)]

    def lines(self) -> list[list[Candidate]]:
        """For each candidate with none below it, and each of its paths: itself and all those above it.

        Of two candidates one lies inside the other just when some line has both.
        """
        inner = set(self._above.values())
        return [self._line(path) for path in self._above if path not in inner]

    def _line(self, path: str | None) -> list[Candidate]:
        line = []
        while path is not None:
            line.append(self._at[path])
            path = self._above[path]
        return line

    def covered_by(self, regions: Collection[Candidate]) -> dict[int, Candidate]:
        """Of each candidate that lies inside one of ``regions`` (by its identity) in which."""
        chosen = {id(each) for each in regions}
        covering: dict[str, Candidate] = {}
        for path, above in self._above.items():
            if above is None:
                continue
            if id(self._at[above]) in chosen:
                covering[path] = self._at[above]
            elif above in covering:
                covering[path] = covering[above]
        return {id(self._at[path]): region for path, region in covering.items()}
