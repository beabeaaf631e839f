from collections.abc import Iterator

import pytest

from tests.fuzz.harness import Driver


@pytest.fixture(scope="session")
def driver() -> Iterator[Driver]:
    """The fork server of the fuzz tests."""
    driver = Driver()
    yield driver
    driver.close()
