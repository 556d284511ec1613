"""A run that is stopped at any moment and goes on ends as if it had never been stopped."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from training_fixtures import (
    SCRIPTS,
    TINY,
    TINY_BLSTM,
    checkpoint,
    compose,
    logged,
    make_corpus,
    only_run,
    run,
    seen,
    settings,
    start,
)

from sepnet.cli.train import prepare, train
from sepnet.training.checkpoints import set_between_batches
from sepnet.training.run_folder import find_run
from sepnet.types import SepnetError

KILLED = -signal.SIGKILL
LARGEST_DIFFERENCE = 1e-6
# Two epochs of 5 batches of 4 mixtures; a checkpoint each 2 steps and after each validation.
CASES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "plain": (TINY, ()),
    "accumulated gradients": (TINY, ("trainer.accumulate_grad_batches=2",)),
    "two workers": (TINY, ("loader.n_workers=2",)),
    "averaged weights and dropout": (TINY_BLSTM, ("ema_decay=0.9",)),
    "counted in steps": (TINY, ("trainer.max_epochs=null", "trainer.max_steps=13")),
    "validated within epochs": (TINY, ("+trainer.val_check_interval=2",)),
    "validated across epochs": (
        TINY,
        ("+trainer.val_check_interval=3", "trainer.check_val_every_n_epoch=null"),
    ),
}
MOMENTS = [
    ("plain", "batch:4"),
    # Half a checkpoint over a whole one: the best of the first validation is the third.
    ("plain", "saving:4"),
    ("accumulated gradients", "interrupt:4"),  # with half of the gradients of a step
    ("two workers", "saved:4"),  # exactly between two epochs
]
MORE_MOMENTS = [
    ("plain", "batch:1"),  # nothing is saved yet
    ("plain", "validation:1"),
    ("plain", "batch:6"),  # after the validation, before its checkpoint
    ("plain", "saving:1"),  # half a checkpoint, and none before it
    ("accumulated gradients", "batch:4"),
    ("accumulated gradients", "saved:1"),
    ("two workers", "batch:4"),
    ("averaged weights and dropout", "validation:2"),
    ("averaged weights and dropout", "batch:8"),
    ("counted in steps", "saved:4"),  # exactly between two epochs
    ("counted in steps", "batch:12"),
    ("validated within epochs", "batch:5"),
    ("validated across epochs", "batch:5"),
    ("validated across epochs", "interrupt:7"),
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("resume") / "wavs")


@pytest.fixture(scope="module")
def never_stopped(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each case the home of a run that nobody stopped, made when it is asked for."""

    class Homes(dict[str, Path]):
        def __missing__(self, case: str) -> Path:
            home = tmp_path_factory.mktemp("whole")
            base, more = CASES[case]
            command = run("train", settings(corpus, home, *more, base=base), home, log=home / "seen")
            assert command.wait() == 0, command.told
            self[case] = home
            return home

    return Homes()


def difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The largest of any weight in two checkpoints, averaged weights too."""
    names = [name for name in ("state_dict", "current_model_state") if name in one]
    assert [name for name in ("state_dict", "current_model_state") if name in other] == names
    pairs = [(tensor, other[name][key]) for name in names for key, tensor in one[name].items()]
    return max(float((a - b).abs().max()) for a, b in pairs)


def assert_same_end(whole: Path, stopped: Path) -> float:
    """That two homes hold the same training; gives the largest difference of a weight."""
    one, other = checkpoint(only_run(whole)), checkpoint(only_run(stopped))
    assert difference(one, other) <= LARGEST_DIFFERENCE
    assert one["global_step"] == other["global_step"]
    expected = {(row["epoch"], row["batch"]): row for row in seen(whole / "seen")}
    again = seen(stopped / "seen")
    assert {(row["epoch"], row["batch"]) for row in again} == set(expected)
    for row in again:  # also those that were done twice
        assert row["ids"] == expected[row["epoch"], row["batch"]]["ids"]
        assert row["step"] == expected[row["epoch"], row["batch"]]["step"]
    # The log of the second process is that of the same steps.
    for name in ("train/lr", "train/grad_norm", "val/si_sdri"):
        both, part = logged(only_run(whole), name), logged(only_run(stopped), name)
        assert part == pytest.approx({step: both[step] for step in both if step >= min(part)}, abs=1e-5), name
    # The best are kept, and no more than the best.
    files = [
        sorted(path.name for path in (only_run(home) / "checkpoints").iterdir()) for home in (whole, stopped)
    ]
    assert files[0] == files[1]
    return difference(one, other)


@pytest.mark.parametrize(
    ("case", "moment"),
    [*MOMENTS, *(pytest.param(*moment, marks=pytest.mark.slow) for moment in MORE_MOMENTS)],
)
def test_a_killed_run_ends_as_the_one_that_was_never_stopped(
    case: str, moment: str, corpus: Path, never_stopped: dict[str, Path], tmp_path: Path
) -> None:
    whole = never_stopped[case]
    base, more = CASES[case]
    words = settings(corpus, tmp_path, *more, base=base)
    killed = run("train", words, tmp_path, log=tmp_path / "seen", kill=moment)
    assert killed.wait() == (130 if moment.startswith("interrupt") else KILLED), killed.told
    before = len(seen(tmp_path / "seen"))
    held = (only_run(tmp_path) / "checkpoints" / "last.ckpt").is_file()
    resumed = run("train", [*words, "resume=true"], tmp_path, log=tmp_path / "seen")
    assert resumed.wait() == 0, resumed.told
    assert ("from its last checkpoint" if held else "from the start") in resumed.out
    largest = assert_same_end(whole, tmp_path)
    rows = seen(tmp_path / "seen")
    first = rows[before]
    print(
        f"\n{case}: killed at {moment} after {before} batches; resumed at epoch {first['epoch']}, batch "
        f"{first['batch']}; {checkpoint(only_run(tmp_path))['global_step']} steps; same mixtures; largest "
        f"difference of a weight {largest:.1e}"
    )


def test_half_a_checkpoint_is_not_taken_for_one(corpus: Path, tmp_path: Path) -> None:
    words = settings(corpus, tmp_path)
    assert run("train", words, tmp_path, log=tmp_path / "seen", kill="saving:1").wait() == KILLED
    checkpoints = only_run(tmp_path) / "checkpoints"
    assert [path.name for path in checkpoints.iterdir()] == [".last.ckpt.partial"]
    resumed = run("train", [*words, "resume=true"], tmp_path)
    assert "from the start: it has no checkpoint yet" in resumed.out
    assert not (checkpoints / ".last.ckpt.partial").exists()


@pytest.fixture(scope="module")
def uninterrupted(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The last checkpoint of a run of 200 steps that nothing stopped."""
    home = tmp_path_factory.mktemp("uninterrupted")
    whole = run("train", settings(corpus, home, "data.epoch_size=400"), home)
    assert whole.wait() == 0, whole.told
    return checkpoint(only_run(home))


