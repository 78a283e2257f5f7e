"""What the training loop computes: steps, batches, validation, averages, processes that share the work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_inputs import CONFIG, STEPS, assert_same_bits, bits, learner, linear_learner

from exdd_ray.errors import DataError
from exdd_ray.training.checkpoint import WEIGHTS
from exdd_ray.training.config import TrainConfig
from exdd_ray.training.learner import ShuffledBatches, TrainingError
from exdd_ray.training.loop import train


@pytest.mark.parametrize("micro_batch", [1, 4, 5])
def test_micro_batches_add_up_to_the_batch(tmp_path, micro_batch):
    whole, parts = linear_learner(), linear_learner()
    train(whole, 4, config=TrainConfig(batch=6, device="cpu"), checkpoints=tmp_path / "whole")
    config = TrainConfig(batch=6, micro_batch=micro_batch, device="cpu")
    found = train(parts, 4, config=config, checkpoints=tmp_path / "parts")
    assert found.micro_batch == micro_batch
    torch.testing.assert_close(bits(whole), bits(parts), rtol=1e-6, atol=1e-7)


def test_sgd_takes_the_steps_that_the_formula_says(tmp_path):
    run = linear_learner(draw=(2,))
    weight, bias, losses = torch.tensor([0.1, -0.2, 0.3, 0.4]), torch.zeros(()), []
    for step in range(3):
        row = torch.arange(4.0) * (3 + step)
        error = weight @ row + bias - 1
        losses.append(float(error**2))
        weight, bias = weight - 1e-4 * 2 * error * row, bias - 1e-4 * 2 * error
    found = train(run, 3, config=TrainConfig(batch=1, device="cpu"), checkpoints=tmp_path)
    torch.testing.assert_close(run.modules["layer"].weight.detach()[0], weight)
    assert found.losses == pytest.approx(losses, rel=1e-5)


def test_the_best_validation_chooses_the_weights(tmp_path):
    values = iter([0.1, 0.9, 0.9, 0.5])
    run, seen = learner(), []

    def validate() -> float:
        assert not run.modules["network"].training
        seen.append({key: value.clone() for key, value in bits(run).items()})
        return next(values)

    config = CONFIG.model_copy(update={"validate_every": 3})
    found = train(run, STEPS, config=config, checkpoints=tmp_path, validate=validate)
    assert (found.best_step, found.best_value, found.steps) == (6, 0.9, STEPS)
    assert_same_bits(bits(run), seen[1])
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["step-00000006", "step-00000012"]
    assert_same_bits(load_file(found.folder / WEIGHTS), seen[1])


@pytest.mark.parametrize(("keep_latest", "chosen"), [(False, 4), (True, 6)])
def test_of_several_values_none_may_fall(keep_latest, chosen, tmp_path):
    values = iter([(90.0, 170.0), (90.0, 171.0), (90.0, 171.0), (95.0, 170.0), (89.0, 180.0), (90.0, 170.9)])
    config = CONFIG.model_copy(update={"validate_every": 2})
    found = train(
        learner(), STEPS, config=config, checkpoints=tmp_path, validate=lambda: next(values), keep_latest=keep_latest
    )
    assert (found.best_step, tuple(found.best_value)) == (chosen, (90.0, 171.0))


def test_validation_does_not_change_the_training(tmp_path):
    plain, watched = learner(), learner()
    train(plain, STEPS, config=CONFIG, checkpoints=tmp_path / "plain")
    config = CONFIG.model_copy(update={"validate_every": 3})
    steps = iter(range(100))
    train(watched, STEPS, config=config, checkpoints=tmp_path / "watched", validate=lambda: float(next(steps)))
    assert_same_bits(bits(plain), bits(watched))


def test_validation_that_is_not_a_number_stops(tmp_path):
    with pytest.raises(TrainingError, match="after step 2: validation gives nan"):
        train(
            learner(),
            STEPS,
            config=CONFIG.model_copy(update={"validate_every": 3}),
            checkpoints=tmp_path,
            validate=lambda: float("nan"),
        )


def test_averaged_weights_follow_the_formula_and_are_what_is_validated(tmp_path):
    plain, averaged = linear_learner(), linear_learner()
    passed, expected = [], None
    for step in range(1, 5):
        train(plain, step, config=TrainConfig(batch=6, device="cpu"), checkpoints=tmp_path / "plain")
        weight = plain.modules["layer"].weight.detach().clone()
        expected = weight if expected is None else 0.8 * expected + 0.2 * weight
        plain = linear_learner()

    def validate() -> float:
        passed.append(averaged.modules["layer"].weight.detach().clone())
        return float(len(passed))

    config = TrainConfig(batch=6, device="cpu", ema=0.8, validate_every=4)
    train(averaged, 4, config=config, checkpoints=tmp_path / "ema", validate=validate)
    torch.testing.assert_close(passed[-1], expected)
    assert torch.equal(averaged.modules["layer"].weight, passed[-1])


def test_bfloat16_rounds_the_forward_pass_and_keeps_the_weights(tmp_path):
    full, half = linear_learner(), linear_learner()
    config = TrainConfig(batch=6, device="cpu")
    exact = train(full, 3, config=config, checkpoints=tmp_path / "full")
    rounded = train(half, 3, config=config.model_copy(update={"precision": "bfloat16"}), checkpoints=tmp_path / "half")
    assert half.modules["layer"].weight.dtype == torch.float32
    assert rounded.losses != exact.losses
    assert rounded.losses == pytest.approx(exact.losses, rel=0.05)


def test_every_epoch_shows_every_sample_once_in_an_order_of_its_own():
    draw = ShuffledBatches(20, 6, seed=1)
    assert draw.per_epoch == 4
    epochs = [[at for step in range(start, start + 4) for at in draw(step).tolist()] for start in (0, 4)]
    assert [len(draw(step)) for step in range(5)] == [6, 6, 6, 2, 6]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(20))
    assert epochs[0] != epochs[1]
    assert ShuffledBatches(20, 6, seed=2)(0).tolist() != draw(0).tolist()
    assert ShuffledBatches(20, 6, seed=1, drop_last=True).per_epoch == 3
    assert [len(ShuffledBatches(20, 6, 1, drop_last=True)(step)) for step in range(4)] == [6, 6, 6, 6]


def test_fewer_images_than_a_batch_is_an_error():
    with pytest.raises(DataError, match="5 training images are fewer than a batch of 6"):
        ShuffledBatches(5, 6, seed=0)


def test_the_global_generator_is_left_as_it_was(tmp_path):
    run, before = learner(), torch.get_rng_state()
    train(run, 2, config=CONFIG, checkpoints=tmp_path)
    assert torch.equal(before, torch.get_rng_state())


SHARED_SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from safetensors.torch import save_file
from training_inputs import bits, linear_learner
from exdd_ray.training.config import TrainConfig
from exdd_ray.training.loop import train
folder, rank = Path(sys.argv[1]), sys.argv[2]
run = linear_learner()
config = TrainConfig(batch=6, micro_batch=2, device="cpu", validate_every=2, workers=2)
found = train(run, 4, config=config, checkpoints=folder / "checkpoints", validate=lambda: float(rank == "0"))
save_file(bits(run), folder / f"{rank}.safetensors")
torch.distributed.destroy_process_group()
"""


def test_two_processes_share_every_batch(tmp_path):
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join((str(Path(__file__).parents[2] / "support"), str(Path(__file__).parents[3])))
    common = {"PYTHONPATH": path, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SHARED_SCRIPT, str(tmp_path), rank],
            env={**os.environ, **common, "RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
        )
        for rank in ("0", "1")
    ]
    try:
        for process in processes:
            _, complaints = process.communicate(timeout=240)
            assert process.returncode == 0, complaints.decode()[-2000:]
    finally:
        for process in processes:
            process.kill()
    alone = linear_learner()
    train(alone, 2, config=TrainConfig(batch=6, device="cpu"), checkpoints=tmp_path / "alone")
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    assert_same_bits(first, second)
    torch.testing.assert_close(first, bits(alone), rtol=1e-6, atol=1e-7)
