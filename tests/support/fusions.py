"""A small fusion of three parts and the rest of a row, and convolutions over two axes."""

from jangin.models.spec import BranchSpec, Cnn1dSpec, Cnn2dSpec, FusionSpec, MlpSpec

__all__ = ["CNN2D", "FUSION", "PICTURE", "ROW"]

CNN2D = Cnn2dSpec(name="cnn2d", channels=(4, 4), kernel=3, groups=2)
PICTURE = (2, 5, 6)
FUSION = FusionSpec(
    name="fusion",
    parts=(
        BranchSpec(
            name="arc", shape=(2, 8), body=Cnn1dSpec(name="cnn1d", channels=(2, 2), kernel=3, groups=1), width=3
        ),
        BranchSpec(
            name="sound", shape=(1, 4, 6), body=Cnn2dSpec(name="cnn2d", channels=(2, 2), kernel=3, groups=1), width=3
        ),
        BranchSpec(name="pool", shape=(2, 2, 3), body=MlpSpec(name="mlp", hidden=(3,)), width=2),
    ),
    hidden=(4,),
)
ROW = (16 + 24 + 12 + 2,)
"""Its parts and two values more."""
