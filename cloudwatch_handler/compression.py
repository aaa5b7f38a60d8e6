"""Whether request bodies are compressed, learnt from what the endpoint says to it."""

from __future__ import annotations

from . import errors


class Compression:
    """Whether to compress, learnt from what the endpoint says to it.

    An endpoint that answers a compressed request with an error before it ever accepted one gets the same batch without.
    If that works, compression is over for good: at once after a refusal (4xx), at the second time after an error that
    may be chance (5xx). If that fails in the same way, it was not the compression; what says nothing of the request
    itself, such as the 404 of a proxy, is then asked only once for each wait. 415 says it outright, at any time.

    Attributes:
        on: whether to compress the next request.
    """

    def __init__(self, wanted: bool) -> None:
        self.on = wanted
        self._settled = False  # nothing is left to learn
        self._suspected = 0  # hundreds of the HTTP status that a compressed request got; 0 for none
        self._innocent: set[int] = set()  # HTTP statuses that came without compression, too
        self._failures = 0  # of compressed requests, each followed by one that worked without

    def succeeded(self) -> None:
        """A request was accepted as it was sent."""
        if not self.on:
            self._failures += 1
            if self._suspected == 5 and self._failures < 2:
                self.on = True
                return
        self._settled = True

    def failed(self, error: errors.ServiceError) -> errors.ServiceError:
        """A request failed; returns the error to report."""
        if isinstance(error, (errors.WriterRace, errors.AlreadyAccepted)):
            self.succeeded()  # to say that, it must have read the body
        elif error.status is not None and not isinstance(error, (errors.Throttled, errors.Denied, errors.NotFound)):
            return self._answered(error, error.status)
        return error

    def _answered(self, error: errors.ServiceError, status: int) -> errors.ServiceError:
        if not self.on:
            if not self._settled and status // 100 == self._suspected:
                self.on = True
                self._innocent.add(status)
            return error
        if self._settled and status != 415:
            return error
        if 400 <= status < 500:
            if status in self._innocent and not isinstance(error, errors.InvalidRequest):
                return error
            self.on, self._suspected = False, 4
            refused = errors.CompressionRefused(error.operation, error.code, error.detail)
            refused.status = status
            return refused
        if status >= 500 and status != 503:
            self.on, self._suspected = False, 5
        return error
