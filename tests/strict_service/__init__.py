"""A fake CloudWatch Logs that enforces every documented rule, spoken to by a real boto3 client.

::

    with StrictService(enforce_tokens=True) as service:
        service.create_log_stream("my-app", "web-1")
        service.inject(Error("ThrottlingException"), times=3)
        client = service.client()
        ...
        assert service.messages("my-app", "web-1") == ["hello"]
        assert service.violations == []
"""

from __future__ import annotations

from .faults import Delay, Error, Fault, Hang, Hold, Html, Injection, Reset, Truncate
from .ports import black_hole, closed_port, free_port
from .server import Request, StoredEvent, StrictService
from .state import Options

__all__ = [
    "Delay",
    "Error",
    "Fault",
    "Hang",
    "Hold",
    "Html",
    "Injection",
    "Options",
    "Request",
    "Reset",
    "StoredEvent",
    "StrictService",
    "Truncate",
    "black_hole",
    "closed_port",
    "free_port",
]
