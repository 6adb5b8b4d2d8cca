"""The cards of this machine, and which run has which."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from segnext.config import Execution


@dataclass
class Cards:
    """The GPUs of this machine as runs get them: one each, or as many as a run has processes.

    `places` are what $CUDA_VISIBLE_DEVICES says for each such share; none: runs see what this process sees.
    """

    places: tuple[str, ...] = ()
    a_card: int = 1  # runs that share one
    _taken: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, execution: Execution, per_card: int) -> Cards:
        """Those of a run that is carried out so. `cuda:1` names one card, which runs have together."""
        cards = visible_cards() if execution.device == "cuda" else []
        if len(cards) < 2:
            return cls(a_card=max(1, per_card))
        size = min(execution.processes, len(cards))
        shares = [cards[k : k + size] for k in range(0, len(cards) - size + 1, size)]
        return cls(tuple(",".join(share) for share in shares), max(1, per_card))

    @property
    def room(self) -> int:
        """How many runs fit at a time."""
        return max(1, len(self.places)) * self.a_card

    def take(self, run_id: str) -> dict[str, str]:
        """The variables of a run's process, on the card that the fewest have."""
        shared = {"SEGNEXT_SHARING": str(self.a_card)}
        if not self.places:
            return shared
        taken = list(self._taken.values())
        self._taken[run_id] = min(self.places, key=taken.count)
        return {**shared, "CUDA_VISIBLE_DEVICES": self._taken[run_id]}

    def leave(self, run_id: str) -> None:
        """The run is over."""
        self._taken.pop(run_id, None)


def visible_cards() -> list[str]:
    """The GPUs that this process may use, as $CUDA_VISIBLE_DEVICES names them."""
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [word.strip() for word in named.split(",") if word.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]
