"""A real SLURM for the tests here. They run only when asked for: ``pytest -m slurm tests/slurm``."""

import pytest
from slurm.cluster import Cluster
from slurm.packages import UnavailableError

pytest.register_assert_rewrite("slurm.behaviour")


def pytest_collection_modifyitems(config, items):
    if "slurm" not in (config.option.markexpr or ""):
        for item in items:
            if item.get_closest_marker("slurm"):
                item.add_marker(pytest.mark.skip(reason="installs and starts a SLURM: asked for with -m slurm"))


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
