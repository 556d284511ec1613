"""Engines: the same results in any of them, and nothing lost where workers are killed."""

from __future__ import annotations

import contextlib
import csv
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sepnet.cli import evaluate, separate
from sepnet.engines import LOCAL, EngineSettings, LostItem, open_engine
from sepnet.engines.paths import PathProbe, check_paths
from sepnet.inference.recording_list import Shard, read_list
from sepnet.types import SepnetError

RATE = 8000


def write_sound(file: Path, seed: int) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    noise = 0.1 * np.random.default_rng(seed).standard_normal(RATE // 2)
    soundfile.write(file, noise.astype(np.float32), RATE, subtype="FLOAT")
    return file


def separated(*words: str | Path) -> None:
    before = sys.argv
    sys.argv = ["sepnet separate", "model=hpss", *map(str, words)]
    try:
        separate.main()
    finally:
        sys.argv = before


def refusal(capsys: pytest.CaptureFixture[str], *words: str | Path, status: int = 2) -> str:
    with pytest.raises(SystemExit) as ended:
        separated(*words)
    assert ended.value.code == status
    return capsys.readouterr().err


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def sounds(folder: Path) -> dict[str, bytes]:
    """The samples bit for bit; the header of a file has the time at which it was written."""
    files = {str(file.relative_to(folder)): file for file in folder.rglob("*.wav")}
    return {name: soundfile.read(file, dtype="float32")[0].tobytes() for name, file in files.items()}


@pytest.fixture(name="calls")
def _calls(tmp_path: Path) -> Path:
    """A list of three recordings, of which the second can't be read."""
    for number in (0, 2):
        write_sound(tmp_path / f"in/{number}.wav", number)
    (tmp_path / "in/1.wav").write_bytes(b"no sound")
    rows = [f"in/{number}.wav,day/call-{number}" for number in range(3)]
    (tmp_path / "calls.csv").write_text("\n".join(["path,name", *rows, ""]))
    return tmp_path / "calls.csv"


# Lists, shares and the table of results


def test_a_list_names_the_results_and_the_table_tells_of_each(
    calls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert "1 of 3 recordings could not be separated" in refusal(
        capsys, f"list={calls}", f"out={out}", status=1
    )
    rows = table(out / "separated.csv")
    assert [row["status"] for row in rows] == ["ok", "failed", "ok"]
    assert [row["output"] for row in rows] == [str(out / f"day/call-{number}") for number in range(3)]
    assert [row["seconds"] for row in rows] == ["0.5", "", "0.5"]
    assert rows[1]["reason"]
    assert not rows[1]["job"]
    assert {"day/call-0_harmonic.wav", "day/call-2_percussive.wav"} <= set(sounds(out))


def test_a_second_run_goes_on_from_the_table(
    calls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    refusal(capsys, f"list={calls}", f"out={out}", status=1)
    first = table(out / "separated.csv")
    with (out / "separated.csv").open("a") as stream:
        stream.write("in/9.wav,torn")  # what a killed process leaves
    for record in out.rglob("*_separation.json"):
        record.unlink()  # the table alone tells what is done
    write_sound(tmp_path / "in/1.wav", 1)
    separated(f"list={calls}", f"out={out}")
    assert "2 of 3 recordings are separated already" in capsys.readouterr().out
    again = table(out / "separated.csv")
    assert [row["status"] for row in again] == ["ok"] * 3
    assert again[:2] == [first[0], first[2]]
    write_sound(tmp_path / "in/2.wav", 7)
    os.utime(tmp_path / "in/2.wav", (1, 1))
    separated(f"list={calls}", f"out={out}", "overwrite=true")
    assert "separated already" not in capsys.readouterr().out
    assert [row["status"] for row in table(out / "separated.csv")] == ["ok"] * 3


def test_shares_are_disjoint_and_complete(tmp_path: Path) -> None:
    for number in range(3):
        write_sound(tmp_path / f"in/{number}.wav", number)
    separated(tmp_path / "in", f"out={tmp_path}/whole")
    for share in (1, 2):
        separated(tmp_path / "in", f"out={tmp_path}/shares", f"shard={share}/2")
    assert sounds(tmp_path / "whole") == sounds(tmp_path / "shares")
    names = ["separated-1-of-2.csv", "separated-2-of-2.csv"]
    assert [len(table(tmp_path / "shares" / name)) for name in names] == [2, 1]


def test_a_share_may_be_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    separated(write_sound(tmp_path / "a.wav", 0), "shard=2/2")
    assert "shard=2/2 has no recording" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["0/4", "5/4", "3", "a/b", "1/0"])
def test_a_share_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SepnetError, match="give the number of a share"):
        Shard.parse(text)


def test_a_list_keeps_its_folders_and_gives_sources_and_queries(tmp_path: Path) -> None:
    for name in ("a/x.wav", "b/x.wav", "bark.wav"):
        write_sound(tmp_path / name, 0)
    (tmp_path / "l.csv").write_text("path,n_sources,query\na/x.wav,3,\nb/x.wav,,bark.wav\n")
    first, second = read_list(tmp_path / "l.csv", Path("out"))
    assert (first.folder, first.stem, first.n_sources, first.query) == (Path("out/a"), "x", 3, None)
    assert (second.folder, second.n_sources, second.query) == (Path("out/b"), None, tmp_path / "bark.wav")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,n_source\na.wav,2\n", "did you mean 'n_sources'"),
        ("path\n", "no rows"),
        ("path,n_sources\na.wav,none\n", r"line 2: n_sources is 'none'"),
        ("path\nb.wav\n", "1 files of .* are not there"),
        ("path,name\na.wav,../a\n", "leads out of the folder"),
        ("path,name\na.wav,x\nc.wav,x\n", "would both become .*column name"),
        ("path\n''\n", "not there"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused(tmp_path: Path, text: str, message: str) -> None:
    write_sound(tmp_path / "a.wav", 0)
    write_sound(tmp_path / "c.wav", 1)
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(SepnetError, match=message):
        read_list(tmp_path / "l.csv", tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("list=l.csv",), "need a folder: give out="),
        (("a.wav", "address=auto"), "address= is for engine=ray"),
        (("a.wav", "gpus_per_worker=0.5"), "gpus_per_worker= is for engine=ray"),
        (("a.wav", "engine=ray", "n_processes=0"), "give 1 or more with engine=ray"),
        (("a.wav", "engine=dask"), "engine is 'dask'"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refusal(capsys, *words)


# What workers do


def doubler(folder: Path) -> Callable[[int], int]:
    """A worker that notes when it is made, and is killed by item 3 each time, by item 5 the first time."""
    with (folder / "made").open("a") as stream:
        stream.write(f"{os.getpid()}\n")

    def double(item: int) -> int:
        with (folder / f"tried-{item}").open("a") as stream:
            stream.write("x")
        if item == 3 or (item == 5 and (folder / "tried-5").read_text() == "x"):
            os.kill(os.getpid(), signal.SIGKILL)
        return 2 * item

    return double


def identity_worker() -> Callable[[int], int]:
    return int


@pytest.mark.parametrize("n_workers", [0, 1])
def test_local_results_come_in_order(n_workers: int) -> None:
    assert list(LOCAL.map(identity_worker, [4, 5, 6], n_workers=n_workers)) == [(0, 4), (1, 5), (2, 6)]


def test_a_path_that_another_machine_does_not_see_is_named(tmp_path: Path) -> None:
    file = write_sound(tmp_path / "a.wav", 0)
    assert PathProbe({str(file): file.stat().st_size, str(tmp_path): None})() == []
    [gone] = PathProbe({str(tmp_path / "b.wav"): 3})()
    [other] = PathProbe({str(file): 3})()
    assert "can't see" in gone
    assert "which has 3 here" in other
    check_paths(LOCAL, [file], [tmp_path / "new/folder"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav"]


def test_ray_missing_and_a_cluster_out_of_reach_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    for address, message in {"127.0.0.1:9": "can't be reached", "nowhere": "is no address"}.items():
        with pytest.raises(SepnetError, match=message), open_engine(ray_settings(address)):
            pass
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SepnetError, match=r"pip install 'sepnet\[ray\]'"), open_engine(ray_settings(None)):
        pass


def test_a_cluster_that_wants_a_token_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")

    def refuse(**_: object) -> None:
        raise ConnectionError("Failed to connect")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(SepnetError, match="RAY_AUTH_MODE=token"), open_engine(ray_settings(address)):
            pass


def ray_settings(address: str | None) -> EngineSettings:
    return EngineSettings(engine="ray", n_processes=2, address=address)


@pytest.fixture(name="reachable")
def _reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers import this module, too."""
    here = str(Path(__file__).parent)
    monkeypatch.setenv("RAY_worker_niceness", "0")  # on a busy machine they would hardly start
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]))


@pytest.mark.slow
@pytest.mark.usefixtures("reachable")
def test_ray_tries_again_what_a_killed_worker_did_and_lists_what_failed_each_time(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with open_engine(ray_settings(None)) as engine:
        assert engine.n_processors() == 2
        with pytest.raises(SepnetError, match=r"the workers on .*: can't see"):
            engine.check(PathProbe({str(tmp_path / "nothing"): 1}))
        results = dict(engine.map(partial(doubler, tmp_path), range(7), n_workers=2))
    lost = results.pop(3)
    assert results == {item: 2 * item for item in (0, 1, 2, 4, 5, 6)}
    assert isinstance(lost, LostItem)
    assert lost.reason == "its worker was lost 3 times: its process was killed"
    tries = {item: len((tmp_path / f"tried-{item}").read_text()) for item in range(7)}
    assert tries == {0: 1, 1: 1, 2: 1, 3: 3, 4: 1, 5: 2, 6: 1}
    made = (tmp_path / "made").read_text().split()
    assert len(made) == len(set(made)) <= 2 + 4  # once in a process, of which four were killed


@pytest.mark.slow
@pytest.mark.usefixtures("reachable")
def test_ray_writes_the_same_files_as_this_process(
    calls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray")
    refusal(capsys, f"list={calls}", f"out={tmp_path}/local", status=1)
    error = refusal(capsys, f"list={calls}", f"out={tmp_path}/ray", "engine=ray", "n_processes=2", status=1)
    assert "1 of 3 recordings could not be separated" in error
    assert sounds(tmp_path / "ray") == sounds(tmp_path / "local")
    of_row = [
        {row["path"]: (row["status"], row["job"]) for row in table(tmp_path / name / "separated.csv")}
        for name in ("local", "ray")
    ]
    assert of_row[0] == of_row[1]


@pytest.mark.slow
@pytest.mark.usefixtures("reachable")
def test_ray_scores_as_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    for number in range(12):
        write_sound(tmp_path / f"voices/{number % 6}/{number}.wav", number)
    data = [
        "data=folder",
        f"data.corpus.root={tmp_path}/voices",
        "data.corpus.split_fractions={train: 0.34, dev: 0.33, test: 0.33}",
        *("measures=[si_sdr]", "cost_mixtures=0", "limit=3", "separators=[identity,hpss]"),
    ]
    rows = []
    for name, engine in (("local", ["n_processes=0"]), ("ray", ["engine=ray", "n_processes=2"])):
        monkeypatch.setattr(sys, "argv", ["sepnet eval", *data, *engine, f"out={tmp_path}/{name}"])
        evaluate.main()
        rows.append(table(tmp_path / name / "rows.csv"))
    measured = ("compute_seconds", "peak_memory_mb")
    one, other = ([{k: v for k, v in row.items() if k not in measured} for row in each] for each in rows)
    assert len(one) == 2 * 3 * 2
    assert one == other


@pytest.mark.slow
@pytest.mark.parametrize("form", ["{}", "ray://{}"])
def test_a_running_cluster_is_joined_by_its_address(form: str, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    write_sound(tmp_path / "in/a.wav", 0)
    free = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    gcs, client = (server.getsockname()[1] for server in free)
    for server in free:
        server.close()
    ray = str(Path(sys.executable).with_name("ray"))
    ports = [f"--port={gcs}", f"--ray-client-server-port={client}", "--node-ip-address=127.0.0.1"]
    options = ["--num-cpus=1", "--include-dashboard=false", "--disable-usage-stats", "--block"]
    variables = os.environ | {"RAY_AUTH_MODE": "disabled"}
    cluster = subprocess.Popen([ray, "start", "--head", *ports, *options], env=variables)
    try:
        address = form.format(f"127.0.0.1:{client if form.startswith('ray') else gcs}")
        for _ in range(120):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", client), 1).close()
                break
            time.sleep(1)
        words = ["model=hpss", "in", "out=out", "engine=ray", "n_processes=1", f"address={address}"]
        command = [sys.executable, "-m", "sepnet.cli.main", "separate", *words]
        subprocess.run(command, cwd=tmp_path, env=variables, check=True)
    finally:
        cluster.terminate()
        cluster.wait()
    assert [row["status"] for row in table(tmp_path / "out/separated.csv")] == ["ok"]
