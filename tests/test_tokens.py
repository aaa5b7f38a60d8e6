"""Sixteen processes, one stream, upload tokens enforced: the upload token in full, end to end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.strict_service import StrictService

ROOT = Path(__file__).resolve().parent.parent
PROCESSES, RECORDS = 16, 20

WRITER = """
import logging, sys
from cloudwatch_handler import CloudWatchHandler

number, mode = sys.argv[1], sys.argv[2]
handler = CloudWatchHandler("shared", "one-stream", sequence_token=mode, retry={"base": 0.05, "max_delay": 0.5})
log = logging.getLogger("writer")
log.setLevel(logging.INFO)
log.addHandler(handler)
for record in range(20):
    log.info("%s/%d", number, record)
    if not handler.flush(60):
        sys.exit(f"not delivered: {handler.statistics()}")
"""


@pytest.mark.parametrize("mode", ["auto", "cached", "describe"])
def test_sixteen_processes_that_share_a_stream_deliver_every_record_once_and_in_order(mode: str) -> None:
    """320 of 320, whichever way the token is found."""
    with StrictService(enforce_tokens=True) as service:
        environment = {
            **os.environ,
            "AWS_ENDPOINT_URL": service.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-W", "error", "-c", WRITER]
        writers = [
            subprocess.Popen([*command, str(number), mode], env=environment, stderr=subprocess.PIPE, text=True)
            for number in range(PROCESSES)
        ]
        errors = [writer.communicate(timeout=110)[1] for writer in writers]
        assert [writer.returncode for writer in writers] == [0] * PROCESSES, errors
        messages = service.messages("shared", "one-stream")
        expected = Counter(f"{number}/{record}" for number in range(PROCESSES) for record in range(RECORDS))
        assert Counter(messages) == expected
        for number in range(PROCESSES):
            own = [message for message in messages if message.startswith(f"{number}/")]
            assert own == [f"{number}/{record}" for record in range(RECORDS)]
        assert service.violations == []
        assert any(request.error == "InvalidSequenceTokenException" for request in service.requests)
