"""ResNets as torchvision builds them, layer by layer under the same names, cut after the last one that is taken.

They are here because torchvision's import takes more memory (170 MiB) and time than one of them needs.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.fx import GraphModule, symbolic_trace

STAGES = ("layer1", "layer2", "layer3", "layer4")
_WIDTHS = (64, 128, 256, 512)


@dataclass(frozen=True)
class _Shape:
    """Blocks of each stage; whether they are bottlenecks, and those's groups and width of a group at 64 channels."""

    blocks: tuple[int, int, int, int]
    bottleneck: bool = True
    groups: int = 1
    width: int = 64


_SHAPES = {
    "resnet18": _Shape((2, 2, 2, 2), bottleneck=False),
    "resnet34": _Shape((3, 4, 6, 3), bottleneck=False),
    "resnet50": _Shape((3, 4, 6, 3)),
    "resnet101": _Shape((3, 4, 23, 3)),
    "resnet152": _Shape((3, 8, 36, 3)),
    "wide_resnet50_2": _Shape((3, 4, 6, 3), width=128),
    "wide_resnet101_2": _Shape((3, 4, 23, 3), width=128),
    "resnext50_32x4d": _Shape((3, 4, 6, 3), groups=32, width=4),
    "resnext101_32x8d": _Shape((3, 4, 23, 3), groups=32, width=8),
    "resnext101_64x4d": _Shape((3, 4, 23, 3), groups=64, width=4),
}
RESNETS = frozenset(_SHAPES)


def make_resnet(name: str, layers: tuple[str, ...]) -> GraphModule:
    """The network up to the last of some STAGES, traced; it gives their maps by name. Its weights are not set."""
    last = max(STAGES.index(layer) for layer in layers)
    return symbolic_trace(_ResNet(_SHAPES[name], layers, last).eval())


class _ResNet(nn.Module):
    def __init__(self, shape: _Shape, layers: tuple[str, ...], last: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self._stages, self._layers, channels = STAGES[: last + 1], layers, 64
        for name, count, width in zip(self._stages, shape.blocks, _WIDTHS, strict=False):
            stride = 1 if name == STAGES[0] else 2
            blocks = []
            for at in range(count):
                blocks.append(_Block(channels, width, stride if at == 0 else 1, shape))
                channels = blocks[-1].channels
            self.add_module(name, nn.Sequential(*blocks))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = {}
        values = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for name in self._stages:
            maps[name] = values = getattr(self, name)(values)
        return {name: maps[name] for name in self._layers}


class _Block(nn.Module):
    """Two 3x3 convolutions, or a bottleneck of three with the stride in the middle one, and a way around them."""

    def __init__(self, channels: int, width: int, stride: int, shape: _Shape) -> None:
        super().__init__()
        self._deep = shape.bottleneck
        self.channels = 4 * width if shape.bottleneck else width
        inside = width * shape.width // 64 * shape.groups
        self.relu = nn.ReLU(inplace=True)
        if shape.bottleneck:
            self.conv1 = nn.Conv2d(channels, inside, 1, bias=False)
            self.conv2 = nn.Conv2d(inside, inside, 3, stride, 1, groups=shape.groups, bias=False)
            self.conv3 = nn.Conv2d(inside, self.channels, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(self.channels)
        else:
            self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(self.conv1.out_channels), nn.BatchNorm2d(self.conv2.out_channels)
        self.downsample = None
        if stride != 1 or channels != self.channels:
            around = nn.Conv2d(channels, self.channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(around, nn.BatchNorm2d(self.channels))

    def forward(self, values: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(values)))
        out = self.bn2(self.conv2(out))
        if self._deep:
            out = self.bn3(self.conv3(self.relu(out)))
        out += values if self.downsample is None else self.downsample(values)
        return self.relu(out)
