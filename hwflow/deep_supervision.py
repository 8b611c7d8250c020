# SPDX-License-Identifier: Apache-2.0
"""Extra read-outs inside a CoDeNet for the float phase: they teach, and are thrown away.

The detector has no skip connections: every gradient passes through the map of stride 32 and three
upsamplings, and from random weights on a few hundred objects the heat map stands still for
thousands of steps. A 1x1 convolution on each of several inner maps therefore also has to say where
objects lie and where their centres are. The network itself is unchanged.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwflow.loss import Targets, focal

POINTS = {"layer1": 8, "layer2": 16, "layer4": 32, "up0.pw": 32, "up1.pw": 16, "up2.pw": 8}
"""Modules that are read out, with the stride of their maps in input pixels."""
HEAD_STRIDE = 4
CENTRE_WEIGHT = 0.3
CENTRE_BIAS = -2.19


class DeepSupervision(nn.Module):
    """One 1x1 read-out a point; each cell speaks for all cells of the head maps below it."""

    def __init__(self, model: nn.Module, classes: int) -> None:
        super().__init__()
        self.seen: dict[str, Tensor] = {}
        self.hooks = [
            model.get_submodule(name).register_forward_hook(self._keep(name)) for name in POINTS
        ]
        training = model.training
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, 64, 64, device=next(model.parameters()).device))
        model.train(training)
        self.outputs = 1 + classes
        self.heads = nn.ModuleDict()
        for name, stride in POINTS.items():
            cells = (stride // HEAD_STRIDE) ** 2
            head = nn.Conv2d(self.seen[name].shape[1], self.outputs * cells, 1)
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)
            self.heads[name.replace(".", "_")] = head

    def _keep(self, name: str) -> object:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            self.seen[name] = output

        return hook

    def loss(self, targets: Targets) -> Tensor:
        """Of the maps seen in the model's last pass: covered or not, and centre or not."""
        total = targets.hm.new_zeros(())
        for name, stride in POINTS.items():
            maps = self.heads[name.replace(".", "_")](self.seen[name])
            maps = F.pixel_shuffle(maps, stride // HEAD_STRIDE)
            covered, centre = maps[:, :1], maps[:, 1:] + CENTRE_BIAS
            total = total + F.binary_cross_entropy_with_logits(covered, targets.covered)
            total = total + CENTRE_WEIGHT * focal(centre, targets.hm, targets.care)
        return total

    def close(self) -> None:
        """Take the hooks off the model."""
        for hook in self.hooks:
            hook.remove()
        self.seen.clear()
