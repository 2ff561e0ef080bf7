import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nnunet_ext.commands.env import FOLDER_VARIABLES, hints, joined, lines, variables
from nnunet_ext.discovery import HOOK_VARIABLE, SHIM, hook_folder

HOOK = str(hook_folder())
ALL = (HOOK_VARIABLE, *FOLDER_VARIABLES)
BARE = {name: value for name, value in os.environ.items() if name not in ALL}
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="the lines are for bash, which is not here")

# everything that can be in the name of a folder, and often what shells take for their own
NASTY = st.text(
    st.one_of(
        st.sampled_from(" '\"$`\\!*?[]{}()<>|&;#~%=-\t\u2018\u2019\u201a\u201bé漢\U0001f9e0"),
        st.characters(exclude_categories=["Cs"], exclude_characters="\0\n\r"),
    ),
    min_size=1,
    max_size=20,
)


def read_back(script: str, *arguments: str | bytes) -> dict[str, bytes]:
    """The four variables as a child of a bash that ran ``script`` sees them; absent ones are missing."""
    run = ["bash", "-c", f"{script}\nenv -0", "bash", *arguments]
    done = subprocess.run(run, env=BARE, capture_output=True, check=True)
    seen = dict(item.split(b"=", 1) for item in done.stdout.split(b"\0") if item)
    return {name: seen[name.encode()] for name in ALL if name.encode() in seen}


def command(*arguments: str) -> subprocess.CompletedProcess:
    run = [sys.executable, "-m", "nnunet_ext", "env", *arguments]
    return subprocess.run(run, env=BARE, check=False, capture_output=True, text=True)


# --- the documented use, in a real shell


@needs_bash
def test_eval_sets_every_variable_below_root(tmp_path):
    root = tmp_path / "my data's $HOME `x`"
    seen = read_back(f'eval "$({sys.executable} -m nnunet_ext env --root "$1")"', str(root))
    assert seen[HOOK_VARIABLE] == os.fsencode(HOOK)
    assert {n: seen[n] for n in FOLDER_VARIABLES} == {n: os.fsencode(root / n) for n in FOLDER_VARIABLES}


@needs_bash
def test_eval_twice_changes_nothing():
    use = f'eval "$({sys.executable} -m nnunet_ext env --root data)"\n'
    assert read_back(use) == read_back(use + use)


@needs_bash
@pytest.mark.skipif(sys.platform == "darwin", reason="file names are Unicode there")
def test_a_path_that_is_not_text_comes_back_byte_by_byte(tmp_path):
    root = os.fsencode(tmp_path) + b"/\xff\xe9"
    seen = read_back(f'eval "$({sys.executable} -m nnunet_ext env --root "$1")"', root)
    assert seen["nnUNet_raw"] == root + b"/nnUNet_raw"


@needs_bash
@settings(max_examples=40, deadline=None)
@given(values=st.tuples(NASTY, NASTY, NASTY))
def test_bash_reads_back_any_value(values):
    expected = dict(zip(FOLDER_VARIABLES, values, strict=True))
    text = "\n".join(lines(expected, "bash"))
    printed = 'eval "$1"; printf "%s\\0" "$nnUNet_raw" "$nnUNet_preprocessed" "$nnUNet_results"'
    done = subprocess.run(["bash", "-c", printed, "bash", text], capture_output=True, check=True)
    assert done.stdout.split(b"\0")[:3] == [value.encode() for value in values]


@needs_bash
def test_lines_can_be_evaluated_one_by_one():
    nasty = {"nnUNet_raw": "a b; exit 3", "nnUNet_results": "$(exit 3)'\""}
    each = 'while IFS= read -r line; do eval "$line"; done <<< "$1"; printf "%s|%s" "$nnUNet_raw" "$nnUNet_results"'
    done = subprocess.run(
        ["bash", "-c", each, "bash", "\n".join(lines(nasty, "bash"))], check=True, capture_output=True
    )
    assert done.stdout.decode() == "|".join(nasty.values())


# --- PowerShell, by its rule: in single quotes only a doubled quote is special, and five characters are single quotes


def parsed_powershell(line: str) -> tuple[str, str]:
    quote = "['\u2018\u2019\u201a\u201b]"
    name, body = re.fullmatch(rf"\$env:(\w+) = {quote}((?:[^'\u2018-\u201b]|{quote}{quote})*){quote}", line).groups()
    return name, re.sub(f"({quote}){quote}", r"\1", body)


