"""The tests mirror the packages: whoever changes a module finds its tests under the same name."""

from pathlib import Path

from tests import ROOT

PACKAGES = ("curate", "scorers", "augmenters")
# Read, not run: re-exports, array types, exceptions.
WITHOUT = ("__init__.py", "__main__.py", "types.py", "errors.py")
MOST_LINES = 500


def _test_of(path: Path) -> Path:
    """tests/models/test_forward.py for curate/models/forward.py; scorers and augmenters are folders of tests/."""
    place = path.relative_to(ROOT)
    inside = place.relative_to("curate") if place.parts[0] == "curate" else place
    return ROOT / "tests" / inside.parent / f"test_{path.name}"


def test_every_module_has_a_test_module() -> None:
    modules = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if path.name not in WITHOUT]
    assert len(modules) > 150
    assert [path.relative_to(ROOT).as_posix() for path in modules if not _test_of(path).exists()] == []


def test_no_test_file_is_too_long() -> None:
    sizes = {path: path.read_text(encoding="utf-8").count("\n") for path in (ROOT / "tests").rglob("*.py")}
    assert {path.name: lines for path, lines in sizes.items() if lines > MOST_LINES} == {}


def test_what_tests_share_lies_in_one_place() -> None:
    """A helper beside the tests is a conftest, or in tests/fixtures and tests/fuzz."""
    stray = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests").rglob("*.py")
        if not path.name.startswith(("test_", "conftest", "__init__"))
        and path.relative_to(ROOT / "tests").parts[0] not in ("fixtures", "fuzz", "floors.py")
    ]
    assert stray == []
