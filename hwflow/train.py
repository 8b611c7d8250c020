# SPDX-License-Identifier: Apache-2.0
"""Training of a detector: float phase, then quantisation-aware training; resumable, seeded.

The crops of step n depend on the seed and n alone, and every step's state fits in one file, so that
a run that was killed goes on bit by bit as if it had not been.
"""

import dataclasses
import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from hwflow import __version__, data
from hwflow.data.augment import Augment, sample_crop
from hwflow.data.dataset import Dataset, Scene
from hwflow.decode import HeadScales, boxes, candidates
from hwflow.deep_supervision import DeepSupervision
from hwflow.errors import ConfigError
from hwflow.export import enforce_bounds
from hwflow.loss import Targets, detection_loss, make_targets
from hwflow.metrics import Detections, Truth, coco_ap, voc07_ap
from hwflow.models import codenet
from hwflow.models.devices import device_of

LOG = logging.getLogger(__name__)

PIXEL_SCALE = 1 / 256  # the network's input is the pixel at scale 2^-8
RESUME = "resume.safetensors"
PHASES = ("float", "qat")
CALIBRATION_IMAGES = 64
EVAL_BATCH = 8
DEEP_SHARE = 0.8


@dataclass(frozen=True)
class Crops:
    """A part of a phase: batch crops of size pixels a step, for this share of the steps.

    scale: limits of the magnification; below 1 a crop shows more and smaller objects.
    """

    size: int
    batch: int
    share: float
    scale: tuple[float, float] = (0.7, 1.4)


@dataclass(frozen=True)
class TrainOptions:
    """All that decides a training run; the defaults are the recipe of the shipped checkpoint.

    input_size: side for evaluation, in pixels; None is the configuration's own. float_crops and
    qat_crops: the schedules, in order; sizes are multiples of 32. ema: decay of the running mean of
    the weights, which is what is kept. deep_supervision: weight of the inner read-outs in the float
    phase, falling to 0 over its first four fifths. eval_every: steps between evaluations on the
    test split, for the eye only, 0 for none; nothing is chosen by them. threads: of torch, None
    leaves them as they are.
    """

    out: Path
    config: str = "b"
    data: str = "trees"
    cache: Path | None = None
    plain_dw: bool = False
    input_size: int | None = None
    float_steps: int = 7200
    qat_steps: int = 600
    float_crops: tuple[Crops, ...] = (
        Crops(128, 16, 0.8, (0.6, 1.3)),
        Crops(256, 6, 0.2, (0.8, 1.25)),
    )
    qat_crops: tuple[Crops, ...] = (Crops(256, 4, 1.0, (0.8, 1.25)),)
    lr: float = 2e-3
    qat_lr: float = 1e-4
    warmup_steps: int = 200
    weight_decay: float = 0.05
    ema: float = 0.998
    deep_supervision: float = 1.0
    colour: float = 0.4
    tint: float = 0.1
    seed: int = 0
    threads: int | None = None
    save_every: int = 200
    eval_every: int = 0
    report_every: int = 10
    device: str = "auto"


# What may change between the two halves of an interrupted run without changing its result.
FREE_OPTIONS = {"out", "cache", "threads", "save_every", "eval_every", "report_every", "device"}


@dataclass(frozen=True)
class Progress:
    """Sent to the callback. ap50: 0 to 1.

    loss: means since the last call, by name (total, hm, wh, reg).
    """

    phase: str
    step: int
    steps: int
    loss: dict[str, float]
    images_per_s: float
    ap50: float | None = None


@dataclass(frozen=True)
class TrainResult:
    """checkpoint: the quantised model (the float one if qat_steps is 0). APs are 0 to 1."""

    checkpoint: Path
    float_checkpoint: Path
    float_ap: dict[str, float | None]
    qat_ap: dict[str, float | None] | None
    seconds: float


@dataclass
class State:
    """What changes during a phase."""

    phase: str
    step: int
    model: codenet.CoDeNet
    extra: DeepSupervision | None
    optimiser: torch.optim.Optimizer
    ema: dict[str, Tensor]
    seconds: float
    float_ap: dict[str, float | None] | None


ProgressCallback = Callable[[Progress], None]


