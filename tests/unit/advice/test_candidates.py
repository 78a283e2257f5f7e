"""What is compared on a folder, and who learns and judges."""

from pathlib import Path

import pyarrow as pa
import pytest

from exdd_ray.advice.candidates import AdviceConfig, Facts, as_sweep, candidates, facts_of, read_advice_config
from exdd_ray.data.catalog import CatalogRow, build_catalog, select_rows
from exdd_ray.data.split import split_catalog
from exdd_ray.errors import ConfigError, DataError
from exdd_ray.experiment.space import points_ahead

CONFIG = read_advice_config()


def row(number: int, label: int, *, mask: bool = True, split: str = "unsplit") -> CatalogRow:
    return CatalogRow(
        id=f"{label}/{number}",
        dataset="folder",
        category="folder",
        split=split,
        label=label,
        defect="scratch" if label else "good",
        image=f"{label}{number}.png",
        mask=f"{number}_mask.png" if label and mask else None,
    )


def folder(normal: int, defects: int, *, masked: int | None = None) -> Facts:
    return facts_of(images(normal, defects, defects if masked is None else masked))


def images(normal: int, defects: int, masked: int) -> pa.Table:
    marked = (row(number, 1, mask=number < masked) for number in range(defects))
    return build_catalog([*(row(number, 0) for number in range(normal)), *marked])


def test_half_of_the_defects_judge_and_one_is_left_over_for_the_test():
    facts = folder(60, 20)
    assert facts == Facts(normal=60, defects=20, masked=20, split=False)
    assert (facts.judged, facts.learnt, facts.counts) == (9, 10, (10, 5, 2))
    assert (folder(20, 4).judged, folder(20, 4).counts) == (2, (1,))


def test_the_single_bank_is_first_then_all_detectors_and_all_names_differ():
    compared = candidates(CONFIG, folder(60, 20))
    names = [one.name for one in compared]
    assert names[:4] == ["PatchCore", "ExDD, 10 real defects", "SuperSimpleNet, 10 real defects", "PaDiM"]
    assert "SuperSimpleNet, 10 real + 50 pasted defects" in names
    assert len(set(names)) == len(names)


def test_with_too_few_masks_only_detectors_of_good_images_are_compared():
    for masked in (0, 3):
        assert [one.name for one in candidates(CONFIG, folder(60, 20, masked=masked))] == ["PatchCore", "PaDiM"]


def test_defects_without_a_mask_are_learnt_by_none_and_judge_by_their_share():
    facts = folder(60, 20, masked=12)
    assert (facts.judged, facts.counts) == (9, (6, 3, 1))  # 5 of the 12 judge, and one is left over
    points = points_ahead(as_sweep(Path("parts"), facts, candidates(CONFIG, facts), 1))
    assert {trial.config.dataset.split.draw for point in points for _, trial in point.trials} == {"masked"}


@pytest.mark.parametrize("defects", [4, 5, 6, 7, 20, 101])
def test_so_many_as_are_to_be_learnt_can_be_drawn_whatever_lacks_a_mask(defects):
    for masked in range(4, defects + 1):
        facts = folder(20, defects, masked=masked)
        split = {"train_fraction": 0.8, "validation_fraction": 0.3, "validation_defects": facts.judged, "seed": 0}
        drawn = split_catalog(images(20, defects, masked), defects=facts.learnt, draw=facts.draw, **split)
        assert facts.learnt >= 1
        assert select_rows(drawn, split="train", label=1)["mask"].null_count == 0
        assert select_rows(drawn, split="test", label=1).num_rows >= 1


def test_every_candidate_is_a_valid_experiment_judged_by_the_same_numbers_of_images():
    facts = folder(60, 20)
    loaded = as_sweep(Path("parts"), facts, candidates(CONFIG, facts), 3)
    points = points_ahead(loaded)
    assert [one.name for one in points] == [one.name for one in candidates(CONFIG, facts)]
    splits = [trial.config.dataset.split for point in points for _, trial in point.trials]
    assert {one.validation_defects for one in splits} == {9}
    assert {one.defects for one in splits} == {0, 2, 5, 10}
    assert {round(60 * one.train_fraction) for one in splits} == {58}


def test_a_split_of_the_folder_is_kept():
    rows = [row(number, 0, split="train" if number < 20 else "test") for number in range(30)]
    facts = facts_of(build_catalog([*rows, *(row(number, 1, split="test") for number in range(8))]))
    assert facts.split
    (_, trial), *_ = points_ahead(as_sweep(Path("parts"), facts, candidates(CONFIG, facts), 1))[0].trials
    assert trial.config.dataset.split.train_fraction == 0.8


def test_what_is_drawn_from_counts_alone():
    good = [row(number, 0, split="train" if number < 20 else "test") for number in range(30)]
    learnt = [row(number, 1, split="train", mask=False) for number in range(6)]
    tested = [row(number, 1, split="test") for number in range(6, 16)]
    assert facts_of(build_catalog([*good, *learnt, *tested])) == Facts(normal=20, defects=6, masked=0, split=True)
    held_out = [row(number, 1, split="validation") for number in range(16, 19)]
    assert facts_of(build_catalog([*good, *tested, *held_out])).defects == 10


def test_too_few_good_images_are_refused():
    with pytest.raises(DataError, match="11 good images"):
        folder(11, 20)


def test_a_file_that_names_no_synthesizer_for_alone_is_refused(tmp_path):
    (tmp_path / "mine.yaml").write_text("good: {PatchCore: {system: patchcore}}\nalone: DRAEM\n")
    with pytest.raises(ConfigError, match="alone=DRAEM is none of the synthesizers"):
        read_advice_config(str(tmp_path / "mine.yaml"))


def test_only_what_a_file_names_is_compared():
    config = AdviceConfig(good={"single": {"system": "patchcore"}}, learners={"two banks": {"system": "exdd"}})
    names = [one.name for one in candidates(config, folder(60, 20))]
    assert names == ["single", "two banks, 10 real defects", "two banks, 5 real defects", "two banks, 2 real defects"]


def test_a_bundled_config_is_found_by_its_name():
    found = candidates(read_advice_config("transformer"), Facts(normal=40, defects=10, masked=10, split=False))
    assert {one.learner for one in found} == {"PatchCore", "PatchCore on DINOv2", "ExDD", "ExDD on DINOv2"}
    sweep = as_sweep(Path("/x"), Facts(normal=40, defects=10, masked=10, split=False), found, 1)
    kinds = {one.config.detector.features.backbone for one in sweep.trials}
    assert kinds == {"surface_resnet18", "timm/vit_small_patch14_dinov2.lvd142m"}
    with pytest.raises(ConfigError, match="transformer"):
        read_advice_config("transformers")


def test_a_learner_that_learns_no_defects_is_refused(tmp_path):
    (tmp_path / "mine.yaml").write_text("good: {bank: {system: patchcore}}\nlearners: {PaDiM: {kind: padim}}\n")
    with pytest.raises(ConfigError, match=r"learners.PaDiM learns good images alone: name it under `good`"):
        read_advice_config(str(tmp_path / "mine.yaml"))


def test_a_synthesizer_with_a_count_of_its_own_is_refused():
    with pytest.raises(ValueError, match=r"synthesizers.cut.count: `synthetic` says how many"):
        AdviceConfig(good={"bank": {}}, synthesizers={"cut": {"kind": "cutpaste", "count": 7}})
