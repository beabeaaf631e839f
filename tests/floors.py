"""Print the lowest versions that pyproject.toml allows, as constraints for pip; everything else as it is tested.

    python tests/floors.py > floors.txt

torch is left at its tested version: builds of others for CPUs are not to be had from every index.
"""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
_FLOOR = re.compile(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?>=([0-9.]+)")
_NOT_LOWERED = {"torch"}
# What these floors need of packages further down: without these pins pip searches for half an hour and gives up.
_BELOW = ("fastapi==0.133.1", "packaging==25.0", "protobuf==5.29.6")


def floors() -> dict[str, str]:
    """{package: lowest version} of what users install, extras included, without developers' tools."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [
        each
        for name, group in project["optional-dependencies"].items()
        if name not in ("dev", "vllm")
        for each in group
    ]
    found = (_FLOOR.fullmatch(each) for each in [*project["dependencies"], *extras])
    return {match[1].lower(): match[2] for match in found if match and match[1] not in _NOT_LOWERED}


def constraints() -> str:
    lowered = floors()
    tested = (ROOT / "constraints.txt").read_text().splitlines()
    tools = {
        "pytest",
        "pytest-timeout",
        "pytest-xdist",
        "hypothesis",
        "ruff",
        "mypy",
        "selenium",
        "psutil",
        "hatchling",
        "torch",
    }
    kept = [line for line in tested if line.partition("==")[0].lower() in tools]
    return "\n".join([*kept, *_BELOW, *(f"{name}=={version}" for name, version in lowered.items())]) + "\n"


if __name__ == "__main__":
    print(constraints(), end="")
