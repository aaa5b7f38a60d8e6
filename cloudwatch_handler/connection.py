"""One call to CloudWatch Logs: through a client that is made when it is needed, and with its errors translated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from . import errors
from .source import CONNECT_TIMEOUT, READ_TIMEOUT, Answer, Boto3Client, ClientSource, close
from .translate import translate
from .waiting import time_for_calls

#: Codes that credentials get which a new client may find renewed: in a file, in the environment, at an endpoint.
_STALE_CREDENTIALS = frozenset(
    (
        *("NoCredentialsError", "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId"),
        *("InvalidClientTokenId", "UnrecognizedClientException", "InvalidSignatureException"),
    )
)


class Connection:
    """Makes the client at the first call, and anew when its credentials turn out to be stale. One thread at a time.

    Args:
        source: where the client comes from.
    """

    def __init__(self, source: ClientSource) -> None:
        self._source = source
        self._client: Boto3Client | None = None
        self._hasty: tuple[float, Boto3Client] | None = None  # and the seconds that its requests may take

    def call(self, operation: str, call: Callable[[Boto3Client], Answer]) -> Answer:
        """The answer to a call, which gets the client.

        Raises:
            ServiceError: see :mod:`cloudwatch_handler.errors`.
        """
        client = self.client(operation)
        try:
            answer: object = call(client)
        except Exception as error:
            meant = translate(operation, error)
            if meant.code in _STALE_CREDENTIALS:
                self._disconnect()
            raise meant from error
        if not isinstance(answer, Mapping):  # a double's
            return {}
        _check_origin(operation, answer)
        return answer

    def client(self, operation: str) -> Boto3Client:
        """The client for the next call of this operation; where its thread has a deadline, one that will keep it.

        Raises:
            Denied: none can be made: an unknown profile, no region, no credentials for the role.
        """
        within = time_for_calls()
        try:
            if within < CONNECT_TIMEOUT + READ_TIMEOUT and self._source.boto3_client is None:
                return self._connect_in_haste(max(within, 0.1))
            if self._client is None:
                self._client = self._source.make()
        except Exception as error:
            raise errors.Denied(operation, type(error).__name__, f"no boto3 client: {error}") from error
        return self._client

    def _connect_in_haste(self, within: float) -> Boto3Client:
        """A client whose requests end in time; made for half of the time, so that it serves until half is gone."""
        if self._hasty is None or self._hasty[0] > within:
            client = self._source.make(within=within / 2)
            self._disconnect_haste()
            self._hasty = within / 2, client
        return self._hasty[1]

    def _disconnect(self) -> None:
        """Have the client made again for the next request."""
        if self._source.boto3_client is None:
            close(self._client)
        self._client = None
        self._disconnect_haste()

    def _disconnect_haste(self) -> None:
        if self._hasty is not None:
            close(self._hasty[1])
        self._hasty = None


def _check_origin(operation: str, answer: Answer) -> None:
    """A proxy's HTTP 200 parses as an empty answer; only the service's own counts."""
    metadata = cast(Mapping[str, object], answer.get("ResponseMetadata", {}))
    headers = cast("Mapping[str, str] | None", metadata.get("HTTPHeaders"))
    if headers is None or "RequestId" in metadata:  # no headers: a stub's
        return
    what = headers.get("content-type", "no content type")
    if not what.startswith("application/x-amz-json"):
        raise errors.NotTheService(operation, "NotTheService", f"HTTP 200 with {what} and no x-amzn-RequestId")
