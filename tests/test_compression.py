"""Whether to compress: learnt within a request or two, from the answers alone."""

from __future__ import annotations

import pytest

from cloudwatch_handler import errors
from cloudwatch_handler.compression import Compression


def failure(kind: type[errors.ServiceError], status: int | None) -> errors.ServiceError:
    """An error with this HTTP status."""
    error = kind("PutLogEvents", "Code", "why")
    error.status = status
    return error


def play(wanted: bool, *answers: str) -> tuple[Compression, str]:
    """Let requests get these answers: an HTTP status each, or ``-`` for none; returns which were compressed (z)."""
    compression, sent = Compression(wanted), ""
    for answer in answers:
        sent += "z" if compression.on else "p"
        if answer == "200":
            compression.succeeded()
        elif answer == "-":
            compression.failed(failure(errors.Unavailable, None))
        else:
            kind = errors.InvalidRequest if answer in ("400", "413", "415") else errors.Unavailable
            compression.failed(failure(kind, int(answer)))
    return compression, sent + ("z" if compression.on else "p")


@pytest.mark.parametrize(
    ("answers", "compressed"),
    [
        # The endpoint takes it: on for good, whatever comes.
        ("200 200", "zzz"),
        ("200 400 500 400", "zzzzz"),
        # It refuses: one request more, then off for good.
        ("415 200 200", "zppp"),
        ("400 200 400 500 200", "zppppp"),
        ("404 200 404 200", "zpppp"),
        # Nor does an outage in between bring the compression back.
        ("415 500 - 503 200 200", "zpppppp"),
        # It was not the compression: the same without it.
        ("400 400 200 400", "zpzzz"),
        ("404 404 200", "zpzz"),
        # What says nothing of the request, and came without compression as well, is asked only once for each wait.
        ("404 404 404 404 200", "zpzzzz"),
        ("404 404 400 200", "zpzpp"),
        # An error that may be chance: on again after the first, off for good after the second.
        ("500 200 200 500", "zpzzz"),
        ("500 200 500 200 200 500 400", "zpzppppp"),
        ("500 500 200", "zpzz"),
        ("500 500 500 200 200", "zpzpzz"),
        # No answer and 503 say nothing.
        ("- 503 -", "zzzz"),
        ("500 - 200 200", "zppzz"),
        # 415 says it outright, also where it was fine before (another machine behind the same name).
        ("200 415 200 200", "zzppp"),
    ],
)
def test_compression_is_learnt(answers: str, compressed: str) -> None:
    """At most one request more for a batch, and soon none."""
    assert play(True, *answers.split())[1] == compressed


@pytest.mark.parametrize("answers", ["200", "415 200", "500 500 200", "400 400 400"])
def test_what_is_not_wanted_stays_off(answers: str) -> None:
    """Whatever the endpoint says."""
    assert "z" not in play(False, *answers.split())[1]


@pytest.mark.parametrize("status", [400, 404, 415, 422])
def test_a_refusal_is_reported_as_one(status: int) -> None:
    """So that the same batch goes out at once without."""
    given = failure(errors.InvalidRequest, status)
    error = Compression(True).failed(given)
    assert type(error) is errors.CompressionRefused
    assert (error.operation, error.code, error.detail, error.status) == ("PutLogEvents", "Code", "why", status)


@pytest.mark.parametrize("status", [500, 503, None])
def test_an_outage_is_reported_as_it_is(status: int | None) -> None:
    """The batch waits like any other."""
    given = failure(errors.Unavailable, status)
    assert Compression(True).failed(given) is given


def test_a_plain_request_is_never_refused_for_its_compression() -> None:
    """The second error is the first one's."""
    compression = Compression(True)
    compression.failed(failure(errors.InvalidRequest, 400))
    given = failure(errors.InvalidRequest, 400)
    assert compression.failed(given) is given


@pytest.mark.parametrize("kind", [errors.Throttled, errors.Denied, errors.NotFound])
def test_other_troubles_are_not_suspected(kind: type[errors.ServiceError]) -> None:
    """They would come without compression too."""
    compression = Compression(True)
    given = failure(kind, 400)
    assert compression.failed(given) is given
    assert compression.on


@pytest.mark.parametrize("kind", [errors.Throttled, errors.Denied, errors.NotFound])
def test_other_troubles_do_not_acquit(kind: type[errors.ServiceError]) -> None:
    """After a refusal, only success or the same refusal says what it was."""
    compression, _ = play(True, "415")
    compression.failed(failure(kind, 400))
    assert not compression.on
    compression.succeeded()
    assert not compression.on


@pytest.mark.parametrize("kind", [errors.WriterRace, errors.AlreadyAccepted])
def test_an_answer_about_tokens_proves_that_the_body_was_read(kind: type[errors.ServiceError]) -> None:
    """As good as a success, compressed or not."""
    compression = Compression(True)
    given = failure(kind, 400)
    assert compression.failed(given) is given
    compression.failed(failure(errors.InvalidRequest, 400))
    assert compression.on

    compression, _ = play(True, "415")
    compression.failed(failure(kind, 400))
    compression.failed(failure(errors.InvalidRequest, 400))
    assert not compression.on