@given(value=NASTY)
@example(value="'\u2018\u2019\u201a\u201b")
def test_powershell_reads_back_any_value(value):
    (line,) = lines({"nnUNet_raw": value}, "powershell")
    assert parsed_powershell(line) == ("nnUNet_raw", value)


def test_powershell_is_an_option_of_the_command():
    done = command("--root", "it's", "--shell", "powershell")
    assert [parsed_powershell(line)[0] for line in done.stdout.splitlines()] == list(ALL)


# --- what is on stdout and on stderr


def test_stdout_holds_nothing_but_exports_and_hints_go_to_stderr():
    done = command()
    assert done.returncode == 0
    assert done.stdout == lines({HOOK_VARIABLE: HOOK}, "bash")[0] + "\n"
    assert [hint.split()[0] for hint in done.stderr.splitlines()] == list(FOLDER_VARIABLES)


@pytest.mark.parametrize("value", ["a\nb", "a\rb"])
def test_a_line_break_is_refused(value):
    done = command("--root", value)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "line break" in done.stderr


# --- the folders


def test_a_set_folder_stays_as_it_is_and_root_serves_the_others():
    values = variables({"nnUNet_raw": "relative/../raw ", "nnUNet_results": ""}, "/root of all")
    assert values["nnUNet_raw"] == "relative/../raw "
    assert values["nnUNet_preprocessed"] == os.path.join(os.path.abspath("/root of all"), "nnUNet_preprocessed")
    assert values["nnUNet_results"] == os.path.join(os.path.abspath("/root of all"), "nnUNet_results")


def test_a_relative_root_becomes_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert variables({}, "x/../y")["nnUNet_raw"] == str(Path.cwd() / "y" / "nnUNet_raw")


def test_a_tilde_that_the_shell_left_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert variables({}, "~/data")["nnUNet_raw"] == str(tmp_path / "data" / "nnUNet_raw")


def test_hints_name_the_folders_that_root_does_not_move():
    assert hints({"nnUNet_raw": "elsewhere"}, "here") == [
        "nnUNet_raw stays 'elsewhere': unset it to have it below --root."
    ]
    assert hints(variables({}, "here"), "here") == []
    assert len(hints({"nnUNet_raw": "elsewhere"}, None)) == 2


# --- nnUNet_extTrainer


def test_hook_is_appended_to_other_folders():
    assert joined("", hook_folder()) == HOOK
    assert joined(f"first{os.pathsep}second", hook_folder()) == os.pathsep.join(["first", "second", HOOK])
    assert joined(f"{os.pathsep} {os.pathsep}first{os.pathsep}", hook_folder()) == os.pathsep.join(["first", HOOK])


def test_hook_is_never_there_twice_however_it_is_spelt(tmp_path):
    (tmp_path / "link").symlink_to(HOOK, target_is_directory=True)
    spellings = [HOOK, HOOK + os.sep, os.path.join(HOOK, "..", "hook"), str(tmp_path / "link"), os.path.relpath(HOOK)]
    for spelling in spellings:
        assert joined(spelling, hook_folder()) == HOOK, spelling
    assert joined(os.pathsep.join(["a", *spellings, "b"]), hook_folder()) == os.pathsep.join(["a", "b", HOOK])


def test_hook_of_another_installation_is_replaced(tmp_path):
    removed = tmp_path / "old" / "nnunet_ext" / "discovery" / "hook"
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    (renamed / SHIM).touch()
    existing = os.pathsep.join([str(removed), "theirs", str(renamed)])
    assert joined(existing, hook_folder()) == os.pathsep.join(["theirs", HOOK])


@given(
    folders=st.lists(st.sampled_from(["a", "b c", " ", "", HOOK, os.path.join("x", "nnunet_ext", "discovery", "hook")]))
)
def test_joining_is_idempotent_and_keeps_the_others_in_their_order(folders):
    once = joined(os.pathsep.join(folders), hook_folder())
    others = [folder for folder in once.split(os.pathsep) if folder != HOOK]
    assert joined(once, hook_folder()) == once
    assert once.split(os.pathsep).index(HOOK) == len(others), "once, as the last"
    assert others == list(dict.fromkeys(f for f in folders if f in ("a", "b c")))


def test_an_installation_whose_path_nnunet_would_split_is_refused():
    with pytest.raises(ValueError, match="nnU-Net splits nnUNet_extTrainer"):
        joined("", Path(f"a{os.pathsep}b"))
