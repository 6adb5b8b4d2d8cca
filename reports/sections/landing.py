"""The first screen: does the paper hold, what was measured, which printed numbers are wrong, and every claim in sight.

All of it is computed from judged values. A result on other data than the paper's has words of its own: it is never said
that it confirms or refutes the paper.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from reports.blocks.style import GLYPHS
from reports.blocks.table import METRICS, Table, number
from reports.sections.claims import DECIDING, stand
from reports.sections.discrepancies import cost_verdicts, differing
from reports.sections.misprints import Misprint, misprints
from reports.sections.parts import StudyPart
from reports.sections.tables import as_printed
from studies.declare.study import Claim
from studies.facts.gather import Evidence
from studies.judge import others
from studies.judge.tiers import ELSEWHERE
from studies.judge.verdicts import RULES
from studies.plan import programme

SUBJECTS = {
    "table1": "1 Properties",
    "table2": "2 Sizes",
    "table3": "3 ImageNet",
    "table4": "4 Remote sensing",
    "table5": "5 Attention in the decoder",
    "table6": "6 MSCA's parts",
    "table7": "7 Decoders",
    "table8": "8 MSCA against VAN",
    "table9": "9 Transformers",
    "table10": "10 Pascal VOC",
    "table11": "11 Real time",
    "table12": "12 Pascal Context",
    "appendix_table1": "A1 Recipes",
    "appendix_table2": "A2 COCO-Stuff",
    "convnext": "ConvNeXt",
    "normalisation": "Normalisation",
    "references": "Other networks",
}
"""What each study is about, in two or three words."""

FAR = 0.02  # of the printed value: further off than rounding or another tool's counting explains
MOST_WRONG = 7


@dataclass(frozen=True)
class Square:
    """A claim on the map: its verdict at the paper's scale, and what other protocols say."""

    text: str
    verdict: str
    anchor: str
    published: str  # others' word on it; empty where nobody measured it
    elsewhere: tuple[tuple[str, str], ...]  # protocol, word

    @property
    def said(self) -> str:
        """The whole of it in words."""
        theirs = [f"in others' runs: {self.published}"] if self.published else []
        ours = (f"{name}: {word}" for name, word in self.elsewhere)
        return "; ".join([f"{self.text}: {self.verdict}", *theirs, *ours])

    @property
    def tried(self) -> str:
        """The word that the corner shows: of the first other protocol with seeds enough, else of the first."""
        words = [word for _, word in self.elsewhere]
        return next((word for word in words if word != "few seeds"), words[0] if words else "")


@dataclass(frozen=True)
class Topic:
    """A line of the map: a study and its claims."""

    slug: str
    subject: str
    finding: str
    squares: tuple[Square, ...]


@dataclass(frozen=True)
class Costs:
    """How many printed costs were measured, and how many of them agree."""

    held: int
    agree: int

    @classmethod
    def of(cls, verdicts: Iterable[str]) -> Costs:
        """Those of these verdicts; `pending` was not measured."""
        words = [word for word in verdicts if word != "pending"]
        return cls(len(words), words.count("agrees"))


@dataclass(frozen=True)
class Toy:
    """The paper's own words put to a test on generated images, a word each with what it is about; and all others."""

    own: tuple[tuple[str, str], ...]
    more: str

    @classmethod
    def of(cls, parts: Sequence[StudyPart]) -> Toy:
        """Those of these studies."""
        own, rest = list[tuple[str, str]](), Counter[str]()
        for part in parts:
            for shown in (one for one in part.variants if one.predicted and one.variant.full):
                panel = shown.variant.panel
                for one, outcome in zip(getattr(panel, "predictions", ()), shown.outcomes, strict=True):
                    word = ELSEWHERE.get(outcome, outcome)
                    if one.source == "paper":
                        what = (
                            f"{part.evidence.study.number}, {panel.title}, {one.row} against {one.reference}: {one.why}"
                        )
                        own.append((word, f"{what}: {word}"))
                    else:
                        rest[word] += 1
        more = f"Other predictions: {rest['here too']} of {rest.total()} came true" if rest else ""
        return cls(tuple(own), more)


@dataclass(frozen=True)
class Landing:
    """What the first screen says."""

    headline: tuple[str, ...]
    counts: tuple[tuple[str, str], ...]  # a figure and what it counts
    measured: tuple[tuple[str, str], ...]  # a kind of evidence and what there is of it
    wrong: Sequence[Misprint]
    topics: tuple[Topic, ...]
    steps: Sequence[programme.Line]  # what to run next
    toy: Toy
    wrong_count: int  # of all of them
    here: tuple[Table, ...]  # of a report on one study: what its own runs measured


