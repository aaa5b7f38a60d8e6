"""What every exception of botocore means to us. Total: whatever comes out of a call becomes a ServiceError."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from botocore import exceptions as boto

from . import errors

_BY_CODE: dict[str, type[errors.ServiceError]] = {
    **dict.fromkeys(
        (
            *("Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled"),
            *("RequestThrottledException", "RequestLimitExceeded", "LimitExceededException", "TooManyRequests"),
            *("TooManyRequestsException", "SlowDown"),
        ),
        errors.Throttled,
    ),
    **dict.fromkeys(
        (
            *("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "NotAuthorized", "AuthFailure"),
            *("UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException"),
            *("SignatureDoesNotMatch", "IncompleteSignature", "MissingAuthenticationToken"),
            *("MissingAuthenticationTokenException", "ExpiredToken", "ExpiredTokenException", "RequestExpired"),
            *("OptInRequired", "RequestTimeTooSkewed", "InvalidAccessKeyId", "TokenRefreshRequired"),
        ),
        errors.Denied,
    ),
    **dict.fromkeys(("ResourceNotFoundException",), errors.NotFound),
    **dict.fromkeys(("ResourceAlreadyExistsException", "OperationAbortedException"), errors.AlreadyExists),
    **dict.fromkeys(
        (
            *("InvalidParameterException", "InvalidParameterValue", "InvalidParameterCombination"),
            *("SerializationException", "ValidationException", "ValidationError", "RequestEntityTooLarge"),
            *("UnsupportedMediaType", "MalformedRequestException", "InvalidRequestException"),
        ),
        errors.InvalidRequest,
    ),
    **dict.fromkeys(
        (
            *("ServiceUnavailable", "ServiceUnavailableException", "InternalFailure", "InternalServerError"),
            *("InternalServerException", "InternalErrorException", "InternalError", "RequestTimeout"),
            *("RequestTimeoutException",),
        ),
        errors.Unavailable,
    ),
}

#: Raised before anything was sent.
_NOT_SENT = (boto.EndpointConnectionError, boto.ConnectTimeoutError, boto.ProxyConnectionError, boto.SSLError)
#: The credentials, or what the client is configured with, may still come right.
_CREDENTIALS = (
    *(boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError, boto.NoAuthTokenError),
    *(boto.TokenRetrievalError, boto.SSOError, boto.MetadataRetrievalError, boto.ProfileNotFound),
    *(boto.NoRegionError, boto.EndpointProviderError, boto.UnknownEndpointError, boto.RefreshWithMFAUnsupportedError),
)


def translate(operation: str, error: Exception) -> errors.ServiceError:
    """Return the error of ours that an exception out of a boto3 call means.

    Args:
        operation: the API operation that was called.
        error: what it raised.
    """
    if isinstance(error, errors.ServiceError):
        return error
    if isinstance(error, boto.ClientError):
        return _from_answer(operation, error)
    name, text = type(error).__name__, str(error)
    if isinstance(error, _CREDENTIALS):
        return errors.Denied(operation, name, text)
    if isinstance(error, boto.ParamValidationError):
        return errors.InvalidRequest(operation, name, text)
    if isinstance(error, _NOT_SENT):
        return errors.Unavailable(operation, name, text)
    # Read time-outs, resets, answers cut short, and all that nobody foresaw: the service may have seen the request.
    return errors.Unavailable(operation, name, text, may_be_stored=True)


def _from_answer(operation: str, error: boto.ClientError) -> errors.ServiceError:
    """The meaning of an error answer: by its code, and for codes that nobody foresaw, by its HTTP status."""
    answer = cast(Mapping[str, Mapping[str, str]], error.response)
    code = str(answer.get("Error", {}).get("Code", "Unknown")).rpartition("#")[2]
    text = str(answer.get("Error", {}).get("Message", ""))
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in ("InvalidSequenceTokenException", "DataAlreadyAcceptedException"):
        token = cast("str | None", answer.get("expectedSequenceToken")) or None
        if code == "DataAlreadyAcceptedException":
            return errors.AlreadyAccepted(operation, code, text, expected_token=token)
        return errors.WriterRace(operation, code, text, expected_token=token)
    kind = _BY_CODE.get(code)
    if kind is errors.Denied or (kind is None and status in (401, 403)):
        return errors.Denied(operation, code, text or f"logs:{operation} is not allowed")
    if kind is None:
        kind = _by_status(status, from_service="RequestId" in answer.get("ResponseMetadata", {}))
    # A 5xx may come from something that stands between us and a service that has carried the request out.
    return kind(operation, code, text, may_be_stored=kind is errors.Unavailable and status >= 500 and status != 503)


def _by_status(status: int, *, from_service: bool) -> type[errors.ServiceError]:
    """Only what the service itself calls wrong, or what is too large for whoever said so, is given up."""
    if status == 429:
        return errors.Throttled
    if status in (413, 415) or (status == 400 and from_service):
        return errors.InvalidRequest
    return errors.Unavailable
