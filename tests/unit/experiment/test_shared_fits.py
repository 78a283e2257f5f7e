"""What the trials of a run fine-tune: all at once before the first of them starts, each once."""

import yaml
from lora_inputs import TUNING
from sweep_small import BASE

from exdd_ray.config.base import merge
from exdd_ray.experiment.backend import Backend
from exdd_ray.experiment.plan import FINE_TUNING
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.space import load_run
from exdd_ray.experiment.sweep import plan_sweep, run_sweep
from exdd_ray.experiment.synth import run_syntheses
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.fits import train_here

LORA = {"kind": "lora", "steps": 2, "size": [32, 32], "filters": None, "masks": {"source": "positives"}}


def lora(count: int, **learnt: object) -> dict[str, object]:
    """A variant with a fine-tuning of a moment."""
    return {"synthesizer": {**LORA, "count": count, "tuning": merge(TUNING, {"epochs": 1, "repeats": 1, **learnt})}}


VARIANTS = {"few": lora(2), "more": lora(4), "wild": lora(2, learning_rate=1e30, epochs=3), "other": lora(2, rank=1)}


def loaded_run(folder):
    """Four variants, of which two need the same painter and one cannot be trained."""
    file = folder / "run.yaml"
    common = {key: value for key, value in BASE.items() if key not in ("space", "synthesizer")}
    file.write_text(yaml.safe_dump({**common, "seeds": [0], "variants": VARIANTS}, sort_keys=False))
    return load_run(file)


def test_all_distinct_ones_are_trained_together_and_one_that_fails_does_so_by_its_name(tmp_path):
    asked = []

    def fine_tune(fits, store, progress):
        asked.append([fit.name for fit in fits])
        return train_here(fits, store, progress)

    loaded, store = loaded_run(tmp_path), Store(tmp_path / "store")
    session = Session(store, backend=Backend(fine_tune=fine_tune))
    plan = plan_sweep(loaded, session)
    assert (plan.missing(FINE_TUNING), [one.uses for one in plan.stages if one.stage == FINE_TUNING]) == (3, [4])
    results = run_sweep(loaded, plan, session)
    names = [f"{name}, ceramic, seed 0" for name in ("few", "wild", "other")]
    assert asked[0] == names
    assert all(len(again) == 1 for again in asked[1:])  # the trial that failed, alone
    reasons = {row["name"]: row["error"] for row in results.trials.to_pylist()}
    assert [name for name, reason in reasons.items() if reason] == ["wild"]
    assert "nan" in reasons["wild"] or "finite" in reasons["wild"]
    assert sum(key.startswith("adapters-") for key in store.made) == 2


def test_syntheses_alone_are_tuned_for_together_too(tmp_path):
    asked = []

    def fine_tune(fits, store, progress):
        asked.append([fit.name for fit in fits])
        return train_here(fits, store, progress)

    trials = [trial for trial in loaded_run(tmp_path).trials if trial.name != "wild"]
    results = run_syntheses(trials, Session(Store(tmp_path / "store"), backend=Backend(fine_tune=fine_tune)))
    assert asked == [["few, ceramic, seed 0", "other, ceramic, seed 0"]]
    assert [len(result.synthesis.samples) for result in results] == [2, 4, 2]
