"""The image classifier of DIAG and In&Out as a method."""

from collections.abc import Iterator
from functools import partial

from exdd_ray.methods.classifier.config import ClassifierConfig
from exdd_ray.methods.embedding import backbone_inputs
from exdd_ray.methods.method import Fitted, LearnsFrom, Method, Need, PlannedFit, Resources, TrainingImages
from exdd_ray.methods.trained import networks_need


def _fit(config: ClassifierConfig, images: TrainingImages, resources: Resources, seed: int) -> Fitted:
    from exdd_ray.methods.classifier.classifier import fit_classifier

    train = partial(fit_classifier, config, images.train, resources.store, seed, sources=images.sources)
    fitted = train(progress=resources.progress, remote=resources.remote_training(train, config.training))
    return Fitted(fitted.predict, fitted.predict, fitted.train, threshold=fitted.threshold, remarks=fitted.remarks)


def _needs(config: ClassifierConfig, fit: PlannedFit, _: Resources) -> Iterator[Need]:
    yield networks_need(config, fit)


METHOD = Method(
    config=ClassifierConfig,
    learns_from=lambda _: LearnsFrom(defects=True, masks=False, name="a classifier"),
    fit=_fit,
    needs=_needs,
    inputs=backbone_inputs,
    training=lambda config: config.training,
)
