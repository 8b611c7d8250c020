# SPDX-License-Identifier: Apache-2.0
"""Loss in closed form; runs of a few steps on digit scenes: repeatable, resumable, clear errors."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hwflow import data
from hwflow.data.augment import Augment
from hwflow.deep_supervision import DeepSupervision
from hwflow.errors import ConfigError
from hwflow.loss import Targets, centre_l1, detection_loss, focal, make_targets, radius
from hwflow.models import codenet
from hwflow.train import (
    RESUME,
    Crops,
    Progress,
    TrainOptions,
    crops_at,
    evaluate,
    learning_rate,
    make_batch,
    train,
)

SHIPPED = Path(codenet.__file__).parents[1] / "checkpoints" / "codenet_b_trees.safetensors"


def one_box(box: list[float], size: int = 64, skip: bool = False) -> Targets:
    return make_targets(
        [np.array([box])], [np.array([1])], [np.array([skip])], classes=2, size=size
    )


def test_radius_by_hand() -> None:
    """Square of side 10, overlap 0.7: roots 37.46 and 19.75 and (2 sqrt(70) - 14) = 2.733."""
    assert radius(10, 10) == pytest.approx(2 * math.sqrt(70) - 14, abs=1e-9)
    assert radius(10, 10, overlap=1.0) == pytest.approx(0.0, abs=1e-9)


def test_target_of_one_box() -> None:
    """Centre (25, 30) / 4 = (6.25, 7.5): cell x 6, y 7; size 40x20 pixels is 10x5 cells."""
    targets = one_box([5.0, 20.0, 45.0, 40.0])
    assert (targets.image.tolist(), targets.y.tolist(), targets.x.tolist()) == ([0], [7], [6])
    assert targets.wh.tolist() == [[10.0, 5.0]]
    assert targets.reg.tolist() == [[0.25, 0.5]]
    assert targets.hm.shape == (1, 2, 16, 16)
    assert (targets.hm[0, 0] == 0).all()
    # x 5 to 45, y 20 to 40: the middles 2, 6, 10 ... of columns 1 to 10 and rows 5 to 9.
    covered = torch.zeros(16, 16)
    covered[5:10, 1:11] = 1
    assert torch.equal(targets.covered[0, 0], covered)
    reach = int(radius(5, 10))
    assert reach == 1
    sigma = 3 / 6
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            inside = max(abs(dy), abs(dx)) <= reach
            expected = math.exp(-(dx * dx + dy * dy) / (2 * sigma**2)) if inside else 0.0
            assert float(targets.hm[0, 1, 7 + dy, 6 + dx]) == pytest.approx(expected, abs=1e-6)
    assert float(targets.hm.sum()) == pytest.approx(1 + 4 * math.exp(-2) + 4 * math.exp(-4))


def test_overlapping_targets_take_the_maximum() -> None:
    boxes = np.array([[0.0, 0, 40, 40], [8.0, 0, 48, 40]])
    both = make_targets([boxes], [np.zeros(2, int)], [np.zeros(2, bool)], 1, 64).hm
    alone = [
        make_targets([b[None]], [np.zeros(1, int)], [np.zeros(1, bool)], 1, 64).hm for b in boxes
    ]
    assert torch.equal(both, torch.maximum(*alone))


def test_ignored_boxes_are_not_judged_except_at_centres() -> None:
    boxes = np.array([[0.0, 0, 40, 40], [16.0, 16, 24, 24]])
    targets = make_targets([boxes], [np.zeros(2, int)], [np.array([True, False])], 1, 64)
    care = torch.ones(16, 16)
    care[:10, :10] = 0
    care[5, 5] = 1
    assert torch.equal(targets.care[0, 0], care)
    assert targets.hm[0, 0, 5, 5] == 1
    assert len(targets.wh) == 1


def test_focal_in_closed_form() -> None:
    """One centre at p = 1/2, one neighbour of target 1/2 at p = 1/2, one cell switched off."""
    logits = torch.zeros(1, 1, 1, 3)
    target = torch.tensor([[[[1.0, 0.5, 0.0]]]])
    care = torch.tensor([[[[1.0, 1.0, 0.0]]]])
    expected = 0.25 * math.log(2) + 0.5**4 * 0.25 * math.log(2)
    assert float(focal(logits, target, care)) == pytest.approx(expected, rel=1e-6)
    # Two more centres, perfectly found: the sum hardly changes, the divisor becomes 3.
    logits = torch.tensor([[[[0.0, 0.0, 20.0, 20.0]]]])
    target = torch.tensor([[[[1.0, 0.5, 1.0, 1.0]]]])
    sure = 2 * (1e-4) ** 2 * -math.log(1 - 1e-4)
    value = float(focal(logits, target, torch.ones_like(target)))
    assert value == pytest.approx((expected + sure) / 3, rel=1e-5)


def test_focal_without_centres_and_with_extreme_logits_is_finite() -> None:
    logits = torch.tensor([[[[1000.0, -1000.0]]]], requires_grad=True)
    loss = focal(logits, torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1, 2))
    p = 1 - 1e-4
    assert float(loss.detach()) == pytest.approx(-(p**2) * math.log(1e-4), rel=1e-3)
    loss.backward()
    assert torch.isfinite(logits.grad).all()


def test_l1_reads_the_centres_only() -> None:
    targets = one_box([5.0, 20.0, 45.0, 40.0])
    wh = torch.full((1, 2, 16, 16), 99.0)
    wh[0, :, 7, 6] = torch.tensor([7.0, 6.0])
    assert float(centre_l1(wh, targets, targets.wh)) == pytest.approx((3 + 1) / 2)
    empty = one_box([5.0, 20.0, 45.0, 40.0], skip=True)
    assert float(centre_l1(wh, empty, empty.wh)) == 0.0


def test_total_has_the_published_weights() -> None:
    targets = one_box([5.0, 20.0, 45.0, 40.0])
    torch.manual_seed(0)
    total, parts = detection_loss(
        torch.randn(1, 2, 16, 16), torch.randn(1, 2, 16, 16), torch.randn(1, 2, 16, 16), targets
    )
    expected = parts["hm"] + 0.1 * parts["wh"] + parts["reg"]
    assert float(total) == pytest.approx(expected, rel=1e-6)
    assert min(parts.values()) > 0


def test_learning_rate_and_schedule() -> None:
    rates = [learning_rate(i, 1000, 1e-3, 50) for i in range(1000)]
    assert rates[:50] == sorted(rates[:50])
    assert rates[50] == 1e-3 == max(rates)
    assert rates[50:] == sorted(rates[50:], reverse=True)
    assert rates[525] == pytest.approx(1e-3 * (0.01 + 0.99 / 2))
    schedule = (Crops(64, 4, 0.25), Crops(96, 2, 0.75))
    assert [crops_at(i, 8, schedule).size for i in range(8)] == [64, 64, 96, 96, 96, 96, 96, 96]


class Oracle(nn.Module):
    """Stands in for a model: head maps drawn from the truth; images are told apart by a pixel."""

    def __init__(self, dataset: data.Dataset, shift: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.dataset, self.shift = dataset, shift
        self.keys = [image.tobytes() for image in dataset.images]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        side, classes = x.shape[-1] // 4, len(self.dataset.classes)
        hm = torch.full((len(x), classes, side, side), -5.0)
        wh, reg = torch.zeros(len(x), 2, side, side), torch.zeros(len(x), 2, side, side)
        for row, image in enumerate((x * 256).to(torch.uint8).numpy()):
            number = self.keys.index(image.tobytes())
            for box, label in zip(
                self.dataset.boxes[number] / 4, self.dataset.labels[number], strict=True
            ):
                centre = (box[:2] + box[2:]) / 2
                column, line = centre.astype(int)
                hm[row, label, line, column] = 5.0
                wh[row, :, line, column] = torch.tensor(box[2:] - box[:2]).float() + self.shift
                reg[row, :, line, column] = torch.tensor(centre - [column, line]).float()
        return hm, wh, reg


def test_evaluate_an_oracle() -> None:
    """Heads that say the truth give AP 1; boxes of twice the side and more give 0."""
    dataset = data.load("digits:20", "test", 128)
    assert evaluate(Oracle(dataset), dataset) == {
        "ap50": 1.0, "coco": 1.0, "coco50": 1.0, "coco75": 1.0,
    }  # fmt: skip
    assert evaluate(Oracle(dataset, shift=64.0), dataset)["ap50"] == 0.0


def test_batches_depend_on_their_seed_alone() -> None:
    scenes = data.load("digits:5", "train", 64).crops_from()
    crops = Crops(64, 3, 1.0)
    first, targets = make_batch(scenes, 10, crops, Augment(), (0, 0, 7))
    again, same = make_batch(scenes, 10, crops, Augment(), (0, 0, 7))
    other, _ = make_batch(scenes, 10, crops, Augment(), (0, 0, 8))
    assert first.shape == (3, 3, 64, 64)
    assert (first == again).all()
    assert (first != other).any()
    assert torch.equal(targets.hm, same.hm)


def test_deep_supervision_teaches_the_trunk_and_leaves_the_model_alone() -> None:
    torch.manual_seed(0)
    model = codenet.CoDeNet(codenet.config("b", 3)).eval()
    pixels = torch.rand(1, 3, 64, 64)
    before = [m.detach() for m in model(pixels)]
    names = list(model.state_dict())
    extra = DeepSupervision(model, 3)
    after = model(pixels)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    # Read-outs that say nothing yet: ln 2 for covered; p = sigmoid(bias) for the centres.
    for head in extra.heads.values():
        nn.init.zeros_(head.weight)
    empty = make_targets([np.zeros((0, 4))], [np.zeros(0, int)], [np.zeros(0, bool)], 3, 64)
    p = 1 / (1 + math.exp(2.19))
    silent = 3 * 16 * 16 * p**2 * -math.log(1 - p)
    assert float(extra.loss(empty).detach()) == pytest.approx(6 * (math.log(2) + 0.3 * silent))
    for head in extra.heads.values():
        nn.init.normal_(head.weight, std=0.1)
    extra.loss(empty).backward()
    assert float(model.layer0.conv.weight.grad.abs().sum()) > 0
    assert model.hm.pw1.conv.weight.grad is None
    extra.close()
    assert list(model.state_dict()) == names
    model(pixels)
    assert extra.seen == {}


def options(out: Path, **changes: object) -> TrainOptions:
    """A run of a few steps on 64-pixel digit scenes."""
    base = TrainOptions(
        out=out,
        data="digits:16",
        input_size=64,
        float_steps=6,
        qat_steps=4,
        float_crops=(Crops(32, 4, 0.5), Crops(64, 4, 0.5)),
        qat_crops=(Crops(64, 4, 1.0),),
        warmup_steps=2,
        threads=1,
        save_every=1,
        report_every=1,
        eval_every=0,
        device="cpu",
    )
    return dataclasses.replace(base, **changes)


def tensors(path: Path) -> dict[str, Tensor]:
    model, _ = codenet.load_checkpoint(path)
    return model.state_dict()


class KilledError(RuntimeError):
    """Thrown out of the callback in place of a signal."""


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Progress]]:
    """A run that nobody interrupts, and what it told on the way."""
    events: list[Progress] = []
    result = train(options(tmp_path_factory.mktemp("straight")), events.append)
    return result.checkpoint, events


def test_run_reports_and_writes(straight: tuple[Path, list[Progress]]) -> None:
    path, events = straight
    assert [(e.phase, e.step) for e in events] == [("float", i) for i in range(1, 7)] + [
        ("qat", i) for i in range(1, 5)
    ]
    assert all(math.isfinite(value) for e in events for value in e.loss.values())
    assert set(events[0].loss) == {"hm", "wh", "reg", "total"}
    model, meta = codenet.load_checkpoint(path)
    assert model.quantised
    assert meta["steps"] == {"float": 6, "qat": 4}
    assert meta["dataset"] == "digits"
    assert meta["classes"] == list("0123456789")
    float_model, float_meta = codenet.load_checkpoint(path.parent / "float.safetensors")
    assert not float_model.quantised
    testing = data.load("digits:16", "test", 64)
    assert float_meta["float_ap50"] == evaluate(float_model, testing)["ap50"]
    assert meta["qat_ap50"] == evaluate(model, testing)["ap50"]


@pytest.mark.parametrize("stop", [("float", 4), ("float", 6), ("qat", 2)])
def test_resumed_run_equals_straight_run_bit_by_bit(
    tmp_path: Path, straight: tuple[Path, list[Progress]], stop: tuple[str, int]
) -> None:
    def killer(event: Progress) -> None:
        if (event.phase, event.step) == stop:
            raise KilledError

    with pytest.raises(KilledError):
        train(options(tmp_path), killer)
    (tmp_path / "resume.part").write_bytes(b"half a file, as a kill may leave it")
    events: list[Progress] = []
    torch.manual_seed(999)  # whatever the new process has done before
    result = train(options(tmp_path), events.append)
    later = [e for e in straight[1] if (e.phase, e.step) > stop]
    assert [(e.phase, e.step) for e in events] == [(e.phase, e.step) for e in later]
    expected, got = tensors(straight[0]), tensors(result.checkpoint)
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        assert torch.equal(value, got[name]), name


def test_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = train(options(tmp_path, qat_steps=1))
    before = tensors(first.checkpoint)
    events: list[Progress] = []
    second = train(options(tmp_path, qat_steps=1), events.append)
    assert events == []
    assert all(
        torch.equal(value, before[name]) for name, value in tensors(second.checkpoint).items()
    )


def test_other_seed_is_another_run(tmp_path: Path, straight: tuple[Path, list[Progress]]) -> None:
    result = train(options(tmp_path, seed=1, qat_steps=0))
    other = tensors(straight[0].parent / "float.safetensors")
    assert any(not torch.equal(v, other[name]) for name, v in tensors(result.checkpoint).items())
    assert result.qat_ap is None
    with pytest.raises(ConfigError, match="other options"):
        train(options(tmp_path, seed=2, qat_steps=0))


def test_learns(tmp_path: Path) -> None:
    """Forty steps on the same few scenes: the heat map loss falls well below its start."""
    events: list[Progress] = []
    train(
        options(
            tmp_path,
            float_steps=40,
            qat_steps=0,
            data="digits:4",
            float_crops=(Crops(64, 8, 1.0, (1.0, 1.0)),),
            colour=0.0,
            tint=0.0,
            save_every=40,
        ),
        events.append,
    )
    assert events[-1].loss["total"] < 0.8 * events[0].loss["total"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"float_steps": 0}, "float_steps"),
        ({"qat_steps": -1}, "qat_steps"),
        ({"lr": 0.0}, "lr"),
        ({"ema": 1.0}, "ema"),
        ({"float_crops": (Crops(50, 4, 1.0),)}, "multiple of 32"),
        ({"qat_crops": (Crops(64, 4, 0.5),)}, "must be 1"),
        ({"qat_crops": (Crops(64, 4, 1.0, (1.2, 0.8)),)}, "scale"),
        ({"save_every": 0}, "save_every"),
        ({"device": "tpu"}, "auto, cpu or cuda"),
        ({"config": "z"}, "a, b, c, d, e, f, g"),
    ],
)
def test_bad_options(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train(options(tmp_path, **changes))
    assert not (tmp_path / RESUME).exists()


def test_divergence_is_an_error_not_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lower the learning rate"):
        train(options(tmp_path, lr=0.99, warmup_steps=0, weight_decay=1e30))
    assert not (tmp_path / "float.safetensors").exists()


def test_shipped_checkpoint_does_what_its_meta_says() -> None:
    assert SHIPPED.stat().st_size <= 8 * 2**20
    model, meta = codenet.load_checkpoint(SHIPPED)
    assert model.quantised
    assert (model.cfg.name, model.cfg.classes, model.cfg.plain_dw) == ("b", 1, False)
    testing = data.load("trees", "test", 256)
    assert meta["dataset_sha256"] == testing.sha256
    measured = evaluate(model, testing)
    assert measured["ap50"] == pytest.approx(meta["qat_ap50"], abs=1e-9)
    assert measured["coco"] == pytest.approx(meta["qat_ap"]["coco"], abs=1e-9)
