import os
import subprocess
import sys

import pytest

from nnunet_ext.cli import main
from nnunet_ext.commands import doctor
from nnunet_ext.commands.env import variables
from nnunet_ext.commands.finding import error, ok, warning
from nnunet_ext.discovery import HOOK_VARIABLE

FOUND = {"ok": ok("All is well."), "warning": warning("Odd.", "Look."), "error": error("Wrong.", "Mend it.")}


@pytest.mark.parametrize(
    ("levels", "code"),
    [([], 0), (["ok"], 0), (["ok", "warning"], 0), (["error"], 1), (["warning", "error", "error"], 1)],
)
def test_errors_alone_make_exit_code_1(monkeypatch, capsys, levels, code):
    monkeypatch.setattr(doctor, "CHECKS", [lambda level=level: iter([FOUND[level]]) for level in levels])
    assert main(["doctor"]) == code
    summary = capsys.readouterr().out.splitlines()[-1]
    assert summary == f"errors: {levels.count('error')}, warnings: {levels.count('warning')}"


def test_each_finding_is_told_with_its_remedy(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "CHECKS", [lambda: iter(FOUND.values())])
    main(["doctor"])
    assert capsys.readouterr().out.splitlines()[:5] == [
        "ok       All is well.",
        "warning  Odd.",
        "         -> Look.",
        "error    Wrong.",
        "         -> Mend it.",
    ]


@pytest.mark.parametrize("unset", [(), (HOOK_VARIABLE, "nnUNet_results")], ids=["all set", "two unset"])
def test_after_env_the_doctor_is_content_and_without_it_not(tmp_path, unset):
    environ = {name: value for name, value in os.environ.items() if not name.startswith("nnUNet_")}
    environ |= {name: value for name, value in variables({}, str(tmp_path)).items() if name not in unset}
    run = [sys.executable, "-m", "nnunet_ext", "doctor"]
    done = subprocess.run(run, env=environ, check=False, capture_output=True, text=True)
    assert done.returncode == int(len(unset) > 0), done.stdout
    assert all(f"error    {name} " in done.stdout for name in unset)
