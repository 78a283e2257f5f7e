"""The network being trained: ResNet-18 up to layer3, with a linear head for each task on layer2 and layer3."""

from pathlib import Path

import torch
from torch import Tensor, nn


class Trunk(nn.Module):
    """conv1 .. layer3 of torchvision's ResNet-18 (He et al. 2016), under torchvision's parameter names."""

    def __init__(self) -> None:
        super().__init__()
        import torchvision

        resnet = torchvision.models.resnet18(weights=None)
        self.conv1 = resnet.conv1
        self.bn1 = resnet.bn1
        self.relu = resnet.relu
        self.maxpool = resnet.maxpool
        self.layer1 = resnet.layer1
        self.layer2 = resnet.layer2
        self.layer3 = resnet.layer3

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images `[N x 3 x H x W]` to layer2 `[N x 128 x H/8 x W/8]` and layer3 `[N x 256 x H/16 x W/16]`."""
        stem = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        layer2 = self.layer2(self.layer1(stem))
        return layer2, self.layer3(layer2)


class Heads(nn.Module):
    """Linear classifiers of each cell, so that what a cell shows must be written plainly in its features."""

    def __init__(self, *, textures: int, defects: int) -> None:
        super().__init__()
        self.texture = nn.ModuleList([nn.Conv2d(128, textures, 1), nn.Conv2d(256, textures, 1)])
        self.defect = nn.ModuleList([nn.Conv2d(128, defects, 1), nn.Conv2d(256, defects, 1)])


def save_trunk(trunk: Trunk, path: Path, metadata: dict[str, str]) -> None:
    """Writes the weights as float16 safetensors, under torchvision's names; replaces the file at once or not at all."""
    from safetensors.torch import save_file

    state = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in trunk.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    save_file(state, partial, metadata=metadata)
    partial.replace(path)


def load_trunk(path: Path) -> Trunk:
    """The trunk with weights that save_trunk wrote, in float32 and evaluation mode."""
    from safetensors.torch import load_file

    trunk = Trunk()
    trunk.load_state_dict(load_file(path))
    return trunk.eval()


def seeded_model(*, textures: int, defects: int, seed: int) -> tuple[Trunk, Heads]:
    """Freshly initialised trunk and heads."""
    torch.manual_seed(seed)
    return Trunk(), Heads(textures=textures, defects=defects)
