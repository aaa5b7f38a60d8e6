"""What every test may use, and what none may depend on: the machine's own settings for AWS."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.strict_service import StrictService

# The first example pays for imports and caches; a slow machine is no defect.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

# A background job is started with SIGINT ignored; here Ctrl-C must mean what it means at a terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No AWS variable, no AWS file and no instance metadata of the machine; the contract with AWS itself needs them."""
    if request.path.name == "test_contract.py":
        return
    for name in os.environ:
        if name.startswith(("AWS_", "BOTO_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def service() -> Iterator[StrictService]:
    """A CloudWatch Logs on loopback that holds every documented rule."""
    with StrictService() as service:
        yield service


@pytest.fixture(autouse=True)
def _nobody_else_speaks(request: pytest.FixtureRequest) -> None:
    """Where a test looks at what is said, threads of earlier handlers, which gave up in a call, have ended."""
    if not {"caplog", "capsys", "capfd"} & set(request.fixturenames):
        return
    for thread in threading.enumerate():
        if thread.name == "cloudwatch_handler":
            thread.join(60)
            assert not thread.is_alive()
