"""Advice on a folder of made images, by the real command."""

import json

import numpy as np
import pytest
from PIL import Image

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


def test_the_answer_names_a_detector_and_what_was_not_tried(parts, capsys, tmp_path):
    root = parts(16, 6)
    code, out, found = asked(capsys, str(root), "--minutes", "0.2", "--seeds", "2")
    assert code == 0
    assert "PatchCore" in found["image_auroc"]
    assert found["chosen"] in found["image_auroc"]
    answer = " ".join(found["answer"])
    assert "16 good and 6 defective images" in answer
    assert f"Detector: {found['chosen']}." in answer
    assert "No time was left for:" in answer
    (folder,) = (one for one in (tmp_path / "runs" / "advise").iterdir() if not one.is_symlink())
    assert (folder / "advice.md").read_text().startswith("16 good")
    assert (folder / "trials.parquet").exists()


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
