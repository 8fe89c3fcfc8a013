"""The engine `bookkeeping`: one forward and one backward pass for all rows, gradients of units from what passed by.

Bu et al. 2023 (arXiv 2210.00038): layers note their inputs, backpropagation gives the gradients of their outputs
and none of parameters, and rules (`rules.LAYERS`, ...) turn both into the gradients of units, a few units at a
time while they are in the cache. Where a row is one step, norms and sums are had without forming gradients at all.

The law: a parameter whose every use no rule has seen is refused, never trained by half of its gradient.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.graph import Node

from jangin.errors import PrivacyError
from jangin.privacy.sampling import Draw
from jangin.privacy.step import attention, recurrent, rules
from jangin.privacy.step.interface import (
    VALUES_IN_CACHE,
    RowLosses,
    clip_factors,
    refuse_company,
    refuse_mixing,
    refuse_reduced,
    squared_norms,
    trainable,
    unit_runs,
    weighted_sum,
)
from jangin.privacy.step.rules import Affine, Part, Room, Tape, Use, refuse

__all__ = ["BookkeepingStep"]

_RULES: Final = {**rules.LAYERS, **recurrent.LAYERS, **attention.LAYERS}
_MOST_ROWS = 4096
_VALUES_AT_ONCE = 2**18  # of inputs, in one forward pass: what it keeps is many times as much
_VALUES_OVER_TIME = 2**20  # of inputs where a layer walks through time, in which every pass costs as many steps
_BYTES_IN_CACHE = 32 * 2**20  # of units' gradients

Behind = list[tuple[Use, Tensor]]
"""Uses and the gradients of the outputs they stand behind."""


class BookkeepingStep:
    """See `interface.PrivateStep`."""

    def __init__(self, module: nn.Module, row_losses: RowLosses, clip: float) -> None:
        """Prepare `module`.

        Raises:
            PrivacyError: JG-privacy-003, a layer that mixes records or keeps statistics of them; JG-privacy-004,
                parameters in a layer without a rule.
        """
        refuse_mixing(module, clip)
        unknown = self.unknown_layers(module)
        if unknown:
            raise PrivacyError("JG-privacy-004", where="model", layers=", ".join(unknown))
        self._module, self._row_losses, self._clip = module, row_losses, clip
        self._parameters = trainable(module)
        self._tape, self._room = Tape(), Room()
        self._exact = torch.empty(VALUES_IN_CACHE, dtype=torch.float64)
        self._forwards = [
            (layer, partial(_RULES[type(layer)], self._tape, layer))
            for layer in module.modules()
            if type(layer) in _RULES and any(p.requires_grad for p in layer.parameters())
        ]
        over_time = any(type(layer) in recurrent.LAYERS for layer in module.modules())
        self._values_at_once = _VALUES_OVER_TIME if over_time else _VALUES_AT_ONCE
        self._tried = False
        self._seen: set[tuple[int, bool]] = set()

    @staticmethod
    def unknown_layers(module: nn.Module) -> list[str]:
        """Names of the types of layers whose parameters no rule knows, sorted."""
        known = {
            id(parameter)
            for layer in module.modules()
            if type(layer) in _RULES and not _reparametrised(layer)
            for parameter in layer.parameters()
        }
        return sorted(
            {
                type(layer).__name__
                for layer in module.modules()
                if any(p.requires_grad and id(p) not in known for p in layer.parameters(recurse=False))
            }
        )

    @torch.no_grad()
    def clipped_sum(self, inputs: Tensor, targets: Tensor, draw: Draw) -> Tensor:
        """See `interface.PrivateStep`.

        Raises:
            PrivacyError: JG-privacy-003, the model or the loss mixes records; JG-privacy-004, parameters used outside
                layers, or rows that are no records.
        """
        sums = _Sums(self._parameters, self._exact)
        if not draw.count:
            return sums.total
        if not self._tried:
            refuse_company(self._module, self._of_rows, inputs, targets)
            self._room, self._tried = Room(), True
        most = min(_MOST_ROWS, self._values_at_once // max(1, inputs[0].numel()))
        if draw.count == len(draw.units):
            for run in unit_runs(draw.units, draw.count, most):
                self._add(sums, self._backpropagated(inputs[run.rows], targets[run.rows]), 0, 1, run.count)
            return sums.in_parameters_order()
        # Units of one size side by side: their rows are then a matrix.
        sizes = np.bincount(draw.units)
        order = np.argsort(sizes[draw.units], kind="stable")
        inputs, targets, sizes = inputs[order], targets[order], np.sort(sizes)
        first = 0
        for run in unit_runs(np.repeat(np.arange(draw.count), sizes), draw.count, most):
            some = sizes[first : first + run.count]
            behind = self._backpropagated(inputs[run.rows], targets[run.rows], np.repeat(some, some))
            start = 0
            for size, count in zip(*np.unique(some, return_counts=True), strict=True):
                self._add(sums, behind, start, int(size), int(count))
                start += int(size * count)
            first += run.count
        return sums.in_parameters_order()

    def _backpropagated(self, inputs: Tensor, targets: Tensor, sizes: NDArray[np.intp] | None = None) -> Behind:
        """Every use in one pass, with the gradient of its output by the sum of the units' mean losses.

        Args:
            inputs: of the rows.
            targets: of the rows.
            sizes: how many rows the unit of each row has; None for one each.
        """
        loss, tape = self._loss(inputs, targets, sizes), self._tape
        kind = (len(inputs), self._module.training)
        if kind not in self._seen:
            self._see_whole(loss)
            self._seen.add(kind)
        edges = tape.edges if loss.requires_grad else []
        gradients = torch.autograd.grad(loss, edges, allow_unused=True) if edges else [None] * len(tape.edges)
        tape.check()
        behind = [
            (use, gradient)
            for uses, gradient in zip(tape.uses, gradients, strict=True)
            if gradient is not None
            for use in uses
        ]
        tape.start(0)
        return behind

    @torch.enable_grad()
    def _loss(self, inputs: Tensor, targets: Tensor, sizes: NDArray[np.intp] | None = None) -> Tensor:
        """The sum of the units' mean losses, a scalar."""
        self._tape.start(len(inputs))
        with self._recording():
            losses = self._row_losses(self._module(inputs), targets)
        refuse_reduced(losses, len(inputs))
        if sizes is not None:
            losses = losses / torch.from_numpy(sizes)
        return losses.sum()

    @contextmanager
    def _recording(self) -> Iterator[None]:
        """Rules stand in for the layers' own forward passes, for these rows only."""
        for layer, _ in self._forwards:
            if "forward" in vars(layer):
                refuse(layer, "its forward has been replaced")
        for layer, forward in self._forwards:
            layer.__dict__["forward"] = forward
        try:
            yield
        finally:
            for layer, _ in self._forwards:
                del layer.__dict__["forward"]

    def _add(self, sums: "_Sums", behind: Behind, start: int, size: int, count: int) -> None:
        """Add the clipped gradients of `count` units with `size` rows each, from row `start` on."""
        rows = slice(start, start + size * count)
        uses = Counter(id(parameter) for use, _ in behind for parameter in use.parameters)
        products, rest = [], []
        for use, gradient in behind:
            if isinstance(use, Affine) and use.flat and size == 1 and all(uses[id(p)] == 1 for p in use.parameters):
                products.append(_Product(use, gradient, rows))
            else:
                rest.append((use, gradient))
        squares = torch.zeros(count, dtype=torch.float64)
        for product in products:
            squares += product.squares
        factors = torch.empty_like(squares)
        bytes_a_unit = 4 * sum(p.numel() for use, _ in rest for p in use.parameters)
        step = max(1, min(count, _BYTES_IN_CACHE // bytes_a_unit)) if rest else count
        silent = False
        for first in range(0, count, step):
            here = slice(first, min(first + step, count))
            units = here.stop - first
            parts = self._parts(rest, slice(start + first * size, start + here.stop * size), units)
            for part in parts:
                squares[here] += squared_norms(part.gradient)
            factors[here], broken = clip_factors(squares[here], self._clip)
            silent = silent or broken is not None
            for part in parts:
                if broken is not None:
                    part.gradient[broken] = 0.0
                sums.add(part, factors[here])
        for product in products:
            product.add(sums, factors, silent)

    def _parts(self, behind: Behind, rows: slice, count: int) -> list[Part]:
        """Gradients of the units in `rows`, one part a parameter."""
        self._room.clear()
        found: dict[int, Part] = {}
        for use, gradient in behind:
            for part in use.parts(gradient, rows, count, self._room):
                before = found.get(id(part.parameter))
                found[id(part.parameter)] = part
                if before is not None:
                    part.gradient.add_(before.gradient)
        return list(found.values())

    def _of_rows(self, inputs: Tensor, targets: Tensor, sizes: NDArray[np.intp]) -> Tensor:
        """See `interface.RowGradients`."""
        behind = self._backpropagated(inputs, targets, sizes)
        found = []
        for row in range(len(inputs)):
            parts = self._parts(behind, slice(row, row + 1), 1)
            found.append(torch.cat([torch.zeros(0), *(part.gradient.flatten() for part in parts)]))
        return torch.stack(found)

    def _see_whole(self, loss: Tensor) -> None:
        """Refuse a pass in which rules have not seen every use of every parameter.

        Looked at once for each number of rows and mode: it costs a twentieth of a small model's step.
        """
        used, nodes = _uses_in_graph(loss)
        seen: dict[int, int] = {}
        for edge, uses in zip(self._tape.edges, self._tape.uses, strict=True):
            if edge.node in nodes:
                for key in (id(p) for use in uses for p in use.parameters):
                    seen[key] = seen.get(key, 0) + 1
        if used != seen:
            where = [name for name, p in self._module.named_parameters() if used.get(id(p)) != seen.get(id(p))]
            named = f"{', '.join(where) or 'a parameter of another model'}, used outside its layer"
            raise PrivacyError("JG-privacy-004", where="model", layers=named)


class _Sums:
    """The clipped sum on its way: one flat vector, in which each parameter has its place."""

    def __init__(self, parameters: list[nn.Parameter], exact: Tensor) -> None:
        self._exact = exact
        sizes = [parameter.numel() for parameter in parameters]
        self.total = torch.zeros(sum(sizes), dtype=torch.float64)
        self._places = {id(p): place for p, place in zip(parameters, torch.split(self.total, sizes), strict=True)}
        self._orders: dict[int, Part] = {}

    def of(self, parameter: Tensor) -> Tensor:
        """Its sum, shape (size,), a view."""
        return self._places[id(parameter)]

    def add(self, part: Part, factors: Tensor) -> None:
        """Add the part's units by their factors, in the part's order of axes."""
        if part.order is not None:
            self._orders[id(part.parameter)] = part._replace(gradient=part.gradient[0])
        weighted_sum(factors, part.gradient, self.of(part.parameter), self._exact)

    def in_parameters_order(self) -> Tensor:
        """The vector, shape (parameters,), each parameter's axes as its own; nothing may be added afterwards."""
        for part in self._orders.values():
            if part.order is not None:
                place = self.of(part.parameter)
                place.copy_(place.view(part.gradient.shape).permute(part.order).flatten())
        return self.total


class _Product:
    """The gradients of units with one row of one step each: a product, whose norm is the product of two norms."""

    def __init__(self, use: Affine, gradient: Tensor, rows: slice) -> None:
        self._a, self._g = use.inputs[rows].double(), gradient[rows].double()
        self._weight = use.weight if use.weight.requires_grad else None
        self._bias = use.bias if use.bias is not None and use.bias.requires_grad else None

    @property
    def squares(self) -> Tensor:
        """Squared norms, shape (units,), float64."""
        squares = _squares(self._g)
        if self._weight is None:
            return squares
        return squares.mul_(_squares(self._a).add_(0.0 if self._bias is None else 1.0))

    def add(self, sums: _Sums, factors: Tensor, silent: bool) -> None:
        """Add the units by their factors, (units,), float64; where some are `silent`, factor 0 is nothing."""
        a, g = self._a, self._g
        if silent:
            a, g = (part.masked_fill((factors == 0.0)[:, None], 0.0) for part in (a, g))
        g = g * factors[:, None]
        if self._weight is not None:
            sums.of(self._weight).view(self._weight.shape).addmm_(g.t(), a)
        if self._bias is not None:
            sums.of(self._bias).add_(g.sum(dim=0))


def _squares(rows: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return norms.square_()


def _reparametrised(layer: nn.Module) -> bool:
    """Whether a layer's weights are computed from other parameters, as weight norm does, or its forward replaced."""
    return "forward" in vars(layer) or any(isinstance(value, Tensor) for value in vars(layer).values())


def _uses_in_graph(loss: Tensor) -> tuple[dict[int, int], set[Node]]:
    """How often each parameter, by its id, enters autograd's graph behind `loss`, and the graph's nodes."""
    uses: dict[int, int] = {}
    nodes: set[Node] = set()
    ahead = [loss.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in nodes:
            continue
        nodes.add(node)
        for behind, _ in node.next_functions:
            variable = getattr(behind, "variable", None)
            if isinstance(variable, nn.Parameter):
                uses[id(variable)] = uses.get(id(variable), 0) + 1
            ahead.append(behind)
    return uses, nodes
