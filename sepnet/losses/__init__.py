"""Training losses: negated metrics and distances."""

from sepnet.losses.clustering import affinity_loss, whitened_kmeans_loss
from sepnet.losses.pit import Assignment, PairwiseLoss, in_any_order, in_order, negative, pit
from sepnet.losses.spectral import magnitude_mse, phase_sensitive_mse, phase_sensitive_target

__all__ = [
    "Assignment",
    "PairwiseLoss",
    "affinity_loss",
    "in_any_order",
    "in_order",
    "magnitude_mse",
    "negative",
    "phase_sensitive_mse",
    "phase_sensitive_target",
    "pit",
    "whitened_kmeans_loss",
]
