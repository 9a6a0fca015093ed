"""What `scripts/suites.py` puts into the pytest that runs another project's tests.

It writes down what became of each test, can run only tests that a file lists, lets tests that name
zarr's default codec pipeline have zarrs' instead, can do the same with zarr's arrays and groups,
and can put what they store in memory into files.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, MutableMapping
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from suites import DEFAULT, RAM

# Of the test that runs: what it has used, "memory" for a `MemoryStore`, "selections" for zarr's own
# methods of arrays that take one, "zarrs" for the pipeline, and "direct" for what an array did
# without it; the directory for what it stores in memory, if that goes into files.
used: set[str] = set()
directories: list[Path] = []


class Outcomes:
    """Collects what became of each test, in the process that hears of all of them.

    Parameters
    ----------
    path : Path
        A JSON file for it: test -> {"outcome": ..., "details": ..., "used": [...]}.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tests: dict[str, dict[str, Any]] = {}

    def add(self, nodeid: str, outcome: str, details: str, used: list[str]) -> None:
        """Note one phase of a test: what fails in one has failed, else what skips is skipped."""
        worst = ("passed", "skipped", "failed").index
        test = self.tests.setdefault(nodeid, {"outcome": "passed", "details": "", "used": []})
        test["outcome"] = max(test["outcome"], outcome, key=worst)
        test["used"] = sorted({*test["used"], *used})
        if outcome == "failed":
            test["details"] += details

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take it from pytest, where an expected failure is "skipped"."""
        names = [value for key, value in report.user_properties if key == "used"]
        self.add(report.nodeid, report.outcome, report.longreprtext, [str(name) for name in names])

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Files that cannot be imported have failed, files that skip themselves are skipped."""
        if report.outcome != "passed":
            self.add(report.nodeid, report.outcome, report.longreprtext, [])

    def pytest_sessionfinish(self) -> None:
        """Write it all."""
        self.path.write_text(json.dumps(self.tests))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that `scripts/suites.py` sets."""
    group = parser.getgroup("suites")
    group.addoption("--outcomes", type=Path, help="write what became of each test to this file")
    group.addoption("--only", type=Path, help="run the tests that this file lists (JSON)")
    group.addoption("--zarrs", action="store_true", help="the default pipeline's name means zarrs'")
    group.addoption("--direct", action="store_true", help="with --zarrs: arrays are zarrs' too")
    group.addoption("--memory-in-files", action="store_true", help="a MemoryStore is a LocalStore")


def pytest_configure(config: pytest.Config) -> None:
    """Do what the options say."""
    if config.option.outcomes and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Outcomes(config.option.outcomes))
    if config.option.zarrs:
        replace_pipeline()
        if config.option.direct:
            replace_arrays()
    watch_memory_stores()


def replace_pipeline() -> None:
    """File zarrs' pipeline under the default one's name as well, and note who uses it."""
    import zarr

    import zarrs

    pipelines = next(
        registry
        for registry in vars(zarr.registry).values()
        if isinstance(registry, zarr.registry.Registry) and DEFAULT in registry
    )
    pipelines[DEFAULT] = zarrs.ZarrsCodecPipeline
    for name in "read", "write":
        note_calls(zarrs.ZarrsCodecPipeline, name, "zarrs")
    for name in list(vars(zarr.Array)):
        if re.fullmatch("__[gs]etitem__|[gs]et_.*_selection", name):
            note_calls(zarr.Array, name, "selections")


def note_calls(cls: type, name: str, what: str) -> None:
    """Let calls of a method be seen."""
    method = getattr(cls, name)

    @wraps(method)
    def noting(*args: Any, **kwargs: Any) -> Any:
        used.add(what)
        return method(*args, **kwargs)

    setattr(cls, name, noting)


def replace_arrays() -> None:
    """Make zarrs' arrays and groups wherever zarr makes its own, and note who has direct access."""
    import zarr

    import zarrs
    from zarrs._access import Access
    from zarrs._direct import _call

    for theirs, ours in (zarr.Array, zarrs.Array), (zarr.Group, zarrs.Group):
        make_instead(theirs, ours)
    create = zarr.create_array

    @wraps(create)
    def create_array(*args: Any, **kwargs: Any) -> Any:
        return _call(create, "create_array", args, kwargs, None)

    zarr.create_array = zarr.api.synchronous.create_array = create_array
    for name in "read", "write":
        note_results(Access, name)


