"""The two implementations of the coder, and how a test is run on each."""

import pytest

from layercast.entropy import coder, plain

try:
    from layercast.entropy import compiled
except ImportError:
    compiled = None

BACKENDS = {"plain": plain, "compiled": compiled}


@pytest.fixture(scope="module", params=BACKENDS)
def each_coder(request):
    """Runs a module's tests with constriction and, where it was built, with the compiled coder."""
    if BACKENDS[request.param] is None:
        pytest.skip("layercast.entropy._range was not built")
    before = coder.backend
    coder.backend = BACKENDS[request.param]
    yield coder.backend
    coder.backend = before
