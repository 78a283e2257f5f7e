import numpy as np
import pyarrow as pa
import pytest

from exdd_ray.experiment.crossed import Combination
from exdd_ray.experiment.sweep_config import SweepConfig
from exdd_ray.experiment.tables import NO_PREDICTIONS, TRIALS_SCHEMA
from exdd_ray.metrics.difference import Difference
from exdd_ray.metrics.seeds import Mean
from exdd_ray.report.grid_table import NONE_TO_LEARN, Cell, as_markdown, cells_of, failures, rows_across, rows_of

SWEEP = SweepConfig(objectives=("image_auroc",), select="test")
GOOD = Combination("bank", 0, "", {})
MADE, PLAIN, BOTH = (Combination("dual", *of, {}) for of in ((0, "pasted"), (5, ""), (5, "pasted")))
COMPARED = (GOOD, MADE, PLAIN, BOTH)


def rows(one, dataset, values, error="", learnt=0):
    return [
        {
            "name": one.name,
            "number": 0,
            "settings": "{}",
            "seed": seed,
            "dataset": dataset,
            "category": "c",
            "tested": "t",
            "artifact": f"{one.name} {dataset} {seed}",
            "state": "failed" if error else "done",
            "error": error,
            "image_auroc": None if error else value,
            "seconds": None if error else 2.0 + seed,
            "train_defects": None if error else learnt,
            "milliseconds": 30.0,
            "remarks": "",
        }
        for seed, value in enumerate(values)
    ]


@pytest.fixture
def cells():
    given = rows(GOOD, "tiles", [0.8, 0.8, 0.8]) + rows(MADE, "tiles", [0.7, 0.7, 0.7])
    given += rows(PLAIN, "tiles", [0.80, 0.82, 0.84]) + rows(BOTH, "tiles", [0.90, 0.925, 0.935])
    given += rows(GOOD, "cells", [0.6, 0.7, 0.8]) + rows(MADE, "cells", [0.5] * 3)
    given += rows(PLAIN, "cells", [0] * 3, "no mask") + rows(BOTH, "cells", [0.5] * 3)
    trials = pa.Table.from_pylist(given, schema=TRIALS_SCHEMA)
    return cells_of(trials, NO_PREDICTIONS, SWEEP, COMPARED)


def test_gains_are_those_of_synthetic_defects_beside_as_many_real_ones(cells):
    gain = cells["tiles", BOTH].gain
    assert gain.mean.value == pytest.approx(np.mean([0.10, 0.105, 0.095]))
    assert gain.clear
    assert cells["tiles", MADE].gain is None  # without defects the detector cannot be
    assert cells["tiles", PLAIN].gain is None
    assert cells["cells", BOTH].gain is None  # what it would be compared with failed


def test_a_dataset_has_a_row_a_detector_and_source_and_a_column_a_number(cells):
    header, found = rows_of(cells, "tiles")
    assert header == ("detector", "synthetic", "0 real", "5 real", "seconds")
    assert found == [
        ("bank", "", "80.0 ± 0.0", "", "3.0"),
        ("dual", "", "", "82.0 ± 5.0", "3.0"),
        ("dual", "pasted", "70.0 ± 0.0", "92.0 ± 4.5 (+10.0*)", "3.0"),
    ]


def test_across_datasets_detectors_of_normal_images_have_their_row(cells):
    header, found = rows_across(cells, 5)
    assert header == ("detector", "synthetic", "tiles", "cells", "seconds")
    assert [row[:2] for row in found] == [("bank", ""), ("dual", ""), ("dual", "pasted")]
    assert found[1][2:] == ("82.0 ± 5.0", "failed", "3.0")
    assert failures(cells) == ["1 failed: no mask"]


def test_markdown_has_a_line_a_row():
    assert as_markdown(("a", "b"), [("1", "")]) == "| a | b |\n| --- | --- |\n| 1 |  |"


def of(given, compared, sweep=SWEEP):
    return cells_of(pa.Table.from_pylist(given, schema=TRIALS_SCHEMA), NO_PREDICTIONS, sweep, compared)


def test_where_the_split_trains_on_no_defect_there_are_no_figures_of_all_defects():
    every = Combination("dual", "all", "", {})
    cells = of(rows(every, "unsplit", [0.8, 0.9]) + rows(every, "split", [0.8, 0.9], learnt=7), [every])
    assert cells["unsplit", every].text == "none"
    assert cells["unsplit", every].error == NONE_TO_LEARN
    assert cells["split", every].text.startswith("85.0")


def test_what_a_search_left_out_has_no_cell():
    cells = of(rows(BOTH, "tiles", [0.8, 0.9]), COMPARED)
    assert list(cells) == [("tiles", BOTH)]
    assert cells["tiles", BOTH].gain is None
    assert rows_of(cells, "tiles")[1] == [("dual", "pasted", "85.0 ± 63.5", "2.5")]


def test_costs_are_no_percents():
    quickest = SweepConfig(objectives=("milliseconds", "image_auroc"), select="test")
    assert of(rows(GOOD, "tiles", [0.8]), [GOOD], quickest)["tiles", GOOD].text == "80.0"


@pytest.mark.parametrize(
    ("unmeasured", "text"), [("seeds", "99.0 (+9.0)"), ("images", "99.0 (+9.0*)"), (None, "99.0 (+9.0*)")]
)
def test_a_gain_of_one_seed_is_not_told_to_be_more_than_noise(unmeasured, text):
    gain = Difference(Mean(0.09, 0.01, 1), 0.001, unmeasured)
    assert Cell(Mean(0.99, None, 1), gain, 1.0, "").text == text


def test_no_gain_has_no_sign_of_a_loss():
    assert Cell(Mean(0.99, None, 1), Difference(Mean(-1e-5, 0.01, 3), 0.9, None), 1.0, "").text == "99.0 (+0.0)"
