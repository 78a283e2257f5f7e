"""The localiser of AnomalyDiffusion and DualAnoDiff as a method."""

from collections.abc import Iterator
from functools import partial

from exdd_ray.methods.localiser.config import LocaliserConfig
from exdd_ray.methods.method import Fitted, LearnsFrom, Method, Need, PlannedFit, Resources, TrainingImages
from exdd_ray.methods.trained import networks_need


def _fit(config: LocaliserConfig, images: TrainingImages, resources: Resources, seed: int) -> Fitted:
    from exdd_ray.methods.localiser.detector import fit_localiser

    given = {"sources": images.sources, "test": images.test}
    train = partial(fit_localiser, config, images.train, resources.store, seed, **given)
    fitted = train(progress=resources.progress, remote=resources.remote_training(train, config.training))
    return Fitted(fitted.predict, fitted.predict, fitted.train, threshold=fitted.threshold, remarks=fitted.remarks)


def _needs(config: LocaliserConfig, fit: PlannedFit, _: Resources) -> Iterator[Need]:
    yield networks_need(config, fit)


METHOD = Method(
    config=LocaliserConfig,
    learns_from=lambda _: LearnsFrom(defects=True, masks=True, name="a localiser"),
    fit=_fit,
    needs=_needs,
    training=lambda config: config.training,
)
