"""``sepnet <command>``: what it runs, what its help says, and how messages name it."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest
import yaml

import sepnet
from sepnet.artifact import config_folder
from sepnet.cli import main as cli
from sepnet.cli.help import EXAMPLES, SUMMARIES, command_help
from sepnet.commands import SCRIPTS, command

CHECKOUT = Path(__file__).resolve().parents[1]


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/sepnet", *words])
    cli.main()


def test_each_command_has_a_script_a_module_a_file_of_settings_and_examples() -> None:
    assert set(SUMMARIES) == set(SCRIPTS) == set(EXAMPLES) == set(cli.MODULES)
    for name, script in SCRIPTS.items():
        assert (CHECKOUT / "scripts" / script).is_file()
        assert (config_folder() / f"{name}.yaml").is_file()


def test_without_a_command_they_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in ([], ["--help"], ["help"]):
        run(monkeypatch, *words)
        shown = capsys.readouterr().out
        assert all(f"  {name} " in shown for name in SUMMARIES)


def test_the_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, "--version")
    assert capsys.readouterr().out == f"sepnet {sepnet.__version__}\n"


def test_a_misspelt_command_is_refused_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "seperate", "mix.wav")
    assert ended.value.code == 2
    assert "did you mean 'separate'?" in capsys.readouterr().err


@pytest.mark.parametrize("name", SUMMARIES)
def test_help_lists_every_setting_with_its_default(name: str) -> None:

    shown = command_help(name)
    settings = yaml.safe_load((config_folder() / f"{name}.yaml").read_text())
    names = [key for key in settings if key not in ("defaults", "hydra")]
    assert names
    assert all(f"\n  {key}=" in shown or f"\n  {key}." in shown for key in names)
    assert max(map(len, shown.splitlines())) <= 110


def test_help_of_a_command_is_printed_in_place_of_running_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "separate", "--help")
    assert "usage: sepnet separate FILE..." in capsys.readouterr().out


def test_help_does_not_wait_for_what_the_command_needs() -> None:
    program = "import sys; from sepnet.cli.main import main; main(); sys.exit('torch' in sys.modules)"
    asked = subprocess.run([sys.executable, "-c", program, "train", "--help"], capture_output=True, text=True)
    assert asked.returncode == 0, asked.stderr
    assert "usage: sepnet train" in asked.stdout


def test_messages_name_the_command_that_was_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/sepnet", "train"])
    assert command("train") == "sepnet train"
    monkeypatch.setattr(sys, "argv", ["scripts/separate.py"])
    assert command("prepare") == "python scripts/prepare_data.py"


@pytest.mark.slow
def test_the_wheel_works_outside_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dependencies are those of this environment; sepnet itself comes from the wheel."""
    monkeypatch.delenv("PYTHONPATH", raising=False)  # by which a checkout could be found
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", "."]
    subprocess.run([*build, str(CHECKOUT)], cwd=tmp_path, check=True, timeout=600)
    (wheel,) = tmp_path.glob("sepnet-*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", str(wheel)], check=True, timeout=600)
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(str(Path(pytest.__file__).parents[1]) + "\n")
    folder = tmp_path / "empty"
    folder.mkdir()

    def sepnet_command(*words: str) -> str:
        program = [tmp_path / "venv" / "bin" / "sepnet", *words]
        return subprocess.run(
            program, cwd=folder, check=True, capture_output=True, text=True, timeout=600
        ).stdout

    where = subprocess.run(
        [python, "-c", "import sepnet; print(sepnet.__file__)"], cwd=folder, capture_output=True, text=True
    )
    assert str(site) in where.stdout
    assert "separate recordings" in sepnet_command("--help")
    write = "import numpy, soundfile; soundfile.write('mix.wav', numpy.random.randn(8000) * 0.1, 8000)"
    subprocess.run([python, "-c", write], cwd=folder, check=True)
    sepnet_command("separate", "mix.wav")
    assert (folder / "mix_s1.wav").is_file()
    assert (folder / "mix_s2.wav").is_file()
