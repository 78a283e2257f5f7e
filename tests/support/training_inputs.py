"""Small networks with a loss of their own for the tests of the training loop."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from exdd_ray.training.config import TrainConfig
from exdd_ray.training.learner import Learner, ShuffledBatches

COUNT, STEPS = 20, 12
CONFIG = TrainConfig(batch=6, micro_batch=4, checkpoint_every=5, device="cpu")


def net(width: int = 8) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        layers = nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(width, 1, 3)
        return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def noisy_image(number: int, step: int) -> Tensor:
    clean = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(number))
    return clean + 0.1 * torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(1000 * step + number))


def learner(*, width: int = 8, fail_at: int = -1, nan_at: int = -1, pause: float = 0.0) -> Learner[int]:
    network, head = net(width), nn.Linear(1, 1)
    with torch.no_grad():
        head.weight.fill_(0.7), head.bias.fill_(0.1)
    adam = torch.optim.Adam(network.parameters(), lr=1e-2)
    sgd = torch.optim.SGD(head.parameters(), lr=1e-2, momentum=0.9)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, T_max=3)

    def loss(numbers: Sequence[int], step: int) -> Tensor:
        time.sleep(pause)
        if step == fail_at:
            raise KeyboardInterrupt
        images = torch.stack([noisy_image(int(number), step) for number in numbers])
        logits = head(network(images).mean((1, 2, 3))[:, None])[:, 0]
        found = functional.mse_loss(logits, torch.as_tensor(numbers).float() / COUNT)
        return found * float("nan") if step == nan_at else found

    modules = {"network": network, "head": head}
    return Learner(modules, [adam, sgd], [None, cosine], ShuffledBatches(COUNT, 6, 1), loss, seed=5)


def linear_learner(draw: Sequence[int] = range(6)) -> Learner[int]:
    layer = nn.Linear(4, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.1, -0.2, 0.3, 0.4]])), layer.bias.fill_(0.0)

    def loss(numbers: Sequence[int], step: int) -> Tensor:
        rows = torch.stack([torch.arange(4.0) * (int(number) + 1 + step) for number in numbers])
        return (layer(rows)[:, 0] - 1).square().mean()

    sgd = torch.optim.SGD(layer.parameters(), lr=1e-4)
    return Learner({"layer": layer}, [sgd], [None], lambda step: list(draw), loss)


def bits(chosen: Learner[int]) -> dict[str, Tensor]:
    return {f"{name}.{key}": value for name, m in chosen.modules.items() for key, value in m.state_dict().items()}


def assert_same_bits(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
