"""Every exception of botocore means one of our errors, and what the service cannot have seen is never called stored."""

from __future__ import annotations

import inspect
import string
from typing import Any

import pytest
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from cloudwatch_handler import errors
from cloudwatch_handler.translate import translate

CLASSES = [kind for _, kind in inspect.getmembers(boto, inspect.isclass) if kind.__module__ == boto.__name__]


def make(kind: type[Exception]) -> Exception:
    """An exception of this class, as botocore would raise it."""
    if issubclass(kind, boto.ClientError):
        return kind({"Error": {"Code": "Code", "Message": "why"}}, "PutLogEvents")
    if hasattr(kind, "fmt"):
        parameters = inspect.signature(kind).parameters.items()
        required = {name for name, parameter in parameters if parameter.default is parameter.empty}
        fields = {field for _, field, _, _ in string.Formatter().parse(kind.fmt) if field}
        return kind(**dict.fromkeys(fields | required - {"kwargs"}, "x"))
    return kind("why")


def answer(
    code: str | None,
    status: int = 400,
    *,
    message: str = "",
    request_id: bool = True,
    operation: str = "PutLogEvents",
    **fields: Any,
) -> boto.ClientError:
    """An error answer as botocore parses it."""
    metadata: dict[str, object] = {"HTTPStatusCode": status, "HTTPHeaders": {}}
    if request_id:
        metadata["RequestId"] = "r-1"
    error = {"Code": code, "Message": message}
    return boto.ClientError({"Error": error, "ResponseMetadata": metadata, **fields}, operation)


# Exceptions that are no answer


@pytest.mark.parametrize("kind", CLASSES)
def test_the_translation_is_total(kind: type[Exception]) -> None:
    """Whatever botocore can raise becomes a ServiceError with its name and text, and events are not given up for it."""
    error = make(kind)
    meant = translate("PutLogEvents", error)
    assert isinstance(meant, errors.ServiceError)
    assert meant.operation == "PutLogEvents"
    if not isinstance(error, boto.ClientError):
        assert (meant.code, meant.detail) == (kind.__name__, str(error))
    assert not isinstance(meant, errors.InvalidRequest)


def test_the_classes_are_found() -> None:
    """The test above looks at all of them."""
    assert len(CLASSES) >= 90


@pytest.mark.parametrize(
    ("kind", "meaning", "may_be_stored"),
    [
        # Nothing was sent.
        (boto.ConnectionError, errors.Unavailable, False),
        (boto.EndpointConnectionError, errors.Unavailable, False),
        (boto.ConnectTimeoutError, errors.Unavailable, False),
        (boto.ProxyConnectionError, errors.Unavailable, False),
        (boto.SSLError, errors.Unavailable, False),
        # It was on its way, or the answer was.
        (boto.HTTPClientError, errors.Unavailable, True),
        (boto.ReadTimeoutError, errors.Unavailable, True),
        (boto.ConnectionClosedError, errors.Unavailable, True),
        (boto.ResponseStreamingError, errors.Unavailable, True),
        (boto.IncompleteReadError, errors.Unavailable, True),
        (boto.ChecksumError, errors.Unavailable, True),
        (boto.FlexibleChecksumError, errors.Unavailable, True),
        # Credentials.
        (boto.NoCredentialsError, errors.Denied, False),
        (boto.PartialCredentialsError, errors.Denied, False),
        (boto.CredentialRetrievalError, errors.Denied, False),
        (boto.MetadataRetrievalError, errors.Denied, False),
        (boto.NoAuthTokenError, errors.Denied, False),
        (boto.TokenRetrievalError, errors.Denied, False),
        (boto.SSOTokenLoadError, errors.Denied, False),
        (boto.UnauthorizedSSOTokenError, errors.Denied, False),
        (boto.RefreshWithMFAUnsupportedError, errors.Denied, False),
        # Configuration.
        (boto.ProfileNotFound, errors.Denied, False),
        (boto.NoRegionError, errors.Denied, False),
        (boto.InvalidRegionError, errors.Denied, False),
        (boto.EndpointResolutionError, errors.Denied, False),
        (boto.UnknownEndpointError, errors.Denied, False),
        (boto.ConfigParseError, errors.Denied, False),
        (boto.InvalidConfigError, errors.Denied, False),
        (boto.InvalidProxiesConfigError, errors.Denied, False),
        (boto.MissingDependencyException, errors.Denied, False),
        (boto.ParamValidationError, errors.Denied, False),
        # The rest.
        (boto.CapacityNotAvailableError, errors.Throttled, False),
        (boto.UndefinedModelAttributeError, errors.Unavailable, True),
        (ResponseParserError, errors.Unavailable, True),
        (ConnectionResetError, errors.Unavailable, True),
        (RuntimeError, errors.Unavailable, True),
    ],
)
def test_an_exception_has_a_meaning(kind: type[Exception], meaning: type, may_be_stored: bool) -> None:
    """And the batch may be stored only where the request can have reached the service."""
    meant = translate("PutLogEvents", make(kind))
    assert type(meant) is meaning
    assert meant.may_be_stored == may_be_stored
    assert meant.status is None


