# SPDX-License-Identifier: Apache-2.0
"""The HLS backend: the integer graph as C++17 for a layer engine, compiled and run here.

`write` puts sources, program and parameter images and a Vitis HLS project into a folder, `build`
compiles them with g++ (the arbitrary-precision headers are those of the installed hls4ml), `run`
executes one frame layer by layer and gives back every tensor.
"""

import ctypes
import dataclasses
import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from hwflow import boards, interp, plan, resources
from hwflow.emit import hls_program
from hwflow.emit.hls_program import EngineShape, Program, View
from hwflow.errors import ConfigError, GraphError, ResourceError, ToolError
from hwflow.ir import Graph, IntType

TOP = "hwflow_net"
LIBRARY = "libnet.so"
# The kernels' own warnings are errors. Off are: the vendor's pragmas and the labels of loops, which
# only its compiler reads, and reads of unset numbers, which g++ finds in the default constructor of
# ap_int after inlining it (it masks a value nobody uses).
WARNINGS = (
    "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wno-unused-label",
    "-Wno-uninitialized", "-Wno-maybe-uninitialized",
)  # fmt: skip
_CSIM_SEED = 1
# What memory holds before a frame: not zero, as on a board.
_NOISE = 0xA5A5A5A5A5A5A5A5


def header_dir() -> Path:
    """The folder of our kernels' headers."""
    return resources.path("hls")


def ap_types_dir() -> Path:
    """The folder of ap_int.h inside the installed hls4ml; ConfigError when there is none."""
    spec = importlib.util.find_spec("hls4ml")
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / "templates" / "vivado" / "ap_types"
        if (folder / "ap_int.h").is_file():
            return folder
    raise ConfigError("ap_int.h was not found: install hls4ml 1.3.0 (pip install hls4ml==1.3.0)")


def write(
    graph: Graph,
    out_dir: Path,
    board: boards.Board | None = None,
    inputs: Mapping[str, np.ndarray] | None = None,
    shape: EngineShape | None = None,
) -> tuple[Path, ...]:
    """Write sources, images and the Vitis HLS project of a graph; the files written.

    `board` (default pynq-z2) gives part, clock and the block RAMs the buffers must fit. `inputs` is
    the frame of the project's testbench (default: a random one of fixed seed). GraphError or
    ResourceError name the node that is not supported or does not fit.
    """
    board = board or boards.load("pynq-z2")
    program = fitting(graph, board, shape)
    net = _net(graph, program)
    headers = {p.name: p.read_text() for p in sorted(header_dir().glob("*.hpp"))}
    images: dict[str, str | bytes] = {
        "program.bin": program.words.astype("<i4").tobytes(),
        "params.bin": program.params.astype("<u8").tobytes(),
    }
    frame = inputs if inputs is not None else _random_frame(graph)
    vitis = _vitis(graph, program, board, frame)
    files: dict[str, str | bytes] = {
        "layout.json": _layout(graph, program),
        **{f"image/{name}": data for name, data in images.items()},
        **{f"csrc/{name}": text for name, text in {"net.cpp": net, **headers}.items()},
        **{f"vitis/data/{name}": data for name, data in images.items()},
        **{f"vitis/src/{name}": text for name, text in {"net.cpp": net, **headers}.items()},
        **{f"vitis/{name}": data for name, data in vitis.items()},
    }
    (out_dir / LIBRARY).unlink(missing_ok=True)  # it may be of another shape
    for name, data in files.items():
        plan.write_atomic(out_dir / name, data.encode() if isinstance(data, str) else data)
    return tuple(out_dir / name for name in files)


def fitting(graph: Graph, board: boards.Board, shape: EngineShape | None = None) -> Program:
    """The program of a graph, on buffers that the board has; GraphError or ResourceError else."""
    program = hls_program.compile_graph(graph, shape)
    needed, there = program.shape.bram36(), board.resources.bram36
    if needed > there:
        grown = f" (they grew for node {'; node '.join(program.grown)})" if program.grown else ""
        way = "split that layer, or " if grown else "choose a smaller EngineShape, or "
        raise ResourceError(
            f"the HLS buffers need {needed} BRAM36{grown}, {board.name} has {there}; {way}choose a "
            "larger board"
        )
    return program


def build(out_dir: Path) -> Path:
    """Compile what `write` put into csrc/ and return the library; ToolError if g++ fails."""
    library = compile_plan(out_dir / "csrc")
    plan.execute(library, out_dir)
    return out_dir / LIBRARY


