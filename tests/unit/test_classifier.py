from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import save_file
from sklearn.metrics import precision_recall_curve, precision_score, recall_score
from torch import nn

from exdd_ray.config.classifier import ClassifierConfig
from exdd_ray.data.catalog import CatalogRow, build_catalog, catalog_rows, select_rows
from exdd_ray.detectors.classifier import fit_classifier
from exdd_ray.detectors.classifier_network import build_network, set_batchnorm
from exdd_ray.detectors.holdout import hold_out, same_file
from exdd_ray.detectors.pictures import read_pictures
from exdd_ray.errors import ConfigError, DataError
from exdd_ray.metrics.curves import detection
from exdd_ray.metrics.threshold import f1_max_point, point_at
from exdd_ray.procedural.defects import add_defect
from exdd_ray.procedural.surfaces import make_surface
from exdd_ray.store.artifact import Store
from exdd_ray.training.learner import TrainingError

SIDE = 48


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def surface(folder: Path, split: str, number: int, *, label: int = 0, origin: str = "real") -> CatalogRow:
    rng = np.random.default_rng([number, label, len(split)])
    image = make_surface("ceramic", (SIDE, SIDE), rng)
    mask_file = None
    name = f"{split}-{label}-{number}-{origin}"
    if label:
        image, mask = add_defect(image, "hole", rng)
        mask_file = str(folder / f"{name}_mask.png")
        Image.fromarray(mask.astype(np.uint8) * 255).save(mask_file)
    Image.fromarray(image).save(folder / f"{name}.png")
    return CatalogRow(
        id=name,
        dataset="made",
        category="ceramic",
        split=split,
        label=label,
        defect="hole" if label else "good",
        image=str(folder / f"{name}.png"),
        mask=mask_file,
        origin=origin,
    )


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory) -> pa.Table:
    folder = tmp_path_factory.mktemp("surfaces")
    rows = [surface(folder, "train", number) for number in range(16)]
    rows += [surface(folder, "train", number, label=1, origin="synthesis-x") for number in range(12)]
    rows += [surface(folder, "test", number, label=label) for number in range(8) for label in (0, 1)]
    return build_catalog(rows)


def config(**given) -> ClassifierConfig:
    features = {"layers": ["layer2"], "resize": [SIDE, SIDE], **given.pop("features", {})}
    training = {"batch": 8, "device": "cpu", **given.pop("training", {})}
    settings = {"epochs": 6, "learning_rate": 2e-3, "batchnorm": "frozen", **given}
    return ClassifierConfig.model_validate({"features": features, "training": training, **settings})


@pytest.fixture(scope="module")
def fitted(surfaces, tmp_path_factory):
    chosen = config(epochs=30, features={"layers": ["layer3"]}, learning_rate=1e-3)
    return fit_classifier(chosen, select_rows(surfaces, split="train"), Store(tmp_path_factory.mktemp("store")), 0)


def test_trained_on_normal_and_synthetic_images_it_finds_defects(surfaces, fitted):
    test = select_rows(surfaces, split="test")
    predictions = fitted.predict(test)
    labels = np.array([row.label for row in predictions.rows])
    assert detection(labels, predictions.scores).ap > 0.95
    assert fitted.train == (13, 0, 10)
    assert fitted.held_out == 5
    assert fitted.remarks == ()
    assert 1 <= fitted.epochs <= 30


def test_the_map_is_higher_where_the_defect_is(surfaces, fitted):
    predictions = fitted.predict(select_rows(surfaces, split="test", label=1))
    inside, outside = [], []
    for row, patch_map in zip(predictions.rows, predictions.patch_maps, strict=True):
        mask = np.asarray(Image.open(row.mask)) > 127
        drawn = predictions.draw(patch_map)
        assert drawn.shape == mask.shape
        inside.append(drawn[mask].mean()), outside.append(drawn[~mask].mean())
    assert np.mean(np.array(inside) > np.array(outside)) > 0.8


