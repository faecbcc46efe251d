import os
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from grfd.seeds import generator, left_as_found, seeded, stream_seed


@given(st.integers(0, 2**40), st.text(max_size=5), st.integers(0, 1000))
def test_a_stream_is_named_by_all_its_parts(seed: int, name: str, epoch: int) -> None:
    here = stream_seed(seed, name, epoch)
    assert 0 <= here < 2**63
    assert here == stream_seed(seed, name, epoch)
    assert (
        len({here, stream_seed(seed + 1, name, epoch), stream_seed(seed, name, epoch + 1), stream_seed(seed, name)})
        == 4
    )


def test_seeded_restores_the_caller_s_state() -> None:
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    with seeded(0, "a"):
        inside = torch.rand(2)
    assert torch.equal(torch.rand(2), expected)
    with seeded(0, "a"):
        assert torch.equal(torch.rand(2), inside)
    assert torch.equal(torch.rand(2, generator=generator(0, "a")), inside)


def disturb() -> None:
    torch.manual_seed(9)
    torch.set_default_dtype(torch.float16)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(torch.get_num_threads() + 1)
    os.environ["KEPT"] = "changed"
    os.environ["NEW"] = "1"
    del os.environ["REMOVED"]
    warnings.simplefilter("ignore")


@pytest.mark.parametrize("fails", [False, True])
def test_the_caller_s_process_is_left_as_found(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    monkeypatch.setenv("KEPT", "as it was")
    monkeypatch.setenv("REMOVED", "too")
    before = (dict(os.environ), list(warnings.filters), torch.get_num_threads(), torch.get_default_dtype())
    state = torch.get_rng_state()
    try:
        with left_as_found():
            disturb()
            if fails:
                raise ValueError
    except ValueError:
        assert fails
    assert before == (dict(os.environ), list(warnings.filters), torch.get_num_threads(), torch.get_default_dtype())
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_caller_s_own_settings_do_not_reach_in() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), left_as_found():
            assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
            assert torch.zeros(1).dtype == torch.float32
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
