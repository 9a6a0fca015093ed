"""``zarrs info``, and what the command line says of itself."""

import pytest
from commands import Typed

import zarrs
from zarrs import _unavailable


def test_info_is_what_show_config_prints(typed: Typed, capfd: pytest.CaptureFixture[str]) -> None:
    said = typed("info")
    zarrs.show_config()
    assert said.code == 0
    assert said.out == capfd.readouterr().out
    assert "libraries:" in said.lines


def test_info_as_json(typed: Typed) -> None:
    assert typed("info", "--json").json() == zarrs.show_config("dicts")


def test_info_of_an_installation_that_cannot_be_used(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_unavailable, "reason", ImportError("no module of mine"))
    said = typed("info")
    assert said.code == 1
    assert "no module of mine" in said.out


def test_version(typed: Typed) -> None:
    said = typed("--version")
    assert (said.code, said.lines) == (0, [f"zarrs-cython {zarrs.__version__}"])


def test_help_lists_the_commands_without_borders(typed: Typed) -> None:
    for arguments in ((), ("--help",), ("-h",)):
        said = typed(*arguments)
        assert said.code == 0
        assert said.out.isascii()
        for command in ("info", "explain", "bench", "check"):
            assert f"\n  {command}" in said.out
            assert typed(command, "--help").code == 0


def test_shells_complete_commands(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"_ZARRS_COMPLETE": "complete_bash", "COMP_WORDS": "zarrs ex", "COMP_CWORD": "1"}
    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    assert typed().out.split() == ["explain"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nonsense",), "No such command 'nonsense' (see zarrs --help)"),
        (("--nonsense",), "No such option: --nonsense (see zarrs --help)"),
        (("info", "--nonsense"), "No such option: --nonsense (see zarrs info --help)"),
        (("explain",), "Missing argument 'PATH' (see zarrs explain --help)"),
    ],
)
def test_what_is_mistyped_is_one_line(
    typed: Typed, arguments: tuple[str, ...], message: str
) -> None:
    said = typed(*arguments)
    assert (said.code, said.out, said.error) == (2, "", message)
