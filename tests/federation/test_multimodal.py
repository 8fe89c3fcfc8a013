"""A campaign over meters, sound and pictures with real processes: what is learnt is made of the sites' own media."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jangin.models.lines import read_line
from jangin.training.recipe import Recipe

pytestmark = [pytest.mark.slow, pytest.mark.soak]

LINE = "national-tig-defect"
SITES = ("site-0", "site-1", "site-2", "site-3")
DEMAND = {"n_min": 4, "n_min_final": 3, "n_honest_min": 2, "c_max": 1, "demo": True}


def test_sites_learn_from_meters_sound_and_pictures_in_a_secure_sum(
    federate: Any, running: Any, plan: Any, tmp_path: Path
) -> None:
    model = read_line(LINE).model.model_dump(mode="json")
    made = plan(
        "tig-defect",
        process="pipe.tig_weld",
        model_line=LINE,
        model=model | {"personal": ["fusion.head"]},
        sites={"invite": SITES, "min_sites": 4, "quorum": 0.5, "round_deadline": "5m"},
        privacy={
            "epsilon": "none",
            "nominal_units": 20,
            "secure_aggregation": "required",
            "c_max": 1,
            "n_plan": 4,
            "n_min_final": 3,
        },
    )

    def server(state: Any) -> Any:
        return running(("server", "run", str(state.path)), tmp_path / "server.log")

    with federate(tmp_path, SITES, server, DEMAND, process="pipe.tig_weld") as federation:
        for site in SITES:
            federation.daemon(site)
        status = federation.ended(federation.start(federation.agree(made)))
        assert (status.state, status.reason) == ("candidate", "")
        assert all(tuple(entry.reported) == SITES for entry in status.attempts)
        learnt, expected = federation.learnt(made.hash), federation.recomputed(made)
        assert np.linalg.norm(learnt - expected) <= 5e-5 * np.linalg.norm(expected)
        initial = Recipe.of(made).initial()
        whole = initial.read()
        whole[initial.layout.shared] = learnt
        moved = {
            entry.name.split(".")[0]: (whole != initial.read())[entry.offset : entry.offset + entry.size].any()
            for entry in initial.layout.entries
            if entry.shared
        }
        assert moved == dict.fromkeys(("from_arc", "from_sound", "from_pool", "fusion"), True)
