"""What stops a training run: numbers that are not finite, memory that runs out, batches too small."""

from collections.abc import Sequence

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from training_inputs import CONFIG, STEPS, assert_same_bits, bits, learner, linear_learner

from exdd_ray.errors import ConfigError
from exdd_ray.training.checkpoint import WEIGHTS, checkpoint_folder, latest_checkpoint
from exdd_ray.training.config import TrainConfig
from exdd_ray.training.learner import Learner, TrainingError
from exdd_ray.training.loop import train


def test_a_nan_loss_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    with pytest.raises(TrainingError, match=r"step 7: the loss is nan; the last good checkpoint is .*step-00000005"):
        train(learner(nan_at=7), STEPS, config=CONFIG, checkpoints=tmp_path)
    kept = load_file(checkpoint_folder(tmp_path, 5) / WEIGHTS)
    assert all(torch.isfinite(value).all() for value in kept.values())
    good = learner()
    train(good, 5, config=CONFIG, checkpoints=tmp_path / "good")
    assert_same_bits(kept, bits(good))


def bursting_learner(at: int) -> Learner[int]:
    """Its loss and its gradients stay finite; a rate of 1e38 bursts the weight in one step."""
    layer = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    sgd = torch.optim.SGD(layer.parameters(), lr=1e-3)

    def loss(numbers: Sequence[int], step: int) -> Tensor:
        sgd.param_groups[0]["lr"] = 1e38 if step >= at else 1e-3
        return (layer.weight * -1e3).sum()

    return Learner({"layer": layer}, [sgd], [None], lambda step: [0], loss)


@pytest.mark.parametrize("ema", [None, 0.9])
def test_weights_that_are_not_finite_never_replace_the_last_good_checkpoint(tmp_path, ema):
    config = TrainConfig(batch=1, device="cpu", checkpoint_every=2, ema=ema)
    with pytest.raises(TrainingError, match=r"after step 3: layer.weight is not finite; .*step-00000002"):
        train(bursting_learner(at=3), 4, config=config, checkpoints=tmp_path)
    kept = load_file(checkpoint_folder(tmp_path, 2) / WEIGHTS)
    assert all(torch.isfinite(value).all() for value in kept.values())
    assert [folder.name for folder in tmp_path.iterdir()] == ["step-00000002"]


def test_weights_that_are_not_finite_are_found_before_validation(tmp_path):
    config = TrainConfig(batch=1, device="cpu", validate_every=1)
    with pytest.raises(TrainingError, match="after step 1: layer.weight is not finite"):
        train(bursting_learner(at=1), 2, config=config, checkpoints=tmp_path, validate=lambda: 1.0)
    assert [folder.name for folder in tmp_path.iterdir()] == ["step-00000001"]


def test_a_running_statistic_that_is_not_finite_is_not_kept(tmp_path):
    run = learner()

    def loss(numbers: Sequence[int], step: int) -> Tensor:
        run.modules["network"][1].running_var.fill_(float("inf"))
        return run.loss(numbers, step)

    burst = Learner(run.modules, run.optimizers, run.schedulers, run.draw, loss)
    with pytest.raises(TrainingError, match=r"network\.1\.running_var is not finite; there was no checkpoint"):
        train(burst, 1, config=CONFIG, checkpoints=tmp_path)
    assert latest_checkpoint(tmp_path) is None


def test_a_gradient_that_is_not_finite_stops(tmp_path):
    layer = nn.Linear(1, 1)
    sgd = torch.optim.SGD(layer.parameters(), lr=0.1)
    root = Learner({"layer": layer}, [sgd], [None], lambda step: [0.0], lambda x, step: (layer.weight * 0).sqrt().sum())
    with pytest.raises(TrainingError, match="step 0: a gradient is not finite .* no checkpoint before it"):
        train(root, 2, config=TrainConfig(batch=1, device="cpu"), checkpoints=tmp_path)