def compile_plan(sources: Path, extra: tuple[str, ...] = ()) -> plan.Plan:
    """The plan that compiles a folder of sources; its digest covers every one of them."""
    texts = {f"csrc/{p.name}": p.read_text() for p in sorted(sources.glob("*.[ch]pp"))}
    if "csrc/net.cpp" not in texts:
        raise ToolError(f"{sources} holds no net.cpp; call hwflow.emit.hls.write first")
    argv = (
        "g++", "-std=c++17", "-O2", "-fPIC", "-shared", *WARNINGS, *extra,
        "-isystem", str(ap_types_dir()), "csrc/net.cpp", "-o", LIBRARY,
    )  # fmt: skip
    command = plan.Command(argv, "build.log", timeout_s=600, version=("g++", "--version"))
    return plan.Plan(texts, (command,), (LIBRARY,), name="hls-csim")


def testbench_plan(vitis: Path, extra: tuple[str, ...] = ()) -> plan.Plan:
    """The plan that compiles the Vitis project's testbench with g++ and runs it on its vectors."""
    names = sorted((*vitis.glob("src/*"), *vitis.glob("data/*"), vitis / "tb.cpp"))
    files = {p.relative_to(vitis).as_posix(): p.read_bytes() for p in names}
    compiler = (
        "g++", "-std=c++17", "-O2", *WARNINGS, *extra, "-isystem", str(ap_types_dir()),
        "-Isrc", "src/net.cpp", "tb.cpp", "-o", "tb",
    )  # fmt: skip
    commands = (
        plan.Command(compiler, "tb_build.log", timeout_s=600, version=("g++", "--version")),
        plan.Command((str((vitis / "tb").resolve()), "data"), "tb.log", timeout_s=600),
    )
    return plan.Plan(files, commands, ("tb",), name="hls-tb")


def run(
    out_dir: Path,
    image: np.ndarray | Mapping[str, np.ndarray],
    library: Path | None = None,
) -> dict[str, np.ndarray]:
    """Execute one frame layer by layer; every tensor of the graph by name, inputs included.

    `image` is the array of the only input, or a mapping of all. Feature maps come back as int8 or
    uint8 (C, H, W), of 16 or 32 bits where they are wider, candidates as int16. `library` replaces
    the folder's own: an engine of equal EngineShape, in the folder of another graph, serves this
    one. GraphError for inputs that do not fit their type, ToolError for a missing or unfit library.
    """
    layout, library = _loaded(out_dir, library)
    inputs = image if isinstance(image, Mapping) else {layout["inputs"][0]: image}
    acts = np.full(layout["act_words"], _NOISE, np.uint64)
    _feed(acts, layout, inputs)
    words = np.fromfile(out_dir / "image" / "program.bin", "<i4")
    params = np.fromfile(out_dir / "image" / "params.bin", "<u8")
    function = _function(library)
    for index in range(len(layout["steps"])):
        _check_status(function(words, params, acts, index, 1), library)
    return {name: _get(acts, layout, name) for name in layout["tensors"]}


def run_many(
    out_dir: Path, images: np.ndarray, library: Path | None = None
) -> dict[str, np.ndarray]:
    """Execute many frames (B, C, H, W) of the only input; the outputs by name, (B, ...).

    As `run`, but all layers of a frame in one call, and memory keeps what the frame before left.
    """
    layout, library = _loaded(out_dir, library)
    if len(layout["inputs"]) != 1 or not len(images):
        raise GraphError("give at least one frame of a network of one input")
    words = np.fromfile(out_dir / "image" / "program.bin", "<i4")
    params = np.fromfile(out_dir / "image" / "params.bin", "<u8")
    function, acts = _function(library), np.full(layout["act_words"], _NOISE, np.uint64)
    outputs = dict.fromkeys(layout["outputs"])
    found: dict[str, list[np.ndarray]] = {name: [] for name in outputs}
    views = {name: _view(layout, name) for name in (*layout["inputs"], *outputs)}
    source = layout["inputs"][0]
    shape = tuple(layout["tensors"][source]["shape"])
    for image in images:
        _put(acts, views[source], source, shape, image)
        _check_status(function(words, params, acts, 0, len(layout["steps"])), library)
        for name in outputs:
            found[name].append(_taken(acts, views[name], tuple(layout["tensors"][name]["shape"])))
    return {name: np.stack(arrays) for name, arrays in found.items()}


