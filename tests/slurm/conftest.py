"""A real SLURM for the tests here. They run only when asked for: ``pytest -m slurm tests/slurm``."""

import pytest
from slurm.cluster import Cluster
from slurm.limited import Limited
from slurm.packages import UnavailableError
from slurm.sweeps import empty, plan_in, pointed_at


def pytest_collection_modifyitems(config, items):
    if "slurm" not in (config.option.markexpr or ""):
        for item in items:
            if item.get_closest_marker("slurm"):
                item.add_marker(pytest.mark.skip(reason="installs and starts a SLURM: asked for with -m slurm"))


@pytest.fixture(scope="session", autouse=True)
def limited(request, tmp_path_factory):
    """What waits for SLURM's time limits begins before all other tests, and is looked at in test_limits.py."""
    if not any("test_limits" in item.nodeid for item in request.session.items):
        yield None
        return
    try:
        with Limited(tmp_path_factory.mktemp("limited")) as limited:
            yield limited
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def cluster():
    """Four nodes, no accounting."""
    cluster = Cluster(4, max_array=50)
    try:
        cluster.start()
    except UnavailableError as error:
        pytest.skip(str(error))
    yield cluster
    cluster.stop()


@pytest.fixture
def slurm(cluster):
    """The cluster as this process and its sweeps see it; empty afterwards."""
    with pointed_at(cluster):
        yield cluster
    empty(cluster)


@pytest.fixture
def planned(tmp_path):
    """Plans a sweep."""

    def make(*words, folder="sweep", **options):
        return plan_in(tmp_path / "outputs" / "ci" / "x" / folder, *words, **options)

    return make
