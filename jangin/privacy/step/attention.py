"""The rule of multi-head attention: its projections are affine maps, and nothing else in it has parameters.

Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.2, as torch's nn.MultiheadAttention lays it out: one weight
projects to queries, keys and values. The rule is for self-attention without masks; others are refused.
"""

from collections.abc import Mapping
from typing import Final

from torch import Tensor, nn
from torch.nn import functional

from jangin.privacy.step.rules import Affine, Rule, Tape, affine, refuse

__all__ = ["LAYERS"]


def _attention(
    tape: Tape,
    layer: nn.MultiheadAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, None]:
    plain = query is key is value and layer.in_proj_weight is not None and layer.bias_k is None
    masked = key_padding_mask is not None or attn_mask is not None or is_causal or layer.add_zero_attn
    if need_weights or masked or not plain or not layer.batch_first:
        refuse(layer, "it has a rule for self-attention without masks, batch_first, need_weights=False")
    rows = len(query)
    projected = functional.linear(query, layer.in_proj_weight, layer.in_proj_bias)
    tape.record(layer, rows, query, projected, Affine(query, layer.in_proj_weight, layer.in_proj_bias))
    by_head = projected.view(*projected.shape[:2], 3, layer.num_heads, -1).permute(2, 0, 3, 1, 4)
    q, k, v = by_head.unbind()
    mixed = functional.scaled_dot_product_attention(q, k, v, dropout_p=layer.dropout if layer.training else 0.0)
    steps = mixed.transpose(1, 2).flatten(start_dim=2)
    output = affine(steps, layer.out_proj.weight, layer.out_proj.bias)
    tape.record(layer, rows, steps, output, Affine(steps, layer.out_proj.weight, layer.out_proj.bias))
    return output, None


LAYERS: Final[Mapping[type[nn.Module], Rule]] = {nn.MultiheadAttention: _attention}
