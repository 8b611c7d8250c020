# SPDX-License-Identifier: Apache-2.0
"""Average precision against values worked out by hand from the definitions."""

import numpy as np
import pytest

from hwflow.metrics import Detections, Truth, coco_ap, iou, voc07_ap

BOX = [0.0, 0.0, 10.0, 10.0]
FAR = [50.0, 50.0, 60.0, 60.0]
EMPTY_SPOT = [200.0, 200.0, 210.0, 210.0]


def found(*entries: tuple[list[float], float, int]) -> Detections:
    boxes, scores, labels = zip(*entries, strict=True) if entries else ((), (), ())
    return Detections(
        np.array(boxes, dtype=float).reshape(-1, 4), np.array(scores, dtype=float), np.array(labels)
    )


def truth(*entries: tuple[list[float], int, bool]) -> Truth:
    boxes, labels, hard = zip(*entries, strict=True) if entries else ((), (), ())
    return Truth(
        np.array(boxes, dtype=float).reshape(-1, 4),
        np.array(labels, dtype=int),
        np.array(hard, dtype=bool),
    )


def right_part(fraction: float) -> list[float]:
    """A part of BOX whose IoU with BOX is the fraction."""
    return [0.0, 0.0, 10.0 * fraction, 10.0]


def test_iou_of_known_pairs() -> None:
    a = np.array([BOX, [0.0, 0.0, 0.0, 10.0]])
    b = np.array([BOX, [5.0, 5.0, 15.0, 15.0], [10.0, 0.0, 20.0, 10.0]])
    assert iou(a, b).tolist() == [[1.0, 25 / 175, 0.0], [0.0, 0.0, 0.0]]


def test_hit_miss_hit() -> None:
    """Recall 1/2 at precision 1, then recall 1 at precision 2/3."""
    detections = [found((BOX, 0.9, 0), (EMPTY_SPOT, 0.8, 0), (FAR, 0.7, 0))]
    truths = [truth((BOX, 0, False), (FAR, 0, False))]
    assert voc07_ap(detections, truths, 1) == pytest.approx((6 + 5 * 2 / 3) / 11, abs=1e-12)
    expected = (51 + 50 * 2 / 3) / 101
    assert coco_ap(detections, truths, 1) == pytest.approx(expected, abs=1e-12)


def test_precision_is_made_monotonic() -> None:
    """miss, hit, hit: precisions 0, 1/2, 2/3; the best to the right is 2/3 at every recall."""
    detections = [found((EMPTY_SPOT, 0.9, 0), (BOX, 0.8, 0), (FAR, 0.7, 0))]
    truths = [truth((BOX, 0, False), (FAR, 0, False))]
    assert voc07_ap(detections, truths, 1) == pytest.approx(2 / 3, abs=1e-12)
    assert coco_ap(detections, truths, 1) == pytest.approx(2 / 3, abs=1e-12)


def test_ranking_is_over_all_images() -> None:
    """The false alarm of image 1 outranks the hit of image 0: precision 1/2 at full recall."""
    detections = [found((BOX, 0.5, 0)), found((BOX, 0.6, 0))]
    truths = [truth((BOX, 0, False)), truth()]
    assert voc07_ap(detections, truths, 1) == pytest.approx(0.5, abs=1e-12)
    assert coco_ap(detections, truths, 1) == pytest.approx(0.5, abs=1e-12)


def test_missed_truths_cost_recall() -> None:
    """One of three found: recall 1/3, so the recalls 0, .1, .2, .3 and 0, .01 ... .33 count."""
    detections = [found((BOX, 0.9, 0))]
    truths = [truth((BOX, 0, False), (FAR, 0, False), (EMPTY_SPOT, 0, False))]
    assert voc07_ap(detections, truths, 1) == pytest.approx(4 / 11, abs=1e-12)
    assert coco_ap(detections, truths, 1) == pytest.approx(34 / 101, abs=1e-12)