def test_an_error_of_ours_stays_what_it_is() -> None:
    """It was translated before."""
    error = errors.NotTheService("PutLogEvents", "NotTheService")
    assert translate("DescribeLogStreams", error) is error


# Answers


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        ("ThrottlingException", errors.Throttled),
        ("Throttling", errors.Throttled),
        ("LimitExceededException", errors.Throttled),
        ("TooManyRequests", errors.Throttled),
        ("TooManyRequestsException", errors.Throttled),
        ("RequestLimitExceeded", errors.Throttled),
        ("ServiceUnavailableException", errors.Unavailable),
        ("InternalFailure", errors.Unavailable),
        ("RequestTimeout", errors.Unavailable),
        ("ResourceNotFoundException", errors.NotFound),
        ("AccessDeniedException", errors.Denied),
        ("UnrecognizedClientException", errors.Denied),
        ("ExpiredTokenException", errors.Denied),
        ("InvalidSignatureException", errors.Denied),
        ("MissingAuthenticationTokenException", errors.Denied),
        ("UnknownOperationException", errors.Denied),
        ("InvalidParameterException", errors.InvalidRequest),
        ("SerializationException", errors.InvalidRequest),
        ("OperationAbortedException", errors.AlreadyExists),
        ("ResourceAlreadyExistsException", errors.AlreadyExists),
        ("InvalidSequenceTokenException", errors.WriterRace),
        ("DataAlreadyAcceptedException", errors.AlreadyAccepted),
        ("com.amazonaws.logs#ThrottlingException", errors.Throttled),
    ],
)
@pytest.mark.parametrize("request_id", [True, False])
def test_a_known_code_has_a_meaning(code: str, meaning: type, request_id: bool) -> None:
    """Whoever says it: compatible endpoints leave the request id out."""
    meant = translate("PutLogEvents", answer(code, message="why", request_id=request_id))
    assert type(meant) is meaning
    assert (meant.code, meant.detail, meant.status) == (code.rpartition("#")[2], "why", 400)
    assert not meant.may_be_stored


def test_a_status_without_a_code_is_no_verdict() -> None:
    """Half a body, say: botocore gives the status for a code, and nobody knows what the service wanted to say."""
    meant = translate("PutLogEvents", answer("400", 400))
    assert (type(meant), meant.may_be_stored) == (errors.Unavailable, False)