def train(options: TrainOptions, progress: ProgressCallback | None = None) -> TrainResult:
    """Run both phases, or what is left of them if options.out holds an interrupted run.

    Writes float.safetensors, codenet_<config>_<data>.safetensors and the state for resuming.
    Raises ConfigError for options that make no sense, DataError for data that cannot be had.
    """
    _check(options)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = device_of(options.device)
    size = options.input_size or codenet.config(options.config).input_size
    training = data.load(options.data, "train", size, options.cache)
    testing = data.load(options.data, "test", size, options.cache)
    options.out.mkdir(parents=True, exist_ok=True)
    tell = progress or (lambda _: None)
    state = _resume(options, training, device)
    if state is None:
        state = _start_float(options, len(training.classes), device)
        _save_state(options, state)
    float_path = options.out / "float.safetensors"
    if state.phase == "float":
        _run_phase(options, state, training, testing, device, tell)
        with _averaged(state):
            state.float_ap = evaluate(state.model, testing)
            meta = _meta(options, training, state.float_ap, None, state.seconds)
            _save_model(state.model, float_path, meta)
        if options.qat_steps == 0:
            return TrainResult(float_path, float_path, state.float_ap, None, state.seconds)
        state = _start_qat(options, state, training, device)
        _save_state(options, state)
    assert state.float_ap is not None
    path = options.out / checkpoint_name(options)
    _run_phase(options, state, training, testing, device, tell)
    with _averaged(state):
        changed = enforce_bounds(state.model)
        if changed:
            LOG.warning("weights clipped to the integer contract in %s", ", ".join(changed))
        qat_ap = evaluate(state.model, testing)
        meta = _meta(options, training, state.float_ap, qat_ap, state.seconds)
        _save_model(state.model, path, meta)
    return TrainResult(path, float_path, state.float_ap, qat_ap, state.seconds)


def evaluate(
    model: nn.Module, dataset: Dataset, limit: int | None = None, k: int = 100
) -> dict[str, float | None]:
    """AP of one pass over the images (no mirrored second pass), each 0 to 1, None if undefined.

    ap50: VOC 2007, 11 points, IoU 0.5. coco: mean over IoU 0.50 to 0.95, 101 points. coco50,
    coco75: the same at one IoU. k: candidates an image.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    found: list[Detections] = []
    count = len(dataset) if limit is None else min(limit, len(dataset))
    with torch.no_grad():
        for start in range(0, count, EVAL_BATCH):
            batch = _pixels(dataset.images[start : min(start + EVAL_BATCH, count)], device)
            maps = [m.float().cpu().numpy() for m in model(batch)]
            for hm, wh, reg in zip(*maps, strict=True):
                found.append(Detections(*boxes(candidates(hm, wh, reg, k), HeadScales())))
    model.train(was_training)
    parts = zip(dataset.boxes, dataset.labels, dataset.difficult, strict=True)
    truths = [Truth(*part) for part in parts][:count]
    classes = len(dataset.classes)
    return {
        "ap50": voc07_ap(found, truths, classes),
        "coco": coco_ap(found, truths, classes),
        "coco50": coco_ap(found, truths, classes, (0.5,)),
        "coco75": coco_ap(found, truths, classes, (0.75,)),
    }


def checkpoint_name(options: TrainOptions) -> str:
    """File name of the quantised model; data sources are named without their path."""
    kind = options.data.partition(":")[0]
    return f"codenet_{options.config}_{kind}{'_plain' if options.plain_dw else ''}.safetensors"


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Linear from 0 over the warm-up (at most a tenth of the steps), then a half cosine to 1 %."""
    warmup = min(warmup, steps // 10)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, steps - warmup)
    return peak * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)


def crops_at(step: int, steps: int, schedule: tuple[Crops, ...]) -> Crops:
    """The part of the schedule that step lies in."""
    end = 0.0
    for part in schedule:
        end += part.share
        if step < end * steps:
            return part
    return schedule[-1]


def make_batch(
    scenes: tuple[Scene, ...], classes: int, crops: Crops, augment: Augment, seed: tuple[int, ...]
) -> tuple[np.ndarray, Targets]:
    """uint8 (batch, 3, size, size) and its targets; the same seed gives the same batch."""
    rng = np.random.default_rng(seed)
    made = [sample_crop(scenes, crops.size, crops.scale, augment, rng) for _ in range(crops.batch)]
    targets = make_targets(
        [crop.boxes for crop in made],
        [crop.labels for crop in made],
        [crop.difficult for crop in made],
        classes,
        crops.size,
    )
    return np.stack([crop.image for crop in made]), targets


