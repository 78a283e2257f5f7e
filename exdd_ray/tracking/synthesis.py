"""Synthetic defects in Weights & Biases: a run for each set, its samples as a table of images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exdd_ray.report.contact_sheet import SynthesisSet, count_samples
from exdd_ray.report.samples import read_sample
from exdd_ray.report.strips import by_prompt
from exdd_ray.synthesizers.synthesize import SyntheticSample
from exdd_ray.tracking.wandb_runs import Mode, Place, address, picture, start_run, tracking_mode, wandb_session

MAX_EACH = 50
COLUMNS = ("sample", "prompt", "seed", "background", "mask", "result")
TABLE = "samples"


def log_synthesis(
    project: str, name: str, sets: Sequence[SynthesisSet], folder: Path, mode: Mode | None = None
) -> tuple[str, ...]:
    """Log each set as a run of `project`, all in the group `name`.

    A run holds the first MAX_EACH samples of each part and prompt as a table, the counts and quality figures as its
    summary, and the resolved config; to log it again makes no other run. The entity is that of WANDB_ENTITY. Without
    WANDB_API_KEY and WANDB_MODE the runs stay offline: all of their files, images included, lie in `folder`/wandb. A
    `mode` of None is tracking_mode's.

    Returns:
        Each run's address, or its folder where it is offline: wandb's own process may still be writing there until this
        one ends. Nothing with WANDB_MODE=disabled.

    Raises:
        ConfigError: an unknown WANDB_MODE, or online without a key.
        UserError: wandb refuses the project, or its server does not answer.
    """
    mode = mode or tracking_mode()
    if mode == "disabled":
        return ()
    place = Place(project, name, folder, mode)
    with wandb_session(place):
        return tuple(_log_set(place, entry) for entry in sets)


def summary_of(entry: SynthesisSet) -> dict[str, float]:
    """Counts, of each part and prompt too; pace; quality figures by their names."""
    counts = count_samples(entry)
    found: dict[str, float] = {
        "asked": sum(count.asked for count in counts),
        "kept": sum(count.kept for count in counts),
        "dropped": sum(count.dropped for count in counts),
    }
    found |= {f"kept/{count.title}": count.kept for count in counts if count.title}
    found |= {f"dropped/{reason}": count for reason, count in entry.synthesis.dropped.items()}
    if entry.timing is not None:
        found["images_per_second"] = entry.timing.rate
    if entry.quality is not None:
        found |= {f"quality/{figure.name}": figure.value for figure in entry.quality.figures}
    return found


def _log_set(place: Place, entry: SynthesisSet) -> str:
    import wandb

    tags, notes = (entry.dataset, entry.category), "\n".join(entry.remarks)
    about = f"{entry.title} {entry.config.model_dump_json()}"
    with start_run(place, "synthesis", entry.title, _config(entry), tags, notes, about=about) as run:
        shown = _first_of_each(entry)
        run.log({TABLE: wandb.Table(columns=list(COLUMNS), data=[_table_row(made) for made in shown])})
        run.summary.update({**summary_of(entry), "shown": len(shown)})
        return address(run)


def _config(entry: SynthesisSet) -> dict[str, Any]:
    about = {"trial": entry.trial, "dataset": entry.dataset, "category": entry.category, "seed": entry.seed}
    return {**about, "synthesizer": entry.config.model_dump(mode="json")}


def _first_of_each(entry: SynthesisSet) -> list[SyntheticSample]:
    return [made for _, group in by_prompt(entry.synthesis.samples, entry.config) for made in group[:MAX_EACH]]


def _table_row(made: SyntheticSample) -> list[Any]:
    background, result, mask, _ = read_sample(made)
    # 56 bits do not fit the numbers of JSON.
    return [
        made.row.id,
        made.prompt,
        str(made.seed),
        picture(background),
        picture(background, mask, made.row.defect),
        picture(result),
    ]
