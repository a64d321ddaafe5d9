"""What every test shares: statistics of tiny models go to a folder of their own, and one thread serves them best."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _statistics(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_STATISTICS", str(tmp_path_factory.mktemp("statistics")))
        yield


@pytest.fixture(autouse=True)
def _one_thread(request):
    """Tiny tensors run fastest on one thread; tests of the real model say so and get all."""
    threads = torch.get_num_threads()
    if request.node.get_closest_marker("slow") is None:
        torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
