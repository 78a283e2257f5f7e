"""What a run says of the files of its dataset, and of images that are trained on and tested."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from experiments import run_experiments
from PIL import Image
from sklearn.metrics import f1_score

from exdd_ray.cli.main import main
from exdd_ray.data.catalog import select_rows
from exdd_ray.data.datasets import load_dataset
from exdd_ray.errors import DataError
from exdd_ray.experiment.assign import NO_THRESHOLDS, assign, mask_donors, require_both_labels
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.load import Trial
from exdd_ray.experiment.result import TrialResult
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.synthesis import synthesis_keys
from exdd_ray.experiment.trial import prepare_trial
from exdd_ray.methods.table import method_of
from exdd_ray.progress import silent
from exdd_ray.store.artifact import Store


def put(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 48, 3)).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    for seed in range(4):
        put(root / "train" / "good" / f"{seed}.png", seed)
    put(root / "test" / "good" / "a.png", 10)
    put(root / "test" / "dent" / "b.png", 11)
    mask = np.zeros((48, 48), np.uint8)
    mask[4:9, 4:20] = 255
    (root / "ground_truth" / "dent").mkdir(parents=True)
    Image.fromarray(mask).save(root / "ground_truth" / "dent" / "b.png")
    return root


def run(root: Path, *, false_alarm_rate: float = 0.5, **dataset: object) -> TrialResult:
    config = ExperimentConfig.model_validate(
        {
            "dataset": {"name": "folder", "root": root, **dataset},
            "detector": {
                "system": "patchcore",
                "features": {"resize": [48, 48]},
                "bank": {"negative": {"rate": 1.0}},
            },
            "evaluation": {"bootstrap": 0, "false_alarm_rate": false_alarm_rate},
        }
    )
    session = Session(Store(root.parent / "store"))
    (result,) = run_experiments([Trial("one", config)], session)
    return result


def remarks(root: Path, **dataset: object) -> tuple[str, ...]:
    """Those of the images: no run here holds any out to choose thresholds on."""
    found = run(root, **dataset).remarks
    assert found.count(NO_THRESHOLDS) == 1
    return tuple(remark for remark in found if remark != NO_THRESHOLDS)


def test_a_clean_folder_is_no_remark(root: Path) -> None:
    assert remarks(root) == ()


def test_equal_bytes_in_train_and_test_leak_until_they_are_dropped(root: Path) -> None:
    for number in range(2):
        shutil.copy(root / "train" / "good" / f"{number}.png", root / "test" / "good" / f"copy{number}.png")
    (remark,) = remarks(root)
    assert remark.startswith("leakage: 2 training images are byte for byte test images too (dataset.duplicates=drop")
    clean = run(root, duplicates="drop")
    assert clean.train == (2, 0, 0)
    assert clean.test == (3, 1)
    assert remarks(root, duplicates="drop") == (
        "2 training images left out whose bytes are tested too (dataset.duplicates=drop)",
    )


def test_dropped_copies_are_not_trained_on(root: Path) -> None:
    shutil.copy(root / "train" / "good" / "0.png", root / "test" / "good" / "copy.png")
    kept, dropped = run(root), run(root, duplicates="drop")
    place = [row.id for row in kept.predictions.rows].index("test/good/copy.png")
    assert kept.predictions.scores[place] < 0.1 < dropped.predictions.scores[place]


def test_masks_of_dropped_copies_are_not_painted_in(root: Path) -> None:
    """With no defect to train on, a synthesizer paints in the masks of those in the dataset's own train split."""
    put(root / "train" / "dent" / "own.png", 20)
    shutil.copy(root / "test" / "dent" / "b.png", root / "train" / "dent" / "copy.png")
    universe = load_dataset("folder", root)
    givers = {}
    for duplicates in ("keep", "drop"):
        dataset = {"name": "folder", "root": root, "duplicates": duplicates, "split": {"defects": 0}}
        config = ExperimentConfig.model_validate({"dataset": dataset, "synthesizer": {"kind": "inpaint", "count": 1}})
        givers[duplicates] = mask_donors(config, universe, assign(config, universe).train)["id"].to_pylist()
    assert givers == {"keep": ["train/dent/copy.png", "train/dent/own.png"], "drop": ["train/dent/own.png"]}


