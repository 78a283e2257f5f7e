"""Advice on a folder of made images, by the real command."""

import json
import shlex
import shutil
from itertools import count
from types import SimpleNamespace

import pyarrow.parquet as pq
from PIL import Image

from exdd_ray.advice import within
from exdd_ray.cli.main import main


def asked(capsys, *words: str) -> tuple[int, str, dict[str, object]]:
    code = main(["advise", *words, "--json"])
    out = capsys.readouterr().out
    return code, out, json.loads(out.splitlines()[-1])


FEW = """
good: {PatchCore: {system: patchcore}}
learners: {ExDD: {system: exdd}}
synthesizers: {MemSeg: {kind: per_region, preset: memseg}}
alone: MemSeg
synthetic: 4
"""


def test_the_answer_says_which_detector_how_many_labels_and_whether_to_synthesise(parts, capsys, tmp_path):
    (tmp_path / "few.yaml").write_text(FEW)
    code, _, found = asked(capsys, str(parts(16, 6)), "--config", "few.yaml", "--seeds", "2")
    assert code == 0
    assert set(found["image_auroc"]) == {
        "PatchCore",
        "ExDD, 3 real defects",
        "ExDD, 1 real defect",
        "ExDD, 3 real + 4 MemSeg defects",
        "ExDD, 4 MemSeg defects",
    }
    answer = " ".join(found["answer"])
    assert answer.startswith("16 good images and 6 defects to learn from or judge by; 5 candidates and up to 2 seeds")
    assert "Each was judged by 2 defects and 5 good images that it had not learnt" in answer
    assert f"Detector: {found['chosen']}." in answer
    assert "Labels: image AUROC of ExDD less that of PatchCore with so many defects learnt: 1: " in answer
    assert "Synthesis beside 3 real defects: 4 MemSeg " in answer
    assert "Synthetic defects without any real one: ExDD, 4 MemSeg defects, " in answer
    (folder,) = (one for one in (tmp_path / "runs" / "advise").iterdir() if not one.is_symlink())
    assert (folder / "advice.md").read_text().startswith("16 good")
    assert f"To go on: `{found['command']}`" in (folder / "advice.md").read_text()
    assert (folder / "trials.parquet").exists()


