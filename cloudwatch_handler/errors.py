"""What can go wrong between this package and CloudWatch Logs, as one tree.

::

    ServiceError
    ├── Throttled            slow down
    ├── Unavailable          not there now: refused, DNS, 5xx, reset, time-out
    │   └── NotTheService    HTTP 200 from something else (a proxy, a captive portal)
    ├── Denied               credentials, permissions or configuration; may heal
    ├── NotFound             the group or the stream is missing
    ├── AlreadyExists        somebody else created it first
    ├── InvalidRequest       these bytes are wrong: never send them again
    │   └── CompressionRefused   wrong perhaps only because they were compressed
    ├── WriterRace           the upload token was not the stream's current one
    └── AlreadyAccepted      the service has this very batch

Every exception of boto3 and botocore becomes one of these in :mod:`cloudwatch_handler.translate`, and nowhere else. The
classes follow the table "Errors on the way" of the documentation: what an error *means* for the batch, not what it is
called.
"""

from __future__ import annotations


class ServiceError(Exception):
    """An operation on CloudWatch Logs that did not succeed.

    Attributes:
        operation: the API operation, such as ``"PutLogEvents"``.
        code: the service's error code, or the name of the client-side exception.
        may_be_stored: True when the request may have been carried out although no answer came, so that sending the
            batch again can store it twice.
        status: HTTP status of the error answer; None when there was no answer.
        requests: how many requests the operation took, pages before this one included.
    """

    phrase = "failed"
    status: int | None = None
    requests: int = 1

    def __init__(self, operation: str, code: str, detail: str = "", *, may_be_stored: bool = False) -> None:
        super().__init__(operation, code, detail)
        self.operation = operation
        self.code = code
        self.detail = detail
        self.may_be_stored = may_be_stored

    def __str__(self) -> str:
        detail = f": {' '.join(self.detail.split())}" if self.detail else ""  # botocore breaks lines
        return f"{self.operation} {self.phrase} ({self.code}{detail})"


class Throttled(ServiceError):
    """Too many requests for the account's quota."""

    phrase = "was throttled"


class Unavailable(ServiceError):
    """The service could not be reached, or broke off."""

    phrase = "did not get through"


class NotTheService(Unavailable):
    """Something answered HTTP 200 that is not CloudWatch Logs."""

    phrase = "was answered by something that is not CloudWatch Logs"


class Denied(ServiceError):
    """Credentials, permissions or configuration are missing; they may come."""

    phrase = "was not permitted"


class NotFound(ServiceError):
    """The log group or the log stream does not exist."""

    phrase = "found no such log group or stream"


class AlreadyExists(ServiceError):
    """The log group or stream exists, or is being created by another process."""

    phrase = "found it existing already"


class InvalidRequest(ServiceError):
    """The service calls the request wrong."""

    phrase = "was refused as invalid"


class CompressionRefused(InvalidRequest):
    """A compressed request was refused by an endpoint that never accepted one; it is worth one try without."""

    phrase = "was refused with a compressed body"


class WriterRace(ServiceError):
    """InvalidSequenceTokenException: another writer was faster.

    Attributes:
        expected_token: the token the service named, or None.
    """

    phrase = "came with a stale upload token"

    def __init__(self, operation: str, code: str, detail: str = "", *, expected_token: str | None = None) -> None:
        super().__init__(operation, code, detail)
        self.expected_token = expected_token


class AlreadyAccepted(ServiceError):
    """DataAlreadyAcceptedException: the service has this batch already.

    Attributes:
        expected_token: the token the next batch needs, or None.
    """

    phrase = "brought a batch that is stored already"

    def __init__(self, operation: str, code: str, detail: str = "", *, expected_token: str | None = None) -> None:
        super().__init__(operation, code, detail)
        self.expected_token = expected_token