def test_the_score_is_the_logit_of_the_pooled_features(surfaces, fitted):
    test = select_rows(surfaces, split="test")
    predictions = fitted.predict(test)
    images = read_pictures(catalog_rows(test), fitted.config.features).batch(range(3))
    with torch.no_grad():
        (features,) = fitted.network.backbone(images)
        pooled = nn.functional.adaptive_avg_pool2d(features, 1).flatten(1)
        logits = fitted.network.head(pooled)[:, 0]
    np.testing.assert_allclose(predictions.scores[:3], logits.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(predictions.scores, predictions.patch_maps.mean(1), rtol=1e-4, atol=1e-4)
    assert predictions.patch_maps.shape == (16, fitted.grid[0] * fitted.grid[1])


def test_the_threshold_comes_from_held_out_training_images(surfaces, fitted):
    train = catalog_rows(select_rows(surfaces, split="train"))
    _, held = hold_out(train, 0.2, 0)
    rows = [train[at] for at in held]
    predictions = fitted.predict(build_catalog(rows))
    labels = np.array([row.label for row in predictions.rows])
    expected = f1_max_point(labels, predictions.scores, "midpoint").threshold
    assert fitted.threshold == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_a_second_fit_trains_nothing_and_predicts_the_same(surfaces, tmp_path):
    train, test = (select_rows(surfaces, split=split) for split in ("train", "test"))
    short = config(epochs=1)
    first = fit_classifier(short, train, Store(tmp_path), 0)
    store = Store(tmp_path)
    second = fit_classifier(short, train, store, 0)
    assert store.made == []
    assert len(store.reused) == 1
    assert np.array_equal(first.predict(test).scores, second.predict(test).scores)
    assert (first.threshold, first.train, first.epochs) == (second.threshold, second.train, second.epochs)
    other = fit_classifier(short, train, store, 1)
    assert len(store.made) == 1
    assert not np.array_equal(first.predict(test).scores, other.predict(test).scores)


def test_a_killed_fit_goes_on_to_the_same_bits(surfaces, tmp_path):
    train, test = (select_rows(surfaces, split=split) for split in ("train", "test"))
    often = config(epochs=2, batchnorm="trained", training={"checkpoint_every": 2})
    whole = fit_classifier(often, train, Store(tmp_path / "whole"), 0)

    def progress(label: str, total: int):
        from contextlib import nullcontext

        steps = []

        def advance(count: int) -> None:
            steps.append(count)
            if sum(steps) == 5:
                raise KeyboardInterrupt

        return nullcontext(advance)

    with pytest.raises(KeyboardInterrupt):
        fit_classifier(often, train, Store(tmp_path / "cut"), 0, progress=progress)
    assert list((tmp_path / "cut" / "unfinished").rglob("step-00000004"))
    resumed = fit_classifier(often, train, Store(tmp_path / "cut"), 0)
    assert np.array_equal(whole.predict(test).scores, resumed.predict(test).scores)
    for key, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[key]), key


def test_full_shot_counts_real_and_synthetic_defects(surfaces, tmp_path):
    rows = [
        replace(row, origin="real") if row.label and row.id < "train-1-2" else row
        for row in catalog_rows(select_rows(surfaces, split="train"))
    ]
    real = sum(row.label == 1 and row.origin == "real" for row in rows)
    full = fit_classifier(config(epochs=1, checkpoint="last"), build_catalog(rows), Store(tmp_path), 0)
    assert full.train == (16, real, 12 - real)
    assert 0 < real < 12
    assert full.threshold is None
    assert full.held_out == 0
    assert full.epochs == 1


@pytest.mark.parametrize(
    ("label", "words"), [(0, "all 16 are normal: set dataset.split.defects"), (1, "all 12 are def")]
)
def test_one_class_is_refused(surfaces, tmp_path, label, words):
    with pytest.raises(DataError, match=words):
        fit_classifier(config(), select_rows(surfaces, split="train", label=label), Store(tmp_path), 0)
    assert not list(tmp_path.iterdir())


