"""A small configuration for the tests of the localiser; its images are those of the classifier's tests."""

from classifier_inputs import SIDE

from exdd_ray.methods.localiser.config import LocaliserConfig


def config(**given) -> LocaliserConfig:
    training = {"batch": 8, "device": "cpu", **given.pop("training", {})}
    settings = {
        "size": SIDE,
        "network": {"base": 4, "multipliers": (1, 2, 2)},
        "pool": 5,
        "learning_rate": 5e-3,
        "epochs": 2,
        "draws": 16,
        "validate_epochs": 1,
        **given,
    }
    return LocaliserConfig.model_validate({"training": training, **settings})
