"""How much work is done, by name."""

from __future__ import annotations

import pytest

from squeezeedge.errors import UsageError
from squeezeedge.quantization.effort import EFFORTS, Effort, with_budget


def test_a_budget_of_one_s_own_goes_before_the_effort_s() -> None:
    assert with_budget("fast") is EFFORTS["fast"] and EFFORTS["fast"].extra_macs == 0
    assert with_budget("best").extra_macs == 0.05 and with_budget("best", 0).extra_macs == 0
    assert with_budget(Effort(gptq=False), 0.02) == Effort(gptq=False, extra_macs=0.02)


def test_what_is_no_effort_is_refused() -> None:
    with pytest.raises(UsageError, match="`effort`: must be fast or best, not 'worst'"):
        with_budget("worst")
    for budget in (-0.01, 1.01, float("nan")):
        with pytest.raises(UsageError, match="`extra_macs`: must be a share from 0 to 1"):
            with_budget("fast", budget)
