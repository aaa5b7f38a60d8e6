"""What can go wrong between a client and the service, to be injected into single requests.

A fault decides what becomes of one exchange; ``Exchange`` is what it may do with it. An exchange
left without an answer is closed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from .shapes import Json


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer before it is sent; ``code`` is the error's code, None for a success."""

    status: int
    body: bytes
    code: str | None = None
    content_type: str = "application/x-amz-json-1.1"
    request_id: bool = True


class Exchange(Protocol):
    """One request that waits for its answer, as a fault sees it."""

    def carry_out(self) -> Answer:
        """Does what was asked, and returns the answer without sending it."""

    def refuse(self, code: str, message: str, status: int, fields: Json) -> Answer:
        """The answer for an error."""

    def send(self, answer: Answer) -> None:
        """Sends the answer."""

    def send_part(self, answer: Answer) -> None:
        """Sends the head and half of the body, then closes the connection."""

    def reset(self) -> None:
        """Ends the connection with a TCP reset."""

    def wait(self, until: threading.Event | float) -> bool:
        """Waits for an event, or for seconds; False if the service was closed meanwhile."""


class Fault(Protocol):
    """Anything that plays out one exchange, in place of carrying it out and answering."""

    def play(self, exchange: Exchange) -> None:
        """Called on the thread of the connection, without a lock."""


@dataclass(frozen=True)
class Error:
    """The service refuses: ``fields`` are further members of the body."""

    code: str
    status: int = 400
    message: str = ""
    fields: Json = field(default_factory=dict)

    def play(self, exchange: Exchange) -> None:
        """Answers with the error; the request is not carried out."""
        exchange.send(exchange.refuse(self.code, self.message, self.status, self.fields))


@dataclass(frozen=True)
class Reset:
    """The connection breaks; with ``stored`` the request is carried out before."""

    stored: bool = False

    def play(self, exchange: Exchange) -> None:
        """Sends a TCP reset in place of the answer."""
        if self.stored:
            exchange.carry_out()
        exchange.reset()


@dataclass(frozen=True)
class Hang:
    """No answer until ``release()``; with ``stored`` the request is carried out at once.

    After ``release()`` the answer is sent, if the client still listens. Closing the service
    closes the connection. ``entered`` is set once a request hangs.
    """

    stored: bool = False
    entered: threading.Event = field(default_factory=threading.Event)
    _released: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        """Lets every request that hangs on this fault go on."""
        self._released.set()

    def play(self, exchange: Exchange) -> None:
        """Waits, then answers as if nothing had been."""
        answer = exchange.carry_out() if self.stored else None
        self.entered.set()
        if exchange.wait(self._released):
            exchange.send(answer or exchange.carry_out())


@dataclass(frozen=True)
class Hold:
    """Stops a request in flight: sets ``entered``, waits for ``release``, then carries it out."""

    entered: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)

    def play(self, exchange: Exchange) -> None:
        """Answers after ``release`` is set."""
        self.entered.set()
        if exchange.wait(self.release):
            exchange.send(exchange.carry_out())


@dataclass(frozen=True)
class Delay:
    """The answer comes late: after seconds, or once an event is set."""

    until: threading.Event | float

    def play(self, exchange: Exchange) -> None:
        """Carries the request out at once, and sends the answer later."""
        answer = exchange.carry_out()
        if exchange.wait(self.until):
            exchange.send(answer)


@dataclass(frozen=True)
class Html:
    """A proxy or a captive portal answers 200 with a page; the service never sees the request."""

    body: str = "<html><body>Please log in.</body></html>"

    def play(self, exchange: Exchange) -> None:
        """Answers with HTML and without ``x-amzn-RequestId``."""
        page = self.body.encode()
        exchange.send(Answer(200, page, content_type="text/html", request_id=False))


@dataclass(frozen=True)
class Truncate:
    """The answer breaks off: a body shorter than its Content-Length, then the end.

    With ``stored`` (the default: there is an answer, so it was carried out) the request counts.
    """

    stored: bool = True

    def play(self, exchange: Exchange) -> None:
        """Sends half of the body."""
        exchange.send_part(exchange.carry_out() if self.stored else Answer(200, b"{}"))


@dataclass
class Injection:
    """A fault in place; what ``StrictService.inject`` returns.

    ``times`` None is until removed; ``skip`` counts down the requests let through first. ``hits``
    is how often it struck. All of it belongs to the lock of the service.
    """

    fault: Fault
    operation: str | None
    times: int | None
    skip: int
    when: Callable[[Json], bool]
    hits: int = 0
    removed: bool = False

    def remove(self) -> None:
        """No later request meets the fault; one that hangs on it already stays."""
        self.removed = True

    def strikes(self, operation: str, parameters: Json) -> bool:
        """Whether this request meets the fault; counts it if so."""
        spent = self.times is not None and self.hits >= self.times
        if self.removed or spent or self.operation not in (None, operation):
            return False
        if not self.when(parameters):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.hits += 1
        return True