def test_second_detection_of_one_truth_is_a_false_alarm() -> None:
    detections = [found((BOX, 0.9, 0), (right_part(0.95), 0.8, 0), (FAR, 0.7, 0))]
    truths = [truth((BOX, 0, False), (FAR, 0, False))]
    assert voc07_ap(detections, truths, 1) == pytest.approx((6 + 5 * 2 / 3) / 11, abs=1e-12)
    assert coco_ap(detections, truths, 1, (0.5,)) == pytest.approx((51 + 100 / 3) / 101, abs=1e-12)


@pytest.mark.parametrize("metric", [voc07_ap, coco_ap])
def test_difficult_neither_hit_nor_miss_nor_alarm(metric: object) -> None:
    detections = [found((FAR, 0.9, 0), (BOX, 0.8, 0))]
    truths = [truth((BOX, 0, False), (FAR, 0, True), (EMPTY_SPOT, 0, True))]
    assert metric(detections, truths, 1) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(("overlap", "expected"), [(0.5, 1.0), (0.4999, 0.0)])
def test_threshold_itself_counts(overlap: float, expected: float) -> None:
    detections, truths = [found((right_part(overlap), 0.9, 0))], [truth((BOX, 0, False))]
    assert voc07_ap(detections, truths, 1) == expected
    assert coco_ap(detections, truths, 1, (0.5,)) == expected


@pytest.mark.parametrize(("overlap", "passed"), [(0.72, 5), (0.949, 9), (0.951, 10), (0.5, 1)])
def test_coco_averages_ten_thresholds(overlap: float, passed: int) -> None:
    """IoU 0.72 passes 0.50, 0.55 ... 0.70: five of ten."""
    detections, truths = [found((right_part(overlap), 0.9, 0))], [truth((BOX, 0, False))]
    assert coco_ap(detections, truths, 1) == pytest.approx(passed / 10, abs=1e-12)


def test_voc_judges_by_the_nearest_coco_by_the_nearest_free() -> None:
    """Two truths 12 % apart; both detections lie on the first one."""
    near = [0.0, 0.0, 10.0, 12.0]
    detections = [found((BOX, 0.9, 0), (BOX, 0.8, 0))]
    truths = [truth((BOX, 0, False), (near, 0, False))]
    assert voc07_ap(detections, truths, 1) == pytest.approx(6 / 11, abs=1e-12)
    assert coco_ap(detections, truths, 1, (0.5,)) == pytest.approx(1.0, abs=1e-12)


def test_classes_are_separate_and_averaged_over_those_present() -> None:
    detections = [found((BOX, 0.9, 0), (FAR, 0.9, 0), (EMPTY_SPOT, 0.9, 2))]
    truths = [truth((BOX, 0, False), (FAR, 1, False))]
    # class 0: a hit before an alarm of equal score, 1; class 1: nothing found, 0; 2: no truth.
    assert voc07_ap(detections, truths, 3) == pytest.approx(0.5, abs=1e-12)
    assert coco_ap(detections, truths, 3) == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize("metric", [voc07_ap, coco_ap])
def test_without_any_truth_there_is_no_value(metric: object) -> None:
    assert metric([found((BOX, 0.9, 0))], [truth((BOX, 0, True))], 1) is None
    assert metric([found()], [truth((BOX, 0, False))], 1) == 0.0


def test_coco_counts_the_best_hundred_of_an_image() -> None:
    alarms = [(EMPTY_SPOT, 0.9 - 0.001 * i, 0) for i in range(100)]
    truths = [truth((BOX, 0, False))]
    assert coco_ap([found(*alarms[:99], (BOX, 0.1, 0))], truths, 1) == pytest.approx(0.01)
    assert coco_ap([found(*alarms, (BOX, 0.1, 0))], truths, 1) == 0.0
    assert voc07_ap([found(*alarms, (BOX, 0.1, 0))], truths, 1) == pytest.approx(1 / 101)
