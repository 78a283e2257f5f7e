import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from exdd_ray.config.training import TrainConfig
from exdd_ray.errors import DataError
from exdd_ray.progress import silent
from exdd_ray.store.artifact import Recipe, Store
from exdd_ray.training.checkpoint import WEIGHTS, checkpoint_folder, latest_checkpoint
from exdd_ray.training.learner import Learner, ShuffledBatches, TrainingError
from exdd_ray.training.loop import train
from exdd_ray.training.stored import LOSSES, trained, training_recipe

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


def bits(chosen: Learner[int]) -> dict[str, Tensor]:
    return {f"{name}.{key}": value for name, m in chosen.modules.items() for key, value in m.state_dict().items()}


def assert_same_bits(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


@pytest.mark.parametrize("ema", [None, 0.9])
def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path, ema):
    config = CONFIG.model_copy(update={"ema": ema})
    whole = learner()
    expected = train(whole, STEPS, config=config, checkpoints=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(learner(fail_at=8), STEPS, config=config, checkpoints=tmp_path / "cut")
    assert latest_checkpoint(tmp_path / "cut") == checkpoint_folder(tmp_path / "cut", 5)
    resumed = learner()
    found = train(resumed, STEPS, config=config, checkpoints=tmp_path / "cut")
    assert_same_bits(bits(whole), bits(resumed))
    assert found.losses == expected.losses
    assert len(found.losses) == STEPS
    for name in ("weights", "optimizers"):
        files = (checkpoint_folder(tmp_path / run, STEPS) / f"{name}.safetensors" for run in ("whole", "cut"))
        assert_same_bits(*(load_file(file) for file in files))


def test_a_run_that_sleeps_through_its_checkpoints_trains_other_bits_with_another_seed(tmp_path):
    first, second = learner(), learner()
    train(first, 3, config=CONFIG, checkpoints=tmp_path / "a")
    other = Learner(second.modules, second.optimizers, second.schedulers, second.draw, second.loss, seed=6)
    train(other, 3, config=CONFIG, checkpoints=tmp_path / "b")
    assert any(not torch.equal(value, bits(other)[key]) for key, value in bits(first).items())


SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from test_training import CONFIG, STEPS, learner
from exdd_ray.training.loop import train
config = CONFIG.model_copy(update={"checkpoint_every": 2})
train(learner(pause=0.05), STEPS, config=config, checkpoints=Path(sys.argv[1]))
"""


def test_a_killed_process_goes_on_to_the_same_bits(tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = learner()
        train(whole, STEPS, config=CONFIG, checkpoints=tmp_path / "whole")
        path = os.pathsep.join((str(Path(__file__).parent), str(Path(__file__).parents[2])))
        command = [sys.executable, "-c", SCRIPT, str(tmp_path / "cut")]
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 240
        while latest_checkpoint(tmp_path / "cut") is None:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
        done = latest_checkpoint(tmp_path / "cut")
        assert done is not None
        assert done < checkpoint_folder(tmp_path / "cut", STEPS)
        resumed = learner()
        train(resumed, STEPS, config=CONFIG, checkpoints=tmp_path / "cut")
        assert_same_bits(bits(whole), bits(resumed))
    finally:
        torch.set_num_threads(threads)


def linear_learner(draw: Sequence[int] = range(6)) -> Learner[int]:
    layer = nn.Linear(4, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.1, -0.2, 0.3, 0.4]])), layer.bias.fill_(0.0)

    def loss(numbers: Sequence[int], step: int) -> Tensor:
        rows = torch.stack([torch.arange(4.0) * (int(number) + 1 + step) for number in numbers])
        return (layer(rows)[:, 0] - 1).square().mean()

    sgd = torch.optim.SGD(layer.parameters(), lr=1e-4)
    return Learner({"layer": layer}, [sgd], [None], lambda step: list(draw), loss)


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


def test_a_resumed_run_has_the_threads_that_it_began_with(tmp_path):
    def watched(fail_at: int) -> tuple[Learner[int], list[int]]:
        run, seen = learner(fail_at=fail_at), []

        def loss(numbers: Sequence[int], step: int) -> Tensor:
            seen.append(torch.get_num_threads())
            return run.loss(numbers, step)

        return Learner(run.modules, run.optimizers, run.schedulers, run.draw, loss, seed=5), seen

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with pytest.raises(KeyboardInterrupt):
            train(watched(8)[0], STEPS, config=CONFIG, checkpoints=tmp_path)
        torch.set_num_threads(1)
        run, seen = watched(-1)
        train(run, STEPS, config=CONFIG, checkpoints=tmp_path)
        assert set(seen) == {3}
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


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


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    train(learner(), 5, config=CONFIG, checkpoints=tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.safetensors")}
    with pytest.raises(TrainingError, match=r"another architecture: 'network\.\d\.\w+' is \(.*\), here \("):
        train(learner(width=9), STEPS, config=CONFIG, checkpoints=tmp_path)
    run = learner()
    fewer = Learner({"network": run.modules["network"]}, run.optimizers, run.schedulers, run.draw, run.loss)
    with pytest.raises(TrainingError, match=r"another architecture: it has 'head\.bias'"):
        train(fewer, STEPS, config=CONFIG, checkpoints=tmp_path)
    assert before == {file: file.read_bytes() for file in tmp_path.rglob("*.safetensors")}


def test_a_checkpoint_with_other_optimisers_is_refused(tmp_path):
    train(learner(), 5, config=CONFIG, checkpoints=tmp_path)
    run = learner()
    one = Learner(run.modules, run.optimizers[:1], run.schedulers[:1], run.draw, run.loss)
    with pytest.raises(TrainingError, match="other optimisers"):
        train(one, STEPS, config=CONFIG, checkpoints=tmp_path)
    both = torch.optim.Adam([p for m in run.modules.values() for p in m.parameters()])
    with pytest.raises(TrainingError, match="other optimisers"):
        train(
            Learner(run.modules, [both, run.optimizers[1]], run.schedulers, run.draw, run.loss),
            STEPS,
            config=CONFIG,
            checkpoints=tmp_path,
        )


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizers.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_refused(tmp_path, name):
    train(learner(), 5, config=CONFIG, checkpoints=tmp_path)
    file = checkpoint_folder(tmp_path, 5) / name
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(TrainingError, match=r"damaged|not a readable"):
        train(learner(), STEPS, config=CONFIG, checkpoints=tmp_path)


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


def test_progress_starts_where_the_run_goes_on(tmp_path):
    train(learner(), 5, config=CONFIG, checkpoints=tmp_path)
    opened: list[tuple[str, int]] = []
    advanced: list[int] = []

    def progress(label: str, total: int):
        opened.append((label, total))
        from contextlib import nullcontext

        return nullcontext(advanced.append)

    train(learner(), 8, config=CONFIG, checkpoints=tmp_path, progress=progress)
    assert opened == [("training", 8)]
    assert advanced == [5, 1, 1, 1]
    with pytest.raises(TrainingError, match="has 8 steps already, more than 3"):
        train(learner(), 3, config=CONFIG, checkpoints=tmp_path)


def test_a_trained_network_is_an_artifact_that_a_killed_run_goes_on_with(tmp_path):
    store = Store(tmp_path)
    recipe = Recipe("train-test", 1, {"steps": STEPS, **training_recipe(CONFIG)})
    with pytest.raises(KeyboardInterrupt):
        trained(learner(fail_at=8), STEPS, config=CONFIG, recipe=recipe, store=store)
    assert (tmp_path / "unfinished" / recipe.key / "step-00000005").is_dir()
    asked: list[int] = []
    run = learner()
    draw = run.draw
    counted = Learner(run.modules, run.optimizers, run.schedulers, lambda s: (asked.append(s), draw(s))[1], run.loss, 5)
    made = trained(
        counted, STEPS, config=CONFIG, recipe=recipe, store=store, describe=lambda: {"kind": "x"}, progress=silent
    )
    assert asked == list(range(5, STEPS))
    assert not (tmp_path / "unfinished" / recipe.key).exists()
    assert made.metadata["best_step"] == STEPS
    assert made.metadata["kind"] == "x"
    assert made.file(LOSSES).is_file()
    again = learner(fail_at=0)
    found = trained(again, STEPS, config=CONFIG, recipe=recipe, store=Store(tmp_path))
    assert found.key == made.key
    assert_same_bits(bits(again), bits(counted))


def test_the_recipe_does_not_hold_how_often_checkpoints_are_written():
    often = training_recipe(CONFIG.model_copy(update={"checkpoint_every": 1}))
    assert often == training_recipe(CONFIG)
    assert training_recipe(CONFIG.model_copy(update={"ema": 0.5})) != often


def test_weights_of_a_foreign_file_are_refused(tmp_path):
    train(learner(), 5, config=CONFIG, checkpoints=tmp_path)
    file = checkpoint_folder(tmp_path, 5) / WEIGHTS
    save_file({"else": torch.zeros(3)}, file)
    with pytest.raises(TrainingError, match="another architecture: it has 'else'"):
        train(learner(), STEPS, config=CONFIG, checkpoints=tmp_path)


SHARED_SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from safetensors.torch import save_file
from test_training import bits, linear_learner
from exdd_ray.config.training import TrainConfig
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
    path = os.pathsep.join((str(Path(__file__).parent), str(Path(__file__).parents[2])))
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
