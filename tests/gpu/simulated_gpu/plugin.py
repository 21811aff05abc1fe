"""A plugin of pytest, by which each process of pytest-xdist has a simulated GPU."""

from tests.gpu.simulated_gpu.install import install


def pytest_configure() -> None:
    """Before a test module asks whether there is a GPU."""
    install()
