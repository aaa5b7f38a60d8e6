"""What every exception of botocore means to us. Total: whatever comes out of a call becomes a ServiceError."""

from __future__ import annotations

import re
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
            # An endpoint of something else, or one that lacks this operation.
            *("UnknownOperationException", "UnknownOperation"),
        ),
        errors.Denied,
    ),
    "ResourceNotFoundException": errors.NotFound,
    "InvalidSequenceTokenException": errors.WriterRace,
    "DataAlreadyAcceptedException": errors.AlreadyAccepted,
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

#: What codes that nobody foresaw are about, by what they contain. The rest says nothing about the events.
_BY_PATTERN = (
    (re.compile("Throttl|LimitExceeded|QuotaExceeded|Throughput|Bandwidth|TooMany"), errors.Throttled),
    (re.compile("Auth|Access|Credential|Signature|Token|KMS|Subscription|OptIn|Forbidden"), errors.Denied),
    (re.compile("Validation|Serialization|Malformed|Invalid(Param|Req|Arg|Input)|TooLarge"), errors.InvalidRequest),
)

#: The calls by which botocore gets credentials, in the middle of one of ours.
_CREDENTIAL_OPERATIONS = frozenset(
    (
        *("AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "GetSessionToken"),
        *("GetRoleCredentials", "CreateToken", "CreateOAuth2Token"),
    )
)
#: The request was on its way, or answered, when these happened; what else botocore raises it raises before.
_SENT = (boto.HTTPClientError, boto.IncompleteReadError, boto.ChecksumError, boto.FlexibleChecksumError)


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
    if isinstance(error, boto.ConnectionError):  # refused, DNS, TLS, proxy: nothing was sent
        return errors.Unavailable(operation, name, text)
    if isinstance(error, boto.CapacityNotAvailableError):
        return errors.Throttled(operation, name, text)
    if isinstance(error, boto.BotoCoreError) and not isinstance(error, _SENT):
        # Credentials or configuration that botocore cannot work with. ParamValidationError is among them: it never
        # sees the events themselves, but an entity, say, may be beyond an older botocore's model.
        return errors.Denied(operation, name, text)
    # Read time-outs, resets, answers cut short, and all that nobody foresaw: the service may have seen the request.
    return errors.Unavailable(operation, name, text, may_be_stored=True)


def _from_answer(operation: str, error: boto.ClientError) -> errors.ServiceError:
    """The meaning of an error answer: by its code, and for codes that nobody foresaw, by its HTTP status."""
    answer = cast(Mapping[str, Mapping[str, str]], error.response)
    code = str(answer.get("Error", {}).get("Code", "Unknown")).rpartition("#")[2]
    text = str(answer.get("Error", {}).get("Message", ""))
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    kind = _BY_CODE.get(code) or _by_pattern(code) or _by_status(status)
    meant: errors.ServiceError
    if error.operation_name in _CREDENTIAL_OPERATIONS:
        # Whatever is wrong with it, it is not our request, which was never sent.
        kind = kind if kind in (errors.Throttled, errors.Unavailable) else errors.Denied
        return kind(operation, code, f"{error.operation_name}: {text}")
    if kind is errors.WriterRace or kind is errors.AlreadyAccepted:
        token = cast("str | None", answer.get("expectedSequenceToken")) or None
        meant = kind(operation, code, text, expected_token=token)
    elif kind is errors.Denied:
        meant = errors.Denied(operation, code, text or f"logs:{operation} is not allowed")
    else:
        # A 5xx may come from something that stands between us and a service that has carried the request out.
        stored = kind is errors.Unavailable and status >= 500 and status != 503
        meant = kind(operation, code, text, may_be_stored=stored)
    meant.status = status or None
    return meant


def _by_pattern(code: str) -> type[errors.ServiceError] | None:
    return next((kind for pattern, kind in _BY_PATTERN if pattern.search(code)), None)


def _by_status(status: int) -> type[errors.ServiceError]:
    """Only what is too large for whoever said so is given up; a code that says nothing is no verdict on the events."""
    if status == 429:
        return errors.Throttled
    if status in (401, 403):
        return errors.Denied
    if status in (413, 415):
        return errors.InvalidRequest
    return errors.Unavailable
