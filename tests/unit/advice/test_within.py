"""Who is run with which seeds."""

import time
from pathlib import Path

from exdd_ray.advice.candidates import Candidate, as_sweep, facts_of
from exdd_ray.advice.within import Ran, run_within
from exdd_ray.data.datasets import load_dataset
from exdd_ray.experiment.session import Session
from exdd_ray.store.artifact import open_store

TWO = (
    Candidate("PatchCore", 0, "", {"detector": {"system": "patchcore"}}),
    Candidate("PaDiM", 0, "", {"detector": {"kind": "padim"}}),
)
ALL = [(seed, name) for seed in range(3) for name in ("PatchCore", "PaDiM")]


def ran(root: Path, compared: tuple[Candidate, ...] = TWO, seeds: int = 3, **how) -> Ran:
    facts = facts_of(load_dataset("folder", root))
    return run_within(as_sweep(root, facts, compared, seeds), 600, Session(open_store("store")), **how)


def results(of: Ran) -> list[tuple[int, str]]:
    return [(one.planned.trial.config.seed, one.planned.point.name) for one in of.outcomes if one.artifact]


def test_every_candidate_is_run_with_every_seed_in_turn(parts):
    found = ran(parts(16, 6))
    assert results(found) == ALL
    assert not found.behind


def left_behind_at_once(asked: list[int]):
    """A race that leaves PaDiM behind after the first seed."""

    def race(outcomes):
        asked.append(len(outcomes))
        return {"PaDiM"} if len(asked) == 1 else set()

    return race


def test_who_is_left_behind_is_run_when_the_others_have_been(parts):
    asked: list[int] = []
    found = ran(parts(16, 6), race=left_behind_at_once(asked))
    early = [(0, "PatchCore"), (0, "PaDiM"), (1, "PatchCore"), (2, "PatchCore")]
    assert results(found) == [*early, (1, "PaDiM"), (2, "PaDiM")]
    assert asked == [2, 3]
    assert not found.behind


def test_who_is_left_behind_is_not_run_again_where_no_time_remains(parts, monkeypatch):
    late, clock = 0.0, time.perf_counter

    def told(outcome):
        nonlocal late
        late += 1000 * (outcome.planned.trial.config.seed == 2)

    monkeypatch.setattr(time, "perf_counter", lambda: clock() + late)
    found = ran(parts(16, 6), race=left_behind_at_once([]), told=told)
    assert results(found) == [(0, "PatchCore"), (0, "PaDiM"), (1, "PatchCore"), (2, "PatchCore")]
    assert found.behind == {"PaDiM"}


def test_with_a_seed_with_which_the_first_candidate_fails_no_other_is_run(parts):
    root = parts(16, 6)
    image = root / "normal" / "0.png"
    whole = image.read_bytes()

    def told(outcome):  # the image is broken while seed 1 is run
        if outcome.planned.point.name == "PaDiM" or not outcome.artifact:
            image.write_bytes(whole[:100] if outcome.planned.trial.config.seed == 0 else whole)

    found = ran(root, told=told)
    assert [one.planned.point.name for one in found.outcomes if one.error] == ["PatchCore"]
    assert results(found) == [one for one in ALL if one[0] != 1]


def test_the_first_candidate_may_fail_with_the_first_seed(parts):
    root = parts(16, 6)
    for mask in sorted((root / "masks").iterdir())[:3]:
        mask.unlink()
    learner = Candidate("ExDD", 1, "", {"detector": {"system": "exdd"}, "dataset.split.defects": 1})
    found = ran(root, (learner, Candidate("PaDiM", 0, "", {"detector": {"kind": "padim"}})), seeds=8)
    done = results(found)
    learnt = [seed for seed, name in done if name == learner.name]
    assert learnt[0] > 0  # seed 0 draws one of the defects without a mask
    assert done == [(seed, name) for seed in learnt for name in (learner.name, "PaDiM")]
    assert len(found.outcomes) == 8 + len(learnt)
