"""What a sweep measures of a combination, and how that compares with another combination.

Accuracies are in percent with Wilson intervals; all else are means over images with Student's
intervals: cross-entropies in nats, and errors on [0, 1] to the clean image. Where a purifier is
asked several times, the squared error is that of the first draw, and is split into what draws have
in common, the squared bias, and their variance. Intervals are of 95 %.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from puriflow.compute import in_batches
from puriflow.errors import UserError
from puriflow.metrics.accuracy import accuracy
from puriflow.metrics.content import content_distance, ratio_of_means
from puriflow.metrics.paired import compare, student_interval
from puriflow.results import measures
from puriflow.results.columns import bounded
from puriflow.results.measures import UNDER_ATTACK, Stores

if TYPE_CHECKING:
    from puriflow.chain import Chain
    from puriflow.config import Config
    from puriflow.registry import Part
    from puriflow.results.base import Device
    from puriflow.results.rows import Row
    from puriflow.results.table import Table

SHARES = ("standard", "robust")
ROUNDED = measures.METRICS | {"content_distance": measures.METRICS["mse"]}
METRICS = (*SHARES, *(f"{name}_{images}" for images in ("clean", "attacked") for name in ROUNDED))


class Values(NamedTuple):
    """What is measured of the images of a combination.

    Attributes:
        source: what they are taken from.
        indices: there (n,).
        metrics: those of `METRICS` that there are, (n,) each.
    """

    source: tuple[str, str]
    indices: np.ndarray
    metrics: dict[str, np.ndarray]


def values_of(
    table: "Table",
    track: "Config",
    row: "Row",
    stores: Stores,
    features: "Part | None" = None,
    device: "Device" = None,
) -> Values:
    """The values of a row's images, clean and attacked.

    Args:
        table: that has the row.
        track: what serves it.
        row: with one attack.
        stores: of its chains.
        features: a network whose content distances are measured as well.
        device: for the network.
    """
    clean, (under_attack,) = table.chains(track, row)
    metrics = table.outcomes(track, row, stores)
    for images, chain in (("clean", clean), ("attacked", under_attack)):
        of_images = dict(stores.measure(chain).metrics)
        if features is not None:
            of_images["content_distance"] = _distances(features, chain, stores, device)
        metrics |= {f"{name}_{images}": of_images[name] for name in ROUNDED if name in of_images}
    return Values(stores.source(clean), stores.read(clean, "images", "index"), metrics)


def _distances(
    features: "Part", chain: "Chain", stores: Stores, device: "Device", batch: int = 64
) -> np.ndarray:
    """Content distance (n,) of what is classified from the clean images, by the first layer."""
    import torch

    device = device or torch.device("cpu")
    network = features.build().to(device)
    (layer,) = network.wanted
    found = []

    @torch.no_grad()
    def distance(images: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
        return content_distance(network(images)[layer], network(clean)[layer])

    pairs = zip(stores.shards(chain, chain.final), stores.shards(chain, "images"), strict=True)
    for final, clean in pairs:
        for start in range(0, clean.count, batch):
            images = (store.read("images", start, start + batch) for store in (final, clean))
            found.append(in_batches(distance, device, *images).cpu().numpy())
    return np.concatenate(found)


def numbers_of(
    table: "Table", track: "Config", row: "Row", stores: Stores, values: Values
) -> Iterator[dict[str, Any]]:
    """The cells of every number of a row, and of the seconds that an image takes."""
    _, (under_attack,) = table.chains(track, row)
    failed = table.failed(track, row, stores).get(under_attack)
    n = len(values.indices)
    for metric, own in values.metrics.items():
        name, _, images = metric.rpartition("_")
        if metric in SHARES:
            numbers = [round(x, 2) for x in accuracy(own)]
        else:
            numbers = [ROUNDED[name](float(x)) for x in (own.mean(), *student_interval(own))]
        void = metric in UNDER_ATTACK or (images == "attacked" and name in UNDER_ATTACK)
        cells = dict(zip(("value", "low", "high"), numbers, strict=True))
        yield {"metric": metric, **cells, "n": n, "attack_failed": failed if void else None}
    if (seconds := stores.measure(under_attack).seconds_per_image) is not None:
        yield {"metric": "seconds_per_image", "value": float(f"{seconds:.4g}"), "n": n}


def compared(own: Values, other: Values) -> dict[str, dict[str, Any]]:
    """How a combination compares with another one, by metric, of the images that both have.

    Of accuracies it is the difference in points; of all else the ratio of the means, where there is
    one.

    Raises:
        UserError: their images are taken from different data.
    """
    if own.source != other.source:
        raise UserError(
            f"the reference is of other images ({other.source[0]}) than what is compared with it "
            f"({own.source[0]}): name a data set that is a part of the same"
        )
    both, *places = np.intersect1d(own.indices, other.indices, return_indices=True)
    found: dict[str, dict[str, Any]] = {}
    for metric in own.metrics.keys() & other.metrics.keys() if len(both) else ():
        first, second = own.metrics[metric][places[0]], other.metrics[metric][places[1]]
        if metric in SHARES:
            paired = compare(first, second)
            points = (100 * x for x in (paired.difference, *paired.interval))
            found[metric] = bounded("difference", (round(x, 2) for x in points))
        elif second.mean() > 0:
            ratios = ratio_of_means(first, second)
            found[metric] = bounded("ratio", (float(f"{x:.4g}") for x in ratios))
    return {metric: cells | {"n_both": len(both)} for metric, cells in found.items()}
