"""Whether request bodies are compressed, learnt from what the endpoint says to it."""

from __future__ import annotations

from . import errors


class Compression:
    """Whether to compress, learnt from what the endpoint says to it.

    An endpoint that refuses a compressed request before it ever accepted one gets the same batch without. If that works,
    compression is over: at once after a refusal (4xx), at the second time after an error that may be chance (5xx).
    """

    def __init__(self, wanted: bool) -> None:
        self.on = wanted
        self._proven = not wanted
        self._suspicion = 0

    def succeeded(self) -> None:
        """A request was accepted as it was sent."""
        if self.on:
            self._proven = True
        elif self._suspicion < 2:
            self.on = not self._proven

    def failed(self, status: int | None, error: errors.ServiceError) -> errors.ServiceError:
        """A request got an error answer of this HTTP status (None: no answer); returns the error to report."""
        if self._proven or status is None or isinstance(error, (errors.Throttled, errors.Denied, errors.NotFound)):
            return error
        if not self.on:  # it was not the compression
            self.on, self._suspicion = True, 0
            return error
        if isinstance(error, errors.InvalidRequest):
            self.on, self._suspicion = False, 2
            return errors.CompressionRefused(error.operation, error.code, error.detail)
        if status >= 500 and status != 503:
            self.on, self._suspicion = False, self._suspicion + 1
        return error