def landing(parts: Sequence[StudyPart], plan: Sequence[programme.Line] = ()) -> Landing:
    """The first screen of a report on these studies; `plan`: what decides the most claims per hour."""
    everything = [part.evidence for part in parts]
    wrong, far = misprints(everything), _far(everything)
    topics = tuple(
        Topic(
            evidence.study.slug,
            subject(evidence.study.slug, evidence.study.number),
            finding(part),
            tuple(_square(evidence, claim) for claim in evidence.study.claims),
        )
        for part, evidence in zip(parts, everything, strict=True)
    )
    claims = [square for topic in topics for square in topic.squares]
    words = [square.verdict for square in claims]
    supported, contradicted = words.count("supported"), words.count("contradicted")
    costs = Costs.of(verdict for evidence in everything for verdict in cost_verdicts(evidence))
    counts = (
        (f"{costs.agree} of {costs.held}", "printed costs agree with what is measured"),
        (f"{supported + contradicted} of {len(claims)}", "claims are decided at the paper's scale"),
        (f"{len(_runs(everything)):,}", "runs trained and recorded here"),
    )
    measured = [("costs", f"{costs.held} printed costs counted again, exact")] if costs.held else []
    measured += _measured(parts)
    headline = _headline(costs, supported, contradicted, far, claims)
    here, said = _here(parts)
    headline = (said, *headline) if said else headline
    return Landing(headline, counts, tuple(measured), wrong[:MOST_WRONG], topics, plan, Toy.of(parts), len(wrong), here)


def _here(parts: Sequence[StudyPart]) -> tuple[tuple[Table, ...], str]:
    """What a report on one study opens with: the tables of its runs, and the rows in a sentence, the best first."""
    telling = [shown for part in parts for shown in part.variants if shown.variant.telling and shown.accuracy.lines]
    if len(parts) != 1 or not telling:
        return (), ""
    variant, evidence = telling[0].variant, parts[0].evidence
    metric = next((m for m in variant.panel.accuracies if any(variant.values(r.slug, m) for r in variant.rows)), "")
    means = {row.label: statistics.fmean(found) for row in variant.rows if (found := variant.values(row.slug, metric))}
    order = sorted(means, key=lambda label: -means[label])
    told = ", ".join(f"{label} {number(means[label], 1)}" for label in order)
    runs = len({line.run_id for shown in telling for line in shown.variant.finished})
    named = f"{METRICS.get(metric, metric)} under {variant.name}"
    said = f"Measured here, {evidence.study.number}: {runs} runs; {named}: {told}."
    tables = (replace(table, slug=f"here-{table.slug}") for one in telling for table in (one.accuracy, one.claims))
    return tuple(table for table in tables if table.lines), said


def subject(slug: str, number: str) -> str:
    """What a study is about, as navigation names it."""
    return SUBJECTS.get(slug, number)


def finding(part: StudyPart) -> str:
    """What a study comes to in one sentence."""
    evidence = part.evidence
    said = []
    costs = Costs.of(cost_verdicts(evidence))
    if costs.held:
        said.append(f"{costs.agree} of {costs.held} printed costs agree")
    if decided := Counter(evidence.judge_cost(claim).verdict for claim in evidence.cost_claims):
        said.append(f"claims about costs: {_counted(decided)}")
    for variant in evidence.variants:
        if variant.counted and variant.claims and variant.finished:
            found = Counter(evidence.judge(variant, claim).verdict for claim in variant.claims)
            words = found if variant.comparable else Counter({ELSEWHERE.get(k, k): n for k, n in found.items()})
            if words := +Counter({word: n for word, n in words.items() if word != "pending"}):
                said.append(f"protocol {variant.name}: {_listed(words)}")
    names = dict.fromkeys(shown.variant.protocol.name for shown in part.variants if shown.predicted)
    outcomes = Counter(word for name in names for word in part.outcomes(name))
    if outcomes := +Counter({ELSEWHERE.get(word, word): n for word, n in outcomes.items() if word != "pending"}):
        total = outcomes.total()
        said.append(f"generated data: {outcomes['here too']} of {total} predictions came true")
    said += _speeds(evidence)
    if not said and evidence.expenses:
        said.append("costs are measured, and none is printed; no accuracy is measured yet")
    told = "; ".join(said) or "nothing is measured yet"
    return f"{told[0].upper()}{told[1:]}."


