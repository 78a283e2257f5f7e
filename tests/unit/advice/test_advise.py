"""Advice on a folder of made images, by the real command."""

import json
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from exdd_ray.advice import within
from exdd_ray.cli.main import main
from exdd_ray.data.procedural.defects import add_defect
from exdd_ray.data.procedural.surfaces import make_surface

SIZE = (64, 64)


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """A maker of folders of good and defective images, and the folder to run in."""
    monkeypatch.chdir(tmp_path)

    def make(good: int, defects: int, *, masks: bool = True):
        root = tmp_path / "parts"
        for name in ("normal", "defect", "masks"):
            (root / name).mkdir(parents=True)
        for number in range(good + defects):
            rng = np.random.default_rng(number)
            image = make_surface("brushed_metal", SIZE, rng)
            if number < good:
                Image.fromarray(image).save(root / "normal" / f"{number}.png")
                continue
            image, mask = add_defect(image, "hole", rng)
            Image.fromarray(image).save(root / "defect" / f"{number}.png")
            if masks:
                Image.fromarray(mask.astype(np.uint8) * 255).save(root / "masks" / f"{number}.png")
        if not masks:
            (root / "masks").rmdir()
        return root

    return make


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
    assert answer.startswith("16 good and 6 defective images; 5 candidates and up to 2 seeds")
    assert f"Detector: {found['chosen']}." in answer
    assert "Labels: image AUROC of ExDD less that of PatchCore with so many defects learnt: 1: " in answer
    assert "Synthesis beside 3 real defects: 4 MemSeg " in answer
    assert "Synthetic defects without any real one: ExDD, 4 MemSeg defects, " in answer
    (folder,) = (one for one in (tmp_path / "runs" / "advise").iterdir() if not one.is_symlink())
    assert (folder / "advice.md").read_text().startswith("16 good")
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
    assert "6 defects have no mask" in " ".join(found["answer"])


def test_without_defects_it_says_what_it_cannot_tell(parts, capsys):
    code, _, found = asked(capsys, str(parts(16, 0)))
    assert code == 0
    assert found["chosen"] is None
    assert "16 good images and 0 defective ones" in found["answer"][0]
    assert "cannot be told" in " ".join(found["answer"])


def test_a_time_too_short_for_one_trial_is_refused(parts, capsys):
    assert main(["advise", str(parts(16, 6)), "--minutes", "0.001"]) == 2
    assert "too short: the first of" in capsys.readouterr().err
    assert main(["advise", "parts", "--minutes", "0"]) == 2
