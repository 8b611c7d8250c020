# SPDX-License-Identifier: Apache-2.0
"""The pipelines and pages that people copy from: YAML, scripts and every hwflow command in them."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import typer
import yaml

from hwflow import cli, resources
from hwflow.report import gate

ROOT = resources.path("hdl").parent
PIPELINES = ("docs/ci/github.yml", "docs/ci/gitlab.yml")
PAGES = ("README.md", "docs/ci.md", "baselines/README.md")
_START = re.compile(r"^(?:\S*/hwflow|\S*/python -m hwflow|hwflow) ")

pytestmark = pytest.mark.skipif(not (ROOT / "docs/ci").is_dir(), reason="not a checkout")


def load(name: str) -> dict[str, Any]:
    found = yaml.safe_load((ROOT / name).read_text())
    assert isinstance(found, dict)
    return found


def strings(value: object) -> Iterator[str]:
    """Every string of a YAML value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)


def scripts(name: str) -> list[str]:
    """The shell scripts of a pipeline, one text a step."""
    body = load(name)
    if "jobs" in body:
        return [step["run"] for job in body["jobs"].values() for step in job["steps"]
                if "run" in step]
    return [line for job in body.values() if isinstance(job, dict)
            for line in (*job.get("before_script", ()), *job.get("script", ()))]


def commands(name: str) -> list[list[str]]:
    """Every hwflow command of a file, as words without the program."""
    text = (ROOT / name).read_text()
    lines = scripts(name) if name in PIPELINES else re.findall(r"^    (\S.*)$", text, re.M)
    joined = "\n".join(lines).replace("\\\n", " ").replace("$MODEL", "codenet")
    found = []
    for line in joined.splitlines():
        plain = line.strip().split(" || ")[0]
        if start := _START.match(plain):
            found.append(shlex.split(plain[start.end():], comments=True))
    return found


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_is_yaml_and_its_scripts_are_shell(name: str) -> None:
    assert scripts(name)
    for script in scripts(name):
        plain = re.sub(r"\$\{\{.*?\}\}", "x", script)
        done = subprocess.run(["bash", "-n"], input=plain, text=True, capture_output=True,
                              check=False)
        assert done.returncode == 0, done.stderr


def test_the_python_in_the_pipeline_compiles() -> None:
    (script,) = [one for one in scripts("docs/ci/gitlab.yml") if "<<'END'" in one]
    source = script.split("<<'END'\n")[1].split("\nEND")[0]
    compile(source, "gitlab.yml", "exec")


@pytest.mark.parametrize(("name", "least"), [
    ("docs/ci/github.yml", 4), ("docs/ci/gitlab.yml", 4), ("README.md", 5), ("docs/ci.md", 4),
    ("baselines/README.md", 1),
])
def test_every_command_is_one_hwflow_takes(name: str, least: int) -> None:
    found = commands(name)
    assert len(found) >= least
    program = typer.main.get_command(cli.app)
    for words in found:
        command: Any = program
        while hasattr(command, "commands"):
            assert words[0] in command.commands, words
            command, words = command.commands[words[0]], words[1:]
        context = command.make_context(command.name, list(words))  # UsageError if it does not fit
        for text in context.params.get("fail_if") or ():
            gate.parse(text)


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_does_what_it_promises(name: str) -> None:
    text = "\n".join(strings(load(name)))
    for part in ("--junit junit.xml", "--format md --out compare.md", "mismatches>0", ".venv",
                 "yowasp", "<!-- hwflow -->"):
        assert part in text, part
    assert "YOWASP_CACHE_DIR: " in (ROOT / name).read_text()


def test_limits_of_the_page_are_limits() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| \w", (ROOT / "docs/ci.md").read_text(), re.M)
    limits = [row for row in rows if re.search("[<>]", row)]
    assert len(limits) == 4
    for text in limits:
        gate.parse(text)


def test_nothing_but_the_checkout_may_be_written_by_a_pull_request() -> None:
    body = load("docs/ci/github.yml")
    assert body["permissions"] == {"contents": "read"}
    writers = [name for name, job in body["jobs"].items() if "permissions" in job]
    assert writers == ["comment"]
    uses = [step.get("uses", "") for step in body["jobs"]["comment"]["steps"]]
    assert not any("checkout" in one for one in uses)
