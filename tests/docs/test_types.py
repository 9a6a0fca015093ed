"""The program that type checkers look at does what it says."""

from pathlib import Path

import typed_program


def test_the_typed_program_runs(fresh: None, tmp_path: Path) -> None:
    typed_program.main(tmp_path / "group")