def make_instead(theirs: type, ours: type) -> None:
    """Let calls of a class make objects of a subclass, which `isinstance` takes for the same."""

    def new(cls: type, *args: Any, **kwargs: Any) -> Any:
        return object.__new__(ours if cls is theirs else cls)

    theirs.__new__ = new  # type: ignore[method-assign,assignment]


def note_results(cls: type, name: str) -> None:
    """Let calls of a method be seen that did what they were asked."""
    method = getattr(cls, name)

    def noting(*args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        if result is not NotImplemented and result is not False:
            used.add("direct")
        return result

    setattr(cls, name, noting)


def watch_memory_stores() -> None:
    """Note who makes a `MemoryStore`; where there is a directory, return a `LocalStore` instead.

    What is handed a dictionary with something in it stays in memory; so do subclasses.
    """
    from zarr.storage import LocalStore, MemoryStore

    def new(cls: type, store_dict: Any = None, *, read_only: bool = False, **other: Any) -> Any:
        if cls is MemoryStore and not store_dict:
            used.add("memory")
            if directories:
                store = LocalStore(tempfile.mkdtemp(dir=directories[-1]), read_only=read_only)
                store._store_dict = Files(store.root)  # type: ignore[attr-defined]
                return store
        return object.__new__(cls)

    MemoryStore.__new__ = new  # type: ignore[method-assign]


class Files(MutableMapping[str, Any]):
    """What tests that look into a `MemoryStore` see of the files of a `LocalStore`.

    Parameters
    ----------
    root : Path
        The directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def __getitem__(self, key: str) -> Any:
        from zarr.core.buffer import cpu

        if not (self.root / key).is_file():
            raise KeyError(key)
        return cpu.Buffer.from_bytes((self.root / key).read_bytes())

    def __setitem__(self, key: str, value: Any) -> None:
        (self.root / key).parent.mkdir(parents=True, exist_ok=True)
        (self.root / key).write_bytes(value.to_bytes())

    def __delitem__(self, key: str) -> None:
        (self.root / key).unlink()

    def __iter__(self) -> Iterator[str]:
        files = (path for path in self.root.rglob("*") if path.is_file())
        return (path.relative_to(self.root).as_posix() for path in files)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not listed, and let no two processes want one port."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    move_ports({getattr(item, "module", None) for item in items}, int(worker.removeprefix("gw")))
    if config.option.only:
        listed = set(json.loads(config.option.only.read_text()))
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in listed])
        items[:] = [item for item in items if item.nodeid in listed]


def move_ports(modules: Iterable[Any], distance: int) -> None:
    """Move the ports that test modules name.

    zarr's tests of S3 start a server at one port; a second process would wait for it for ever.
    """
    for module in modules:
        port = getattr(module, "port", None)
        if isinstance(port, int):
            module.port = port + distance
            module.endpoint_url = module.endpoint_url.replace(f":{port}/", f":{module.port}/")


def forget_file_systems() -> None:
    """Let no test get an asynchronous file system of fsspec's that an earlier one has made.

    fsspec keeps them with their sessions, and so with the event loop of that test, which is closed.
    Which tests were earlier in a process differs from run to run.
    """
    if "fsspec.asyn" in sys.modules:
        for cls in sys.modules["fsspec.asyn"].AsyncFileSystem.__subclasses__():
            cls.clear_instance_cache()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Begin each test with nothing used and with a directory of its own."""
    used.clear()
    forget_file_systems()
    if not item.config.option.memory_in_files:
        return (yield)
    ram = RAM if os.access(RAM, os.W_OK) else None
    directories.append(Path(tempfile.mkdtemp(prefix="zarr_tests-", dir=ram)))
    try:
        return (yield)
    finally:
        shutil.rmtree(directories.pop(), ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Send along what the test has used so far."""
    item.user_properties[:] = [(key, value) for key, value in item.user_properties if key != "used"]
    item.user_properties += [("used", name) for name in sorted(used)]
    return (yield)
