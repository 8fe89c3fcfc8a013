"""The operators' authority of a server, and what a person needs to act from afar: a folder with a certificate.

    operator.yaml  {server, person, fingerprint}    ca.crt  root.pub    tls.crt  tls.key

The law: a certificate opens the connection and says who is on it, for 90 days; what that person may do stands in the
staff list, and each act takes their own key, which is in no such folder.
"""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import yaml
from cryptography import x509
from pydantic import Field

from jangin.codec.document import Document, read
from jangin.errors import ServerError, SiteError
from jangin.server.members import Members
from jangin.server.settings import StateFolder, given
from jangin.trust.certificates import Certificate, issue_person, make_authority
from jangin.trust.envelope import MAX_AHEAD
from jangin.trust.keys import write_private

__all__ = ["PASS_LIFE", "Pass", "PassFolder", "authority", "issue_pass"]

PASS_LIFE: Final = timedelta(days=90)

_AUTHORITY_LIFE: Final = timedelta(days=3650)
_TOLD: Final = "operator.yaml"


class Pass(Document):
    """What operator.yaml says.

    Attributes:
        server: `host:port` of the operators' listener.
        person: whose it is.
        fingerprint: of the server's audit key; commands are for this server alone.
    """

    server: Annotated[str, Field(pattern=r"^[^/\s]{1,255}:[0-9]{1,5}$")]
    person: str
    fingerprint: str


@dataclass(frozen=True)
class PassFolder:
    """A person's folder, read.

    Attributes:
        told: operator.yaml.
        ca: the certificate that the server's has to be by, PEM.
        root: the offline root's key, one OpenSSH line, by which the person believes staff, roster and plans.
        own: the person's certificate and its key.
    """

    told: Pass
    ca: bytes
    root: str
    own: Certificate

    @classmethod
    def is_one(cls, folder: Path) -> bool:
        """Whether a folder is a person's and not a server's."""
        return (folder / _TOLD).is_file()

    @classmethod
    def open(cls, folder: Path, now: datetime) -> "PassFolder":
        """Read a person's folder.

        Raises:
            PlanError: JG-plan-001..006, operator.yaml. ServerError: JG-server-350, a file that cannot be read;
                JG-server-408, a certificate that is none; JG-server-407, one that has expired.
        """

        def content(name: str) -> bytes:
            return given(folder / name, name)

        told = read(folder / _TOLD, Pass)
        own = Certificate(content("tls.crt"), content("tls.key"))
        try:
            until = x509.load_pem_x509_certificate(own.chain).not_valid_after_utc
        except ValueError as error:
            raise ServerError("JG-server-408", where=str(folder / "tls.crt"), problem=str(error)) from None
        if now >= until:
            raise ServerError("JG-server-407", where=told.person, until=until, now=now)
        return cls(told, content("ca.crt"), content("root.pub").decode("ascii", "replace").strip(), own)


def authority(state: StateFolder, now: datetime) -> Certificate:
    """The authority of the people's certificates; made with the first who asks for it.

    Raises:
        SiteError: JG-site-104, two made it at once. ServerError: JG-server-408, it cannot be read.
    """
    file = state.path / "tls" / "operators.pem"
    if not file.exists():
        start = now.replace(microsecond=0) - MAX_AHEAD
        made = make_authority("jangin operators", start, start + _AUTHORITY_LIFE)
        try:
            write_private(file, made.key + made.chain)
        except SiteError as error:
            if error.code != "JG-site-104":
                raise
    key, mark, chain = given(file, "tls/operators.pem").partition(b"-----BEGIN CERTIFICATE-----")
    if not mark:
        raise ServerError("JG-server-408", where=str(file), problem="no certificate in it")
    return Certificate(mark + chain, key)


def issue_pass(
    state: StateFolder, members: Members, person: str, folder: Path, server: str, clock: Callable[[], datetime]
) -> datetime:
    """Make a person's folder; until when its certificate counts.

    Args:
        state: the server's folder.
        members: its members.
        person: of the staff list.
        folder: is made; not there yet.
        server: `host:port` by which this person reaches the operators' listener; empty: as the server's settings say.
        clock: aware times.

    Raises:
        ServerError: JG-server-415, nobody of the staff list; JG-server-302, the folder is there; JG-server-351, it
            cannot be made; JG-server-408, no address is known.
    """
    now = clock()
    roles = members.staff(now).roles(person, now)
    if not roles:
        raise ServerError("JG-server-415", where=person)
    if folder.exists():
        raise ServerError("JG-server-302", where=str(folder))
    start = now.replace(microsecond=0) - MAX_AHEAD  # that person's clock may be behind
    own = issue_person(authority(state, now), person, start, start + PASS_LIFE)
    told = Pass(server=server or _address(state), person=person, fingerprint=state.audit_key.fingerprint)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            write_private(made / "tls.key", own.key)
            (made / "tls.crt").write_bytes(own.chain)
            (made / "ca.crt").write_bytes(state.authority.read_bytes())
            (made / "root.pub").write_text(state.root + "\n", encoding="ascii")
            (made / _TOLD).write_text(yaml.safe_dump(told.model_dump(), sort_keys=False), encoding="utf-8")
            made.rename(folder)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
    except OSError as error:
        raise ServerError("JG-server-351", where=str(folder), problem=error.strerror or type(error).__name__) from None
    return start + PASS_LIFE


def _address(state: StateFolder) -> str:
    listener = state.settings().operators
    if listener is not None and listener.port:
        return f"{listener.host}:{listener.port}"
    if not state.operators.exists():
        raise ServerError("JG-server-408", where=str(state.operators), problem="the server does not listen for people")
    return state.operators.read_text(encoding="ascii").strip()
