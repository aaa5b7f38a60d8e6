"""Imports point one way: what a module may know of the others, read from its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import cloudwatch_handler

PACKAGE = Path(cloudwatch_handler.__file__).parent
MODULES = {path.stem: ast.parse(path.read_text()) for path in PACKAGE.glob("*.py") if path.stem != "__init__"}

#: Values, pure functions and rules: all that these may import of the package.
FOUNDATION = {
    "version": set(),
    "event": set(),
    "errors": set(),
    "formatter": {"options"},
    "retry": set(),
    "options": set(),
    "naming": {"event"},
    "ledger": {"errors", "event"},
    "translate": {"errors"},
    "compression": {"errors"},
    "provision": {"errors", "event"},
    "lanes": {"event"},
    "books": {"event", "ledger"},
    "buffer": {"books", "event", "lanes", "ledger"},
    "delivery": {"errors", "event", "ledger", "provision", "retry"},
    "diagnostics": {"errors", "event", "ledger"},
    "children": set(),
    "process": {"children", "waiting"},
    "waiting": set(),
    "deadline": {"waiting"},
    "source": {"deadline"},
    "thread": {"driver", "process", "waiting"},
    "connection": {"errors", "source", "translate", "waiting"},
    "jsonl": {"event"},
    "segment": {"directory", "jsonl", "waiting"},
    "directory": set(),
    "adoption": {"directory", "segment", "waiting"},
    "backlog": {"event", "jsonl", "segment"},
    "spool": {"adoption", "backlog", "diagnostics", "directory", "event", "jsonl", "segment", "waiting"},
}
#: The faces of the package, which nothing below them may know.
FACES = {"handler", "reader"}
#: What stands above the faces: the command and what it consists of.
ABOVE = {"__main__", "cli", "demo", "display", "lines", "shipping", "aws_lambda", "survey", "verify"}
AWS = {"boto3", "botocore"}


def is_for_types_only(node: ast.AST) -> bool:
    """Whether this is ``if TYPE_CHECKING:``, which never runs."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Module and name (or nothing) of each import that can run, relative ones as ``.module``."""
    for child in ast.iter_child_nodes(node):
        if is_for_types_only(child):
            continue
        if isinstance(child, ast.Import):
            yield from ((alias.name, "") for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (("." * child.level + (child.module or ""), alias.name) for alias in child.names)
        yield from imports(child)


def of_package(module: str) -> set[str]:
    """The modules of the package that a module imports."""
    found = set()
    for source, name in imports(MODULES[module]):
        if source in (".", "cloudwatch_handler"):
            found.add(name)
        elif source.startswith((".", "cloudwatch_handler.")):
            found.add(source.removeprefix("cloudwatch_handler").removeprefix(".").partition(".")[0])
    return found & MODULES.keys()


def test_imports_are_found() -> None:
    """The reading works: these are known."""
    assert {"buffer", "driver", "event", "process", "thread"} <= of_package("worker")
    assert {"client", "worker", "options", "formatter"} <= of_package("handler")
    assert "handler" not in of_package("process")


@pytest.mark.parametrize("module", FOUNDATION)
def test_a_module_of_the_foundation_knows_only_what_is_beneath_it(module: str) -> None:
    """As drawn in the design: event and errors at the bottom, buffer and delivery beside each other."""
    assert of_package(module) <= FOUNDATION[module]


def test_no_imports_go_in_a_circle() -> None:
    """There is an order in which every module can be loaded; it raises where there is none."""
    order = list(TopologicalSorter({module: of_package(module) for module in MODULES}).static_order())
    assert order.index("event") < order.index("buffer") < order.index("worker") < order.index("handler")
    assert order.index("errors") < order.index("delivery") < order.index("worker")


@pytest.mark.parametrize("module", sorted(MODULES.keys() - FACES - ABOVE))
def test_nothing_beneath_the_faces_knows_them(module: str) -> None:
    """Neither the handler nor the reader, nor the command above both."""
    assert not of_package(module) & (FACES | ABOVE)


@pytest.mark.parametrize("module", sorted(FACES & MODULES.keys()))
def test_the_faces_do_not_know_each_other(module: str) -> None:
    """Who writes has nothing to do with who reads."""
    assert not of_package(module) & (FACES | ABOVE)


def test_the_worker_knows_no_service() -> None:
    """The thread drives deliveries; what they go through is wired up by the handler."""
    for module in ("worker", "thread", "driver"):
        assert not of_package(module) & {"client", "errors", "provision", "retry", "translate"}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_botocore_has_one_door(module: str) -> None:
    """Where clients come from, what is put into their requests, and what their errors mean: all else knows nothing."""
    found = {source.partition(".")[0] for source, _ in imports(MODULES[module])} & AWS
    assert not found or module in ("source", "deadline", "client", "translate")
