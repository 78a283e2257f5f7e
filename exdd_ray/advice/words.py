"""Advice in sentences, with intervals."""

from collections.abc import Iterator

from exdd_ray.advice.candidates import MIN_DEFECTS, Candidate, Facts
from exdd_ray.advice.compare import Compared
from exdd_ray.advice.cost import Cost
from exdd_ray.advice.within import Ran
from exdd_ray.device import CPU
from exdd_ray.metrics.difference import Difference
from exdd_ray.metrics.seeds import Mean

WITHOUT_DEFECTS = Candidate(
    "PatchCore", 0, "", {"detector": {"system": "patchcore"}, "dataset.split.validation_fraction": 0.1}
)
_MASKS = "With masks, detectors could learn from them, and synthetic defects be made of them."


def without_measuring(facts: Facts) -> list[str]:
    """What can be said of a folder with too few defects to measure anything."""
    have = f"{facts.normal} good images and {facts.defects} defective ones"
    have += " to draw from (where train/ has defects, they alone are)" * (facts.split and facts.defects > 0)
    return [
        f"{have}: with fewer than {MIN_DEFECTS} defects it cannot be told how good a detector is, nor which is better.",
        "What can be had without them: PatchCore, a memory bank of the good images; it needs no defect. Its scores can "
        "be seen, and a threshold be set by the rate of false alarms among good images that were held out "
        "(dataset.split.validation_fraction).",
        "Whether defects, real or synthetic, make a better detector cannot be told: collect ten, mark them with masks, "
        "and ask again.",
    ]


def sentences(facts: Facts, compared: Compared, chosen: Candidate, ran: Ran, cost: Cost) -> Iterator[str]:
    """The answer: which detector, how many labels, whether to synthesise, at what cost, and what is not known."""
    seeds = max(one.runs for one in compared.means.values())
    judge = compared.trials.slice(0, 1).to_pylist()[0]
    yield (
        f"{_many(facts.normal, 'good image')} and {_many(facts.defects, 'defect')} to learn from or judge by; "
        f"{_many(len(compared.candidates), 'candidate')} and up to {_many(seeds, 'seed')} in {ran.seconds / 60:.1f} "
        f"minutes. Each was judged by {judge['validation_defects']} defects and {judge['validation_normal']} good "
        "images that it had not learnt, drawn anew with every seed."
    )
    yield from _which(chosen, compared)
    yield from _without_masks(facts)
    if facts.learnable:
        learner = _learner(facts, chosen, compared)
        yield from _labels(facts, learner, compared)
        yield from _synthesis(facts, learner, chosen, compared)
    yield _cost(cost)
    yield from _limits(compared, ran, seeds)


def _without_masks(facts: Facts) -> Iterator[str]:
    without = f"{_many(facts.defects - facts.masked, 'defect')} without a mask (`exdd data check` names them)"
    if not facts.learnable:
        yield (
            f"Labels and synthesis: {without} and {facts.masked} with one, fewer than the {MIN_DEFECTS} that it takes "
            f"to learn some and be judged by others. {_MASKS}"
        )
    elif facts.masked < facts.defects:
        yield f"{without}: no detector learns them; they judge by their image labels alone."


def _cost(cost: Cost) -> str:
    learnt = [_many(cost.normal, "good image")]
    learnt += [_many(cost.defects, "real defect")] * bool(cost.defects)
    learnt += [_many(cost.synthetic, "synthetic one")] * bool(cost.synthetic)
    where = "one CPU thread" if cost.device == CPU else cost.device
    return (
        f"Cost: to fit it to {', '.join(learnt)}, and judge it, took {cost.seconds:.0f} s on this machine, beyond what "
        f"was in the store. It then takes {cost.milliseconds:.0f} ms an image on {where}."
    )


