"""Rules of recurrent layers: GRU and LSTM, with backpropagation through time written out.

The inputs of all steps are projected at once; what is left is a recurrence h_t = f(p_t, h_(t-1) W^T) over those
projections p. Its gradient by p_t is the gradient of the gates, from which both of a layer's affine maps have
theirs: that of the inputs and that of the states before. Letters and gates as in torch's nn.GRU and nn.LSTM;
tanh(x) is taken as 2 sigma(2 x) - 1, which is several times faster.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.autograd.graph import get_gradient_edge
from torch.nn import functional

from jangin.privacy.step.rules import Part, Room, Rule, Tape, Use, affine_parts, refuse, trained

__all__ = ["LAYERS"]

_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input


class _Lstm(Function):
    """i, f, g, o = p_t + h W^T (biases are in p); c = f c + i g; h = o tanh(c). Of g = 2 s - 1 the sigma s is kept."""

    @staticmethod
    def forward(ctx: Any, projected: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """States (1 + steps, rows, size), the first is 0, and the last cell; `projected` becomes the gates."""
        steps, rows, width = projected.shape
        size = width // 4
        hidden = weight.t().contiguous()
        states, cells, bounded = (projected.new_empty(1 + steps, rows, size) for _ in range(3))
        states[0], cells[0] = 0.0, 0.0
        for part in (projected, hidden):
            part[..., 2 * size : 3 * size].mul_(2.0)
        gates = (projected, *torch.split(projected, size, dim=2))
        h, c = states[0], cells[0]
        for gate, i, f, s, o, state, cell, tanh in zip(*gates, states[1:], cells[1:], bounded[1:], strict=True):
            gate.addmm_(h, hidden).sigmoid_()
            torch.mul(f, c, out=cell).addcmul_(i, s, value=2.0).sub_(i)
            torch.mul(cell, 2.0, out=tanh).sigmoid_().mul_(2.0).sub_(1.0)
            torch.mul(o, tanh, out=state)
            h, c = state, cell
        ctx.save_for_backward(weight, cells, bounded)
        ctx.gates = projected.detach()
        return states, c.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_states: Tensor, by_cell: Tensor) -> tuple[Tensor, None]:
        """The gradient by p."""
        weight, cells, bounded = ctx.saved_tensors
        size, gates = cells.shape[2], ctx.gates
        by_gates = torch.empty_like(gates)
        dc, dh = by_cell.clone(), by_states[-1].clone()
        d, nothing = torch.empty_like(dc), torch.zeros_like(dc)
        parts = (*torch.split(gates, size, dim=2), *torch.split(by_gates, size, dim=2))
        along = (by_states, cells, bounded[1:], gates, by_gates, *parts)
        for of_state, c, tanh, gate, out, i, f, s, o, di, df, ds, do in zip(
            *(reversed(part[: len(gates)].unbind()) for part in along), strict=True
        ):
            dc.add_(_tanh_backward(torch.mul(dh, o, out=d), tanh, grad_input=d))
            torch.lerp(torch.neg(dc, out=d), dc, s, out=di)  # dc (2 s - 1)
            torch.mul(dc, c, out=df)
            torch.addcmul(nothing, dc, i, value=4.0, out=ds)
            torch.mul(dh, tanh, out=do)
            _sigmoid_backward(out, gate, grad_input=out)
            torch.addmm(of_state, out, weight, out=dh)
            dc.mul_(f)
        return by_gates, None


class _Gru(Function):
    """r, z = sigma(p_t + h W^T) (their biases are in p); n = tanh(p_t + r (h W^T + b)); h = n + z (h - n)."""

    @staticmethod
    def forward(ctx: Any, projected: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """States (1 + steps, rows, size), the first is 0; `projected` becomes r, z, n."""
        steps, rows, width = projected.shape
        size = width // 3
        both, new = (part.t().contiguous() for part in torch.split(weight, [2 * size, size]))
        states, inner = projected.new_empty(1 + steps, rows, size), projected.new_empty(steps, rows, size)
        states[0] = 0.0
        projected[:, :, 2 * size :].mul_(2.0)
        gates = (projected[:, :, : 2 * size], *torch.split(projected, size, dim=2))
        h = states[0]
        for rz, r, z, n, state, m in zip(*gates, states[1:], inner, strict=True):
            rz.addmm_(h, both).sigmoid_()
            torch.addmm(bias, h, new, out=m)
            n.addcmul_(r, m, value=2.0).sigmoid_().mul_(2.0).sub_(1.0)
            torch.lerp(n, h, z, out=state)
            h = state
        ctx.save_for_backward(weight, states, inner)
        ctx.gates = projected.detach()
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_states: Tensor) -> tuple[Tensor, None, None]:
        """The gradient by p."""
        weight, states, inner = ctx.saved_tensors
        size, gates = states.shape[2], ctx.gates
        by_gates = torch.empty_like(gates)
        by_hidden = torch.empty_like(gates[0])
        dr, dz, dm = torch.split(by_hidden, size, dim=1)
        by_opened = by_hidden[:, : 2 * size]
        dh = by_states[-1].clone()
        d, kept = torch.empty_like(dh), torch.empty_like(dh)
        opened, out_opened, out_new = gates[:, :, : 2 * size], by_gates[:, :, : 2 * size], by_gates[:, :, 2 * size :]
        along = (by_states, states, inner, opened, out_opened, out_new, *torch.split(gates, size, dim=2))
        for of_state, h, m, rz, drz, dn, r, z, n in zip(
            *(reversed(part[: len(gates)].unbind()) for part in along), strict=True
        ):
            torch.mul(dh, z, out=kept)
            _tanh_backward(torch.sub(dh, kept, out=d), n, grad_input=dn)
            torch.mul(dn, m, out=dr)
            torch.sub(h, n, out=dz).mul_(dh)
            _sigmoid_backward(by_opened, rz, grad_input=by_opened)
            torch.mul(dn, r, out=dm)
            drz.copy_(by_opened)
            torch.addmm(kept, by_hidden, weight, out=dh).add_(of_state)
        return by_gates, None, None


class _Maps(Use):
    """Both affine maps of one direction, of inputs and of states before, from the gradient of p."""

    def __init__(self, layer: nn.RNNBase, suffix: str, inputs: Tensor, states: Tensor, resets: Tensor | None) -> None:
        """Keep inputs, states before and a GRU's r, which stands before the states' share in n; (steps, rows, ...)."""
        self._inputs, self._states, self._resets = inputs, states, resets
        self._of_inputs, self._of_states = (_map(layer, kind, suffix) for kind in ("ih", "hh"))
        self.parameters = trained(*self._of_inputs, *self._of_states)

    def parts(self, gradient: Tensor, rows: slice, count: int, room: Room) -> Iterator[Part]:
        """See `rules.Use`."""
        g, x, h = (part[:, rows].transpose(0, 1) for part in (gradient, self._inputs, self._states))
        g = g.contiguous()
        yield from affine_parts(*self._of_inputs, _joined(x, count), _joined(g, count), room)
        if self._resets is not None:
            size = h.shape[2]
            g[:, :, 2 * size :].mul_(self._resets[:, rows].transpose(0, 1))
        yield from affine_parts(*self._of_states, _joined(h, count), _joined(g, count), room)


def _joined(values: Tensor, count: int) -> Tensor:
    """From (rows, steps, ...) to (units, steps of all their rows, ...)."""
    return values if len(values) == count else values.reshape(count, -1, values.shape[2])


def _map(layer: nn.RNNBase, kind: str, suffix: str) -> tuple[nn.Parameter, nn.Parameter | None]:
    return getattr(layer, f"weight_{kind}_{suffix}"), getattr(layer, f"bias_{kind}_{suffix}", None)


def _recurrent(tape: Tape, layer: nn.GRU | nn.LSTM, input: Tensor, hx: object = None) -> tuple[Tensor, Any]:  # noqa: A002 - torch's name
    if hx is not None or not isinstance(input, Tensor) or input.dim() != 3 or layer.proj_size:
        refuse(layer, "it has a rule for rows of equal length from state 0, without projections")
    sequence = (input.transpose(0, 1) if layer.batch_first else input).contiguous()
    last: list[Tensor] = []
    for depth in range(layer.num_layers):
        if depth:
            sequence = functional.dropout(sequence, layer.dropout, layer.training)
        directions = []
        for suffix in (f"l{depth}", f"l{depth}_reverse")[: 1 + layer.bidirectional]:
            backwards = suffix.endswith("reverse")
            states, cell = _direction(tape, layer, suffix, sequence.flip(0) if backwards else sequence)
            last += [states[-1], cell]
            directions.append(states[1:].flip(0) if backwards else states[1:])
        sequence = directions[0] if len(directions) == 1 else torch.cat(directions, dim=2)
    output = sequence.transpose(0, 1) if layer.batch_first else sequence
    hidden = torch.stack(last[::2])
    return output, (hidden, torch.stack(last[1::2])) if isinstance(layer, nn.LSTM) else hidden


def _direction(tape: Tape, layer: nn.GRU | nn.LSTM, suffix: str, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """States (1 + steps, rows, size) of one layer in one direction, and the last cell of an LSTM."""
    (weight, bias), (hidden, hidden_bias) = (_map(layer, kind, suffix) for kind in ("ih", "hh"))
    size, gru = layer.hidden_size, isinstance(layer, nn.GRU)
    inner, both = inputs.new_zeros(size), None
    if bias is not None and hidden_bias is not None and gru:
        opened, inner = torch.split(hidden_bias, [2 * size, size])
        both = bias + torch.cat([opened, torch.zeros_like(inner)])
    elif bias is not None and hidden_bias is not None:
        both = bias + hidden_bias
    projected = functional.linear(inputs, weight, both)
    if not projected.requires_grad:
        projected.requires_grad_()  # only the states' map is trained
    edge = get_gradient_edge(projected)
    if gru:
        states = cell = _Gru.apply(projected, hidden, inner)  # type: ignore[no-untyped-call]
    else:
        states, cell = _Lstm.apply(projected, hidden)  # type: ignore[no-untyped-call]
    resets = projected.detach()[:, :, :size] if gru else None
    tape.record(layer, inputs.shape[1], inputs, edge, _Maps(layer, suffix, inputs, states.detach()[:-1], resets))
    return states, cell


LAYERS: Final[Mapping[type[nn.Module], Rule]] = {nn.GRU: _recurrent, nn.LSTM: _recurrent}
