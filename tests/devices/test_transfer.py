"""What is sent to a GPU: once where it never changes, and held by the graphs that read it."""

import pytest
import torch
from torch import Tensor

from ode_runner.devices.transfer import holding, send, send_once

GPU = torch.device("cuda")


def test_constants_are_sent_once_and_held_by_the_graph_that_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    sent, held = list[Tensor](), list[Tensor]()

    def copied(x: Tensor, device: torch.device) -> Tensor:
        sent.append(x)
        return x.clone()

    monkeypatch.setattr("ode_runner.devices.transfer.send", copied)
    x, other = torch.ones(3), torch.ones(3)
    first = send_once(x, GPU)
    with holding(held):
        assert send_once(x, GPU) is first
        send_once(other, GPU)
    send_once(x, GPU)
    assert len(sent) == 2
    assert held[0] is first
    assert len(held) == 2


def test_nothing_is_sent_while_a_graph_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its replays would read the memory on the CPU, which is another tensor's by then."""
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(RuntimeError, match="sent to the GPU"):
        send(torch.ones(3), GPU)


def test_on_a_cpu_a_tensor_is_itself() -> None:
    x = torch.ones(3)
    assert send_once(x, torch.device("cpu")) is x
