"""What kind of evidence a protocol gives (DESIGN.md, "Evidence comes in tiers"): shown apart, never pooled."""

from __future__ import annotations

from studies.judge.verdicts import Judgement

COSTS, PUBLISHED, SMALL, MECHANISM = "costs", "published", "small", "mechanism"

_TIERS = {
    "paper": "paper",
    "paper-pretrained": "paper-pretrained",
    "camvid": SMALL,
    "camvid-half": SMALL,
    "quick": MECHANISM,
    "quick-full": MECHANISM,
}

ELSEWHERE = {
    "supported": "here too",
    "contradicted": "opposite here",
    "no difference": "no difference here",
    "not resolved": "not resolved here",
    "few seeds": "few seeds",
}
"""A claim's verdict in the tiers `small` and `mechanism`, in words that do not sound like the paper's."""


def tier_of(protocol: str) -> str:
    """The tier of a protocol's runs; empty where they are no evidence (`smoke`)."""
    return _TIERS.get(protocol, "")


def word_of(judgement: Judgement, tier: str) -> str:
    """What a verdict is called in a tier."""
    return ELSEWHERE.get(judgement.verdict, judgement.verdict) if tier in (SMALL, MECHANISM) else judgement.verdict