def _speeds(evidence: Evidence) -> list[str]:
    """`SegNeXt-T: 61 images a second on NVIDIA H200, printed 25`, of the networks whose speed the table prints."""
    study, panel, said = evidence.study, evidence.study.panel(), list[str]()
    claimed = next((claim.text for claim in study.claims if claim.metric == "fps"), "")
    for row in (row for row in study.trained if row.prints(panel, "fps") is not None):
        timed = [
            (1 / record.latency, platform.processor)
            for platform, records in evidence.frames.items()
            if (record := records.get(row.name)) and record.latency
        ]
        told = [f"{number(rate, 0 if rate >= 10 else 1)} on {where}" for rate, where in sorted(timed, reverse=True)]
        if told:
            print_ = f"printed: {claimed or as_printed(row.printed[panel.dataset, 'fps'])}"
            said.append(f"images a second of {row.name}: {', '.join(told)}; {print_}")
    return said


def _be(number: int) -> str:
    return "is" if number == 1 else "are"


def _headline(costs: Costs, supported: int, contradicted: int, far: int, squares: Sequence[Square]) -> tuple[str, ...]:
    claims, share = len(squares), costs.agree / costs.held if costs.held else 0.0
    sentences = ["Costs are not measured yet."]
    if costs.held:
        word = "Costs hold" if share > 0.95 else "Most costs hold" if share > 0.6 else "Many printed costs are off"
        sentences = [
            f"{word}: {costs.agree} of {costs.held} printed values agree, {far} {_be(far)} more than {FAR:.0%} off."
        ]
    if not claims:
        return tuple(sentences)
    open_ = claims - supported - contradicted
    told = f"{supported} of the paper's {claims} claims {_be(supported)} supported, {contradicted} contradicted"
    sentences.append(f"{told}; {open_} {_be(open_)} open, for want of runs at the paper's scale.")
    if theirs := Counter(square.published for square in squares if square.published):
        sentences.append(f"In others' runs, {theirs.total()} claims were measured: {_listed(theirs)}.")
    small = [square for square in squares if square.elsewhere]
    if small:
        words = Counter(square.tried for square in small)
        sentences.append(
            f"On smaller data, which decides nothing about the paper, {len(small)} claims were tried: {_listed(words)}."
        )
    return tuple(sentences)


def _measured(parts: Sequence[StudyPart]) -> tuple[tuple[str, str], ...]:
    """By kind of evidence, the paper's own protocol first."""
    everything = [part.evidence for part in parts]
    finished: dict[str, set[str]] = {}
    purpose: dict[str, str] = {}
    for variant in (v for evidence in everything for v in evidence.variants if v.counted or v.finished):
        name = variant.protocol.name
        finished.setdefault(name, set()).update(line.run_id for line in variant.finished)
        purpose[name] = variant.protocol.purpose
    order = sorted(
        finished, key=lambda name: (name != DECIDING, not name.startswith(DECIDING), name.startswith("quick"))
    )
    return tuple(
        (name, f"{len(finished[name]):,} runs: {purpose[name]}" if finished[name] else f"no run yet: {purpose[name]}")
        for name in order
    )


def _runs(everything: Sequence[Evidence]) -> set[str]:
    return {line.run_id for evidence in everything for variant in evidence.variants for line in variant.finished}


def _square(evidence: Evidence, claim: Claim) -> Square:
    stands, theirs = stand(evidence, claim), others.claim(others.published(), evidence.study, claim).word
    elsewhere = tuple(
        (name, ELSEWHERE[judgement.verdict])
        for name, (judgement, _) in stands.elsewhere.items()
        if judgement.verdict in ELSEWHERE
    )
    anchor = stands.anchor or f"#claims-{claim.slug}"
    return Square(claim.text, stands.judgement.verdict, anchor, theirs.replace("nobody", ""), elsewhere)


def _far(everything: Sequence[Evidence]) -> int:
    """How many printed costs are far off; one that several tables print counts once."""
    found = (one for evidence in everything for one in differing(evidence))
    return len({(one.row.label, one.printed) for one in found if abs(one.measured / one.printed - 1) >= FAR})


def _counted(words: Counter[str]) -> str:
    return ", ".join(f"{words[word]} {word}" for word in RULES if words[word])


def _listed(words: Counter[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in words.most_common())


def in_words(first: Landing) -> str:
    """The answer and the claim map as Markdown, as they stand in the README and at the head of the summary."""
    answer = " ".join((f"**{first.headline[0]}**", *first.headline[1:]))
    lines = [
        f"| {topic.subject} | {''.join(GLYPHS[square.verdict] for square in topic.squares)} | {topic.finding} |"
        for topic in first.topics
        if topic.squares
    ]
    words = dict.fromkeys(square.verdict for topic in first.topics for square in topic.squares)
    legend = ", ".join(f"{GLYPHS[word]} {word}" for word in words)
    return (
        "\n".join([answer, "", f"| Table | Claims ({legend}) | What was found |", "| :--- | :--- | :--- |", *lines])
        + "\n"
    )