def test_fewer_images_than_a_batch_are_refused(surfaces, tmp_path):
    with pytest.raises(DataError, match="23 training images are fewer than a batch of 64"):
        fit_classifier(config(training={"batch": 64}), select_rows(surfaces, split="train"), Store(tmp_path), 0)


def test_a_learning_rate_that_bursts_stops_with_the_step(surfaces, tmp_path):
    with pytest.raises(TrainingError, match=r"step \d+: (the loss is (nan|inf)|a gradient is not finite)"):
        fit_classifier(
            config(learning_rate=1e30, optimizer="sgd"), select_rows(surfaces, split="train"), Store(tmp_path), 0
        )


def test_an_unreadable_image_is_left_out_and_named(surfaces, tmp_path):
    train = catalog_rows(select_rows(surfaces, split="train"))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    rows = [*train, replace(train[0], id="broken", image=str(broken))]
    found = fit_classifier(config(epochs=1), build_catalog(rows), Store(tmp_path / "store"), 0)
    assert list(found.unreadable) == ["broken"]
    assert "broken.png" in found.unreadable["broken"]
    predicted = found.predict(build_catalog(rows))
    assert "broken" not in [row.id for row in predicted.rows]
    assert len(predicted.scores) == len(train)
    with pytest.raises(DataError, match="no image of the catalog is readable"):
        found.predict(build_catalog(rows[-1:]))


def test_hold_out_takes_a_share_of_each_class_and_origin(surfaces):
    rows = catalog_rows(select_rows(surfaces, split="train"))
    rows = [replace(row, origin="real") if row.id.startswith("train-1-1") else row for row in rows]
    kept, held = hold_out(rows, 0.25, 3)
    assert sorted([*kept, *held]) == list(range(len(rows)))
    groups = [(rows[at].label, rows[at].origin) for at in held]
    assert (groups.count((0, "real")), groups.count((1, "real")), groups.count((1, "synthesis-x"))) == (4, 1, 2)
    assert not np.array_equal(hold_out(rows, 0.25, 4)[1], held)
    single = [row for row in rows if not row.label] + [row for row in rows if row.label][:1]
    with pytest.raises(DataError, match="no defective image can be held out"):
        hold_out(single, 0.25, 0)


def made_from(rows, at: int, image: int, mask: str = "blob") -> tuple[CatalogRow, tuple[str, ...]]:
    row = replace(rows[0], id=f"made-{at}", label=1, image=f"made-{at}.png", mask=f"made-{at}_mask.png", origin="s")
    return row, (rows[image].image, mask)


@pytest.mark.parametrize("seed", range(8))
def test_what_is_held_out_shares_no_source_with_what_is_trained_on(surfaces, seed):
    rows = catalog_rows(select_rows(surfaces, split="train", label=0))
    defects = catalog_rows(select_rows(surfaces, split="train", label=1))[:5]
    defects = [replace(row, origin="real") for row in defects]
    made = [made_from(rows, at, at % 16, defects[at % 5].mask) for at in range(40)]
    synthetic, sources = [row for row, _ in made], {row.id: files for row, files in made}
    everything = [*rows, *defects, *synthetic]
    kept, held = hold_out(everything, 0.25, seed, sources)

    def files(part):
        chosen = [everything[at] for at in part]
        real = {file for row in chosen if row.origin == "real" for file in (row.image, row.mask) if file}
        return real | {file for row in chosen for file in sources.get(row.id, ())}

    assert not files(kept) & files(held)
    assert not set(kept) & set(held)
    assert sum(everything[at].id in sources for at in held) >= 1
    torn = [at for at in range(len(everything)) if at not in {*kept, *held}]
    real_held = {file for at in held for file in (everything[at].image, everything[at].mask)}
    assert torn
    assert all(len(set(sources[everything[at].id]) & real_held) == 1 for at in torn)


def test_a_single_background_of_all_defects_leaves_none_to_train_on(surfaces):
    rows = catalog_rows(select_rows(surfaces, split="train", label=0))
    made = [made_from(rows, at, 3) for at in range(6)]
    with pytest.raises(DataError, match="no defective image can be left to train on"):
        hold_out([*rows, *(row for row, _ in made)], 0.25, 0, {row.id: files for row, files in made})


