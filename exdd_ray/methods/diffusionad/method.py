"""DiffusionAD as a method."""

from collections.abc import Iterator
from functools import partial

from exdd_ray.data.textures import procedural_textures
from exdd_ray.methods.diffusionad.config import DiffusionADConfig
from exdd_ray.methods.method import Fitted, LearnsFrom, Method, Need, PlannedFit, Resources, TrainingImages
from exdd_ray.methods.trained import networks_need

_UNFITTED = ("inference",)
_PLACES = {
    "all": "anywhere on the image",
    "threshold": "where the grey value says",
    "model": "where a segmentation model says",
}


def _fit(config: DiffusionADConfig, images: TrainingImages, resources: Resources, seed: int) -> Fitted:
    from exdd_ray.methods.diffusionad.detector import fit_diffusionad

    train = partial(fit_diffusionad, config, images.train, resources.store, seed, test=images.test)
    fitted = train(progress=resources.progress, remote=resources.remote_training(train, config.training))
    # a threshold that was chosen on the test images is none to report beside the test's own
    threshold = fitted.threshold if config.checkpoint == "validation" else None
    return Fitted(fitted.predict, fitted.predict, (fitted.train[0], 0, 0), threshold=threshold, remarks=fitted.remarks)


def _needs(config: DiffusionADConfig, fit: PlannedFit, _: Resources) -> Iterator[Need]:
    yield networks_need(config, fit, _UNFITTED)


def _inputs(config: DiffusionADConfig) -> tuple[str, ...]:
    from exdd_ray.methods.diffusionad.detector import input_digests

    return input_digests(config)


def _remarks(config: DiffusionADConfig) -> tuple[str, ...]:
    """What it takes in the place of a published ingredient."""
    from exdd_ray.synthesizers.per_region.blend import BLENDS

    if config.preset == "best":
        return ()
    anomalies = config.anomalies
    share = BLENDS["diffusionad"].texture_share if anomalies.texture_share is None else anomalies.texture_share
    lacking = anomalies.textures is None and share > 0
    where = _PLACES[anomalies.foreground.kind]
    return (
        *(procedural_textures(f"DiffusionAD's preset {config.preset}", "detector.anomalies.textures"),) * lacking,
        f"stand-in: DiffusionAD's preset {config.preset} keeps anomalies to foreground masks made beforehand, here "
        f"they lie {where} (detector.anomalies.foreground)",
    )


METHOD = Method(
    config=DiffusionADConfig,
    learns_from=lambda _: LearnsFrom(defects=False, masks=False, name="DiffusionAD"),
    fit=_fit,
    needs=_needs,
    inputs=_inputs,
    training=lambda config: config.training,
    repeats=lambda config: config.inference.noise == "seeded",
    unfitted=_UNFITTED,
    remarks=_remarks,
)