def _loaded(out_dir: Path, library: Path | None) -> tuple[dict[str, Any], Path]:
    """The layout of a folder and a library that fits it."""
    layout = read_layout(out_dir)
    library = library or out_dir / LIBRARY
    if not library.is_file():
        raise ToolError(f"{library} is missing; call hwflow.emit.hls.build first")
    if read_layout(library.parent)["shape"] != layout["shape"]:
        raise ToolError(f"{library} is an engine of another shape than {out_dir} was written for")
    return layout, library


def _feed(acts: np.ndarray, layout: Mapping[str, Any], inputs: Mapping[str, np.ndarray]) -> None:
    """Write all inputs of a frame into the activation memory."""
    for name in layout["inputs"]:
        if name not in inputs:
            raise GraphError(f"input '{name}' is missing; given: {', '.join(inputs) or 'none'}")
        _put(acts, _view(layout, name), name, tuple(layout["tensors"][name]["shape"]), inputs[name])


def _check_status(status: int, library: Path) -> None:
    if status != 0:
        raise ToolError(f"{library}: layer {status - 1} has an op the library does not know")


def _function(library: Path) -> Callable[..., int]:
    function = getattr(ctypes.CDLL(str(library.resolve())), TOP)
    arrays = [np.ctypeslib.ndpointer(t, flags="C") for t in (np.int32, np.uint64, np.uint64)]
    function.argtypes = [*arrays, ctypes.c_int, ctypes.c_int]
    function.restype = ctypes.c_int

    def call(*arguments: object) -> int:
        return int(function(*arguments))

    return call


def _put(
    acts: np.ndarray, view: View, name: str, shape: tuple[int, ...], array: np.ndarray
) -> None:
    """Write an input into the activation memory."""
    array = np.asarray(array)
    if array.shape != shape or array.dtype.kind not in "iu":
        raise GraphError(
            f"input '{name}' is {array.dtype} {array.shape}; give integers of shape {shape}"
        )
    if array.size and (array.min() < view.dtype.lo or array.max() > view.dtype.hi):
        raise GraphError(f"input '{name}' leaves its type {view.dtype}")
    rows = np.full((len(view.planes), view.height, view.pitch * 8), _NOISE & 255, np.uint8)
    rows[:, :, : view.width] = _byte_planes(array, view)
    words = rows.view(np.uint64).reshape(len(view.planes), -1)
    for plane, data in zip(view.planes, words, strict=True):
        acts[plane : plane + view.plane_words] = data


def _byte_planes(array: np.ndarray, view: View) -> np.ndarray:
    """uint8 (C * bytes, H, W): the bytes of numbers (C, H, W), each in a plane of its own."""
    numbers = np.ascontiguousarray(array.astype("<i8"))
    parts = numbers.view(np.uint8).reshape(*array.shape, 8)[..., : view.bytes]
    return np.moveaxis(parts, -1, 1).reshape(-1, *array.shape[1:])


def _get(acts: np.ndarray, layout: Mapping[str, Any], name: str) -> np.ndarray:
    """Read a tensor from the activation memory, as its consumers see it."""
    return _taken(acts, _view(layout, name), tuple(layout["tensors"][name]["shape"]))


