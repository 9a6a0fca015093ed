"""Fixtures for the tests of stores."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zarr
from fault_cases import STORES, Case, stored
from faulty_http import FaultyServer
from loops import Native

from zarrs.execution import _execute


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """From a case and a kind of store to a server, a store and an array on it."""
    with contextlib.ExitStack() as stack:

        def serve(case: Case, kind: str) -> tuple[FaultyServer, Any, zarr.Array[Any]]:
            server = stack.enter_context(FaultyServer(dict(stored(case))))
            store = stack.enter_context(STORES[kind](server.url))
            return server, store, zarr.open_array(store=store, mode="r", zarr_format=3)

        yield serve


@pytest.fixture
def loops(native: None, monkeypatch: pytest.MonkeyPatch) -> Native:
    """The native loops, watched."""
    watched = Native()
    monkeypatch.setattr(_execute, "read", watched.wrap(_execute.read))
    monkeypatch.setattr(_execute, "write", watched.wrap(_execute.write))
    return watched
