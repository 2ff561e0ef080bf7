import inspect
import io
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from nnunet_ext import __version__
from nnunet_ext.cli import COMMANDS, main, run_command
from nnunet_ext.commands import doctor
from nnunet_ext.commands.finding import ok
from nnunet_ext.networks.registry import specs

HEAVY = ("torch", "nnunetv2", "numpy")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_row_names_a_command(command):
    module = import_module(command.module)
    assert list(inspect.signature(module.add_arguments).parameters) == ["parser"]
    assert list(inspect.signature(module.run).parameters) == ["args"]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_is_documented(command):
    docs = Path(__file__).parents[2] / "docs" / "commands.md"
    assert f"\n## nnunet_ext {command.name}\n" in docs.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "argv", [["--help"], ["env", "--help"], ["env"], ["doctor", "--help"], ["list"], ["list", "--json"]], ids=" ".join
)
def test_light_commands_import_nothing_heavy(argv):
    program = (
        f"import sys; from nnunet_ext.cli import main\n"
        f"try: main({argv})\nexcept SystemExit: pass\n"
        f"assert not [m for m in {HEAVY} if m in sys.modules]"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_list_shows_every_network_in_every_size(capsys):
    assert main(["list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(r["network"], r["size"]) for r in rows] == [(spec.name, size) for spec in specs() for size in spec.sizes]
    assert all(r["parameters"] > 0 and r["macs"] > 0 and r["trainer"].startswith("nnUNetTrainer_") for r in rows)
    assert main(["list"]) == 0
    table = capsys.readouterr().out
    assert all(f" {r['trainer']} " in table for r in rows)
    assert len(table.partition("\n\n")[0].splitlines()) == len(rows) + 1


def test_help_lists_all_commands_and_exit_codes(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    out = capsys.readouterr().out
    assert all(command.name in out and command.help in out for command in COMMANDS)
    assert "exit codes" in out


def test_help_of_a_command_has_its_description_and_exit_codes(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["env", "--help"])
    out = capsys.readouterr().out
    assert 'eval "$(nnunet_ext env' in out
    assert "--shell" in out
    assert "exit codes" in out


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"nnunet_ext {__version__}\n"


@pytest.mark.parametrize("argv", [[], ["nothing"], ["env", "--rot", "x"], ["env", "--shell", "fish"], ["env", "left"]])
def test_bad_arguments_are_one_sentence_and_exit_code_2(capsys, argv):
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    out, err = capsys.readouterr()
    assert stopped.value.code == 2
    assert out == ""
    assert err.startswith("nnunet_ext")
    assert err.count("\n") == 1


def test_bad_input_found_later_is_one_sentence_and_exit_code_2(capsys):
    assert main(["env", "--root", ""]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "nnunet_ext env: --root is empty: give a folder, or leave the option out.\n"


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "nnunet_ext", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"nnunet_ext {__version__}\n"


@pytest.mark.parametrize("argv", [["list"], ["list", "--json"], ["env"]], ids=" ".join)
def test_a_reader_that_leaves_makes_no_traceback(argv):
    process = subprocess.Popen(
        [sys.executable, "-m", "nnunet_ext", *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    _, said = process.communicate()
    assert b"Traceback" not in said
    assert b"Exception ignored" not in said
    assert process.returncode == 141


def test_another_broken_pipe_is_not_hidden():
    def run(args):
        raise BrokenPipeError("a worker's")

    with pytest.raises(BrokenPipeError, match="a worker's"):
        run_command("test", SimpleNamespace(__doc__="", add_arguments=lambda parser: None, run=run), [])


def test_what_a_terminal_cannot_show_is_written_as_escapes(monkeypatch):
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", narrow)
    monkeypatch.setattr(doctor, "CHECKS", [lambda: iter([ok("a folder \udcff \u6f22 \xe9")])])
    assert main(["doctor"]) == 0
    narrow.flush()
    assert b"a folder \\udcff \\u6f22 \xe9\n" in narrow.buffer.getvalue()
