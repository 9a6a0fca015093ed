"""The command line in processes of its own: terminals, pipes, signals, missing packages."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from commands import LIMIT, child, command, files_of, in_terminal
from faulty_http import FaultyServer
from helpers import ROOT, child_environment

from zarrs.__main__ import main

HIDE = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hide())
"""


@pytest.mark.parametrize("name", ["typer", "rich"])
def test_missing_packages_of_the_command_line_are_one_line(name: str) -> None:
    said = child("info", before=HIDE.format(names=[name]))
    assert (said.code, said.out) == (4, "")
    assert said.error == (
        f"the command line needs the packages typer and rich (No module named '{name}'): "
        "python3 -m pip install 'zarrs-cython[cli]'"
    )


def test_without_zarr() -> None:
    said = child("info", before=HIDE.format(names=["zarr"]))
    assert (said.code, said.out) == (4, "")
    assert said.error.startswith("zarrs cannot be used: ModuleNotFoundError: No module named 'zarr")


def test_without_matplotlib(group: Path, tmp_path: Path) -> None:
    said = child(
        "bench", group, "--plot", tmp_path / "x.svg", before=HIDE.format(names=["matplotlib"])
    )
    assert (said.code, said.out) == (4, "")
    assert said.error.endswith("python3 -m pip install matplotlib")


def test_console_script(group: Path) -> None:
    script = shutil.which("zarrs", path=os.path.dirname(sys.executable))
    if script is None:
        pytest.skip("zarrs is not installed, only built in place")
    done = subprocess.run([script, "check", group], capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stdout.splitlines()[1:], done.stderr) == (0, ["sound"], "")


def test_the_console_script_calls_the_same() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"zarrs": "zarrs.__main__:main"}
    assert callable(main)


def test_a_pipe_gets_plain_text(group: Path) -> None:
    said = child("explain", group)
    assert (said.code, said.err) == (0, "")
    assert said.out.isascii()
    assert "\x1b" not in said.out
    assert "  codec gzip: native" in said.lines


def test_a_terminal_gets_a_tree_in_colours(group: Path) -> None:
    code, seen = in_terminal("explain", group)
    assert code == 0
    assert "\x1b[32mnative" in seen
    assert "└── " in seen
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen)
    assert re.search(r"── air\r\n│   └── temperature: native\r\n│       ├── float32", plain)


def test_no_color(group: Path) -> None:
    code, seen = in_terminal("explain", group, NO_COLOR="1")
    assert code == 0
    assert "\x1b[32m" not in seen


def test_progress_bars_in_a_terminal(group: Path) -> None:
    code, seen = in_terminal("check", group)
    assert code == 0
    assert "checking small" in seen
    assert seen.rstrip().endswith("sound")
    code, seen = in_terminal("bench", group, "--rounds", 2)
    assert code == 0
    assert "random rows" in seen
    assert "all results are equal" in seen


def test_a_table_fits_into_a_narrow_terminal(group: Path) -> None:
    code, seen = in_terminal("bench", group, "--rounds", 1, columns=80)
    assert code == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen)
    assert "…" not in plain[plain.index("medians") :]


def test_a_mistake_in_a_terminal_is_one_line() -> None:
    assert in_terminal("explain", "/none") == (3, "zarrs: /none: there is nothing of that name\r\n")


@pytest.mark.parametrize("arguments", [("info",), ("--help",), ("explain", "GROUP", "--json")])
def test_a_reader_that_goes_leaves_no_traceback(arguments: tuple[str, ...], group: Path) -> None:
    arguments = tuple(str(group) if one == "GROUP" else one for one in arguments)
    reading, writing = os.pipe()
    os.close(reading)  # before anything is written
    with open(writing, "wb") as closed:
        done = subprocess.run(
            command(*arguments),
            env=child_environment(),
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            timeout=LIMIT,
        )
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command("info"),
            env=child_environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=LIMIT,
        )
    assert done.returncode == 5
    assert "No space left on device" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_ctrl_c_ends_it_cleanly(group: Path) -> None:
    before = files_of(group)
    process = subprocess.Popen(
        # A child of a shell's background job would ignore the signal.
        [sys.executable, "-P", "-c", INTERRUPTED, *command("bench", group)[4:], "--rounds=100000"],
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    out, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, out, err) == (130, "", "")
    assert files_of(group) == before


INTERRUPTED = """
import os, signal, threading
signal.signal(signal.SIGINT, signal.default_int_handler)
from zarrs.__main__ import main
from zarrs.cli import _bench
measure = _bench.measure
def interrupted(*args):
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    return measure(*args)
_bench.measure = interrupted
main()
"""


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    said = child("--debug", "explain", tmp_path / "none")
    assert said.code == 3
    assert said.err.startswith("Traceback (most recent call last):")
    assert said.err.splitlines()[-1].endswith("there is nothing of that name")


def test_a_name_that_the_output_cannot_hold(tmp_path: Path) -> None:
    said = child("explain", tmp_path / "grün", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert said.code == 3
    assert "gr\\xfcn: there is nothing" in said.error


def test_a_web_server_in_a_process(group: Path) -> None:
    with FaultyServer(files_of(group)) as server:
        said = child("explain", f"{server.url}small")
        assert (said.code, said.err) == (0, "")
        assert child("explain", f"{server.url}none").error.startswith(server.url)
        server.fault = lambda asked: "cut"
        said = child("bench", f"{server.url}small", "--rounds", 1)
        assert said.code == 5
        assert len(said.err.splitlines()) == 1
