"""Sentences that the figures bear out."""

from collections.abc import Sequence

import pyarrow as pa

from exdd_ray.advice.candidates import Candidate, Facts
from exdd_ray.advice.compare import advised, compare
from exdd_ray.advice.cost import Cost
from exdd_ray.advice.within import Ran
from exdd_ray.advice.words import sentences, without_measuring
from exdd_ray.experiment.sweep_config import SweepConfig
from exdd_ray.experiment.tables import TRIALS_SCHEMA

SINGLE, REAL = Candidate("PatchCore", 0, "", {}), Candidate("ExDD", 10, "", {})
MADE = Candidate("ExDD", 10, "50 MemSeg", {})
FACTS = Facts(normal=60, defects=20, masked=20, split=False)
COST = Cost(seconds=41.2, normal=38, defects=1, synthetic=0, milliseconds=46.9, device="cpu")


def answer(
    *aurocs: tuple[Candidate, Sequence[float | None]], facts: Facts = FACTS, behind: frozenset[str] = frozenset()
) -> str:
    """Advice on candidates with a value for each seed."""
    rows = [
        {
            "name": one.name,
            "settings": "{}",
            "seed": seed,
            "dataset": "folder",
            "category": "folder",
            "state": "failed" if value is None else "done",
            "error": "no memory" if value is None else "",
            "validation_image_auroc": value,
            "validation_defects": 9,
            "validation_normal": 20,
            "tested": "the same",
            "artifact": "",
        }
        for one, values in aurocs
        for seed, value in enumerate(values)
    ]
    trials, sweep = pa.Table.from_pylist(rows, schema=TRIALS_SCHEMA), SweepConfig(select="validation")
    compared = compare([one for one, _ in aurocs], trials, sweep, lambda _: {})
    return " ".join(sentences(facts, compared, advised(compared), Ran((), (), behind, {}, 60.0), COST))


def test_a_gain_that_may_be_noise_is_advised_as_such():
    told = answer((SINGLE, [0.80, 0.90]), (REAL, [0.82, 0.95]))
    assert "Detector: ExDD, 10 real defects. Its image AUROC is .885" in told
    assert "+.035 ± .191 against PatchCore alone, which may be noise." in told


def test_alone_nothing_was_better_than_the_single_bank():
    assert "Its image AUROC is .900; nothing else was compared." in answer((SINGLE, [0.9]))
    assert "The best of" not in answer((SINGLE, [0.9]))
    assert "is ExDD, 10 real defects (-.050 ± .635): nothing was better" in answer(
        (SINGLE, [0.9, 0.8]), (REAL, [0.8, 0.8])
    )


def test_synthetic_defects_that_are_better_by_less_than_the_error_are_not_called_worse():
    told = answer((SINGLE, [0.8, 0.9]), (MADE, [0.95, 0.8]))
    assert "the best other is ExDD, 10 real + 50 MemSeg defects (+.025 ± 1): by less than its error." in told


def test_scores_that_synthetic_defects_leave_alone_are_no_gain_with_an_interval():
    told = answer((SINGLE, [0.7, 0.7]), (REAL, [0.8, 0.9]), (MADE, [0.8, 0.9]))
    assert "Synthesis beside 10 real defects: 50 MemSeg no difference: that it pays is not shown." in told


def test_one_is_not_many():
    told = answer((SINGLE, [0.9]), facts=Facts(normal=60, defects=20, masked=19, split=False))
    assert "1 candidate and up to 1 seed in 1.0 minutes" in told
    assert "1 defect without a mask (`exdd data check` names them): no detector learns them" in told
    assert "to fit it to 38 good images, 1 real defect, and judge it, took 41 s" in told
    assert "47 ms an image on one CPU thread" in told
    assert "1 seed is few" in told


def test_of_a_folder_with_few_defects_in_train_it_says_that_they_alone_count():
    few = without_measuring(Facts(normal=60, defects=2, masked=2, split=True))
    assert few[0].startswith(
        "60 good images and 2 defective ones to draw from (where train/ has defects, they alone are)"
    )
    assert "train/" not in without_measuring(Facts(normal=60, defects=0, masked=0, split=True))[0]


def test_who_was_left_behind_is_told_by_detector_and_number_of_seeds():
    fewer = Candidate("ExDD", 5, "", {})
    behind = frozenset({REAL.name, fewer.name})
    told = answer((SINGLE, [0.9, 0.8, 0.9]), (REAL, [0.5, 0.5]), (fewer, [0.5]), behind=behind)
    assert "for time to go to those that may still win: ExDD after 2 seeds." in told
    assert "Left behind" not in answer((SINGLE, [0.9]))


def test_a_seed_that_is_left_out_is_told_with_its_reason():
    told = answer((SINGLE, [0.9, None, 0.9]), (REAL, [0.8, 0.9, 0.7]))
    assert "Seed 1 is left out for all, as PatchCore failed: no memory" in told
    assert "2 candidates and up to 2 seeds" in told


def test_with_too_few_masks_it_says_so_and_nothing_of_labels():
    told = answer((SINGLE, [0.9]), facts=Facts(normal=60, defects=20, masked=3, split=False))
    assert "Labels and synthesis: 17 defects without a mask (`exdd data check` names them) and 3 with one" in told
    assert "fewer than the 4 that it takes to learn some" in told
    assert "Labels: " not in told


def test_labels_are_told_of_the_detector_that_gains_more_on_the_same_seeds():
    heads = Candidate("SuperSimpleNet", 10, "", {})
    told = answer((SINGLE, [0.99, 0.79, 0.80]), (REAL, [0.92, 0.78, 0.79]), (heads, [0.90]))
    assert "Labels: image AUROC of ExDD less that of PatchCore" in told