def _run_phase(
    options: TrainOptions,
    state: State,
    training: Dataset,
    testing: Dataset,
    device: torch.device,
    tell: ProgressCallback,
) -> None:
    steps = _steps(options, state.phase)
    peak = options.lr if state.phase == "float" else options.qat_lr
    sums: dict[str, float] = {}
    told, seen, since = state.step, 0, time.monotonic()
    mark = since
    state.model.train()
    for pixels, targets in _batches(options, state, training):
        for group in state.optimiser.param_groups:
            group["lr"] = learning_rate(state.step, steps, peak, options.warmup_steps)
        hm, wh, reg = state.model(_pixels(pixels, device))
        targets = targets.to(device)
        loss, parts = detection_loss(hm, wh, reg, targets)
        parts["total"] = float(loss.detach())
        if not math.isfinite(parts["total"]):
            raise ConfigError(
                f"train: the loss became {parts['total']} at step {state.step} of the "
                f"{state.phase} phase; lower the learning rate and start again"
            )
        extra = options.deep_supervision * (1 - state.step / (DEEP_SHARE * steps))
        if state.extra is not None and extra > 0:
            loss = loss + extra * state.extra.loss(targets)
        state.optimiser.zero_grad()
        loss.backward()
        state.optimiser.step()
        state.step += 1
        _update_ema(state, options.ema)
        seen += len(pixels)
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + value
        last = state.step == steps
        if state.step % options.save_every == 0 or last:
            now = time.monotonic()
            state.seconds += now - mark
            mark = now
            _save_state(options, state)
        ap50 = None
        if options.eval_every and (state.step % options.eval_every == 0 or last):
            with _averaged(state):
                ap50 = evaluate(state.model, testing)["ap50"]
            state.model.train()
        if state.step % options.report_every == 0 or last or ap50 is not None:
            speed = seen / max(1e-9, time.monotonic() - since)
            means = {name: value / (state.step - told) for name, value in sums.items()}
            tell(Progress(state.phase, state.step, steps, means, speed, ap50))
            sums, told, seen, since = {}, state.step, 0, time.monotonic()


def _batches(
    options: TrainOptions, state: State, training: Dataset
) -> Iterator[tuple[np.ndarray, Targets]]:
    """The batches from state.step on, each made while the one before is trained on."""
    steps = _steps(options, state.phase)
    schedule = options.float_crops if state.phase == "float" else options.qat_crops
    kind = options.data.partition(":")[0]
    augment = Augment({"trees": 8, "voc": 2}.get(kind, 1), options.colour, options.tint)
    scenes = training.crops_from()
    number = PHASES.index(state.phase)

    def make(step: int) -> tuple[np.ndarray, Targets]:
        crops = crops_at(step, steps, schedule)
        seed = (options.seed, number, step)
        return make_batch(scenes, len(training.classes), crops, augment, seed)

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(make, state.step) if state.step < steps else None
        for step in range(state.step, steps):
            assert coming is not None
            batch = coming.result()
            coming = pool.submit(make, step + 1) if step + 1 < steps else None
            yield batch


def _start_float(options: TrainOptions, classes: int, device: torch.device) -> State:
    torch.manual_seed(options.seed)
    model = codenet.CoDeNet(codenet.config(options.config, classes, options.plain_dw))
    return _state(options, "float", model, device, 0.0, None)


def _start_qat(
    options: TrainOptions, state: State, training: Dataset, device: torch.device
) -> State:
    """Fold and quantise the averaged float model and choose its activation scales."""
    if state.extra is not None:
        state.extra.close()
    with _averaged(state):
        model = codenet.quantise(state.model)
    rng = np.random.default_rng(options.seed)
    count = min(CALIBRATION_IMAGES, len(training))
    chosen = np.sort(rng.choice(len(training), count, replace=False))
    codenet.calibrate(
        model,
        (
            _pixels(training.images[chosen[i : i + EVAL_BATCH]], device)
            for i in range(0, count, EVAL_BATCH)
        ),
    )
    enforce_bounds(model)
    return _state(options, "qat", model, device, state.seconds, state.float_ap)


