"""The service model that ships in botocore: what AWS itself states of its rules, for tests to compare with."""

from __future__ import annotations

import re
from typing import Any

import botocore
import pytest
from botocore.loaders import Loader

MODEL = Loader().load_service_model("logs", "service-2")
SHAPES: dict[str, Any] = MODEL["shapes"]

#: The package and the strict service were written after the model of this version.
READ_AT = (1, 44, 5)
CURRENT = pytest.mark.skipif(
    tuple(map(int, re.findall(r"\d+", botocore.__version__))) < READ_AT,
    reason=f"botocore is older than {'.'.join(map(str, READ_AT))}, and its service model lacks what came since",
)


def prose(operation: str) -> str:
    """The documentation of an operation, without its markup."""
    return " ".join(re.sub(r"<[^>]+>", " ", MODEL["operations"][operation]["documentation"]).split())