def test_sources_are_part_of_what_is_trained_and_torn_images_are_said(surfaces, tmp_path):
    rows = catalog_rows(select_rows(surfaces, split="train"))
    rows = [replace(row, origin="real") if row.label and row.id < "train-1-5" else row for row in rows]
    normal, real = ([row for row in rows if row.label == label and row.origin == "real"] for label in (0, 1))
    sources = {
        row.id: (normal[at].image, real[at].mask) for at, row in enumerate(r for r in rows if r.origin != "real")
    }
    chosen = config(epochs=1, holdout=0.3)
    store, train = Store(tmp_path), build_catalog(rows)
    apart = fit_classifier(chosen, train, store, 0, sources=sources)
    assert sum(apart.train) + apart.held_out < len(rows)
    torn = len(rows) - sum(apart.train) - apart.held_out
    assert apart.remarks[0].startswith(f"{torn} synthetic images were made from a held-out image and from another")
    fit_classifier(chosen, train, store, 0)
    assert len(store.made) == 2
    fit_classifier(chosen, train, store, 0, sources=sources)
    assert len(store.made) == 2


def test_a_file_is_found_again_where_its_dataset_was_moved():
    among = ["/new/mvtec/train/good/000.png", "/new/mvtec/test/hole/000.png", "/new/mvtec/train/good/001.png"]
    assert same_file("/old/train/good/000.png", among) == (among[0],)
    assert same_file(among[1], among) == (among[1],)
    assert same_file("/old/000.png", among) == (among[0], among[1])
    assert same_file("perlin", among) == ()


def test_what_the_store_has_is_not_trained_elsewhere(surfaces, tmp_path):
    store, train = Store(tmp_path), select_rows(surfaces, split="train")
    asked = []

    def elsewhere() -> None:
        asked.append(1)
        fit_classifier(config(epochs=1), train, Store(tmp_path), 0)

    for _ in range(2):
        fit_classifier(config(epochs=1), train, store, 0, elsewhere=elsewhere)
    assert asked == [1]
    assert store.made == []


def test_released_freezes_batchnorm_from_the_second_epoch_on():
    released = config(preset="released", features={"backbone": "surface_resnet18"}, batchnorm="released")
    network, _ = build_network(released, 0)
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    network.train()
    set_batchnorm(network, released, 0)
    assert all(layer.training for layer in norms)
    set_batchnorm(network, released, 1)
    assert not any(module.training for module in network.modules())
    network.train()
    set_batchnorm(network, config(batchnorm="trained"), 5)
    assert all(layer.training for layer in norms)
    set_batchnorm(network, config(), 0)
    assert not any(layer.training for layer in norms)
    assert network.head.training


@pytest.mark.parametrize(("batchnorm", "moves"), [("frozen", False), ("trained", True)])
def test_frozen_statistics_stay_and_trained_ones_move(surfaces, tmp_path, batchnorm, moves):
    chosen = config(epochs=1, batchnorm=batchnorm, checkpoint="last")
    before, _ = build_network(chosen, 0)
    found = fit_classifier(chosen, select_rows(surfaces, split="train"), Store(tmp_path), 0)
    changed = {
        key for key, value in before.state_dict().items() if not torch.equal(value, found.network.state_dict()[key])
    }
    assert any("running_mean" in key for key in changed) == moves
    assert any("bn1.weight" in key for key in changed)
    assert "head.weight" in changed