def _state(
    options: TrainOptions,
    phase: str,
    model: codenet.CoDeNet,
    device: torch.device,
    seconds: float,
    float_ap: dict[str, float | None] | None,
) -> State:
    """A phase at its first step: optimiser and average made for the parameters as they now are."""
    model = model.to(device, memory_format=torch.channels_last)
    decay = options.weight_decay if phase == "float" else 0.0
    extra = None
    if phase == "float" and options.deep_supervision > 0:
        extra = DeepSupervision(model, model.cfg.classes).to(device)
    parameters = [*model.parameters(), *(extra.parameters() if extra else ())]
    wide = [p for p in parameters if p.ndim > 1]
    narrow = [p for p in parameters if p.ndim <= 1]
    groups = [{"params": wide, "weight_decay": decay}, {"params": narrow, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=options.lr)
    ema = {name: value.detach().clone() for name, value in model.state_dict().items()}
    return State(phase, 0, model, extra, optimiser, ema, seconds, float_ap)


def _update_ema(state: State, decay: float) -> None:
    # Short memory at first, or the random start would stay in the mean.
    decay = min(decay, (1 + state.step) / (10 + state.step))
    with torch.no_grad():
        for name, value in state.model.state_dict().items():
            if value.is_floating_point():
                state.ema[name].lerp_(value, 1 - decay)
            else:
                state.ema[name].copy_(value)


class _averaged:
    """For the length of a with block the model carries the averaged weights."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.kept: dict[str, Tensor] = {}

    def __enter__(self) -> None:
        own = self.state.model.state_dict()
        self.kept = {name: value.detach().clone() for name, value in own.items()}
        self.state.model.load_state_dict(self.state.ema)

    def __exit__(self, *_: object) -> None:
        self.state.model.load_state_dict(self.kept)


def _fingerprint(options: TrainOptions) -> str:
    fixed = {k: v for k, v in dataclasses.asdict(options).items() if k not in FREE_OPTIONS}
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()


def _save_state(options: TrainOptions, state: State) -> None:
    """The tensors by name and all else as JSON in one safetensors file: nothing in it is code."""
    optimiser = state.optimiser.state_dict()
    tensors = {"torch_rng": torch.get_rng_state()}
    tensors |= {f"model/{name}": value for name, value in state.model.state_dict().items()}
    tensors |= {f"ema/{name}": value for name, value in state.ema.items()}
    extra = state.extra.state_dict() if state.extra else {}
    tensors |= {f"extra/{name}": value for name, value in extra.items()}
    for number, values in optimiser["state"].items():
        tensors |= {f"optimiser/{number}/{name}": value for name, value in values.items()}
    header = {
        "fingerprint": _fingerprint(options),
        "phase": state.phase,
        "step": state.step,
        "groups": optimiser["param_groups"],
        "seconds": state.seconds,
        "float_ap": state.float_ap,
    }
    target = options.out / RESUME
    part = target.with_suffix(".part")
    # A checkpoint stores no strides; a copy of its own also for what shares memory.
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with part.open("wb") as file:
        file.write(safetensors.torch.save(plain, {"hwflow": json.dumps(header)}))
        file.flush()
        os.fsync(file.fileno())
    part.replace(target)  # a kill leaves the old state or the new one, never half of one


def _resume(options: TrainOptions, training: Dataset, device: torch.device) -> State | None:
    path = options.out / RESUME
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = json.loads((file.metadata() or {})["hwflow"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        fingerprint = header["fingerprint"]
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise _unfit(path, error) from error
    if fingerprint != _fingerprint(options):
        raise ConfigError(
            f"train: {path} belongs to a run with other options; give another output folder, "
            "or delete the file to start again"
        )
    try:
        return _restored(options, training, device, header, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise _unfit(path, error) from error


def _unfit(path: Path, error: Exception) -> ConfigError:
    return ConfigError(
        f"train: {path} is not the state of a run ({str(error)[:300]}); delete the file to start "
        "again"
    )


def _restored(
    options: TrainOptions,
    training: Dataset,
    device: torch.device,
    header: dict[str, Any],
    tensors: dict[str, Tensor],
) -> State:
    def below(kind: str) -> dict[str, Tensor]:
        return {k.removeprefix(f"{kind}/"): v for k, v in tensors.items()
                if k.startswith(f"{kind}/")}

    model = codenet.CoDeNet(codenet.config(options.config, len(training.classes), options.plain_dw))
    if header["phase"] == "qat":
        model = codenet.quantise(model)
    model.load_state_dict(below("model"))
    state = _state(options, header["phase"], model, device, header["seconds"], header["float_ap"])
    if state.extra is not None:
        state.extra.load_state_dict(below("extra"))
    state.step = int(header["step"])
    state.ema = {name: value.to(device) for name, value in below("ema").items()}
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in below("optimiser").items():
        number, _, what = name.partition("/")
        moments.setdefault(int(number), {})[what] = value
    groups = [{**group, "betas": tuple(group["betas"])} for group in header["groups"]]
    state.optimiser.load_state_dict({"state": moments, "param_groups": groups})
    torch.set_rng_state(tensors["torch_rng"])
    LOG.info("resuming the %s phase at step %d", state.phase, state.step)
    return state


def _save_model(model: codenet.CoDeNet, path: Path, meta: dict[str, object]) -> None:
    part = path.with_suffix(".part")
    codenet.save_checkpoint(model, part, meta)
    part.replace(path)


def _meta(
    options: TrainOptions,
    training: Dataset,
    float_ap: dict[str, float | None],
    qat_ap: dict[str, float | None] | None,
    seconds: float,
) -> dict[str, object]:
    command = (
        f"hwflow train codenet --config {options.config} --data {options.data} "
        f"--float-steps {options.float_steps} --qat-steps {options.qat_steps} "
        f"--seed {options.seed}{' --plain-dw' if options.plain_dw else ''}"
    )
    return {
        "float_ap50": float_ap["ap50"],
        "float_ap": float_ap,
        "qat_ap50": qat_ap["ap50"] if qat_ap else None,
        "qat_ap": qat_ap,
        "steps": {"float": options.float_steps, "qat": options.qat_steps if qat_ap else 0},
        "dataset": training.name,
        "dataset_sha256": training.sha256,
        "classes": list(training.classes),
        "seed": options.seed,
        "command": command,
        "seconds": round(seconds),
        "hwflow_version": __version__,
    }


def _steps(options: TrainOptions, phase: str) -> int:
    return options.float_steps if phase == "float" else options.qat_steps


def _pixels(images: np.ndarray, device: torch.device) -> Tensor:
    """uint8 (N, 3, H, W) -> float pixel / 256, channels last, which is faster on CPUs."""
    batch = torch.from_numpy(np.ascontiguousarray(images)).to(device)
    return batch.float().mul(PIXEL_SCALE).contiguous(memory_format=torch.channels_last)


def _check(options: TrainOptions) -> None:
    if options.float_steps < 1 or options.qat_steps < 0:
        raise ConfigError("train: float_steps must be at least 1 and qat_steps at least 0")
    if options.threads is not None and options.threads < 1:
        raise ConfigError(f"train: threads {options.threads}: give at least 1, or leave it out")
    for crops in options.float_crops + options.qat_crops:
        bad_scale = not 0 < crops.scale[0] <= crops.scale[1]
        if crops.size <= 0 or crops.size % 32 or crops.batch < 1 or crops.share <= 0 or bad_scale:
            raise ConfigError(
                f"train: crops {crops}: size must be a positive multiple of 32, batch at least 1, "
                "share above 0, scale two positive limits in order"
            )
    for name in ("float_crops", "qat_crops"):
        total = sum(crops.share for crops in getattr(options, name))
        if abs(total - 1) > 1e-6:
            raise ConfigError(f"train: the shares of {name} add up to {total}, must be 1")
    if not (0 < options.lr < 1 and 0 < options.qat_lr < 1 and 0 <= options.ema < 1):
        raise ConfigError("train: lr and qat_lr must be in (0, 1) and ema in [0, 1)")
    if options.save_every < 1 or options.report_every < 1 or options.eval_every < 0:
        raise ConfigError("train: save_every and report_every must be at least 1, eval_every 0 up")
