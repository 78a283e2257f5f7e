"""Training that was interrupted goes on to the same bits, from checkpoints that are its own."""

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
from torch import Tensor
from training_inputs import CONFIG, STEPS, assert_same_bits, bits, learner

from exdd_ray.progress import silent
from exdd_ray.store.artifact import Recipe, Store
from exdd_ray.training.checkpoint import WEIGHTS, checkpoint_folder, latest_checkpoint
from exdd_ray.training.learner import Learner, TrainingError
from exdd_ray.training.loop import train
from exdd_ray.training.stored import LOSSES, trained, training_recipe


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
from training_inputs import CONFIG, STEPS, learner
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
        path = os.pathsep.join((str(Path(__file__).parents[2] / "support"), str(Path(__file__).parents[3])))
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


def test_weights_of_a_foreign_file_are_refused(tmp_path):
    train(learner(), 5, config=CONFIG, checkpoints=tmp_path)
    file = checkpoint_folder(tmp_path, 5) / WEIGHTS
    save_file({"else": torch.zeros(3)}, file)
    with pytest.raises(TrainingError, match="another architecture: it has 'else'"):
        train(learner(), STEPS, config=CONFIG, checkpoints=tmp_path)


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
