"""A command line as it is typed, run in this process."""

import sys

import pytest

from heedful.cli.app import main


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """The exit code, and what stdout and stderr got."""
    monkeypatch.setattr(sys, "argv", ["heedful", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    output = capsys.readouterr()
    return int(stop.value.code or 0), output.out, output.err
