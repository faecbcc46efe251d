import torch
from hypothesis import given
from hypothesis import strategies as st

from grfd.seeds import generator, seeded, stream_seed


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
