# SPDX-License-Identifier: Apache-2.0
"""Float networks whose probabilities may stand in for the labels of samples."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwflow.training_tables.options import TableTraining

CPU = torch.device("cpu")
BATCH = 128
RATE = 4e-3
SMALLEST = 8  # sides of an image that are worth a convolution
HIDDEN = 64


class _Teacher(nn.Module):
    """A small convolutional network for images, a perceptron for rows of a table.

    mean, deviation: of each element of a row (in pixels / 256), which the perceptron evens out.
    """

    def __init__(
        self, shape: tuple[int, ...], classes: int, mean: Tensor, deviation: Tensor
    ) -> None:
        super().__init__()
        planes, height, width = shape
        self.rows = min(height, width) < SMALLEST
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        if self.rows:
            self.body: nn.Module = nn.Sequential(
                nn.Flatten(), nn.Linear(math.prod(shape), HIDDEN), nn.BatchNorm1d(HIDDEN),
                nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(),
                nn.Linear(HIDDEN, classes),
            )
            return
        self.body = nn.Sequential(
            nn.Conv2d(planes, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * (height // 4) * (width // 4), classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Pixels / 256 (B, C, H, W) -> logits."""
        if self.rows:
            x = (x - self.get_buffer("mean")) / self.get_buffer("deviation")
        return self.body(x)  # type: ignore[no-any-return]


def teacher(
    images: np.ndarray, labels: np.ndarray, classes: int, options: TableTraining,
    device: torch.device = CPU,
) -> Callable[[np.ndarray], np.ndarray]:  # fmt: skip
    """Train options.teachers networks on images uint8 (N, C, H, W), each with a seed of its own:
    the function from images to the mean of their probabilities, float32 (N, classes)."""
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    nets = [_trained(images, labels, classes, options, number, device)
            for number in range(options.teachers)]

    @torch.no_grad()
    def ask(batch: np.ndarray) -> np.ndarray:
        parts = []
        for at in range(0, len(batch), 1000):
            x = torch.from_numpy(batch[at : at + 1000]).to(device).float() / 256
            parts.append(torch.stack([net(x).softmax(1) for net in nets]).mean(0))
        found: np.ndarray = torch.cat(parts).cpu().numpy()
        return found

    return ask


def _trained(
    images: np.ndarray, labels: np.ndarray, classes: int, options: TableTraining, number: int,
    device: torch.device,
) -> _Teacher:  # fmt: skip
    rng = np.random.default_rng([options.seed, number])
    torch.manual_seed(int(rng.integers(1 << 31)))
    few = images[:10_000].astype(np.float32) / 256
    net = _Teacher(images.shape[1:], classes, torch.from_numpy(few.mean(0)),
                   torch.from_numpy(few.std(0) + np.float32(1e-3))).train().to(device)
    steps = max(1, len(images) // BATCH) * options.teacher_epochs
    optimiser = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    for _ in range(steps):
        picked = rng.integers(0, len(images), BATCH)
        x = torch.from_numpy(images[picked]).to(device).float() / 256
        optimiser.zero_grad()
        loss = F.cross_entropy(net(x), torch.from_numpy(labels[picked]).to(device))
        loss.backward()
        optimiser.step()
        schedule.step()
    return net.eval()
