"""A training over several nodes as a job of SLURM, whose commands are replaced by small scripts."""

from __future__ import annotations

import os
import re
from pathlib import Path

import hydra
import pytest
from submitit.core.utils import FailedJobError
from training_fixtures import ROOT, checkpoint, make_corpus, run, settings

from sepnet import artifact

SBATCH = r"""#!/bin/bash
# Starts the script at once, with the variables that SLURM gives it.
cp "$1" "$FAKE_SLURM/script.sh"
option() { sed -n "s/^#SBATCH --$1=//p" "$FAKE_SLURM/script.sh"; }
export SLURM_JOB_ID=4242 SLURM_JOB_NAME=$(option job-name) SLURM_NODELIST=localhost
export SLURM_NNODES=$(option nodes) SLURM_NTASKS_PER_NODE=$(option ntasks-per-node)
export SLURM_NTASKS=$((SLURM_NNODES * SLURM_NTASKS_PER_NODE)) SLURM_JOB_NUM_NODES=$SLURM_NNODES
nohup bash "$FAKE_SLURM/script.sh" > "$FAKE_SLURM/job.log" 2>&1 < /dev/null &
echo "Submitted batch job 4242"
"""
SRUN = r"""#!/bin/bash
# Starts each task of the job, all on this machine.
while [[ $1 == --* ]]; do
    if [[ $1 == --unbuffered ]]; then shift; else shift 2; fi
done
for ((task = 0; task < SLURM_NTASKS; task++)); do
    SLURM_PROCID=$task SLURM_NODEID=$((task / SLURM_NTASKS_PER_NODE)) \
        SLURM_LOCALID=$((task % SLURM_NTASKS_PER_NODE)) "$@" > "$FAKE_SLURM/task$task.log" 2>&1 &
done
wait
"""


@pytest.fixture(name="slurm")
def _slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts commands of SLURM on PATH; they keep the script of the job, and a log of each task, here."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, text in {"sbatch": SBATCH, "srun": SRUN, "sacct": "#!/bin/bash\n"}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    return folder


def options(script: str) -> dict[str, str]:
    """The options of a batch script."""
    return dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", script, re.MULTILINE))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("trainer=ddp", "trainer.num_nodes=2", "trainer.devices=4"), ("2", "4", "4")),
        (("trainer=gpu",), ("1", "1", "1")),
        (("trainer=ddp", "trainer.num_nodes=3", "hydra.launcher.gpus_per_node=null"), ("3", "2", None)),
    ],
)
def test_a_job_has_a_task_for_each_device_of_each_node(
    overrides: tuple[str, ...], expected: tuple[str, str, str | None], slurm: Path, tmp_path: Path
) -> None:
    more = [*overrides, f"hydra.sweep.dir={tmp_path}/sweep"]
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = hydra.compose("train", overrides=["hydra/launcher=slurm", *more], return_hydra_config=True)
    (slurm / "sbatch").write_text('#!/bin/bash\ncp "$1" "$FAKE_SLURM/script.sh"\necho no room >&2\nexit 1\n')
    launcher = hydra.utils.instantiate(config.hydra.launcher)
    launcher.config = config
    with pytest.raises(FailedJobError, match="no room"):
        launcher.launch([["seed=1"]], 0)
    script = (slurm / "script.sh").read_text()
    given = options(script)
    names = ("nodes", "ntasks-per-node", "gpus-per-node")
    assert tuple(given.get(name) for name in names) == expected
    assert (given["time"], given["cpus-per-task"], given["mem"]) == ("1440", "8", "32GB")
    assert "partition" not in given
    setup, _, command = script.partition("# command\n")
    assert "export SLURM_KILL_BAD_EXIT=1\n" in setup
    assert re.search(r"^srun .*python.* -m submitit\.core\._submit ", command, re.MULTILINE)


@pytest.mark.slow
def test_a_job_of_two_nodes_is_one_training(slurm: Path, tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "wavs")
    ddp = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.num_nodes=2", "trainer.devices=2")
    job = ("-m", "hydra/launcher=slurm", "hydra.launcher.gpus_per_node=null")
    two_each = ("data.valid.n_mixtures=4", "loader.n_valid=4")
    command = run("train", [*job, *settings(corpus, tmp_path, *ddp, *two_each)], tmp_path)
    logs = {path.name: path.read_text() for path in sorted(slurm.glob("task?.log"))}
    assert command.wait() == 0, (command.told, logs)
    given = options((slurm / "script.sh").read_text())
    assert (given["nodes"], given["ntasks-per-node"]) == ("2", "2")
    assert list(logs) == ["task0.log", "task1.log", "task2.log", "task3.log"]
    for words in ("run folder", "done: 10 steps"):
        assert [log.count(words) for log in logs.values()] == [1, 0, 0, 0], logs
    (folder,) = (path.parent for path in (tmp_path / "runs").glob("*/config.yaml"))
    assert checkpoint(folder)["global_step"] == 10
    assert artifact.read_settings(folder)["trainer"]["num_nodes"] == 2
