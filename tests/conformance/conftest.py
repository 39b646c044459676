import pytest

from tests.conformance import specs


@pytest.fixture(scope='module', autouse=True)
def _shared_bijectors_are_as_they_were():
  yield
  assert not specs.changed()
