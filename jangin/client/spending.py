"""Between a site's records and its ledger: whose budget a plan asks for, and who may take part in its rounds.

The law: only what the manifest says is read here; of recordings with one content one takes part.
"""

from collections.abc import Callable, Collection
from pathlib import Path

from jangin.client.settings import PrivacyLimits
from jangin.errors import PrivacyError, SiteError
from jangin.plan.training_plan import TrainingPlan
from jangin.privacy.accounts import Wish, unit_key
from jangin.privacy.releases import Cost, Unit
from jangin.records.manifest import Manifest

__all__ = ["Price", "allowed", "wish"]

Price = Callable[[TrainingPlan], Cost | None]
"""What a plan asks of every unit; None where it promises NO DIFFERENTIAL PRIVACY."""


def wish(plan: TrainingPlan, cost: Cost | None, manifest: Manifest, records: Path, limits: PrivacyLimits) -> Wish:
    """What a plan asks of this site's ledger.

    Args:
        plan: the campaign.
        cost: its price.
        manifest: of the records it would learn from.
        records: their folder; its name is kept for people.
        limits: the site's own.

    Raises:
        PrivacyError: JG-privacy-031, more epsilon than this site allows for one campaign.
        SiteError: JG-site-320, records that were validated before their contents had digests.
    """
    epsilon = plan.privacy.epsilon
    if epsilon != "none" and epsilon > limits.epsilon_cap_per_campaign:
        cap = limits.epsilon_cap_per_campaign
        raise PrivacyError("JG-privacy-031", where=plan.campaign, epsilon=epsilon, cap=cap)
    return Wish(
        campaign=plan.hash,
        line=plan.model_line,
        data_set=records.name,
        unit=plan.privacy.unit,
        rounds=plan.charged_rounds,
        cost=cost,
        units=_units(plan, manifest),
    )


def _units(plan: TrainingPlan, manifest: Manifest) -> dict[bytes, list[bytes]]:
    """The keys of the training units, and where the plan evaluates of the hold-out's, each with those of its episodes.

    A unit of the hold-out is charged as if it trained, too.
    """
    names = [*manifest.train, *(manifest.holdout if plan.evaluate is not None else ())]
    if not manifest.contents.keys() >= set(names):
        raise SiteError("JG-site-320", process=plan.process, problem="their contents have no digests yet")
    of_unit = {name: [bytes.fromhex(digest) for digest in manifest.contents[name].values()] for name in names}
    if plan.privacy.unit is Unit.EPISODE:
        return {episode: [episode] for episodes in of_unit.values() for episode in episodes}
    return {unit_key(plan.privacy.unit, name): episodes for name, episodes in of_unit.items()}


def allowed(
    unit: Unit,
    manifest: Manifest,
    units: Collection[bytes],
    episodes: Collection[bytes],
    *,
    held_out: bool = False,
) -> dict[str, str]:
    """The episodes of one side that may take part, by their ids, each with its digest; of one content the first.

    Args:
        unit: of the campaign; where it is not the episode, whoever was not charged has no part in it, whatever he has.
        manifest: of the records.
        units: keys of the units that were charged.
        episodes: keys of the episodes that were.
        held_out: of the hold-out; else of the training side.
    """
    first: dict[str, str] = {}
    for name in manifest.holdout if held_out else manifest.train:
        if unit is Unit.EPISODE or unit_key(unit, name) in units:
            for episode, digest in sorted(manifest.contents.get(name, {}).items()):
                first.setdefault(digest, episode)
    return {episode: digest for digest, episode in first.items() if bytes.fromhex(digest) in episodes}
