"""Which candidate is advised."""

import pyarrow as pa
import pytest

from exdd_ray.advice.candidates import Candidate
from exdd_ray.advice.compare import advised, compare, left_behind
from exdd_ray.errors import UserError
from exdd_ray.experiment.sweep_config import SweepConfig
from exdd_ray.experiment.tables import TRIALS_SCHEMA

SINGLE, REAL = Candidate("PatchCore", 0, "", {}), Candidate("ExDD", 10, "", {})
MADE = Candidate("ExDD", 10, "50 MemSeg", {})
SWEEP = SweepConfig(objectives=("image_auroc",), select="validation")


def row(candidate: Candidate, seed: int, auroc: float | None) -> dict[str, object]:
    done = auroc is not None
    return {
        "number": 0,
        "name": candidate.name,
        "settings": "{}",
        "seed": seed,
        "dataset": "folder",
        "category": "folder",
        "state": "done" if done else "failed",
        "error": "" if done else "no memory",
        "validation_image_auroc": auroc,
        "tested": "the same",
        "artifact": "",
    }


def found(*aurocs: tuple[Candidate, list[float | None]]):
    rows = [row(one, seed, value) for one, values in aurocs for seed, value in enumerate(values)]
    return compare([one for one, _ in aurocs], pa.Table.from_pylist(rows, schema=TRIALS_SCHEMA), SWEEP, lambda _: {})


def test_the_best_is_advised_though_the_single_bank_is_near():
    assert advised(found((SINGLE, [0.90, 0.80, 0.85]), (REAL, [0.91, 0.82, 0.84]))) is REAL


def test_synthetic_defects_must_win_by_more_than_the_error():
    real = [0.90, 0.80, 0.85]
    assert advised(found((SINGLE, [0.7, 0.7, 0.7]), (REAL, real), (MADE, [0.94, 0.79, 0.84]))) is REAL
    assert advised(found((SINGLE, [0.7, 0.7, 0.7]), (REAL, real), (MADE, [0.94, 0.85, 0.89]))) is MADE


def test_fewer_seeds_are_compared_on_those_that_both_have():
    assert advised(found((SINGLE, [0.6, 0.9, 0.9]), (REAL, [0.65, 0.9]))) is REAL


def test_one_lucky_draw_does_not_win():
    assert advised(found((SINGLE, [0.6, 0.9, 0.9]), (REAL, [0.99]))) is SINGLE


def test_fewer_labels_than_there_are_do_not_win_by_noise():
    fewer = Candidate("ExDD", 5, "", {})
    assert advised(found((SINGLE, [0.6, 0.7]), (REAL, [0.8, 0.9]), (fewer, [0.81, 0.9]))) is REAL


def test_a_candidate_with_a_failed_trial_is_left_out():
    compared = found((SINGLE, [0.6, 0.7]), (REAL, [0.9, None]))
    assert [one.name for one in compared.candidates] == ["PatchCore"]


def test_a_seed_with_which_the_first_candidate_failed_is_left_out_for_all():
    compared = found((SINGLE, [0.6, None, 0.8]), (REAL, [0.7, 0.1, 0.9]), (MADE, [0.7, None, 0.9]))
    assert compared.lost == {1: "no memory"}
    assert [one.name for one in compared.candidates] == [SINGLE.name, REAL.name, MADE.name]
    assert compared.apart(SINGLE)[REAL.name].mean.value == pytest.approx(0.1)
    assert compared.means[REAL.name].runs == 2
    with pytest.raises(UserError, match="PatchCore failed: no memory"):
        found((SINGLE, [None, None]), (REAL, [0.9, 0.8]))


GAUSSIANS, FEWER = Candidate("PaDiM", 0, "", {}), Candidate("ExDD", 5, "", {})


def test_a_detector_whose_best_is_behind_by_more_than_the_error_is_left_behind():
    single = (SINGLE, [0.90, 0.80, 0.85])
    assert left_behind(found(single, (GAUSSIANS, [0.70, 0.61, 0.64]))) == {"PaDiM"}
    assert left_behind(found(single, (GAUSSIANS, [0.91, 0.61, 0.84]))) == set()
    assert left_behind(found(single, (REAL, [0.99, 0.90, 0.95]))) == {"PatchCore"}


def test_a_detector_is_judged_by_its_best_candidate_that_competes():
    single, real = (SINGLE, [0.90, 0.80, 0.85]), (REAL, [0.70, 0.61, 0.64])
    assert left_behind(found(single, real)) == {"ExDD"}
    assert left_behind(found(single, real, (MADE, [0.91, 0.79, 0.84]))) == set()
    assert left_behind(found(single, real, (FEWER, [0.91, 0.79, 0.84]))) == {"ExDD"}


def test_where_no_noise_is_measured_nobody_is_behind():
    assert left_behind(found((SINGLE, [0.9]), (GAUSSIANS, [0.2]))) == set()
