"""Gradient inversion: what was in the records behind an update?

Three ways. A first affine layer gives its inputs away: a record moves weights by its inputs times what it moves the
bias by, so their ratio is the record wherever it alone moved a bias (Phong et al. 2018, doi 10.1109/TIFS.2017.2787987;
several records: Pan et al. 2022, arXiv 2010.13356). A server that makes up parameters to that end puts each record
into a bin of its own, also in a sum of many sites (Fowl et al. 2022, arXiv 2110.13057). Any model: look for records
whose gradient is that of the update (Zhu et al. 2019, arXiv 1906.08935; direction instead of distance and records kept
within their range: Geiping et al. 2020, arXiv 2003.14053). The law: no truth enters a reconstruction; it only judges.
"""

import torch
from torch import Tensor
from torch.func import grad
from torch.nn.functional import cosine_similarity

from jangin.models.flat import FlatModel
from jangin.models.layout import Vector
from jangin.models.tasks import Task
from jangin.simulation.attacks.gradients import losses_at, named

__all__ = ["by_descent", "crafted", "from_crafted", "from_first_layer", "resemblance"]

_WITHIN = 1.0 + 1e-3  # scaled inputs lie in [-1, 1]
_LEAST = 1e-3  # deviation of a scaled feature: smaller ones count as this
_FAR = 3.0  # deviations
_MOVED = 1e-6  # of the largest movement of a bias: less is rounding


def from_first_layer(model: FlatModel, update: Vector, usual: Tensor) -> Tensor:
    """Reconstructed inputs, (reconstructions, features), from an update whose first layer is affine.

    First one record for the whole layer, each neuron weighed by how much a usual record seems to have moved it: exact
    where there was only one record, and the least harmed by noise. Then the ratio of every neuron, as far as it lies
    within [-1, 1]. Neither length nor sign of the update matters.

    Args:
        model: gives the shapes.
        update: shape (size,).
        usual: a scaled input as it might be, shape (features,).
    """
    weights, bias = _first_layer(model, torch.from_numpy(update))
    moved = weights @ usual + bias
    whole = (moved @ weights / (moved @ bias))[None]
    ratios = weights / bias[:, None]
    return torch.cat([whole, ratios[(ratios.abs() <= _WITHIN).all(dim=1)]])


def crafted(model: FlatModel, known: Tensor, seed: int) -> Vector:
    """Parameters, (size,), for a model `mlp` of one hidden layer that sort records into bins by one random projection.

    Neuron k is on for records above the k-th of evenly spaced quantiles, and all neurons weigh the same in the output:
    the updates of two neighbours differ by the records between their quantiles.

    Args:
        model: gives the shapes.
        known: scaled inputs of other records, shape (records, features), from which the quantiles are guessed.
        seed: of the projection.

    Raises:
        ValueError: another model.
    """
    vector = torch.zeros_like(model.vector)
    parts = list(named(model, vector).values())
    if len(parts) != 4:  # weights and bias of each
        raise ValueError(f"Expected two affine layers: {list(named(model, vector))}.")
    weights, bias, outgoing, _ = parts
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(known.shape[1], generator=generator) / known.std(dim=0).clamp(min=_LEAST)
    direction /= direction.norm()
    weights.copy_(direction.expand_as(weights))
    bias.copy_(-torch.quantile(known @ direction, torch.arange(len(bias)) / len(bias)))
    outgoing.fill_(0.1 / len(bias))
    return vector.numpy()


def from_crafted(model: FlatModel, update: Vector) -> Tensor:
    """Reconstructed inputs, (reconstructions, features), from an update at `crafted` parameters: one a bin in use."""
    weights, bias = _first_layer(model, torch.from_numpy(update))
    weights, bias = (torch.cat([part[:-1] - part[1:], part[-1:]]) for part in (weights, bias))
    moved = bias.abs() > _MOVED * bias.abs().max()
    return weights[moved] / bias[moved, None]


def by_descent(
    model: FlatModel, task: Task, parameters: Vector, gradient: Vector, start: Tensor, targets: Tensor, steps: int
) -> Tensor:
    """Inputs, (records, features), whose mean gradient points where `gradient` does, by Adam from `start`.

    Args:
        model: any model with a differentiable loss.
        task: a regression; its targets are looked for too.
        parameters: where the gradient was taken, shape (size,).
        gradient: shape (size,); its length does not matter.
        start: guesses of the scaled inputs, shape (records, ...).
        targets: guesses of the scaled targets, shape (records, targets).
        steps: of Adam, its rate falling from 0.05 to 0 as a cosine.
    """
    wanted, vector = torch.from_numpy(gradient), torch.from_numpy(parameters)

    def loss(at: Tensor, rows: Tensor, aims: Tensor) -> Tensor:
        return losses_at(model, task, at, rows, aims).mean()

    of, guesses = grad(loss), [start.clone().requires_grad_(), targets.clone().requires_grad_()]
    optimizer = torch.optim.Adam(guesses, lr=0.05)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        apart = 1.0 - cosine_similarity(of(vector, *guesses), wanted, dim=0)
        apart.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        falling.step()
        with torch.no_grad():
            for guess in guesses:
                guess.clamp_(-1.0, 1.0)
    return guesses[0].detach()


def resemblance(reconstructed: Tensor, record: Tensor, usual: Tensor, deviation: Tensor) -> float:
    """How well the best reconstruction tells what is special about a record: 1 is all of it, 0 nothing.

    The cosine between the two, each feature less its usual value and over its deviation, at most 3: what the records
    of a site have in common is no secret of one, and one feature is not the whole record.

    Args:
        reconstructed: shape (reconstructions, features), at least one.
        record: shape (features,).
        usual: mean of other records of the site, shape (features,).
        deviation: of records within a site, shape (features,), > 0.
    """

    def special(rows: Tensor) -> Tensor:
        return ((rows - usual) / deviation).nan_to_num(0.0).clamp(-_FAR, _FAR)

    return float(cosine_similarity(special(reconstructed), special(record[None]), dim=1).max())


def _first_layer(model: FlatModel, update: Tensor) -> tuple[Tensor, Tensor]:
    weights, bias = list(named(model, update).values())[:2]
    return weights, bias