def test_a_real_process_killed_from_outside_goes_on(
    corpus: Path, tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    words = settings(corpus, tmp_path, "data.epoch_size=400", "checkpoints.every_n_steps=20")
    script = [sys.executable, str(SCRIPTS / "train.py"), *words]
    last = tmp_path / "runs"
    with (tmp_path / "told").open("w") as told:
        process = subprocess.Popen(script, stdout=told, stderr=told, cwd=tmp_path)
        while not list(last.glob("*/checkpoints/last.ckpt")):
            assert process.poll() is None, (tmp_path / "told").read_text()
            time.sleep(0.002)
        process.kill()
        assert process.wait() == KILLED
    steps = checkpoint(only_run(tmp_path))["global_step"]
    assert 20 <= steps < 200
    again = run("train", [*words, "resume=true"], tmp_path)
    assert again.wait() == 0, again.told
    one, other = uninterrupted, checkpoint(only_run(tmp_path))
    assert one["global_step"] == other["global_step"] == 200
    assert difference(one, other) <= LARGEST_DIFFERENCE
    print(
        f"\nscripts/train.py killed behind step {steps} of 200, resumed: largest difference of a weight "
        f"{difference(one, other):.1e}"
    )


def test_ctrl_c_keeps_what_was_done_and_says_how_to_go_on(
    corpus: Path, tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    words = settings(corpus, tmp_path, "data.epoch_size=400", "checkpoints.every_n_steps=100000")
    command = start("train", words, tmp_path)
    runs = tmp_path / "runs"
    command.wait_for(lambda: bool(list(runs.glob("*/csv/version_0/metrics.csv"))))  # each 100 steps
    assert command.process.pid is not None
    os.kill(command.process.pid, signal.SIGINT)
    assert command.wait() == 130, command.told
    assert "Traceback" not in command.err
    match = re.search(r"stopped at step (\d+), saved up to step (\d+)\n.*plus resume=true", command.err)
    assert match, command.told
    assert match[1] == match[2] == str(checkpoint(only_run(tmp_path))["global_step"])
    assert 0 < int(match[2]) < 200
    resumed = run("train", [*words, "resume=true"], tmp_path)
    assert resumed.wait() == 0, resumed.told
    assert difference(uninterrupted, checkpoint(only_run(tmp_path))) <= LARGEST_DIFFERENCE


def test_a_second_ctrl_c_stops_at_once(corpus: Path, tmp_path: Path) -> None:
    command = start("train", settings(corpus, tmp_path), tmp_path, log=tmp_path / "seen", kill="slow")
    command.wait_for(lambda: (tmp_path / "seen.slow").exists())  # a validation, which ends before it is saved
    assert command.process.pid is not None
    os.kill(command.process.pid, signal.SIGINT)
    command.wait_for(lambda: "Ctrl-C again: at once" in command.err)
    os.kill(command.process.pid, signal.SIGINT)
    assert command.wait() == 130, command.told
    assert (
        "stopped at step 5, saved up to step 4\ngo on with the same command plus resume=true" in command.err
    )
    assert "Traceback" not in command.err


def test_a_finished_run_says_so_and_stays_as_it_is(
    corpus: Path, never_stopped: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(never_stopped["plain"], tmp_path / "home")
    home = tmp_path / "home"
    folder = only_run(home)
    before = checkpoint(folder)
    resumed = run("train", settings(corpus, never_stopped["plain"], f"resume={folder}"), home)
    assert resumed.wait() == 0, resumed.told
    assert re.search(
        r"this run is finished: 10 steps, SI-SDRi .* dB .*to go on, raise what ended it", resumed.out
    )
    assert difference(before, checkpoint(folder)) == 0
    assert len(list(home.glob("runs/*"))) == 1


def test_a_run_that_stopped_early_stays_finished(corpus: Path, tmp_path: Path) -> None:
    more = ("early_stopping_patience=1", "optimizer.lr=1e-12", "trainer.max_epochs=50")
    train(compose(settings(corpus, tmp_path, *more)))
    ended = checkpoint(only_run(tmp_path))["global_step"]
    assert ended < 50 * 5
    train(compose(settings(corpus, tmp_path, *more, "resume=true")))
    assert checkpoint(only_run(tmp_path))["global_step"] == ended


def test_without_a_run_to_go_on_with_there_is_a_sentence(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(SepnetError, match="resume=true, but none of the 0 runs"):
        train(compose(settings(corpus, tmp_path, "resume=true")))
    assert not list(tmp_path.glob("runs/*"))


def test_only_a_run_of_the_same_settings_is_gone_on_with(
    corpus: Path, never_stopped: dict[str, Path], tmp_path: Path
) -> None:
    home = never_stopped["plain"]
    for other in ("optimizer.lr=0.002", "name=other", "data.seed=1"):
        with pytest.raises(SepnetError, match="none of the 1 runs"):
            train(compose(settings(corpus, home, other, "resume=true")))


def test_a_checkpoint_of_another_architecture_is_refused(
    corpus: Path, never_stopped: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = only_run(never_stopped["plain"])
    before = (folder / "checkpoints" / "last.ckpt").read_bytes(), (folder / "config.yaml").read_text()
    with pytest.raises(SepnetError, match="holds another architecture than model describes") as caught:
        train(
            compose(settings(corpus, never_stopped["plain"], "model.network.n_hidden=9", f"resume={folder}"))
        )
    assert str(folder) in str(caught.value)
    assert (
        (folder / "checkpoints" / "last.ckpt").read_bytes(),
        (folder / "config.yaml").read_text(),
    ) == before


@pytest.mark.parametrize("ending", ["trainer.max_epochs=1", "trainer.max_steps=7"])
def test_a_finished_run_can_be_made_longer(
    ending: str, corpus: Path, tmp_path: Path, never_stopped: dict[str, Path]
) -> None:
    """With a rate that does not follow from the end, it is the longer run from the start."""
    steady = "schedule.decay=none"
    train(compose(settings(corpus, tmp_path, steady, ending)))
    folder = only_run(tmp_path)
    train(compose(settings(corpus, tmp_path, steady, f"resume={folder}")))
    home = tmp_path / "whole"
    home.mkdir()
    train(compose(settings(corpus, home, steady)))
    one, other = checkpoint(only_run(home)), checkpoint(folder)
    assert one["global_step"] == other["global_step"] == 10
    assert difference(one, other) <= LARGEST_DIFFERENCE


def test_a_schedule_in_time_goes_on_where_it_was(corpus: Path, tmp_path: Path) -> None:
    timed = ("trainer.max_time=00:00:10:00", "schedule.decay=linear", "schedule.final=0.0")
    train(compose(settings(corpus, tmp_path, *timed, "trainer.max_epochs=1")))
    folder = only_run(tmp_path)
    assert logged(folder, "train/lr")[4] == pytest.approx(1e-3 * (1 - 4 / 5), rel=0.1)  # in epochs: further
    _set_elapsed(folder, seconds=450)
    train(compose(settings(corpus, tmp_path, *timed, "trainer.max_epochs=4", f"resume={folder}")))
    # Three quarters of the ten minutes are over, but 5 of 20 steps.
    assert logged(folder, "train/lr")[5] == pytest.approx(1e-3 * 0.25, rel=0.02)
    ended = checkpoint(folder)["global_step"]
    _set_elapsed(folder, seconds=601)
    train(compose(settings(corpus, tmp_path, *timed, "trainer.max_epochs=100", f"resume={folder}")))
    assert checkpoint(folder)["global_step"] == ended


def _set_elapsed(folder: Path, seconds: float) -> None:
    path = folder / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    (timer,) = (state for name, state in content["callbacks"].items() if name.startswith("Timer"))
    timer["time_elapsed"]["train"] = seconds
    torch.save(content, path)


def test_a_run_folder_may_be_moved_between_two_starts(corpus: Path, tmp_path: Path) -> None:
    more = ("checkpoints.best=1", "schedule.decay=none")
    train(compose(settings(corpus, tmp_path, *more)))
    moved = tmp_path / "elsewhere" / "run"
    moved.parent.mkdir()
    shutil.move(only_run(tmp_path), moved)
    train(compose(settings(corpus, tmp_path, *more, "trainer.max_epochs=4", f"resume={moved}")))
    assert not list(tmp_path.glob("runs/*"))
    names = sorted(path.name for path in (moved / "checkpoints").iterdir())
    assert len(names) == 2, names  # the last, and one best
    state = checkpoint(moved)["callbacks"]
    (best,) = (one for name, one in state.items() if "BestCheckpoints" in name)
    assert [Path(path).name for path in best["best_k_models"]] == [
        name for name in names if name != "last.ckpt"
    ]
    assert Path(best["best_model_path"]).is_file()


def _loops(*, processed: int, started: int, finished: int, hook: str) -> dict[str, Any]:
    """The counters of Lightning's loops as they stand in some hook of batch number ``processed``."""
    ready = processed + (hook == "before backward")
    completed = processed - (hook == "batch end")
    batch = {"ready": ready, "started": ready, "processed": processed, "completed": completed}
    total = {name: count + 100 for name, count in batch.items()}
    epoch = {
        "ready": started,
        "started": started,
        "processed": finished + (hook in ("epoch end", "train end")),
        "completed": finished + (hook == "train end"),
    }
    return {
        "epoch_loop.batch_progress": {"current": batch, "total": total, "is_last_batch": processed == 5},
        "epoch_progress": {"current": epoch, "total": copy.deepcopy(epoch)},
    }


HOOKS = [("before backward", 3, 3)]  # behind the last batch comes no other
HOOKS += [(hook, *done) for hook in ("batch end", "epoch end", "train end") for done in ((3, 3), (5, 0))]


@pytest.mark.parametrize(("hook", "processed", "settled"), HOOKS)
def test_counters_settle_between_two_batches_whatever_the_hook(
    hook: str, processed: int, settled: int
) -> None:
    loops = _loops(processed=processed, started=3, finished=2, hook=hook)
    set_between_batches(loops, n_batches=5)
    batches, epochs = loops["epoch_loop.batch_progress"], loops["epoch_progress"]
    assert set(batches["current"].values()) == {settled}
    assert set(batches["total"].values()) == {100 + processed}
    assert not batches["is_last_batch"]
    under_way = int(settled > 0)
    for scope in ("current", "total"):
        assert epochs[scope]["processed"] == epochs[scope]["completed"] == 3 - under_way
        assert epochs[scope]["ready"] == epochs[scope]["started"] == 3


def test_a_run_that_was_stopped_before_its_first_checkpoint_begins_with_the_weights_of_ckpt(
    corpus: Path, never_stopped: dict[str, Path], tmp_path: Path
) -> None:
    base = only_run(never_stopped["plain"])
    homes = tmp_path / "whole", tmp_path / "stopped"
    for home in homes:
        home.mkdir()
    whole = run("train", settings(corpus, homes[0], f"ckpt={base}"), homes[0], log=homes[0] / "seen")
    assert whole.wait() == 0, whole.told
    words = settings(corpus, homes[1], f"ckpt={base}")
    killed = run("train", words, homes[1], log=homes[1] / "seen", kill="batch:1")
    assert killed.wait() == KILLED, killed.told
    again = run("train", [*words, "resume=true"], homes[1], log=homes[1] / "seen")
    assert again.wait() == 0, again.told
    assert "beginning from" in again.out
    assert_same_end(*homes)


def test_the_model_is_compared_also_where_a_run_began_with_weights(
    corpus: Path, never_stopped: dict[str, Path], tmp_path: Path
) -> None:
    begun = settings(corpus, tmp_path, f"ckpt={only_run(never_stopped['plain'])}")
    deeper = [*begun, "model.network.n_repeats=3"]
    train(compose(deeper))
    first = only_run(tmp_path)
    train(compose(begun))
    assert find_run(prepare(compose([*deeper, "resume=true"])).config) == first
    with pytest.raises(SepnetError, match=r"none of the 2 runs .* was started with these very settings"):
        train(compose([*begun, "model.network.n_repeats=4", "resume=true"]))


def test_sigterm_keeps_what_was_done(corpus: Path, tmp_path: Path) -> None:
    words = settings(corpus, tmp_path, "data.epoch_size=400", "checkpoints.every_n_steps=100000")
    command = start("train", words, tmp_path)
    command.wait_for(lambda: bool(list((tmp_path / "runs").glob("*/csv/version_0/metrics.csv"))))
    assert command.process.pid is not None
    os.kill(command.process.pid, signal.SIGTERM)
    assert command.wait() == 130, command.told
    match = re.search(r"stopped at step (\d+), saved up to step (\d+)\n.*plus resume=true", command.err)
    assert match, command.told
    assert match[1] == match[2] == str(checkpoint(only_run(tmp_path))["global_step"])


def test_a_run_goes_on_with_the_settings_that_it_is_given(corpus: Path, tmp_path: Path) -> None:
    stopped = ("early_stopping_patience=1", "optimizer.lr=1e-12", "trainer.max_epochs=50")
    train(compose(settings(corpus, tmp_path, *stopped)))
    folder = only_run(tmp_path)
    ended = checkpoint(folder)["global_step"]
    again = ("early_stopping_patience=3", "optimizer.weight_decay=0.125", "checkpoints.best=1")
    train(compose(settings(corpus, tmp_path, *stopped[1:], *again, f"resume={folder}")))
    now = checkpoint(folder)
    assert ended < now["global_step"] < 50 * 5
    assert now["optimizer_states"][0]["param_groups"][0]["weight_decay"] == 0.125
    assert len(list(folder.glob("checkpoints/step*.ckpt"))) == 1


def test_another_optimizer_cannot_go_on(corpus: Path, never_stopped: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(only_run(never_stopped["plain"]), tmp_path / "runs" / "a")
    words = settings(corpus, tmp_path, f"resume={tmp_path / 'runs' / 'a'}", "optimizer=muon")
    with pytest.raises(
        SepnetError, match=r"trained with torch\.optim\.AdamW, and sepnet\..*Muon can't go on"
    ):
        train(compose(words))


def test_the_last_weights_are_validated(corpus: Path, tmp_path: Path) -> None:
    rare = ("trainer.check_val_every_n_epoch=5", "trainer.max_epochs=null", "trainer.max_steps=7")
    train(compose(settings(corpus, tmp_path, *rare, "ema_decay=0.5")))
    folder = only_run(tmp_path)
    assert json.loads((folder / "metrics.json").read_text())["step"] == 7
