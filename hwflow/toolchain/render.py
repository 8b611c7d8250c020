# SPDX-License-Identifier: Apache-2.0
"""Fill a template of another language; a hole left open is an error."""

from __future__ import annotations

from pathlib import Path

import jinja2

from hwflow.errors import ToolError

_FOLDER = Path(__file__).parent / "templates"


def render(template: str, **holes: object) -> str:
    """Text of `templates/TEMPLATE` with its named holes filled."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER), undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False,
    )
    try:
        return environment.get_template(template).render(**holes)
    except jinja2.UndefinedError as error:
        raise ToolError(f"template {template}: {error}; every hole needs a value") from error