def test_out_of_memory_halves_the_micro_batch_and_says_so(tmp_path, caplog):
    plain, short = learner(), learner()
    loss, asked = short.loss, []

    def hungry(numbers: Sequence[int], step: int) -> Tensor:
        asked.append(len(numbers))
        found = loss(numbers, step)  # changes the running statistics before the memory runs out
        if step == 2 and len(numbers) > 3:
            torch.empty(1 << 60, dtype=torch.uint8)
        return found

    config = TrainConfig(batch=6, checkpoint_every=5, device="cpu")
    hungry_learner = Learner(short.modules, short.optimizers, short.schedulers, short.draw, hungry, seed=5)
    found = train(hungry_learner, 4, config=config, checkpoints=tmp_path / "short")
    assert found.micro_batch == 3
    assert asked == [6, 6, 6, 3, 3, 2]  # the fourth batch of twenty images holds two
    assert "step 2: out of memory: micro-batches of 3 from now on" in caplog.text
    train(plain, 2, config=config, checkpoints=tmp_path / "plain")
    three = config.model_copy(update={"micro_batch": 3})
    state = tmp_path / "plain" / "step-00000002" / "state.json"
    state.write_text(state.read_text().replace('"micro_batch": 6', '"micro_batch": 3'))
    again = learner()
    train(again, 4, config=three, checkpoints=tmp_path / "plain")
    assert_same_bits(bits(again), bits(hungry_learner))


def test_out_of_memory_with_one_image_is_an_error(tmp_path):
    def loss(numbers: Sequence[int], step: int) -> Tensor:
        return torch.empty(1 << 60, dtype=torch.uint8).sum()

    run = linear_learner()
    run = Learner(run.modules, run.optimizers, run.schedulers, run.draw, loss)
    with pytest.raises(TrainingError, match="step 0: out of memory with a micro-batch of one image"):
        train(run, 1, config=TrainConfig(batch=6, device="cpu"), checkpoints=tmp_path)


def test_out_of_memory_beside_the_gradients_is_an_error(tmp_path):
    def validate() -> float:
        return float(torch.empty(1 << 60, dtype=torch.uint8).sum())

    with pytest.raises(TrainingError, match="after step 0: validation: out of memory: lower the size"):
        train(linear_learner(), 1, config=TrainConfig(batch=6), checkpoints=tmp_path, validate=validate)
    run = linear_learner()
    step = run.optimizers[0].step
    run.optimizers[0].step = lambda: step(lambda: torch.empty(1 << 60, dtype=torch.uint8))
    with pytest.raises(TrainingError, match="step 0: the update of the weights: out of memory"):
        train(run, 1, config=TrainConfig(batch=6), checkpoints=tmp_path)


def test_batchnorm_that_sees_a_single_value_is_an_error(tmp_path):
    norm = nn.BatchNorm1d(4)
    sgd = torch.optim.SGD(norm.parameters(), lr=0.1)
    run = Learner({"norm": norm}, [sgd], [None], lambda step: [0], lambda x, step: norm(torch.ones(len(x), 4)).sum())
    with pytest.raises(TrainingError, match="step 0: BatchNorm has a single value to learn from"):
        train(run, 1, config=TrainConfig(batch=1, device="cpu"), checkpoints=tmp_path)


def test_another_error_is_not_taken_for_lack_of_memory(tmp_path):
    run = linear_learner()
    run = Learner(run.modules, run.optimizers, run.schedulers, run.draw, lambda x, step: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="size"):
        train(run, 1, config=TrainConfig(batch=6, device="cpu"), checkpoints=tmp_path)


def test_several_workers_are_as_many_processes(tmp_path):
    config = TrainConfig(batch=6, device="cpu", workers=2)
    with pytest.raises(ConfigError, match="training.workers=2, but 1 process"):
        train(linear_learner(), 2, config=config, checkpoints=tmp_path)
