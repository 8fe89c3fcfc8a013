"""A site's settings: `site.yaml`, read once into a frozen document.

The law: `site init` and `site enroll` write it, so that nobody has to; a key that nothing reads is an error. Paths are
relative to the state folder.
"""

import re
from collections.abc import Mapping
from datetime import tzinfo
from typing import Annotated, Final, Literal, Self

import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import AfterValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from jangin.client.windows import Window, zone_of
from jangin.codec.document import Document
from jangin.errors import SumError
from jangin.privacy.accounts import Budget
from jangin.privacy.releases import Reading, Unit
from jangin.privacy.secure_sum.policy import Policy
from jangin.telling.logs import LogsBlock
from jangin.trust.envelope import IdentityText
from jangin.trust.keys import fingerprint
from jangin.trust.roster import SITE_ID

__all__ = [
    "DAEMON_BYTES",
    "ApproveBlock",
    "BudgetBlock",
    "DataBlock",
    "LimitsBlock",
    "MonitorBlock",
    "PrivacyLimits",
    "SecureSumBlock",
    "ServerBlock",
    "SiteBlock",
    "SiteSettings",
    "limits_for",
    "size_bytes",
]

_URL = re.compile(r"https://(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]+)(?::([0-9]{1,5}))?/?")
_HTTPS: Final = "443"
_FINGERPRINT: Final = r"^[A-Z2-7]{4}(-[A-Z2-7]{4}){4}$"
_SIZE: Final = r"^[1-9][0-9]{0,5}(MiB|GiB)$"
_FLOOR_SHARE: Final = 4
DAEMON_BYTES: Final = 120 * 2**20
"""What of `limits.memory` the light process takes for itself."""


def _https(url: str) -> str:
    if not _URL.fullmatch(url):
        raise ValueError("expected https://HOST or https://HOST:PORT")
    return url


class SiteBlock(Document):
    """Who this is.

    Attributes:
        id: its name on the roster.
        labour_council_key: the labour side's public key, an OpenSSH line; where there is one, no consent counts that
            it has not signed.
    """

    id: Annotated[str, Field(pattern=SITE_ID)]
    labour_council_key: IdentityText | None = None


class ServerBlock(Document):
    """Where the federation is, and by what it is known.

    Attributes:
        url: `https://HOST:PORT`; without a port, 443.
        root: file of the federation root's public key, one OpenSSH line.
        ca: file of the certificates trusted for the server and no others, PEM.
        proxy: `env`: HTTPS_PROXY, else ALL_PROXY, but for NO_PROXY, of the process' own environment.
        extra_ca: file of the certificates of a proxy that inspects TLS, PEM: trusted as well. Such a proxy reads all
            that the site and the server say to each other, and can change none of what is signed.
    """

    url: Annotated[str, AfterValidator(_https)]
    root: str
    ca: str
    proxy: Literal["env"] = "env"
    extra_ca: str | None = None

    @property
    def address(self) -> str:
        """`HOST:PORT`.

        Raises:
            ValueError: never for a document that was read: its url has this form.
        """
        named = _URL.fullmatch(self.url)
        if named is None:
            raise ValueError(f"Expected https://HOST:PORT: {self.url!r}.")
        return f"{named[1]}:{named[2] or _HTTPS}"


class DataBlock(Document):
    """One folder of master records.

    Attributes:
        process: what was done there.
        path: the validated folder.
    """

    process: str
    path: str


def _window(text: str) -> str:
    Window.of(text)
    return text


def _zone(name: str) -> str:
    zone_of(name)
    return name


