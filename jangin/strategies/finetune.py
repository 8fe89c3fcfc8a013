"""Fine-tuning: the personalised model of a site, made after the last round and never sent.

Yu et al. 2020, "Salvaging Federated Learning by Local Adaptation" (arXiv 2002.04758), "fine-tuning" (FT). It
starts from the released model and sees only the site's own records, and nothing of it leaves: it costs no privacy
budget, and it protects nobody from whoever holds the site's own model.
"""

from dataclasses import dataclass

from jangin.plan.blocks import StrategyBlock

__all__ = ["FineTune"]


@dataclass(frozen=True)
class FineTune:
    """`steps` of plain gradient descent with learning rate `lr` on batches of `batch` examples."""

    steps: int
    lr: float
    batch: int

    @classmethod
    def of(cls, block: StrategyBlock) -> "FineTune":
        """As the strategy block says; its own learning rate where no other is given."""
        return cls(block.finetune_steps, block.finetune_lr or block.lr, block.batch)
