# SPDX-License-Identifier: Apache-2.0
"""`hwflow run`: a picture to a board on a serial line, its class back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from hwflow.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from hwflow.data.samples import Samples

EPILOG = ("Examples: `hwflow run --port /dev/ttyUSB0 --image digit.png` - "
          "`hwflow run --port /dev/ttyUSB0 --data mnist --index 7`")


def run(
    port: Annotated[str, typer.Option("--port", "-p", help="Serial port, as /dev/ttyUSB0.")],
    image: Annotated[
        Path | None, typer.Option("--image", "-i", help="A picture of the network's size.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Or a sample of this data: mnist, keel:NAME, ...")
    ] = None,
    index: Annotated[int, typer.Option("--index", help="Which one of the test split.")] = 0,
    invert: Annotated[
        bool, typer.Option("--invert", help="The picture is dark on light; MNIST is not.")
    ] = False,
    board: Annotated[
        str | None, typer.Option("--board", "-b", help="Take the baud rate of this board file.")
    ] = None,
    baud: Annotated[
        int | None, typer.Option("--baud", help="Bits a second; default 115200.")
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", help="Seconds without an answer.")
    ] = 2.0,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Where downloads are; default ~/.cache/hwflow.")
    ] = None,
) -> None:
    """Send a picture to a board that runs a network of tables; print the class it answers."""
    from hwflow import boards
    from hwflow.driver import uart

    if (image is None) == (data is None):
        raise ConfigError("hwflow run takes --image FILE or --data SOURCE, one of them")
    if not 0.01 <= timeout <= 600:
        raise ConfigError(f"--timeout {timeout:g}: give 0.01 to 600 seconds")
    rate = baud or (boards.load(board).open.uart.baud if board else uart.DEFAULT_BAUD)
    if not 300 <= rate <= 12_000_000:
        raise ConfigError(f"--baud {rate}: give 300 to 12000000")
    # What is sent is read before the port is opened: a wrong file costs nothing
    if image is not None:
        open_picture(image)
    test = samples_of(data, index, cache) if data is not None else None
    with uart.open_port(port, rate, timeout) as line:
        link = uart.Link(line)
        if test is not None:
            found = link.classify(test.images[index])
        elif image is not None:
            found = link.classify(picture(image, link.frame_bytes(), invert))
    what = str(image) if test is None else f"{data}, test sample {index}"
    console = Console()
    console.print(f"{what}: class {_name(found.index, test)}", markup=False, soft_wrap=True)
    if found.scores:
        console.print("scores: " + " ".join(map(str, found.scores)))
    if test is not None:
        label = int(test.labels[index])
        verdict = "as labelled" if label == found.index else f"its label is {_name(label, test)}"
        console.print(verdict, markup=False)


def _name(index: int, test: Samples | None) -> str:
    """A class by its number and, where it has another name, that."""
    if test is None or index >= len(test.classes) or test.classes[index] == str(index):
        return str(index)
    return f"{index} ({test.classes[index]})"


def samples_of(spec: str, index: int, cache: Path | None) -> Samples:
    """The test split of a source; ConfigError when it has no sample of this number."""
    from hwflow.data import default_cache, samples

    found = samples.load(spec, "test", cache or default_cache())
    if not 0 <= index < len(found):
        raise ConfigError(f"--index {index}: {spec} has {len(found)} test samples, 0 to "
                          f"{len(found) - 1}")
    return found


def open_picture(path: Path) -> np.ndarray:
    """Pixels of a picture, uint8 (3, height, width); ConfigError when it is none."""
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            return np.asarray(opened.convert("RGB"), np.uint8).transpose(2, 0, 1)
    except FileNotFoundError as error:
        raise ConfigError(f"--image {path}: there is no such file") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ConfigError(f"--image {path}: cannot be read as a picture; give a PNG") from error


def picture(path: Path, count: int, invert: bool = False) -> np.ndarray:
    """A picture in so many bytes, grey (1, H, W) or colour (3, H, W); ConfigError if it has others.

    invert: dark becomes light.
    """
    import numpy as np
    from PIL import Image

    colour = open_picture(path)
    pixels = colour.shape[1] * colour.shape[2]
    if count == 3 * pixels:
        found = colour
    elif count == pixels:
        with Image.open(path) as opened:
            found = np.asarray(opened.convert("L"), np.uint8)[None]
    else:
        side = round(count**0.5)
        way = f"{side} x {side} pixels" if side * side == count else f"{count} bytes"
        raise ConfigError(
            f"--image {path}: has {colour.shape[2]} x {colour.shape[1]} pixels, the network on the "
            f"board takes {way}; resize the picture"
        )
    return 255 - found if invert else found
