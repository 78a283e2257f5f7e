"""Advice in sentences, with intervals."""

from collections.abc import Iterator

from exdd_ray.advice.candidates import MIN_DEFECTS, Candidate, Facts
from exdd_ray.advice.compare import Compared, advised
from exdd_ray.advice.within import Ran
from exdd_ray.metrics.difference import Difference

_MASKS = "With masks, detectors could learn from them, and synthetic defects be made of them."


def without_measuring(facts: Facts) -> list[str]:
    """What can be said of a folder with too few defects to measure anything."""
    have = f"{facts.normal} good images and {facts.defects} defective ones"
    return [
        f"{have}: with fewer than {MIN_DEFECTS} defects it cannot be told how good a detector is, nor which is better.",
        "What can be had without them: PatchCore, a memory bank of the good images; it needs no defect. Its scores can "
        "be seen, and a threshold be set by the rate of false alarms among good images that were held out "
        "(dataset.split.validation_fraction).",
        "Whether defects, real or synthetic, make a better detector cannot be told: collect ten, mark them with masks, "
        "and ask again.",
    ]


def sentences(facts: Facts, compared: Compared, ran: Ran) -> Iterator[str]:
    """The answer: which detector, how many labels, whether to synthesise, at what cost, and what is not known."""
    chosen, seeds = advised(compared), max(one.runs for one in compared.means.values())
    yield (
        f"{facts.normal} good and {facts.defects} defective images; {len(compared.candidates)} candidates and up to "
        f"{seeds} seeds in {ran.seconds / 60:.1f} minutes. Each was judged by {facts.judged} defects and a third of "
        "the good images, which it had not learnt, drawn anew with every seed."
    )
    yield from _which(chosen, compared)
    if facts.masked < facts.defects:
        yield f"Labels and synthesis: {facts.defects - facts.masked} defects have no mask. {_MASKS}"
    else:
        learner = _learner(facts, chosen, compared)
        yield from _labels(facts, learner, compared)
        yield from _synthesis(facts, learner, compared)
    failed = {row["name"]: row["error"] for row in compared.trials.to_pylist() if row["state"] != "done"}
    yield from (f"Failed: {name}: {error}" for name, error in failed.items())
    if ran.left_out:
        yield f"No time was left for: {'; '.join(ran.left_out)}."
    if seeds < 3:
        yield f"{seeds} seeds are few: with more minutes the intervals are worth more."


def _which(chosen: Candidate, compared: Compared) -> Iterator[str]:
    single, mean = compared.candidates[0], compared.means[chosen.name]
    told = f"Detector: {chosen.name}. Its image AUROC is {shown(mean.value)}{_half(mean.half)}"
    if chosen is single:
        others = compared.apart(single)
        best = max(others, key=lambda name: others[name].mean.value) if others else None
        more = f"; the best other, {best}, differs by {gain(others[best])}" if best else ""
        yield f"{told}{more}: nothing was better."
    else:
        yield f"{told}, {gain(compared.apart(single)[chosen.name])} against {single.name} alone."


def _learner(facts: Facts, chosen: Candidate, compared: Compared) -> str:
    """The detector with defects that is spoken of: the advised one, or else the better one of those that learn most."""
    if chosen.defects or chosen.synthetic:
        return chosen.learner
    full = [one for one in compared.candidates if one.defects == facts.learnt and not one.synthetic]
    best = max(full, key=lambda one: compared.means[one.name].value, default=None)
    return best.learner if best else chosen.learner


def _labels(facts: Facts, learner: str, compared: Compared) -> Iterator[str]:
    single = compared.candidates[0]
    against = compared.apart(single)
    curve = [found for count in reversed(facts.counts) if (found := compared.find(learner, count))]
    if not curve:
        return
    steps = ", ".join(f"{one.defects}: {gain(against[one.name])}" for one in curve)
    told = f"Labels: image AUROC of {learner} less that of {single.name} with so many defects learnt: {steps}."
    if len(curve) > 1:
        fewer, most = curve[-2:]
        last = compared.apart(fewer)[most.name]
        told += f" From {fewer.defects} to {most.defects} it changed by {gain(last)}: "
        told += "more labels still pay." if _above(last) else "that more labels pay is not shown."
    yield told


def _synthesis(facts: Facts, learner: str, compared: Compared) -> Iterator[str]:
    real = compared.find(learner, facts.learnt)
    made = [one for one in compared.candidates if one.learner == learner and one.synthetic]
    beside = [one for one in made if real and one.defects == facts.learnt]
    if real and beside:
        apart = compared.apart(real)
        each = ", ".join(f"{one.synthetic} {gain(apart[one.name])}" for one in beside)
        best = max(beside, key=lambda one: apart[one.name].mean.value)
        verdict = f"synthesise ({best.synthetic})" if _above(apart[best.name]) else "that it pays is not shown"
        yield f"Synthesis beside {facts.learnt} real defects: {each}: {verdict}."
    single = compared.candidates[0]
    alone = next((one for one in made if not one.defects), None)
    if alone:
        found = compared.apart(single)[alone.name]
        verdict = "they can stand in for real ones" if _above(found) else "that they help is not shown"
        yield f"Synthetic defects without any real one: {alone.name}, {gain(found)} against {single.name}: {verdict}."


def _above(apart: Difference) -> bool:
    return apart.mean.value > 0 and not apart.within_noise


def gain(apart: Difference) -> str:
    """As `+.012 ± .010`."""
    return f"{shown(apart.mean.value, '+')}{_half(apart.mean.half)}"


def shown(value: float, sign: str = "") -> str:
    """Three digits, without the zero before the point."""
    return f"{value:{sign}.3f}".replace("0.", ".", 1)


def _half(half: float | None) -> str:
    return "" if half is None else f" ± {shown(half)}"
