"""The classifier's networks: any backbone and its weights, running statistics frozen or trained."""

import classifier_inputs
import numpy as np
import pytest
import torch
from classifier_inputs import config
from safetensors.torch import save_file
from torch import nn

from exdd_ray.data.catalog import select_rows
from exdd_ray.errors import ConfigError
from exdd_ray.methods.classifier.classifier import fit_classifier
from exdd_ray.methods.classifier.network import build_network, set_batchnorm
from exdd_ray.metrics.curves import detection
from exdd_ray.store.artifact import Store

pytestmark = pytest.mark.usefixtures("one_thread")
surfaces = classifier_inputs.surfaces


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
