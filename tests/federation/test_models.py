"""Laws of a model on its way, with real processes: trained, registered, released, pulled, withdrawn, its site told."""

from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from jangin.client import models
from jangin.client.local import look_again
from jangin.errors import SiteError
from jangin.server.life import State
from jangin.server.registry import Registry
from jangin.trust.envelope import Kind, seal
from jangin.trust.models import Withdrawal

pytestmark = [pytest.mark.slow, pytest.mark.soak]


def test_a_model_that_a_federation_trained_reaches_its_contributors_and_is_taken_back(
    federation: Any, plan: Any, wait: Any
) -> None:
    campaign = federation.start(federation.agree(plan("for-models")))
    assert federation.ended(campaign).state is State.CANDIDATE
    registry = Registry(federation.store, federation.state)
    (one,) = [one for one in registry.versions() if one.manifest.campaign == campaign]
    assert one.manifest.contributors == ("site-0", "site-1")
    site, now = federation.site("site-0").path, models.now_utc()
    with pytest.raises(SiteError, match="JG-site-450"):
        models.pull(site, one.manifest.name)
    staff = federation.members.staff(now)
    registry.release(seal(Kind.MODEL, one.manifest.payload, federation.keys["approver"]), staff, now)
    pulled = models.pull(site, one.manifest.name)
    learnt = load_file(pulled.folder / "final.safetensors")["parameters"]
    np.testing.assert_array_equal(learnt, federation.learnt(campaign))
    with pytest.raises(SiteError, match="JG-site-450"):
        models.pull(federation.site("stranger").path, one.manifest.name)
    fields = {"issued": now.replace(microsecond=0), "line": one.manifest.line, "version": one.manifest.version}
    document = Withdrawal(model=one.manifest.hash, reason="it fails on thin plates", **fields)
    registry.withdraw(seal(Kind.WITHDRAWAL, document.payload, federation.keys["operator"]), staff, now)
    look_again(site)
    wait(lambda: models.withdrawn(site))
    wait(lambda: f"Model {one.manifest.name} is withdrawn" in federation.daemon("site-0").said)