def test_no_pixels_are_taken_from_defects_that_are_not_trained_on(root: Path) -> None:
    put(root / "train" / "dent" / "own.png", 20)
    shutil.copy(root / "ground_truth" / "dent" / "b.png", root / "ground_truth" / "dent" / "own.png")
    universe = load_dataset("folder", root)
    dataset = {"name": "folder", "root": root, "split": {"defects": 0}}
    chunks = {}
    for synthesizer in ({"kind": "pasted"}, {"kind": "inpaint", "masks": {"source": "positives"}}):
        raw = {"dataset": dataset, "synthesizer": synthesizer, "detector": {"kind": "classifier"}}
        config, session = ExperimentConfig.model_validate(raw), Session(Store(root / "store"), silent)
        train = assign(config, universe).train
        chunks[synthesizer["kind"]] = partial(synthesis_keys, config, universe, train, session)
    with pytest.raises(DataError, match="needs a training defect that has a mask; there is none"):
        chunks["pasted"]()
    assert chunks["inpaint"]()


def test_files_that_cannot_be_read_are_no_copies_of_each_other(root: Path) -> None:
    for name in ("train/good/gone.png", "test/good/gone.png"):
        (root / name).symlink_to(root / "nowhere.png")
    found = remarks(root, max_unreadable=0.5)
    assert not any(remark.startswith("leakage") for remark in found)


def test_masks_bits_and_unread_files_are_said_in_every_run(root: Path) -> None:
    wide = np.full((48, 48), 255, np.uint8)
    wide[4:9, 4:20] = 0
    Image.fromarray(wide).save(root / "ground_truth" / "dent" / "b.png")
    deep = np.random.default_rng(1).integers(0, 4096, (48, 48)).astype(np.uint16)
    Image.fromarray(deep).save(root / "test" / "good" / "a.png")
    (root / "test" / "dent" / "c.heic").touch()
    (root / "notes.txt").touch()
    found = remarks(root)
    assert len(found) == 3
    assert found[0] == "1 files are of no kind that is read (.heic, the first: test/dent/c.heic)"
    assert "are they inverted?" in found[1]
    assert "dataset.bit_depth=12 uses all 256" in found[2]
    assert remarks(root) == found
    assert len(remarks(root, bit_depth=12)) == 2


def test_the_mask_threshold_reaches_the_pixel_metrics(root: Path) -> None:
    values = np.zeros((48, 48), np.uint8)
    values[4:9, 4:20], values[20:40, 20:40] = 255, 80
    Image.fromarray(values).save(root / "ground_truth" / "dent" / "b.png")
    high, low = run(root), run(root, mask_threshold=40)
    assert any("1 of 1 masks have more than two values" in remark for remark in high.remarks)
    assert high.pixel is not None
    assert low.pixel is not None
    assert high.metrics["aupro"] != low.metrics["aupro"]
    assert low.remarks == (NO_THRESHOLDS,)


