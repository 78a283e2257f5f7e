"""Words on the command line: help, guesses at mistakes, keys anywhere, completion."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from exdd_ray.cli.main import build_parser, main
from exdd_ray.cli.sweep import named_dataset
from exdd_ray.config.keys import list_groups, list_keys
from exdd_ray.errors import ConfigError
from exdd_ray.experiment.config import RunConfig
from exdd_ray.experiment.sweep_config import SweepConfig

SWEEPS = Path(__file__).parents[3] / "sweeps"


def ends(capsys, *words):
    """The exit code of a command line that ends while it is parsed, and what it said."""
    with pytest.raises(SystemExit) as end:
        build_parser().parse_args(words)
    said = capsys.readouterr()
    return end.value.code, said.out + said.err


@pytest.mark.parametrize("model", [RunConfig, SweepConfig])
def test_every_key_has_a_meaning(model):
    keys = [*list_keys(model), *list_groups(model)]
    assert [key.path for key in keys if len(key.meaning) < 8] == []
    assert [key.path for key in keys if "\n" in key.meaning] == []


def test_help_is_short_and_leads_to_the_keys(capsys):
    code, text = ends(capsys, "run", "--help")
    assert code == 0
    assert len(text.splitlines()) < 80
    assert "exdd_ksdd2_released" in text
    assert "detector.scoring (patch_bank)" in text
    code, text = ends(capsys, "run", "folder", "--help", "scoring")
    assert (
        "detector.scoring.fusion=evidence  (patch_bank; single | ratio | bonus | evidence)\n      `single` negative"
        in text
    )
    assert "dataset.root" not in text
    assert "tuner.points=null  (int or null)" in ends(capsys, "sweep", "--help", "tuner")[1]
    assert "detector.bank.negative.rate=" in ends(capsys, "synth", "--help", "all")[1]
    code, text = ends(capsys, "run", "--help", "detector.scorin")
    assert (code, len(text.splitlines())) == (2, 1)
    assert "did you mean 'detector.scoring" in text


@pytest.mark.parametrize("words", [["run", "--help", "all"], ["config", "demo"]])
def test_a_reader_that_has_gone_is_no_error(words):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "exdd_ray.cli.main", *words]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rn"], "exdd: no command 'rn': did you mean 'run'?"),
        (["data", "lst"], "exdd data: no command 'lst': did you mean 'list'?"),
        (["track", "snyc", "x"], "no action 'snyc': did you mean 'sync'?"),
        (["run", "--jsno"], "unknown option '--jsno': did you mean '--json'?"),
        (["sweep", "x", "--plna"], "unknown option '--plna': did you mean '--plan'?"),
        (["run", "--dataset.root=x"], "keys are given without dashes, as 'dataset.root=x'"),
        (["report", "a", "b"], "unexpected argument 'b'"),
        (["run", "--at-once", "x"], "argument --at-once: invalid int value: 'x'"),
        (["completion", "ksh"], "no shell 'ksh': did you mean 'zsh'?"),
        (["qqqq"], "no command 'qqqq' (one of run, report"),
        ([], "required: COMMAND"),
        (["sweep"], "required: CONFIG ("),
    ],
)
def test_mistyped_words_get_one_line(words, said, capsys):
    code, text = ends(capsys, *words)
    assert code == 2
    assert said in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("bank.rate=1", "unknown config key 'bank.rate': did you mean 'detector.bank.negative.rate'?"),
        ("scoring=3", "detector.scoring: a group of keys (`--help detector.scoring` lists them), not 3"),
        ("detector=3", "detector: a group of keys (`--help detector` lists them), not 3"),
        ("features.layers=layer2", "detector.features.layers: expected a list, as [layer2], not 'layer2'"),
    ],
)
def test_mistyped_keys_get_one_line(key, said, capsys):
    assert main(["config", "demo", key]) == 2
    text = capsys.readouterr().err
    assert said in text
    assert len(text.splitlines()) == 1


def test_keys_stand_anywhere():
    found = build_parser().parse_args(["run", "seed=3", "--ray", "dataset.root=/x", "folder", "--json", "bonus=1"])
    assert (found.config, found.json) == (None, True)  # the word after --ray is its address
    found = build_parser().parse_args(["run", "seed=3", "folder", "--ray", "dataset.root=/x", "--json"])
    assert (found.config, found.ray, found.overrides) == ("folder", "local", ["seed=3", "dataset.root=/x"])
    assert build_parser().parse_args(["data", "check", "a=b"]).folder == Path("a=b")


@pytest.mark.parametrize("script", sorted(SWEEPS.glob("*.py")), ids=lambda path: path.stem)
def test_a_sweeps_script_takes_keys_after_its_values(script, tmp_path):
    option = {"synth_count": "--counts", "coreset_rate": "--negative", "prompts": "--prompts"}.get(script.stem)
    option = option or {"neighborhood": "--neighbours", "multi_dataset": "--datasets"}.get(script.stem, "--counts")
    values = {"--negative": ["0.1", "0.2"], "--datasets": ["procedural/wood"], "--prompts": ["hole"]}.get(option, ["0"])
    words = [option, *values, "seeds=[-1]", "--here", "--plan"]
    done = subprocess.run([sys.executable, script, *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "seeds" in done.stderr or "seed: " in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_dataset_that_a_script_is_given_by_path_is_there(tmp_path):
    assert named_dataset(str(tmp_path)) == {"dataset.name": "folder", "dataset.root": str(tmp_path)}
    assert named_dataset("mvtec_ad/bottle") == {"dataset.name": "mvtec_ad", "dataset.category": "bottle"}
    for absent in (str(tmp_path / "prats"), "./prats"):
        with pytest.raises(ConfigError, match="prats: no such folder"):
            named_dataset(absent)


def completed(tmp_path, *words):
    """What bash completes the last word with."""
    script = tmp_path / "completion.bash"
    with script.open("w") as file:
        subprocess.run([sys.executable, "-m", "exdd_ray.cli.main", "completion", "bash"], stdout=file, check=True)
    line = " ".join(f"'{word}'" for word in words)
    ask = f'. {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _exdd; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=True)
    return [word.strip() for word in done.stdout.splitlines()]


def test_bash_completes_commands_configs_keys_and_values(tmp_path):
    (tmp_path / "mine.yaml").touch()
    assert completed(tmp_path, "exdd", "sw") == ["sweep"]
    assert completed(tmp_path, "exdd", "run", "fold") == ["folder"]
    assert completed(tmp_path, "exdd", "run", "mi") == ["miniature", "mine.yaml"]
    assert completed(tmp_path, "exdd", "run", "--js") == ["--json"]
    assert completed(tmp_path, "exdd", "run", "detector.scoring.fu") == ["detector.scoring.fusion="]
    assert completed(tmp_path, "exdd", "sweep", "tuner.kind", "=", "") == ["grid", "random", "tpe", "asha"]
    assert completed(tmp_path, "exdd", "run", "detector.scoring.fusion", "=", "r") == ["ratio"]
    assert completed(tmp_path, "exdd", "run", "detector.scoring.fusion=r") == ["detector.scoring.fusion=ratio"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_know_the_same_words(shell, capsys):
    assert main(["completion", shell]) == 0
    said = capsys.readouterr().out
    for word in ("sweep", "detector.scoring.fusion=", "ratio", "exdd_ksdd2_released", "plan"):
        assert word in said