def _taken(acts: np.ndarray, view: View, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers of a view."""
    size = view.plane_words
    planes = np.stack([acts[p : p + size] for p in view.planes])
    if len(shape) == 2:
        return planes.view(np.int16).reshape(shape)
    parts = planes.view(np.uint8).reshape(-1, view.bytes, view.height, view.pitch * 8)
    numbers = np.ascontiguousarray(np.moveaxis(parts[..., : view.width], 1, -1))
    kind = f"<{'i' if view.dtype.signed else 'u'}{view.bytes}"
    data = numbers.view(kind)[..., 0]
    if view.up:
        data = data.repeat(1 << view.up, axis=1).repeat(1 << view.up, axis=2)
    return np.ascontiguousarray(data)


def _layout(graph: Graph, program: Program) -> str:
    """Where every tensor lies, as JSON."""
    tensors = {
        name: {
            "shape": list(graph.tensors[name].shape),
            "dtype": str(view.dtype),
            "height": view.height,
            "width": view.width,
            "up": view.up,
            "planes": _runs(view),
        }
        for name, view in program.views.items()
    }
    body = {
        "graph": graph.digest(),
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
        "act_words": program.act_words,
        "param_words": int(program.params.size),
        "shape": dataclasses.asdict(program.shape),
        "buffer_bytes": program.shape.bytes(),
        "buffer_bram36": program.shape.bram36(),
        "steps": [dataclasses.asdict(step) for step in program.steps],
        "tensors": tensors,
    }
    return json.dumps(body, indent=1) + "\n"


def _runs(view: View) -> list[list[int]]:
    """The planes of a view as [first address, step, count] runs."""
    runs: list[list[int]] = []
    for plane in view.planes:
        if runs and runs[-1][2] == 1:
            runs[-1][1] = plane - runs[-1][0]
        if runs and plane == runs[-1][0] + runs[-1][1] * runs[-1][2]:
            runs[-1][2] += 1
        else:
            runs.append([plane, 0, 1])
    return runs


def _view(layout: Mapping[str, Any], name: str) -> View:
    entry = layout["tensors"][name]
    planes = tuple(a + step * i for a, step, count in entry["planes"] for i in range(count))
    return View(planes, entry["height"], entry["width"], entry["up"], IntType.parse(entry["dtype"]))


def read_layout(out_dir: Path) -> dict[str, Any]:
    """layout.json of a folder that `write` made; ToolError unless all of it has the right form."""
    path = out_dir / "layout.json"
    try:
        layout: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        words = layout["act_words"]
        known = isinstance(words, int) and set(layout["inputs"]) <= set(layout["tensors"])
        known = known and isinstance(layout["steps"], list) and isinstance(layout["shape"], dict)
        for name, entry in layout["tensors"].items():
            view = _view(layout, name)
            known = known and all(isinstance(n, int) and n > 0 for n in entry["shape"])
            known = known and min(view.height, view.width) > 0 <= view.up
            ends = [plane + view.plane_words for plane in view.planes]
            known = known and min(view.planes) >= 0 and max(ends) <= words
        if not known:
            raise ValueError("a tensor lies outside of the memory")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError,
            RecursionError, GraphError) as error:
        raise ToolError(f"{path} cannot be read ({error}); call hwflow.emit.hls.write") from error
    return layout


def _net(graph: Graph, program: Program) -> str:
    constants = {key.upper(): n for key, n in dataclasses.asdict(program.shape).items()}
    return _render(
        "hls_net.cpp.j2",
        graph=graph.name,
        digest=graph.digest(),
        constants=constants,
        layer_words=hls_program.LAYER_WORDS,
        pix_par=hls_program.PIX_PAR,
        oc_par=hls_program.OC_PAR,
        banks=hls_program.BANKS,
        place_bits=hls_program.PLACE_BITS,
        fields=hls_program.FIELDS,
        opcodes=hls_program.OPCODES,
        program_depth=program.words.size,
        param_depth=program.params.size,
        act_depth=program.act_words,
    )


def _vitis(
    graph: Graph, program: Program, board: boards.Board, inputs: Mapping[str, np.ndarray]
) -> dict[str, str | bytes]:
    """Script, testbench and vectors of the Vitis HLS project; the expected values are interp's."""
    expected = interp.run(graph, inputs, keep=True)
    index = {step.tensor: i for i, step in enumerate(program.steps)}
    lines, data = [f"{program.act_words} {len(program.steps)}"], []
    for name in (*graph.inputs, *index):
        view, values = program.views[name], expected[name]
        numbers = (index.get(name, -1), view.planes[0], len(view.planes), view.height, view.width)
        lines.append(" ".join(map(str, (*numbers, view.pitch, name))))
        flat = values.astype("<i2") if values.ndim == 2 else _byte_planes(values, view)
        data.append(flat.tobytes())
    script = _render(
        "hls_run.tcl.j2",
        graph=graph.name,
        part=board.part,
        period_ns=f"{1000 / board.clock.mhz:.3f}",
    )
    return {
        "run_hls.tcl": script,
        "tb.cpp": _render("hls_tb.cpp.j2", graph=graph.name),
        "data/tensors.txt": "\n".join(lines) + "\n",
        "data/tensors.bin": b"".join(data),
    }


def _random_frame(graph: Graph) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(_CSIM_SEED)
    frame = {}
    for name in graph.inputs:
        dtype = graph.tensors[name].dtype
        if not isinstance(dtype, IntType):
            raise GraphError(f"input '{name}' is {dtype}; lower the graph to integers first")
        frame[name] = rng.integers(dtype.lo, dtype.hi + 1, graph.tensors[name].shape)
    return frame


def _render(template: str, **holes: object) -> str:
    """A template with its holes filled; one left open is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    try:
        return environment.get_template(template).render(**holes)
    except jinja2.UndefinedError as error:
        raise ToolError(f"template {template}: {error}; every hole needs a value") from error
