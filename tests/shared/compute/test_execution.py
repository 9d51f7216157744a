import pytest
import torch
from accelerate import cpu_offload
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch import nn

from shared.compute.execution import execution_device
from shared.models.prompts.text import TextConditioner
from tests.near import near
from tests.tiny import tiny_text


def test_it_is_where_the_weights_are_unless_a_hook_says_else():
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    assert execution_device(network) == torch.device("cpu")
    assert execution_device(nn.Linear(2, 2, device="meta")) == torch.device("meta")
    assert execution_device(nn.ReLU()) == torch.device("cpu")
    for append in (False, True):  # two hooks of a module are one of accelerate's lists
        add_hook_to_module(network[0], AlignDevicesHook(execution_device="cpu", io_same_device=append), append=append)
        assert execution_device(network) == torch.device("cpu")
    elsewhere = nn.Linear(2, 2)
    add_hook_to_module(elsewhere, AlignDevicesHook(execution_device="meta"))
    assert execution_device(nn.Sequential(nn.ReLU(), elsewhere)) == torch.device("meta")


@pytest.mark.parametrize("call", ["encode", "features"])
def test_text_of_an_encoder_that_is_offloaded_by_its_layers(call):
    wanted, offloaded = TextConditioner(*tiny_text()), TextConditioner(*tiny_text())
    cpu_offload(offloaded.text_encoder, execution_device=torch.device("cpu"))
    assert offloaded.text_encoder.device == torch.device("meta")
    with torch.no_grad():
        near(getattr(offloaded, call)(["a red cube"]), getattr(wanted, call)(["a red cube"]))
