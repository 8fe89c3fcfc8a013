"""A plan judged in a process of its own: whether it can run takes torch, which the server's process does not load.

    stdin: a plan, canonical CBOR → stdout: {"refused": null | refusal}, canonical CBOR

The law: what is wrong there - a crash, no answer in time - is a refusal here; one plan is judged at a time.
"""

import subprocess
import sys
import threading
from typing import Final

from jangin.codec import cbor
from jangin.codec.document import parse
from jangin.errors import JanginError, ServerError
from jangin.plan.training_plan import TrainingPlan
from jangin.server.refusals import raised, told

__all__ = ["refuse_apart"]

_SECONDS: Final = 300.0
_ONE_AT_A_TIME: Final = threading.Lock()


def refuse_apart(plan: TrainingPlan) -> None:
    """`campaigns.refuse`, in another process.

    Raises:
        PlanError, DataError, PrivacyError: what `campaigns.refuse` raised there.
        ServerError: JG-server-421, it could not be judged.
    """
    command = [sys.executable, "-m", "jangin.server.apart"]
    payload = cbor.encode(plan.model_dump(mode="json"))
    try:
        with _ONE_AT_A_TIME:
            done = subprocess.run(command, input=payload, capture_output=True, timeout=_SECONDS, check=True)  # noqa: S603
        answer = cbor.decode(done.stdout)
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        raise ServerError("JG-server-421", where=plan.campaign, problem=type(error).__name__) from None
    match answer:
        case {"refused": None}:
            return
        case {"refused": refusal}:
            raise raised(refusal)
        case _:
            raise ServerError("JG-server-421", where=plan.campaign, problem="another form")


def _main() -> None:
    from jangin.server.campaigns import refuse

    refusal = None
    try:
        refuse(parse(cbor.decode(sys.stdin.buffer.read()), TrainingPlan, "plan"))
    except JanginError as error:
        refusal = told(error)
    sys.stdout.buffer.write(cbor.encode({"refused": refusal}))


if __name__ == "__main__":
    _main()