@pytest.mark.parametrize(
    ("status", "meaning", "may_be_stored"),
    [
        (400, errors.Unavailable, False),
        (401, errors.Denied, False),
        (403, errors.Denied, False),
        (404, errors.Unavailable, False),
        (407, errors.Unavailable, False),
        (408, errors.Unavailable, False),
        (413, errors.InvalidRequest, False),
        (415, errors.InvalidRequest, False),
        (429, errors.Throttled, False),
        (302, errors.Unavailable, False),
        (500, errors.Unavailable, True),
        (502, errors.Unavailable, True),
        (503, errors.Unavailable, False),
        (504, errors.Unavailable, True),
        (0, errors.Unavailable, False),
    ],
)
@pytest.mark.parametrize("code", ["NewException", None])
@pytest.mark.parametrize("request_id", [True, False])
def test_an_unknown_code_is_judged_by_its_status(
    code: str | None, status: int, meaning: type, may_be_stored: bool, request_id: bool
) -> None:
    """It is no verdict on the events; only about sizes anybody is believed."""
    meant = translate("PutLogEvents", answer(code, status, request_id=request_id))
    assert (type(meant), meant.may_be_stored) == (meaning, may_be_stored)
    assert meant.status == (status or None)


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        ("ServiceQuotaExceededException", errors.Throttled),
        ("ProvisionedThroughputExceededException", errors.Throttled),
        ("BandwidthLimitExceeded", errors.Throttled),
        ("IncompleteSignatureException", errors.Denied),
        ("NotAuthorizedException", errors.Denied),
        ("SubscriptionRequiredException", errors.Denied),
        ("InvalidToken", errors.Denied),
        ("KMSDisabledException", errors.Denied),
        ("InvalidArgumentException", errors.InvalidRequest),
    ],
)
def test_an_unknown_code_means_what_it_is_about(code: str, meaning: type) -> None:
    """Services have many words for slow down and for not allowed, and none of them gives events up."""
    assert type(translate("PutLogEvents", answer(code, 400))) is meaning


@pytest.mark.parametrize(
    ("code", "status", "may_be_stored"),
    [("InternalFailure", 500, True), ("InternalFailure", 400, False), ("Throttling", 500, False)],
)
def test_a_known_code_counts_for_more_than_the_status(code: str, status: int, may_be_stored: bool) -> None:
    """A throttled request was not carried out, whatever the status; an internal failure may have come after it."""
    assert translate("PutLogEvents", answer(code, status)).may_be_stored == may_be_stored


@pytest.mark.parametrize("code", ["InvalidSequenceTokenException", "DataAlreadyAcceptedException"])
@pytest.mark.parametrize(("fields", "token"), [({"expectedSequenceToken": "7"}, "7"), ({}, None)])
def test_the_expected_token_comes_along(code: str, fields: dict[str, str], token: str | None) -> None:
    """Absent on a stream that has none yet."""
    meant = translate("PutLogEvents", answer(code, **fields))
    assert isinstance(meant, (errors.WriterRace, errors.AlreadyAccepted))
    assert meant.expected_token == token


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("", "logs:PutLogEvents is not allowed"),
        (
            "u may not perform logs:PutLogEvents",
            "u may not perform logs:PutLogEvents",
        ),
    ],
)
def test_a_denial_says_which_permission_is_missing(message: str, text: str) -> None:
    """In the service's words, or in ours where it says nothing."""
    meant = translate("PutLogEvents", answer("AccessDeniedException", message=message))
    assert str(meant) == f"PutLogEvents was not permitted (AccessDeniedException: {text})"


@pytest.mark.parametrize("operation", ["AssumeRole", "AssumeRoleWithWebIdentity", "GetRoleCredentials"])
@pytest.mark.parametrize(
    ("code", "status", "meaning"),
    [
        ("ValidationError", 400, errors.Denied),
        ("AccessDenied", 403, errors.Denied),
        ("InvalidIdentityToken", 400, errors.Denied),
        ("ResourceNotFoundException", 400, errors.Denied),
        ("Throttling", 400, errors.Throttled),
        ("InternalFailure", 500, errors.Unavailable),
    ],
)
def test_an_answer_about_credentials_is_not_about_the_batch(
    operation: str, code: str, status: int, meaning: type
) -> None:
    """A wrong role must not make the events invalid; and the batch cannot have been stored."""
    meant = translate("PutLogEvents", answer(code, status, message="why", operation=operation))
    assert type(meant) is meaning
    assert (meant.operation, meant.detail) == ("PutLogEvents", f"{operation}: why")
    assert (meant.may_be_stored, meant.status) == (False, None)


@pytest.mark.parametrize("response", [{}, {"Error": {}}, {"ResponseMetadata": {}}])
def test_an_answer_that_says_nothing_is_unavailable(response: dict[str, object]) -> None:
    """A test double's, say."""
    meant = translate("PutLogEvents", boto.ClientError(response, "PutLogEvents"))
    assert (type(meant), meant.code, meant.may_be_stored) == (errors.Unavailable, "Unknown", False)
