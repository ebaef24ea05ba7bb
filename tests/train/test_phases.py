import time

import pytest
import torch

from heedful.train.phases import Phases

CPU = torch.device("cpu")


def test_phases_sum_until_they_are_taken() -> None:
    phases = Phases(CPU)
    for tokens in (3, 4):
        with phases("update", tokens=tokens, flops=10.0):
            time.sleep(0.01)
    phases.add("generate_tokens", 5)
    taken = phases.take()
    assert taken["profile/update_tokens"] == 7
    assert taken["profile/update_flops"] == 20
    assert taken["profile/generate_tokens"] == 5
    assert 0.02 <= taken["profile/update_seconds"] < 1
    assert phases.take() == {}


def test_phases_do_not_nest_so_that_seconds_add_up() -> None:
    phases = Phases(CPU)
    with phases("a"), pytest.raises(RuntimeError, match="'b' starts inside phase 'a'"), phases("b"):
        pass


def test_a_phase_that_fails_is_counted_and_over() -> None:
    phases = Phases(CPU)
    with pytest.raises(ValueError, match="boom"), phases("a"):
        raise ValueError("boom")
    with phases("b"):
        pass
    assert {"profile/a_seconds", "profile/b_seconds"} <= set(phases.take())


def test_watching_sees_memory_that_is_gone_at_the_end_of_the_phase() -> None:
    phases = Phases(CPU)
    with phases.watching():
        with phases("small"):
            pass
        with phases("large"):
            held = torch.ones(200 * 2**20 // 4)
            time.sleep(0.2)
            del held
    taken = phases.take()
    assert taken["profile/large_peak_gb"] > taken["profile/small_peak_gb"] + 0.15
    with phases("later"):
        pass
    assert "profile/later_peak_gb" not in phases.take()