def mistake(root: Path, capsys: pytest.CaptureFixture[str], *overrides: str) -> str:
    """The line that `exdd run` ends with."""
    config = root.parent / "own.yaml"
    config.write_text(f"dataset: {{name: folder, root: {root}}}\ndetector: {{features: {{resize: [48, 48]}}}}\n")
    assert (
        main(["run", str(config), f"store={root.parent / 'store'}", f"output={root.parent / 'out'}", *overrides]) == 2
    )
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["dataset.name=btad", "dataset.category=04"], "has no category '04'"),
        (["dataset.root=2024"], "2024: no such folder: set dataset.root to the folder of the images"),
        (["dataset.root=null"], "folder: no such folder: set dataset.root to the folder of the images"),
        (["dataset.root=labels.csv"], "labels.csv: a file; a dataset's root is the folder that its images are in"),
        (["dataset.root=~"], "home: expected train/good"),
        (["features.layers=layer2"], "features.layers: expected a list, as [layer2], not 'layer2'"),
        (["system=patchcore", "backbone=timm/restnet18"], "did you mean 'timm/resnet18'?"),
        (["dataset.split.defects=1"], "none of the 1 training defects has one: add masks, set a synthesizer"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, overrides, words
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EXDD_DATA", raising=False)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "labels.csv").touch()
    shutil.rmtree(root / "ground_truth")
    put(root / "test" / "dent" / "more.png", 12)
    line = mistake(root, capsys, *overrides)
    assert words in line
    assert "exdd data get folder" not in line


NORMAL, DEFECTIVE, LOOSE = "test/good/a.png", "test/dent/b.png", "test/x.png"


@pytest.mark.parametrize(
    ("tested", "why", "counts"),
    [
        ([NORMAL], "are all normal", (1, 0)),
        ([DEFECTIVE], "are all defective", (0, 1)),
        ([LOOSE, "test/y.png"], "have no labels", (0, 0)),
    ],
)
def test_images_that_allow_no_metrics_get_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tested: list[str], why: str, counts: tuple[int, int]
) -> None:
    root = tmp_path / "set"
    for seed, name in enumerate(["train/good/1.png", "train/good/2.png", "train/good/3.png", *tested]):
        put(root / name, seed)
    config = tmp_path / "own.yaml"
    detector = "{system: patchcore, features: {resize: [48, 48]}}"
    config.write_text(f"dataset: {{name: folder, root: {root}}}\ndetector: {detector}\n")
    places = [f"store={tmp_path / 'store'}", f"output={tmp_path / 'out'}"]
    assert main(["run", str(config), *places, "--json"]) == 0
    out = capsys.readouterr().out
    assert f"note: scores without metrics: the test images {why}" in out
    printed = json.loads(out.splitlines()[-1])
    assert printed["image_auroc"] is None
    (row,) = pq.read_table(tmp_path / "out" / "trials.parquet").to_pylist()
    assert (row["test_normal"], row["test_defects"]) == counts
    assert row["image_auroc"] is None
    assert why in row["remarks"]
    scored = pq.read_table(tmp_path / "out" / "predictions.parquet").to_pylist()
    assert [one["id"] for one in scored] == tested
    assert all(one["score"] > 0 for one in scored)
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"the test images {why}" in page
    assert "F1-max" not in page
    assert main(["report", str(tmp_path / "out")]) == 0
    assert main(["compare", str(tmp_path / "out"), "--page", str(tmp_path / "compare.html")]) == 0
    assert ("tested on 2 unlabelled" in capsys.readouterr().out) == (counts == (0, 0))


def test_a_folder_of_normal_images_only_is_split_and_scored(tmp_path: Path) -> None:
    for seed in range(10):
        put(tmp_path / "set" / f"{seed}.png", seed)
    result = run(tmp_path / "set")
    assert (result.image, result.pixel, result.held_out) == (None, None, None)
    assert (result.train, result.test) == ((8, 0, 0), (2, 0))


def test_a_sweep_has_nothing_to_compare_without_labels(tmp_path: Path) -> None:
    for seed, name in enumerate(["train/good/1.png", "train/good/2.png", LOOSE]):
        put(tmp_path / name, seed)
    with pytest.raises(DataError, match="nothing can be compared: the test images have no labels"):
        require_both_labels(select_rows(load_dataset("folder", tmp_path), split="test"))


def test_unlabelled_images_beside_kinds_are_refused(tmp_path: Path) -> None:
    for seed, name in enumerate(["train/good/1.png", LOOSE, DEFECTIVE]):
        put(tmp_path / name, seed)
    with pytest.raises(DataError, match=r"x\.png: images must lie in a folder named by their kind"):
        load_dataset("folder", tmp_path)


