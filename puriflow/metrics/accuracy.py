"""Accuracy with its interval, and cross-entropy, from logits."""

import numpy as np
from scipy.special import logsumexp
from scipy.stats import binomtest


def correct(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which of logits (n, classes) are highest at their label: bool (n,)."""
    return logits.argmax(axis=1) == labels


def wilson(hits: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share of successes, in [0, 1]."""
    interval = binomtest(hits, count).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Cross-entropy of every sample (n,), in nats."""
    logits = logits.astype(np.float64)
    return logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels]
