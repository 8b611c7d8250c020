# SPDX-License-Identifier: Apache-2.0
"""`python probe.py PACKAGE...`: write versions.json, null for what is not installed.

Run as a file by the interpreter of the peers; it imports nothing of hwflow.
"""

import json
import sys
from importlib import metadata
from pathlib import Path


def main() -> None:
    """Ask for the version of each package named."""
    found: dict[str, str | None] = {}
    for name in sys.argv[1:]:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    Path("versions.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
