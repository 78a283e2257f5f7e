"""ResNets without torchvision's import: bit for bit torchvision's."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torchvision.models import get_model
from torchvision.models.feature_extraction import create_feature_extractor

from exdd_ray.features.backbone import Backbone, folded
from exdd_ray.features.resnet import RESNETS, STAGES, make_resnet


def scatter(network):
    """Batch norms that are not the identity."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.bias.data):
                values.normal_()
            for values in (module.running_var, module.weight.data):
                values.uniform_(0.5, 2)
    return network


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "wide_resnet50_2", "resnext50_32x4d"])
@pytest.mark.parametrize("layers", [("layer2", "layer3"), ("layer1", "layer4")])
def test_maps_are_torchvisions_to_the_bit(name, layers):
    theirs = create_feature_extractor(scatter(get_model(name, weights=None).eval()), {name: name for name in layers})
    ours = make_resnet(name, layers)
    ours.load_state_dict(theirs.state_dict())  # the same names, no more and no fewer
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        for change in (lambda backbone: backbone, folded):
            found, wanted = (change(Backbone(body, layers).eval())(images) for body in (ours, theirs))
            assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


@pytest.mark.parametrize("name", sorted(RESNETS))
def test_every_parameter_has_torchvisions_name_and_shape(name):
    with torch.device("meta"):
        ours, theirs = make_resnet(name, STAGES), get_model(name, weights=None)
    shapes = {key: value.shape for key, value in theirs.state_dict().items() if not key.startswith("fc.")}
    assert {key: value.shape for key, value in ours.state_dict().items()} == shapes


def test_a_resnet_does_not_import_torchvision():
    code = (
        "import sys; from exdd_ray.features.config import FeaturesConfig;"
        "from exdd_ray.features.backbone import folded, load_backbone;"
        "folded(load_backbone(FeaturesConfig())); print('torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