def test_candidates_for_which_there_is_no_time_are_named(parts, capsys, tmp_path, monkeypatch):
    (tmp_path / "few.yaml").write_text(FEW)
    ticks = count(step=10)  # seconds that pass from one look at the clock to the next
    monkeypatch.setattr(within, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    _, _, found = asked(capsys, str(parts(16, 6)), "--config", "few.yaml", "--seeds", "1", "--minutes", "1")
    assert list(found["image_auroc"]) == ["PatchCore", "ExDD, 3 real defects"]
    assert "No time was left for: ExDD, 3 real + 4 MemSeg defects; ExDD, 1 real defect;" in " ".join(found["answer"])


def test_defects_without_masks_are_told(parts, capsys):
    code, _, found = asked(capsys, str(parts(16, 6, masks=False)), "--seeds", "1")
    assert code == 0
    assert set(found["image_auroc"]) == {"PatchCore", "PaDiM"}
    assert "6 defects without a mask" in " ".join(found["answer"])


def test_defects_that_lack_a_mask_are_not_learnt_but_the_others_are(parts, capsys, tmp_path):
    (tmp_path / "few.yaml").write_text(FEW)
    root = parts(16, 8)
    for mask in sorted((root / "masks").iterdir())[:3]:
        mask.unlink()
    _, _, found = asked(capsys, str(root), "--config", "few.yaml", "--seeds", "2")
    assert "3 defects without a mask" in " ".join(found["answer"])
    assert {"ExDD, 2 real defects", "ExDD, 1 real defect"} < set(found["image_auroc"])
    trials = pq.read_table(next((tmp_path / "runs" / "advise").glob("*/trials.parquet"))).to_pylist()
    learnt = {(one["name"], one["train_defects"]) for one in trials if one["name"].startswith("ExDD, ")}
    assert {("ExDD, 2 real defects", 2), ("ExDD, 1 real defect", 1), ("ExDD, 4 MemSeg defects", 0)} < learnt
    assert {one["validation_defects"] for one in trials} == {3}
    assert not any("have no mask" in one["remarks"] for one in trials)


def test_without_defects_it_says_what_it_cannot_tell(parts, capsys):
    code, _, found = asked(capsys, str(parts(16, 0)))
    assert code == 0
    assert found["chosen"] is None
    assert "16 good images and 0 defective ones" in found["answer"][0]
    assert "cannot be told" in " ".join(found["answer"])


def test_a_time_too_short_for_one_trial_is_refused(parts, capsys):
    assert main(["advise", str(parts(16, 6)), "--minutes", "0.001"]) == 2
    assert "0.06 s are too short: the first of" in capsys.readouterr().err
    assert main(["advise", "parts", "--minutes", "0"]) == 2
    assert main(["advise", "parts", "--minutes", "nan"]) == 2


def test_what_it_costs_is_measured_and_the_command_that_goes_on_runs(parts, capsys, tmp_path):
    (tmp_path / "few.yaml").write_text(FEW)
    _, _, found = asked(capsys, str(parts(16, 6)), "--config", "few.yaml", "--seeds", "1")
    cost = found["cost"]
    assert cost["normal"] == 9
    assert cost["seconds"] > 0
    assert cost["milliseconds"] > 0
    assert "9 good images" in next(one for one in found["answer"] if one.startswith("Cost: "))
    assert main(shlex.split(found["command"])[1:]) == 0


def test_the_command_without_defects_runs(parts, capsys):
    _, _, found = asked(capsys, str(parts(16, 0)))
    assert main(shlex.split(found["command"])[1:]) == 0


def test_a_file_of_no_use_is_told_before_anything_is_run(parts, capsys):
    root = parts(16, 6)
    file = root / "defect" / "17.png"
    file.write_bytes(file.read_bytes()[:100])
    assert main(["advise", str(root)]) == 2
    told = capsys.readouterr().err
    assert f"{file}: " in told
    assert "seed 0" not in told


def test_a_mask_of_another_size_is_refused_and_an_empty_one_told(parts, capsys, tmp_path):
    (tmp_path / "few.yaml").write_text("good: {PatchCore: {system: patchcore}}\nlearners: {ExDD: {system: exdd}}")
    root = parts(16, 6)
    Image.new("L", (64, 64)).save(root / "masks" / "17.png")
    code, _, found = asked(capsys, str(root), "--config", "few.yaml", "--seeds", "2")
    assert code == 0
    assert any(
        one.startswith("Defects whose mask marks nothing: 1 (the first: defect/17.png)") for one in found["answer"]
    )
    Image.new("L", (32, 32), 255).save(root / "masks" / "18.png")
    assert main(["advise", str(root)]) == 2
    assert f"{root / 'masks' / '18.png'}: mask of 32 x 32 pixels" in capsys.readouterr().err


def test_copies_that_may_be_learnt_and_judge_are_told(parts, capsys, tmp_path):
    (tmp_path / "few.yaml").write_text("good: {PatchCore: {system: patchcore}}")
    root = parts(16, 6)
    shutil.copy(root / "normal" / "3.png", root / "normal" / "copy.png")
    _, _, found = asked(capsys, str(root), "--config", "few.yaml", "--seeds", "1")
    told = next(one for one in found["answer"] if one.startswith("Images that are copies of others"))
    assert "byte for byte: 1" in told
    assert "normal/3.png and normal/copy.png" in told


def test_a_folder_that_tests_no_good_image_is_judged_by_those_of_train(parts, capsys, tmp_path):
    (tmp_path / "few.yaml").write_text("good: {PatchCore: {system: patchcore}}")
    made, root = parts(16, 6), tmp_path / "split"
    shutil.copytree(made / "normal", root / "train" / "good")
    shutil.copytree(made / "defect", root / "test" / "hole")
    shutil.copytree(made / "masks", root / "ground_truth" / "hole")
    code, _, found = asked(capsys, str(root), "--config", "few.yaml", "--seeds", "1")
    assert code == 0
    assert "judged by 2 defects and 6 good images" in found["answer"][0]


def test_a_first_candidate_that_fails_ends_it(parts, capsys, tmp_path):
    (tmp_path / "few.yaml").write_text("good: {learner: {kind: classifier}, PaDiM: {kind: padim}}")
    assert main(["advise", str(parts(16, 6)), "--config", "few.yaml"]) == 2
    told = capsys.readouterr().err
    assert "exdd: learner failed: " in told
    assert "PaDiM" not in told


def test_a_first_candidate_that_is_behind_goes_on(parts, capsys, tmp_path):
    coarse = "{kind: padim, features: {resize: [32, 32], channels: 1}}"
    (tmp_path / "few.yaml").write_text(f"good: {{coarse: {coarse}, PatchCore: {{system: patchcore}}}}")
    _, _, found = asked(capsys, str(parts(24, 16)), "--config", "few.yaml", "--seeds", "2")
    assert found["chosen"] == "PatchCore"
    assert "2 candidates and up to 2 seeds" in found["answer"][0]
    assert not any(one.startswith("Left behind") for one in found["answer"])


def test_an_unknown_key_of_a_detector_is_told_by_its_name(parts, capsys, tmp_path):
    (tmp_path / "few.yaml").write_text("good: {small: {system: patchcore, sise: 8}}")
    assert main(["advise", str(parts(16, 6)), "--config", "few.yaml"]) == 2
    assert "exdd: advise: unknown config key 'detector.sise'" in capsys.readouterr().err


def test_no_seed_is_begun_without_the_first_candidate(parts, capsys, tmp_path, monkeypatch):
    (tmp_path / "few.yaml").write_text("good: {PatchCore: {system: patchcore}, PaDiM: {kind: padim}}")
    # looks at the clock: the start; the begin and the end of a trial, of the first one twice; what is passed over
    looks = iter([0.0, 0.0, 20.0, 20.0, 20.0, 25.0, 45.0, 45.0, 45.0])
    monkeypatch.setattr(within, "time", SimpleNamespace(perf_counter=lambda: next(looks, 45.0)))
    _, _, found = asked(capsys, str(parts(16, 6)), "--config", "few.yaml", "--seeds", "2", "--minutes", "1")
    assert "up to 1 seed in" in found["answer"][0]