class LimitsBlock(Document):
    """What training may take, and when.

    Attributes:
        cpu: threads of the worker.
        memory: `4GiB`, `512MiB`: the most of daemon and worker together; a worker that holds more is ended. Examples
            that are larger than what it leaves lie on the disk of the state folder while a worker lives.
        disk_free_min: likewise: below this much free disk no order is begun. `site init` writes less than the default
            where the disk is small.
        rounds_a_day: most rounds that are begun within 24 hours, of all campaigns together; each attempt counts.
        windows: `Mon-Fri 22:00-05:00`: the only hours in which an order is begun; without any, all of them.
        tz: the zone of their clock, `Asia/Seoul`; without one, the machine's own.
        busy_hook: a program of the site's that is run before an order is begun, and by status 0 says that it may be.
    """

    cpu: PositiveInt = 1
    memory: Annotated[str, Field(pattern=_SIZE)] = "2GiB"
    disk_free_min: Annotated[str, Field(pattern=_SIZE)] = "10GiB"
    rounds_a_day: PositiveInt = 1000
    windows: tuple[Annotated[str, AfterValidator(_window)], ...] = ()
    tz: Annotated[str, AfterValidator(_zone)] | None = None
    busy_hook: Annotated[str, Field(min_length=1)] | None = None

    @property
    def hours(self) -> tuple[Window, ...]:
        """The windows."""
        return tuple(map(Window.of, self.windows))

    @property
    def zone(self) -> tzinfo | None:
        """The zone of their clock; None is the machine's."""
        return zone_of(self.tz)

    @property
    def worker_bytes(self) -> int:
        """What of the memory is the worker's; nothing, or less, where the daemon takes it all."""
        return size_bytes(self.memory) - DAEMON_BYTES


def size_bytes(size: str) -> int:
    """How many bytes `4GiB` or `512MiB` is."""
    return int(size[:-3]) * (2**30 if size.endswith("GiB") else 2**20)


def limits_for(free_bytes: int) -> LimitsBlock:
    """The limits of a new site: the defaults, but never a floor above a quarter of what is free on its disk."""
    floor = f"{max(free_bytes // _FLOOR_SHARE // 2**20, 1)}MiB"
    usual = LimitsBlock()
    return usual if size_bytes(usual.disk_free_min) <= size_bytes(floor) else LimitsBlock(disk_free_min=floor)


class ApproveBlock(Document):
    """Who says yes to a campaign.

    Attributes:
        mode: `manual`, a person, by `jangin site approve`.
    """

    mode: Literal["manual"] = "manual"


class MonitorBlock(Document):
    """What tells a monitor of the factory how the daemon is.

    Attributes:
        port: of 127.0.0.1, for `GET /health` and `GET /metrics`.
    """

    port: Annotated[int, Field(ge=1024, le=65535)]


