"""Print the lowest versions that pyproject.toml allows for its direct dependencies, as constraints for pip."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def lowest(text: str) -> str:
    """Return "name==bound" of a requirement with a lower bound; pip reads `==2.4` as 2.4.0.

    Raises:
        ValueError: it has no lower bound.
    """
    requirement = Requirement(text)
    bounds = [clause.version for clause in requirement.specifier if clause.operator == ">="]
    if len(bounds) != 1:
        raise ValueError(f"{text}: expected one lower bound")
    return f"{requirement.name}=={bounds[0]}"


def main() -> int:
    """Print the constraints of the library and of the extras that the tests need."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(text for name in ("book", "data", "dev") for text in extras[name])]
    print("\n".join(sorted(lowest(text) for text in wanted)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
