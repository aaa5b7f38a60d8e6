"""The retry policy: its bounds, what window they cover, and what it refuses."""

from __future__ import annotations

import dataclasses
import itertools
import math
import pickle
from collections.abc import Mapping
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudwatch_handler import RetryPolicy

policies = st.builds(
    RetryPolicy,
    base=st.floats(0.001, 10),
    factor=st.floats(1, 1e6),
    max_delay=st.floats(10, 1e9),
)


def test_three_attempts_at_100_ms_cover_less_than_a_second() -> None:
    """0.1 + 0.2 + 0.4 s, and not the 20 s that the longest delay suggests."""
    assert RetryPolicy(base=0.1, max_delay=20).window(3) == pytest.approx(0.7)


@pytest.mark.parametrize(("attempts", "seconds"), [(0, 0), (1, 0.2), (2, 0.6), (8, 51), (9, 81), (10, 111)])
def test_a_window_is_the_sum_of_its_delays(attempts: int, seconds: float) -> None:
    """With the defaults; from the ninth on each attempt adds 30 s."""
    assert RetryPolicy().window(attempts) == pytest.approx(seconds)


def test_delays_grow_up_to_the_longest() -> None:
    """Doubled each time, without end."""
    delays = RetryPolicy(base=0.5, factor=2, max_delay=3).delays()
    assert list(itertools.islice(delays, 6)) == [0.5, 1.0, 2.0, 3, 3, 3]


def test_a_factor_of_one_keeps_the_delay() -> None:
    """A constant pause is a policy too."""
    assert set(itertools.islice(RetryPolicy(base=0.5, factor=1).delays(), 20)) == {0.5}


@given(policies, st.integers(1, 200))
def test_the_delay_of_an_attempt_is_the_nth_delay(policy: RetryPolicy, attempt: int) -> None:
    """The iterator and the formula agree."""
    nth = next(itertools.islice(policy.delays(), attempt - 1, None))
    assert policy.delay(attempt) == pytest.approx(nth)


@given(policies, st.integers(1, 10**12))
def test_a_delay_is_within_its_bounds(policy: RetryPolicy, attempt: int) -> None:
    """However long the outage lasts, and whatever the factor: no overflow."""
    assert policy.base <= policy.delay(attempt) <= policy.max_delay


@pytest.mark.parametrize("factor", [2, 2.0, 10**6, 1e300])
def test_a_week_of_failures_does_not_overflow(factor: float) -> None:
    """Whole numbers and fractions alike."""
    assert RetryPolicy(base=1, factor=factor).delay(10**9) == 30


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"base": 0}, ValueError, "retry: base must be more than 0 seconds, not 0"),
        ({"base": -1.5}, ValueError, "retry: base must be more than 0 seconds, not -1.5"),
        ({"factor": 0.5}, ValueError, "retry: factor must be at least 1, not 0.5"),
        ({"base": 2, "max_delay": 1}, ValueError, "retry: max_delay must be at least base (2), not 1"),
        ({"give_up_after": -1}, ValueError, "retry: give_up_after must be at least 0 seconds, not -1"),
        ({"base": math.nan}, ValueError, "retry: base must be finite, not nan"),
        ({"max_delay": math.inf}, ValueError, "retry: max_delay must be finite, not inf"),
        ({"base": "0.1"}, TypeError, "retry: base must be a number, not '0.1'"),
        ({"factor": True}, TypeError, "retry: factor must be a number, not True"),
        ({"max_delay": None}, TypeError, "retry: max_delay must be a number, not None"),
        ({"give_up_after": "60"}, TypeError, "retry: give_up_after must be a number, not '60'"),
    ],
)
@pytest.mark.parametrize("make", [lambda fields: RetryPolicy(**fields), RetryPolicy.of])
def test_a_wrong_field_is_named(make: type, fields: Mapping[str, object], error: type[Exception], text: str) -> None:
    """With its rule and the value given, also in a mapping."""
    with pytest.raises(error) as caught:
        make(fields)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    "fields",
    [{"base": 30}, {"base": 1, "max_delay": 1}, {"give_up_after": 0}, {"give_up_after": None}, {"factor": 1}],
)
def test_the_ends_of_the_rules_are_legal(fields: dict[str, float]) -> None:
    """At least means equal is fine."""
    assert RetryPolicy(**fields) == RetryPolicy.of(fields)


def test_a_policy_is_itself() -> None:
    """The argument as it is."""
    policy = RetryPolicy(base=1)
    assert RetryPolicy.of(policy) is policy


def test_none_is_the_defaults() -> None:
    """Those of the documentation."""
    assert RetryPolicy.of(None) == RetryPolicy(base=0.2, factor=2.0, max_delay=30.0, give_up_after=None)


@pytest.mark.parametrize("kind", [dict, MappingProxyType])
def test_a_mapping_is_its_fields(kind: type) -> None:
    """What is left out keeps its default."""
    assert RetryPolicy.of(kind({"base": 1, "give_up_after": 60})) == RetryPolicy(1, 2.0, 30.0, 60)


def test_an_unknown_field_is_named() -> None:
    """With those there are."""
    with pytest.raises(
        ValueError, match="unknown field 'atempts'; the fields are base, factor, give_up_after, max_delay"
    ):
        RetryPolicy.of({"base": 1, "atempts": 5})


@pytest.mark.parametrize("value", [5, "5", [("base", 1)], True])
def test_anything_else_is_refused(value: object) -> None:
    """By the argument's name and the value."""
    with pytest.raises(TypeError, match=r"^retry must be a RetryPolicy, a mapping of its fields or None, not "):
        RetryPolicy.of(value)  # type: ignore[arg-type]


def test_a_policy_never_changes() -> None:
    """One may be shared by many handlers."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        RetryPolicy().base = 1  # type: ignore[misc]


def test_a_policy_is_a_value() -> None:
    """Equal by its fields, hashable, and it travels to other processes."""
    policy = RetryPolicy(base=1)
    assert pickle.loads(pickle.dumps(policy)) == policy == dataclasses.replace(RetryPolicy(), base=1)
    assert len({policy, RetryPolicy(base=1), RetryPolicy(base=2)}) == 2
