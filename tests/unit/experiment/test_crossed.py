import pytest

from exdd_ray.errors import ConfigError
from exdd_ray.experiment.crossed import chosen, combinations, read_grid
from exdd_ray.experiment.space import load_raw_sweep, points_ahead


def names(*detectors, synthesizers=None, counts=None):
    return [one.name for one in combinations(chosen(read_grid(), detectors, synthesizers, counts))]


def test_a_detector_that_learns_no_defects_is_there_once():
    assert names("PatchCore", "PaDiM", "DiffusionAD") == ["PatchCore, 0 real", "PaDiM, 0 real", "DiffusionAD, 0 real"]


def test_what_is_made_of_real_defects_is_left_out_where_there_is_none():
    made = ["per region", "CutPaste", "inpainted", "half and half"]
    assert names("ExDD", counts=[0]) == ["ExDD, 0 real", *(f"ExDD, 0 real, {name}" for name in made)]
    learnt = names("ExDD", counts=[1])
    assert learnt[0] == "ExDD, 1 real"
    assert {"ExDD, 1 real, pasted", "ExDD, 1 real, LoRA", "ExDD, 1 real, DualAnoDiff"} < set(learnt)


def test_a_detector_that_needs_defects_is_left_out_where_it_would_have_none():
    assert names("classifier", synthesizers=["CutPaste"], counts=[0, "all"]) == [
        "classifier, 0 real, CutPaste",
        "classifier, all real",
        "classifier, all real, CutPaste",
    ]


def test_combinations_are_variants_of_a_sweep():
    found = combinations(chosen(read_grid(), ["PaDiM", "ExDD"], ["pasted"], [0, "all"]))
    raw = {"name": "grid", "select": "test", "variants": {one.name: dict(one.changes) for one in found}}
    trials = [point.trials[0][1].config for point in points_ahead(load_raw_sweep(raw, "grid"))]
    assert [one.detector.kind for one in trials] == ["padim", "patch_bank", "patch_bank", "patch_bank"]
    assert [one.dataset.split.defects for one in trials] == [0, 0, None, None]
    assert [one.synthesizer and one.synthesizer.count for one in trials] == [None, None, None, 50]


def test_names_that_the_grid_has_not_are_refused():
    with pytest.raises(ConfigError, match="the grid has no detector 'Exdd': PatchCore, PaDiM"):
        chosen(read_grid(), ["Exdd"])
    with pytest.raises(ConfigError, match="the grid has no synthesizer 'pasta'"):
        chosen(read_grid(), None, ["pasta"])


def test_a_file_that_is_no_grid_is_refused(tmp_path):
    (tmp_path / "mine.yaml").write_text("detectors: {}\n")
    with pytest.raises(ConfigError, match=r"mine.yaml: detectors"):
        read_grid(str(tmp_path / "mine.yaml"))
    (tmp_path / "mine.yaml").write_text("detectors: {mine: {kind: padim, epochs: 3}}\n")
    with pytest.raises(ConfigError, match=r"detectors.mine: .*epochs"):
        combinations(read_grid(str(tmp_path / "mine.yaml")))


def test_a_grid_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="classifier, localiser: no defect to learn"):
        names("classifier", "localiser", synthesizers=["pasted"], counts=[0])


def test_a_synthesizer_with_a_count_of_its_own_is_refused(tmp_path):
    (tmp_path / "mine.yaml").write_text("detectors: {it: {}}\nsynthesizers: {cut: {kind: cutpaste, count: 7}}\n")
    with pytest.raises(ConfigError, match=r"synthesizers.cut.count: `synthetic` says how many"):
        read_grid(str(tmp_path / "mine.yaml"))
