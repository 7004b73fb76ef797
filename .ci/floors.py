"""Print the lowest releases that pyproject.toml allows, one requirement a line, as pip takes them.

    python .ci/floors.py train verify dev

The arguments are the extras wanted besides the package's own requirements. What names no lowest release is
printed as it is.
"""

import re
import sys
import tomllib
from pathlib import Path


def read_floors(extras: list[str]) -> list[str]:
    """Requirements such as `torch==2.13`."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(row for extra in extras for row in project["optional-dependencies"][extra]),
    ]
    return [re.sub(r">=([\w.]+).*", r"==\1", row) for row in dict.fromkeys(wanted)]


if __name__ == "__main__":
    print("\n".join(read_floors(sys.argv[1:])))
