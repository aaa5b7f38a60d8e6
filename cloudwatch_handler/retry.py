"""How long to wait before a batch is tried again, as an immutable value."""

from __future__ import annotations

import itertools
import math
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off with full jitter.

    The n-th retry of a batch waits a random time between 0 and the n-th of :meth:`delays`. A batch is tried again until
    it is delivered, unless ``give_up_after`` says otherwise: an outage loses nothing as long as memory (or the spool)
    has room.

    Args:
        base: seconds, upper bound of the first delay; more than 0.
        factor: what each bound is multiplied with to give the next; at least 1.
        max_delay: seconds that no bound exceeds; at least ``base``.
        give_up_after: seconds spent on one batch, counted from its first attempt, after which its events are dropped
            with the reason ``"retries_exhausted"``. None: as long as the process lives. 0: after the first failure.

    Raises:
        TypeError: a field is no number.
        ValueError: a field breaks its rule.
    """

    base: float = 0.2
    factor: float = 2.0
    max_delay: float = 30.0
    give_up_after: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.name == "give_up_after":
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"retry: {field.name} must be a number, not {value!r}")
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"retry: {field.name} must be finite, not {value!r}")
            most = sys.float_info.max if field.name == "factor" else threading.TIMEOUT_MAX
            if value > most:
                raise ValueError(f"retry: {field.name} must be at most {most:,g}, not {value!r}")
        if self.base <= 0:
            raise ValueError(f"retry: base must be more than 0 seconds, not {self.base!r}")
        if self.factor < 1:
            raise ValueError(f"retry: factor must be at least 1, not {self.factor!r}")
        if self.max_delay < self.base:
            raise ValueError(f"retry: max_delay must be at least base ({self.base!r}), not {self.max_delay!r}")
        if self.give_up_after is not None and self.give_up_after < 0:
            raise ValueError(f"retry: give_up_after must be at least 0 seconds, not {self.give_up_after!r}")

    @classmethod
    def of(cls, value: RetryPolicy | Mapping[str, float | None] | None) -> RetryPolicy:
        """The policy that a handler's ``retry`` argument means: itself, a mapping of its fields, or None for defaults.

        Raises:
            TypeError: it is none of these.
            ValueError: a field is unknown or breaks its rule.
        """
        if isinstance(value, RetryPolicy):
            return value
        if value is None:
            return cls()
        if not isinstance(value, Mapping):
            raise TypeError(f"retry must be a RetryPolicy, a mapping of its fields or None, not {value!r}")
        names = {field.name for field in fields(cls)}
        unknown = sorted(str(name) for name in value if name not in names)
        if unknown:
            raise ValueError(f"retry has the unknown field {unknown[0]!r}; the fields are {', '.join(sorted(names))}")
        return cls(**value)  # type: ignore[arg-type]

    def delays(self) -> Iterator[float]:
        """Iterate the upper bounds of the delays in seconds, without end."""
        bound = min(self.base, self.max_delay)
        while True:
            yield bound
            bound = min(bound * self.factor, self.max_delay)

    def delay(self, attempt: int) -> float:
        """Upper bound in seconds of the delay after failed attempt number ``attempt`` (1 is the first)."""
        # The exponent is bounded so that a week of retries does not overflow a float.
        exponent = min(attempt - 1, 1000)
        try:
            return min(self.base * self.factor**exponent, self.max_delay)
        except OverflowError:
            return self.max_delay

    def window(self, attempts: int) -> float:
        """Longest time in seconds that so many delays cover.

        ``RetryPolicy(base=0.1).window(3)`` is 0.1 + 0.2 + 0.4 = 0.7 seconds, whatever ``max_delay`` is: a service that
        comes up after 20 s needs more attempts, or longer ones.

        Raises:
            TypeError, ValueError: attempts is no whole number from 0 on.
        """
        if isinstance(attempts, bool) or not isinstance(attempts, int):
            raise TypeError(f"attempts must be a whole number, not {attempts!r}")
        if attempts < 0:
            raise ValueError(f"attempts must be at least 0, not {attempts!r}")
        return sum(itertools.islice(self.delays(), attempts))