def _limits(compared: Compared, ran: Ran, seeds: int) -> Iterator[str]:
    failed = {row["name"]: row["error"] for row in compared.trials.to_pylist() if row["state"] != "done"}
    yield from (f"Failed: {name}: {error}" for name, error in failed.items())
    single = compared.candidates[0].name
    yield from (f"Seed {seed} is left out for all, as {single} failed: {why}" for seed, why in compared.lost.items())
    yield from _behind(compared, ran)
    if ran.left_out:
        yield f"No time was left for: {'; '.join(ran.left_out)}."
    if seeds < 3:
        are = "is" if seeds == 1 else "are"
        yield f"{_many(seeds, 'seed')} {are} few: more of them (--minutes, --seeds) narrow the intervals."
    yield "± are 95 % intervals: of a mean by its seeds, of a difference by its images too."
    if (count := len(compared.candidates)) > 1:
        yield f"The best of {count} by few images is a little worse on others, and all holds for defects like these."


def _behind(compared: Compared, ran: Ran) -> Iterator[str]:
    seeds: dict[str, int] = {}
    for one in compared.candidates:
        if one.name in ran.behind:
            seeds[one.learner] = max(compared.means[one.name].runs, seeds.get(one.learner, 0))
    if seeds:
        after = ", ".join(f"{learner} after {_many(count, 'seed')}" for learner, count in seeds.items())
        yield f"Left behind, by more than the error, for time to go to those that may still win: {after}."


def _which(chosen: Candidate, compared: Compared) -> Iterator[str]:
    single, mean = compared.candidates[0], compared.means[chosen.name]
    others = compared.apart(single)
    told = f"Detector: {chosen.name}. Its image AUROC is {with_half(mean)}"
    if chosen is not single:
        noise = "" if _above(others[chosen.name]) else ", which may be noise"
        yield f"{told}, {gain(others[chosen.name])} against {single.name} alone{noise}."
    elif not others:
        yield f"{told}; nothing else was compared."
    else:
        best = max(others, key=lambda name: others[name].mean.value)
        verdict = "by less than its error" if others[best].mean.value > 0 else "nothing was better"
        yield f"{told}; the best other is {best} ({gain(others[best])}): {verdict}."


def _learner(facts: Facts, chosen: Candidate, compared: Compared) -> str:
    """The detector with defects that is spoken of: the advised one, or else the better one of those that learn most."""
    if chosen.defects or chosen.synthetic:
        return chosen.learner
    full = [one for one in compared.candidates if one.defects == facts.learnt and not one.synthetic]
    gains = compared.apart(compared.candidates[0])  # those with fewer seeds are compared on the same images
    best = max(full, key=lambda one: gains[one.name].mean.value, default=None)
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
        told += "the last ones still paid, and more may." if _above(last) else "that more labels pay is not shown."
    yield told


def _synthesis(facts: Facts, learner: str, chosen: Candidate, compared: Compared) -> Iterator[str]:
    real = compared.find(learner, facts.learnt)
    made = [one for one in compared.candidates if one.learner == learner and one.synthetic]
    beside = [one for one in made if real and one.defects == facts.learnt]
    if real and beside:
        apart = compared.apart(real)
        each = ", ".join(f"{one.synthetic} {gain(apart[one.name])}" for one in beside)
        best = max(beside, key=lambda one: apart[one.name].mean.value)
        verdict = f"synthesise ({best.synthetic})" if _above(apart[best.name]) else "that it pays is not shown"
        verdict += ", though one is the best here" * (chosen in beside and not _above(apart[best.name]))
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
    if apart.mean.value == 0 and apart.mean.half == 0:
        return "no difference"
    return f"{shown(apart.mean.value, '+')}{_half(apart.mean.half)}"


def with_half(mean: Mean) -> str:
    """As `.912 ± .010`."""
    return f"{shown(mean.value)}{_half(mean.half)}"


def shown(value: float, sign: str = "") -> str:
    """Three digits, without the zero before the point."""
    return f"{value:{sign}.3f}".replace("0.", ".", 1)


def _half(half: float | None) -> str:
    """Nothing where none was measured, or all seeds agree; that of two may be wider than all that the metric can be."""
    if not half:
        return ""
    return f" ± {shown(half)}" if half < 1 else " ± 1"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