def test_released_chooses_its_checkpoint_on_the_test_images_and_says_so(surfaces, tmp_path):
    train, test = (select_rows(surfaces, split=split) for split in ("train", "test"))
    leaky = config(preset="released", features={"backbone": "surface_resnet18"}, batchnorm="released", epochs=3)
    assert leaky.checkpoint == "test"
    found = fit_classifier(leaky, train, Store(tmp_path / "leaky"), 0, test=test)
    assert "leakage" in found.remarks[0]
    predictions = found.predict(test)
    labels = np.array([row.label for row in predictions.rows])
    reached = detection(labels, predictions.scores).ap
    made = Store(tmp_path / "leaky")
    manifest = next((made.root / "train-classifier").rglob("manifest.json")).read_text()
    assert f'"best_value": {reached}'[:24] in manifest
    with pytest.raises(ConfigError, match="none are given"):
        fit_classifier(leaky, train, Store(tmp_path / "none"), 0)
    other = build_catalog(catalog_rows(test)[:-1])
    again = Store(tmp_path / "leaky")
    fit_classifier(leaky, train, again, 0, test=other)
    assert len(again.made) == 1


def test_presets_have_the_published_constants():
    diag, ours = ClassifierConfig(preset="diag"), ClassifierConfig()
    assert (diag.features.backbone, diag.features.layers, diag.features.resize) == ("resnet50", ("layer4",), (704, 256))
    assert (diag.optimizer, diag.learning_rate, diag.training.batch, diag.epochs) == ("adam", 1e-4, 32, 50)
    assert (diag.checkpoint, diag.batchnorm, diag.threshold) == ("last", "trained", "midpoint")
    released = ClassifierConfig(preset="released")
    assert (released.epochs, released.batchnorm, released.checkpoint) == (30, "released", "test")
    in_and_out = ClassifierConfig(preset="in_and_out", epochs=3)
    assert (in_and_out.optimizer, in_and_out.learning_rate, in_and_out.training.batch) == ("sgd", 0.01, 5)
    assert (in_and_out.epochs, in_and_out.threshold) == (3, "score")
    assert (ours.checkpoint, ours.features.backbone) == ("validation", "surface_resnet18")


def test_contradictory_settings_are_refused():
    with pytest.raises(ValidationError, match="a leak, kept for preset=released"):
        ClassifierConfig(preset="diag", checkpoint="test")
    for wrong, why in (
        ({"training": {"validate_every": 5}}, "training.validate_every=5 is not used by a classifier"),
        ({"features": {"layers": ["layer3"], "dtype": "float16"}}, "features.dtype=float16 is not used"),
        ({"features": {"layers": ["layer3"], "precision": "bfloat16"}}, "training.precision is"),
        ({"features": {"layers": ["layer3"], "aggregator": "exdd"}}, "features.aggregator=exdd is not used"),
        ({"checkpoint": "last", "holdout": 0.3}, "holdout=0.3 is not used by a classifier unless"),
        ({"preset": "released", "training": {"workers": 2}}, "batchnorm=released reads running statistics"),
    ):
        with pytest.raises(ValidationError, match=why):
            ClassifierConfig.model_validate(wrong)
    resolved = ClassifierConfig(preset="diag")
    assert ClassifierConfig.model_validate(resolved.model_dump(mode="json")) == resolved
    with pytest.raises(ValidationError, match="reads one layer, not 2"):
        ClassifierConfig.model_validate({"features": {"layers": ["layer2", "layer3"]}})


@pytest.mark.parametrize(("name", "layer"), [("squeezenet1_1", "features"), ("resnet18", "layer4")])
def test_any_backbone_of_torchvision_with_weights_from_a_file(surfaces, tmp_path, name, layer):
    from torchvision.models import get_model

    torch.manual_seed(0)
    network = get_model(name, weights=None)
    if name == "resnet18":
        network.bn1.running_mean.fill_(0.1)  # as if it had seen an image
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    features = {"backbone": name, "layers": [layer], "weights": tmp_path / "weights.safetensors"}
    batchnorm = "trained" if name == "resnet18" else "frozen"
    chosen = config(features=features, epochs=1, batchnorm=batchnorm, checkpoint="last")
    built, grid = build_network(chosen, 0)
    assert grid == (2, 2)
    found = fit_classifier(chosen, select_rows(surfaces, split="train"), Store(tmp_path), 0)
    assert (
        sum(not torch.equal(value, found.network.state_dict()[key]) for key, value in built.state_dict().items()) > 10
    )
    assert np.isfinite(found.predict(surfaces).scores).all()


