"""Is the advice right? Random folders of 60 good and 20 defective magnetic tiles, and tiles that advice never saw.

`exdd advise` is asked of each folder within a time. Every candidate of the full grid is then fitted to the folder's
images and tested on 200 good and 200 defective tiles outside it: the advice is right where its choice is not told from
the best of them (image AUROC, paired by image, at the 5 % level).
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from common import CACHE, copy_images, report, tiles

from exdd_ray.advice.advise import advise
from exdd_ray.advice.candidates import AdviceConfig, Candidate, candidates, facts_of, read_advice_config
from exdd_ray.advice.compare import METRIC
from exdd_ray.cli.progress import terminal_progress
from exdd_ray.data.catalog import catalog_rows
from exdd_ray.data.datasets import load_dataset
from exdd_ray.experiment.plan import lay_out, make_plan
from exdd_ray.experiment.rates import read_rates
from exdd_ray.experiment.run_plan import run_plan
from exdd_ray.experiment.scores import scored_trials
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.space import load_raw_sweep, points_ahead
from exdd_ray.experiment.summary import summarize
from exdd_ray.experiment.tables import trials_table
from exdd_ray.store.artifact import Store

GOOD, DEFECTIVE, TESTED = 60, 20, 200
SEEDS = 5


@dataclass(frozen=True)
class Judged:
    """The advice on a folder against the truth.

    Attributes:
        chosen, best: by name; the best on the tiles that were never seen.
        apart: image AUROC of the chosen less the best's, on these tiles.
        right: whether they are not told apart.
        failed: trials of the full grid that failed.
        seconds: that the advice took.
    """

    chosen: str
    best: str
    apart: float
    right: bool
    trials: int
    failed: dict[str, str]
    seconds: float


def judged(seed: int, minutes: float, config: AdviceConfig, session: Session) -> Judged:
    """Ask for advice on a random folder, then try all candidates on other tiles."""
    with TemporaryDirectory() as folder:
        theirs, whole = Path(folder) / "theirs", Path(folder) / "whole"
        write(seed, theirs, whole)
        started = time.perf_counter()
        found = advise(theirs, config, 60 * minutes, SEEDS, session)
        seconds = time.perf_counter() - started
        assert found.chosen is not None
        compared = candidates(config, facts_of(load_dataset("folder", theirs)))
        best, apart, right, failed = truth(whole, compared, found.chosen, session)
    return Judged(found.chosen.name, best, apart, right, len(compared), failed, seconds)


def write(seed: int, theirs: Path, whole: Path) -> None:
    """A random folder as its user has it, and the same images with a test set of others."""
    rng, rows = np.random.default_rng(seed), catalog_rows(tiles())
    for label, count in ((0, GOOD), (1, DEFECTIVE)):
        pool = [row for row in rows if row.label == label]
        order = [pool[at] for at in rng.permutation(len(pool))[: count + TESTED]]
        name = "defect" if label else "good"
        copy_images(order[:count], theirs / ("defect" if label else "normal"), theirs / "masks")
        copy_images(order[:count], whole / "train" / name, whole / "ground_truth" / name)
        copy_images(order[count:], whole / "test" / name, whole / "ground_truth" / name)


def truth(
    whole: Path, compared: Sequence[Candidate], chosen: Candidate, session: Session
) -> tuple[str, float, bool, dict[str, str]]:
    """The best candidate on tiles never seen, how the chosen differs from it, whether that is noise, and failures."""
    raw: dict[str, Any] = {
        "name": "truth",
        "dataset": {"name": "folder", "root": str(whole), "split": {"defects": 0}},
        "variants": {one.name: dict(one.changes) for one in compared},
        "objectives": [METRIC],
        "select": "test",
    }
    loaded = load_raw_sweep(raw, whole)
    plan = make_plan(lay_out(points_ahead(loaded), session), session, read_rates(session.store.root))
    outcomes = run_plan(plan, session)
    table = trials_table(outcomes)
    values = {row["name"]: row[METRIC] for row in table.to_pylist() if row["state"] == "done"}
    best = max(values, key=lambda name: values[name])
    scored = scored_trials(one.artifact for one in outcomes if one.artifact)
    points = summarize(table, loaded.sweep, best, lambda key: scored.get(key, {}))
    apart = {one.name: one.differences[METRIC] for one in points if METRIC in one.differences}
    failed = {one.planned.point.name: one.error for one in outcomes if one.error}
    if chosen.name == best:
        return best, 0.0, True, failed
    difference = apart[chosen.name]
    return best, difference.mean.value, not difference.clear, failed


def main() -> int:
    """Advice on every folder, then the share that was right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folders", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="seed of the first folder")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--config", default="default", help="what is compared, as of exdd advise")
    options = parser.parse_args()
    session, config = Session(Store(CACHE / "store"), terminal_progress), read_advice_config(options.config)
    found = []
    for seed in range(options.first, options.first + options.folders):
        found.append(judged(seed, options.minutes, config, session))
        print(found[-1], file=sys.stderr, flush=True)
    rows = [
        (one.chosen, one.best, f"{one.apart:+.4f}", "yes" if one.right else "no", f"{one.seconds / 60:.1f}")
        for one in found
    ]
    figures = {
        "folders": len(found),
        "trials": sum(one.trials for one in found),
        "failed": sum(len(one.failed) for one in found),
        "reasons": sorted({reason for one in found for reason in one.failed.values()}),
        "advise_minutes": round(float(np.median([one.seconds for one in found])) / 60, 2),
        "advise_right": sum(one.right for one in found),
        "advise_lost": round(float(np.mean([one.apart for one in found])), 4),
    }
    header = ("advised", "best on other tiles", "image AUROC less its", "within noise", "minutes")
    report("Advice against the truth", header, rows, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
