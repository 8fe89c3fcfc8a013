"""Laws of the products that several sites' maps are made of."""

import numpy as np
import pytest
import torch

from jangin.training import affine
from jangin.training.affine import product, products

SHAPES = [(3, 10, 64, 64), (2, 16, 5, 96), (4, 1, 256, 32), (2, 33, 8, 64), (3, 7, 6, 10), (2, 5, 9, 100), (2, 3, 0, 4)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("in_place", [False, True])
def test_a_product_is_the_product_however_its_factors_lie(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int, int], in_place: bool
) -> None:
    monkeypatch.setattr(affine, "_multiplies_in_place", lambda: in_place)
    sites, rows, wide, out = shape
    batches, weight = torch.randn(sites, 4, rows, wide), torch.randn(sites, out, wide)
    for left in (batches[:, 0].contiguous(), batches[:, 2]):
        for right in (weight.mT, weight.mT.contiguous(), weight.repeat(1, 1, 2)[:, :, :wide].mT):
            given = products(left, right)
            assert given.shape == (sites, rows, out)
            np.testing.assert_allclose(given, left.double() @ right.double(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("in_place", "one_dnn"), [(True, True), (False, True), (False, False)])
def test_one_right_factor_for_all_sites_does_however_it_lies(
    monkeypatch: pytest.MonkeyPatch, in_place: bool, one_dnn: bool
) -> None:
    monkeypatch.setattr(affine, "_multiplies_in_place", lambda: in_place)
    monkeypatch.setattr(affine, "_HAS_ONEDNN", one_dnn and affine._HAS_ONEDNN)
    batches, weight = torch.randn(3, 4, 10, 48), torch.randn(20, 48)
    for left in (batches[:, 0].contiguous(), batches[:, 2], batches[0, 0].T.contiguous().T):
        for right in (weight.mT, weight.mT.contiguous()):
            given = product(left, right)
            assert given.shape == (*left.shape[:-1], 20)
            np.testing.assert_allclose(given, left.double() @ right.double(), rtol=1e-4, atol=1e-4)
