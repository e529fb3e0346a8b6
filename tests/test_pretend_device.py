"""The instrument of the device audit: mixing fails, waits are written down, gradients flow."""

from __future__ import annotations

import pytest
import torch
from pretend_device import DEVICE, MixedDevicesError, PretendDevice, Pretended


def test_the_pretended_device_tells_what_a_real_one_would():
    with PretendDevice() as device:
        _tells(device)


def _tells(device: PretendDevice) -> None:
    x = torch.arange(4.0, device=DEVICE).requires_grad_()
    (x * 2).sum().backward()
    assert isinstance(x.grad, Pretended)
    assert x.grad.tolist() == [2.0] * 4
    device.waits.clear()
    y = x.detach() * 3 + torch.tensor(1.0)  # lone numbers may come from the CPU
    y[1] = 0.0
    assert not device.waits
    assert y.tolist() == [1.0, 0.0, 7.0, 10.0]
    for mixed in (lambda: y + torch.ones(4), lambda: torch.cat([y, torch.ones(1)]), lambda: y.lerp_(torch.ones(4), 1)):
        with pytest.raises(MixedDevicesError, match="mixes the device"):
            mixed()
    device.waits.clear()
    y[y > 1], y.sum().item(), y.nonzero(), torch.ones(4).to(DEVICE)
    torch.ones(4).to(DEVICE, non_blocking=True)
    assert {operation for operation, _ in device.waits} == {
        "index by a mask", "_local_scalar_dense", "nonzero", "blocking copy to the device",
    }  # fmt: skip