def test_a_layer_without_a_map_is_refused(tmp_path):
    from torchvision.models import get_model

    save_file(get_model("resnet18", weights=None).state_dict(), tmp_path / "weights.safetensors")
    features = {"backbone": "resnet18", "layers": ["flatten"], "weights": tmp_path / "weights.safetensors"}
    with pytest.raises(ConfigError, match="no feature map"):
        build_network(config(features=features), 0)


def test_folded_batchnorm_must_be_frozen(tmp_path):
    from torchvision.models import get_model

    save_file(get_model("resnet18", weights=None).state_dict(), tmp_path / "weights.safetensors")
    features = {"backbone": "resnet18", "weights": tmp_path / "weights.safetensors"}
    with pytest.raises(ConfigError, match="set detector.batchnorm=frozen"):
        build_network(config(features=features, batchnorm="trained"), 0)
    build_network(config(features=features), 0)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "layer", "file"),
    [
        ("squeezenet1_1", "features", "squeezenet1_1_in1k"),
        ("resnet18", "layer3", "resnet18_in1k_conv1-layer3"),
    ],
)
def test_imagenet_weights_of_the_shared_folder(surfaces, tmp_path, shared_dir, name, layer, file):
    weights = shared_dir / "weights" / f"{file}.safetensors"
    features = {"backbone": name, "layers": [layer], "weights": weights}
    found = fit_classifier(
        config(features=features, learning_rate=3e-4, epochs=4),
        select_rows(surfaces, split="train"),
        Store(tmp_path),
        0,
    )
    predictions = found.predict(select_rows(surfaces, split="test"))
    labels = np.array([row.label for row in predictions.rows])
    assert detection(labels, predictions.scores).ap > 0.9
    if name == "resnet18":
        with pytest.raises(ConfigError, match="folded"):
            build_network(config(features=features, batchnorm="trained"), 0)


LABELS = np.array([0, 0, 1, 0, 1, 1, 0, 1])
SCORES = np.array([-2.0, 0.5, 0.4, 0.1, 0.9, 1.7, 0.2, 0.6])


def test_both_threshold_rules_agree_with_an_oracle_and_tell_the_images_apart_alike():
    score, midpoint = (f1_max_point(LABELS, SCORES, rule) for rule in ("score", "midpoint"))
    precision, recall, thresholds = precision_recall_curve(LABELS, SCORES)
    best = int(np.argmax(2 * precision * recall / (precision + recall + 1e-10)))
    assert score.threshold == thresholds[best] == 0.4
    assert midpoint.threshold == (thresholds[best] + thresholds[best - 1]) / 2 == pytest.approx(0.3)
    for point in (score, midpoint):
        called = point.threshold <= SCORES
        assert point.precision == pytest.approx(precision_score(LABELS, called)) == pytest.approx(0.8)
        assert point.recall == pytest.approx(recall_score(LABELS, called)) == 1.0


def test_on_other_images_the_two_rules_differ():
    labels, scores = np.array([0, 1]), np.array([0.0, 0.35])
    assert point_at(labels, scores, f1_max_point(LABELS, SCORES, "score").threshold).recall == 0
    assert point_at(labels, scores, f1_max_point(LABELS, SCORES, "score").threshold).precision == 0
    assert point_at(labels, scores, f1_max_point(LABELS, SCORES, "midpoint").threshold).recall == 1


def test_the_lowest_score_has_no_neighbour_below():
    labels, scores = np.array([1, 1, 0]), np.array([1.0, 2.0, 1.0])
    assert f1_max_point(labels, scores, "midpoint").threshold == 1.0


def test_precision_and_recall_at_a_threshold():
    point = point_at(LABELS, SCORES, 0.5)
    assert (point.precision, point.recall) == (0.75, 0.75)
    with pytest.raises(DataError, match="no image is defective"):
        point_at(np.zeros(3), np.zeros(3), 0.0)
    with pytest.raises(DataError):
        f1_max_point(np.ones(3), np.arange(3.0), "score")
