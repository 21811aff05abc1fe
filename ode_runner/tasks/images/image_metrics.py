"""Metrics that compare sampled images with data, and their values for other data (floors)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ode_runner.tasks.images.feature_metrics import Neighbourhoods, frechet, nearest, neighbourhoods
from ode_runner.tasks.images.image_classifier import ImageClassifier, scaled
from ode_runner.tasks.sample_metrics import PAIRS, distance_from_data
from ode_runner.tasks.set_metrics import SetMetric

BY_CLASSIFIER = ("frechet", *Neighbourhoods._fields, "class_accuracy")  # metrics that depend on the classifier


class Images(NamedTuple):
    """Integer images (count, channels, height, width) on the CPU, and their classes if there are conditions."""

    levels: Tensor
    classes: Tensor | None


def image_metrics(samples: Images, *, test: Images, train: Tensor, classifier: ImageClassifier) -> dict[str, SetMetric]:
    """The metrics of samples as in `ImageGeneration`; NaN if a sample is not finite.

    The floors are the metrics of as many training images instead of samples; for `nearest_training` and
    `class_accuracy`, those of the test images.
    """
    sound, levels = bool(torch.isfinite(samples.levels).all()), samples.levels.nan_to_num(0)
    found = _of_features(levels, test.levels, train[: len(levels)], classifier)
    found |= _of_pixels(*(scaled(images, classifier.brightest) for images in (levels, test.levels, train)))
    if samples.classes is not None and test.classes is not None:
        right = [_accuracy(levels, samples.classes, classifier), _accuracy(test.levels, test.classes, classifier)]
        found["class_accuracy"] = SetMetric(*right)
    return found if sound else {name: SetMetric(math.nan, metric.floor) for name, metric in found.items()}


def _of_features(samples: Tensor, test: Tensor, others: Tensor, classifier: ImageClassifier) -> dict[str, SetMetric]:
    data = classifier.features(test)
    values, floors = (
        {"frechet": frechet(features, data), **neighbourhoods(features, data)._asdict()}
        for features in map(classifier.features, (samples, others))
    )
    return {name: SetMetric(value, floors[name]) for name, value in values.items()}


def _of_pixels(samples: Tensor, test: Tensor, train: Tensor) -> dict[str, SetMetric]:
    copied, floor = (float(nearest(images, train)[1].mean()) for images in (samples, test))
    apart = distance_from_data(samples, test, others=train[: PAIRS * len(samples)])
    return {"sw2": apart, "nearest_training": SetMetric(copied, floor)}


def _accuracy(images: Tensor, classes: Tensor, classifier: ImageClassifier) -> float:
    return float((classifier.classes(classifier.features(images)) == classes).double().mean())