def test_validation_images_of_the_dataset_are_kept_out_and_used_where_asked_for(root: Path) -> None:
    put(root / "validation" / "good" / "c.png", 20)
    put(root / "test" / "dent" / "d.png", 21)
    universe = load_dataset("folder", root)

    def assigned(**split: object):
        config = {"dataset": {"name": "folder", "root": root, "split": split}, "detector": {"system": "patchcore"}}
        return assign(ExperimentConfig.model_validate(config), universe)

    plain = assigned()
    assert plain.validation.num_rows == 0
    assert "validation/good/c.png" not in {*plain.train["id"].to_pylist(), *plain.test["id"].to_pylist()}
    assert plain.normal["id"].to_pylist() == ["validation/good/c.png"]
    assert NO_THRESHOLDS not in plain.remarks
    assert any("own validation images (1) are all normal, and are neither trained on" in line for line in plain.remarks)
    asked = assigned(validation_fraction=0.5, validation_defects=1)
    assert select_rows(asked.validation, label=0)["id"].to_pylist() == ["validation/good/c.png"]
    assert select_rows(asked.validation, label=1).num_rows == 1
    assert asked.train["id"].to_pylist() == plain.train["id"].to_pylist()
    assert not any("own validation images" in line for line in asked.remarks)


def test_normal_images_may_be_held_out_for_thresholds_alone(root: Path) -> None:
    whole, parted = (run(root, split=split) for split in ({}, {"validation_fraction": 0.25}))
    assert whole.metrics["recall_at_false_alarms"] is None
    assert 0 <= parted.metrics["recall_at_false_alarms"] <= 1
    assert parted.train[0] < whole.train[0]
    assert NO_THRESHOLDS in whole.remarks
    assert parted.remarks == ()
    assert parted.validation is None
    few = run(root, false_alarm_rate=0.05, split={"validation_fraction": 0.25})
    assert few.metrics["recall_at_false_alarms"] is None
    assert few.metrics["seg_f1"] == parted.metrics["seg_f1"]
    assert few.remarks == (
        "no recall at false alarms of 0.05: that takes 19 held-out normal images, and there are "
        f"{whole.train[0] - parted.train[0]}",
    )


def test_thresholds_are_chosen_on_the_datasets_own_normal_validation_images(root: Path) -> None:
    without = run(root)
    assert (without.metrics["recall_at_false_alarms"], without.metrics["seg_f1"]) == (None, None)
    for seed in (20, 21):
        put(root / "validation" / "good" / f"{seed}.png", seed)
    found = run(root)
    assert found.validation is None
    known = {key: value for key, value in found.metrics.items() if key not in ("recall_at_false_alarms", "seg_f1")}
    assert known == {key: without.metrics[key] for key in known}
    session = Session(Store(root.parent / "store"))
    config = found.trial.config
    (universe,) = session.categories(config.dataset).values()
    prepared = prepare_trial(config, universe, session)
    fitted = method_of(config.detector).fit(config.detector, prepared.images, session, config.seed)
    normal = fitted.predict(select_rows(universe, split="validation"))
    labels = np.array([row.label for row in found.predictions.rows])
    above = found.predictions.scores[labels == 1] > normal.scores.max()
    assert found.metrics["recall_at_false_alarms"] == above.mean()
    pixels = np.concatenate([normal.draw(one).ravel() for one in normal.patch_maps]).astype(np.float64)
    threshold = pixels.mean() + 3 * pixels.std()
    called = [found.predictions.draw(one) > threshold for one in found.predictions.patch_maps]
    masks = [
        np.zeros(one.shape, bool)
        if row.mask is None
        else session.mask(row, config.detector.geometry, config.evaluation)
        for one, row in zip(called, found.predictions.rows, strict=True)
    ]
    assert found.metrics["seg_f1"] == pytest.approx(f1_score(np.ravel(masks), np.ravel(called)), abs=1e-9)
