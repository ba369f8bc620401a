"""How the models of this folder draw what happens."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from rchd.core import model as m

TIMEOUT = pytest.mark.timeout(420)
"""A history that fails is made short before it is shown, for which Hypothesis takes up to five minutes."""


def bounded(*, histories: int, steps: int) -> settings:
    """So many histories, other ones each time but where `CI` is set; what failed is tried again first."""
    return settings(
        max_examples=histories,
        stateful_step_count=steps,
        deadline=None,
        # Why each part of a short history matters is not worth minutes more.
        phases=[Phase.reuse, Phase.generate, Phase.shrink],
        # How long it takes to draw says how busy the machine is.
        suppress_health_check=[HealthCheck.too_slow],
    )


def one_of(data: st.DataObject, runs: list[m.Run]) -> m.Run:
    """Any of these; a history that fails names it by its id, not by all that it holds."""
    by_id = {run.run_id: run for run in runs}
    return by_id[data.draw(st.sampled_from(list(by_id)))]