class BudgetBlock(Document):
    """What one kind of unit may spend in all, for ever; granted with the first campaign, and never raised after it.

    Attributes:
        unit: episode or master.
        secure_sum: epsilon towards a server that sees what it is meant to see.
        coalition: epsilon towards that server and all other sites together.
        delta: of both.
    """

    unit: Unit
    secure_sum: Annotated[float, Field(ge=0.001)]
    coalition: Annotated[float, Field(ge=0.001)]
    delta: Annotated[float, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _can_be_counted(self) -> Self:
        if self.unit is Unit.SITE:
            raise ValueError("no campaign is counted by site")
        if not self.delta <= min(0.5, self.secure_sum / 2, self.coalition / 2):
            raise ValueError("delta is at most half of either epsilon, and at most .5")
        return self

    @property
    def budget(self) -> Budget:
        """As the ledger takes it."""
        caps = {Reading.SECURE_SUM: self.secure_sum, Reading.COALITION: self.coalition}
        return Budget(self.unit, self.delta, caps)


def _one_budget_a_unit(budgets: tuple[BudgetBlock, ...]) -> tuple[BudgetBlock, ...]:
    if len({block.unit for block in budgets}) != len(budgets):
        raise ValueError("one unit has two budgets")
    return budgets


class PrivacyLimits(Document):
    """What the ledger may grant.

    Attributes:
        budgets: one a kind of unit; without one for masters, nothing is promised to them.
        epsilon_cap_per_campaign: most epsilon of one plan.
        allow_no_differential_privacy: whether a plan without any may run; it ends the budgets of the records it uses.
        show_totals: whether the server is told how much the unit that paid most has spent in all; it stands in the
            privacy statements of models then.
    """

    budgets: Annotated[tuple[BudgetBlock, ...], Field(min_length=1), AfterValidator(_one_budget_a_unit)] = (
        BudgetBlock(unit=Unit.EPISODE, secure_sum=8.0, coalition=50.0, delta=1e-5),
    )
    epsilon_cap_per_campaign: PositiveFloat = 4.0
    allow_no_differential_privacy: bool = False
    show_totals: bool = False


class SecureSumBlock(Document):
    """What this site demands of every secure sum; no plan and no server goes below it.

    Attributes:
        n_min: fewest sites that begin one; never below 5 without `demo`.
        n_min_final: fewest whose vectors are in it; never below 5 without `demo`.
        n_honest_min: fewest of those that may be taken for honest, all but c_max.
        c_max: colluders in a cohort that a plan has to be safe against.
        attempts: most sums that are begun for one round.
        known: sites that somebody here has compared fingerprints with, each with its fingerprint.
        k_known: how many of these have to be in a sum.
        demo: lifts the floors; nobody is protected by such a policy.

    Raises:
        SumError: JG-sum-020, bounds below the floors.
    """

    n_min: PositiveInt = Policy.n_min
    n_min_final: PositiveInt = Policy.n_min_final
    n_honest_min: PositiveInt = Policy.n_honest_min
    c_max: PositiveInt = Policy.c_max
    attempts: PositiveInt = Policy.attempts
    known: Mapping[Annotated[str, Field(pattern=SITE_ID)], Annotated[str, Field(pattern=_FINGERPRINT)]] = {}
    k_known: NonNegativeInt = Policy.k_known
    demo: bool = Policy.demo

    @model_validator(mode="after")
    def _above_the_floors(self) -> Self:
        self._with(dict.fromkeys(self.known, b""))
        return self

    def policy(self, identities: Mapping[str, Ed25519PublicKey]) -> Policy:
        """As a sum takes it, where these are the sites that may take part: known is who has the fingerprint given here.

        Raises:
            SumError: JG-sum-012, fewer known ones among them than have to be in a sum.
        """
        held = {name: identities[name] for name in self.known if name in identities}
        known = {name: key.public_bytes_raw() for name, key in held.items() if fingerprint(key) == self.known[name]}
        if len(known) < self.k_known:
            raise SumError("JG-sum-012", found=len(known), least=self.k_known)
        return self._with(known)

    def _with(self, known: Mapping[str, bytes]) -> Policy:
        return Policy(**{**dict(self), "known": known})


def _one_folder_a_process(data: tuple[DataBlock, ...]) -> tuple[DataBlock, ...]:
    if len({block.process for block in data}) != len(data):
        raise ValueError("two folders hold one process")
    return data


class SiteSettings(Document):
    """site.yaml.

    Attributes:
        site: who this is.
        server: where the federation is; None until `site enroll` has written it.
        data: the records, one folder a process.
        approve: who says yes.
        limits: what training may take.
        privacy: what the ledger may grant.
        secure_sum: with whom, and with how many, vectors are added up.
        logs: how long the daemon's own log is kept.
        monitor: where the daemon tells how it is; None: nowhere.
    """

    site: SiteBlock
    server: ServerBlock | None = None
    data: Annotated[tuple[DataBlock, ...], Field(min_length=1), AfterValidator(_one_folder_a_process)]
    approve: ApproveBlock = ApproveBlock()
    limits: LimitsBlock = LimitsBlock()
    privacy: PrivacyLimits = PrivacyLimits()
    secure_sum: SecureSumBlock = SecureSumBlock()
    logs: LogsBlock = LogsBlock()
    monitor: MonitorBlock | None = None

    def to_yaml(self) -> str:
        """The document as it is written."""
        content = self.model_dump(mode="json", exclude_none=True)
        return yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
