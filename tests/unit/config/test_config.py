from pathlib import Path

import pytest
import yaml

from exdd_ray.config.bundled import bundled_names, find_config
from exdd_ray.config.keys import list_keys, resolve_key
from exdd_ray.errors import ConfigError
from exdd_ray.experiment.config import RunConfig
from exdd_ray.experiment.load import read_raw
from exdd_ray.experiment.space import load_run, resolved_yaml
from exdd_ray.methods.patch_bank.config import PRESETS, PatchBankConfig
from exdd_ray.synthesizers.lora.config import LoraConfig, TuningConfig

CONFIGS = Path(__file__).parents[3] / "configs"


def write(folder, name, text):
    (folder / name).write_text(text)
    return folder / name


def test_every_bundled_experiment_is_valid():
    files = sorted([*(CONFIGS / "experiments").glob("*.yaml"), *(CONFIGS / "synthesizers").glob("*.yaml")])
    assert find_config("demo") in files
    for file in files:
        loaded = load_run(file)
        assert loaded.trials
        assert loaded.sweep.name == file.stem


@pytest.mark.parametrize(("system", "preset"), PRESETS)
def test_a_preset_fills_what_is_not_given(system, preset):
    config = PatchBankConfig.model_validate({"system": system, "preset": preset, "scoring": {"blur_radius": 7.0}})
    filled = PRESETS[system, preset]["scoring"]
    assert config.scoring.blur_radius == 7.0
    assert config.scoring.model_dump()["fusion"] == filled["fusion"]
    assert (config.bank.positive is None) == (system == "patchcore")


def test_published_exdd_constants():
    (trial,) = load_run(CONFIGS / "experiments" / "exdd_ksdd2_released.yaml").trials
    detector = trial.config.detector
    assert detector.features.resize == (316, 112)
    assert (detector.bank.negative.rate, detector.bank.negative.minimum) == (0.01, 1000)
    assert (detector.scoring.neighbours, detector.scoring.own_term, detector.scoring.blur_radius) == (3, False, 2.0)
    assert detector.positives.contours == "last"


def test_base_files_merge_and_the_nearer_wins(tmp_path):
    write(tmp_path, "a.yaml", "dataset: {name: mvtec_ad, category: bottle}\nseed: 3\n")
    file = write(tmp_path, "b.yaml", "base: a.yaml\ndataset: {category: cable}\n")
    (trial,) = load_run(file).trials
    assert (trial.config.dataset.name, trial.config.dataset.category, trial.config.seed) == ("mvtec_ad", "cable", 3)


def test_a_circle_of_bases_is_refused(tmp_path):
    write(tmp_path, "a.yaml", "base: b.yaml\n")
    with pytest.raises(ConfigError, match="circle"):
        read_raw(write(tmp_path, "b.yaml", "base: a.yaml\n"))


def test_environment_variables(tmp_path, monkeypatch):
    file = write(tmp_path, "a.yaml", "dataset: {name: folder, root: '${PLACE:-/nowhere}/x'}\n")
    assert read_raw(file)["dataset"]["root"] == "/nowhere/x"
    monkeypatch.setenv("PLACE", "/here")
    assert read_raw(file)["dataset"]["root"] == "/here/x"
    with pytest.raises(ConfigError, match="MISSING_ONE is not set"):
        read_raw(write(tmp_path, "b.yaml", "name: '${MISSING_ONE}'\n"))


def test_a_detector_is_a_patch_bank_unless_its_kind_says_otherwise(tmp_path):
    file = write(
        tmp_path,
        "a.yaml",
        "variants:\n  bank: {}\n  image labels: {detector: {kind: classifier, preset: diag}}\n"
        "  diffusion: {detector: {kind: diffusionad, scale: small}}\n",
    )
    loaded = load_run(file, ["detector.preset=best"])
    assert [trial.config.detector.kind for trial in loaded.trials] == ["patch_bank", "classifier", "diffusionad"]
    for trial, document in zip(loaded.trials, resolved_yaml(loaded.trials).split("---\n"), strict=True):
        (again,) = load_run(write(tmp_path, "again.yaml", document)).trials
        assert again.config == trial.config
    (small,) = load_run(file, ["detector={kind: classifier}", "learning_rate=0.01", "features.layers=[layer2]"]).trials
    assert (small.config.detector.learning_rate, small.config.detector.geometry.layers) == (0.01, ("layer2",))


def test_overrides_by_ending_beat_file_variants_and_grid(tmp_path):
    file = write(
        tmp_path,
        "a.yaml",
        "variants: {one: {bank.negative.rate: 0.5}, two: {bank.negative.rate: 0.25}}\n"
        "grid: {scoring.epsilon: [0, 1]}\n",
    )
    trials = load_run(file).trials
    assert [t.name for t in trials] == ["one, epsilon=0", "one, epsilon=1", "two, epsilon=0", "two, epsilon=1"]
    trials = load_run(file, ["bank.negative.rate=0.02", "epsilon=0.5"]).trials
    assert len(trials) == 1  # all the same now
    assert trials[0].config.detector.bank.negative.rate == 0.02
    assert trials[0].config.detector.scoring.epsilon == 0.5


def test_seeds_repeat_every_trial_and_a_seed_override_wins(tmp_path):
    file = write(tmp_path, "a.yaml", "seeds: [0, 1, 2]\n")
    assert [trial.config.seed for trial in load_run(file).trials] == [0, 1, 2]
    assert [trial.config.seed for trial in load_run(file, ["seed=5"]).trials] == [5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("datset: {name: x}\n", "unknown config key 'datset': did you mean 'dataset'"),
        ("detector: {bank: {negative: {rat: 0.1}}}\n", "did you mean 'detector.bank.negative.rate'"),
        ("detector: {bank: {negative: {rate: 2}}}\n", "less than or equal to 1, not 2"),
        ("detector: {preset: bset}\n", "not 'bset'"),
        ("detector: {system: patchcore, bank: {positive: {rate: 0.1}}}\n", "patchcore has one bank"),
        ("detector: {features: {resize: 256}}\n", "give crop"),
        ("detector: {scoring: {smoothing: 2}}\n", "odd"),
        ("detector: {scoring: {neighbours: 1}}\n", "2 and more"),
        ("detector: {scoring: {blur: pillow8, fusion: bonus}}\n", "gaussian"),
        ("detector: {features: {resize: [64, 64], crop: [80, 64]}}\n", "larger than resize"),
        ("detector: {features: {resize: [0, 64]}}\n", "at least 16"),
        (
            "detector: {kind: bnak}\n",
            "detector.kind: one of 'patch_bank', 'padim', 'classifier', 'diffusionad', 'localiser', 'supersimplenet', "
            "not 'bnak'",
        ),
        ("detector: {kind: classifier, epochs: 0}\n", "detector.epochs: Input should be greater than or equal to 1"),
        ("detector: {kind: classifier, lerning_rate: 1}\n", "did you mean 'detector.learning_rate'"),
        ("detector: {kind: classifier, bank: {}}\n", "detector.bank: not a key of detector.classifier"),
        (
            "detector: {kind: classifier, checkpoint: test}\n",
            "detector.checkpoint: Input should be 'last' or 'validation'",
        ),
        ("detector: {kind: diffusionad}\nsynthesizer: {kind: cutpaste}\n", "bad.yaml: detector.kind=diffusionad makes"),
        ("synthesizer: {count: 3}\n", "synthesizer: say which kind"),
        ("- a\n- b\n", "expected keys and values"),
        ("a: [", "not valid YAML"),
    ],
)
def test_bad_files_get_one_line_that_names_the_file(tmp_path, text, message):
    with pytest.raises(ConfigError, match="bad.yaml") as error:
        load_run(write(tmp_path, "bad.yaml", text))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("argument", ["detector.preset", "no.such.key=1", "rate=0.1", "seed=[1"])
def test_bad_overrides(argument):
    with pytest.raises(ConfigError):
        load_run(find_config("demo"), [argument])


def test_the_raw_config_gives_the_same_trials_again(tmp_path):
    file = write(
        tmp_path,
        "a.yaml",
        "variants: {b: {detector.preset: best}, p: {detector.preset: paper, positives.source: mask}}\n"
        "grid: {split.defects: [1, 2]}\n",
    )
    loaded = load_run(file, ["positives.source=crop", "fusion=bonus", "bootstrap=7"])
    again = load_run(write(tmp_path, "again.yaml", yaml.safe_dump(loaded.raw)))
    assert again.trials == loaded.trials
    assert {trial.config.detector.preset for trial in loaded.trials} == {"best", "paper"}
    assert {trial.config.detector.positives.source for trial in loaded.trials} == {"crop"}


def test_a_resolved_trial_runs_as_it_is(tmp_path):
    loaded = load_run(CONFIGS / "experiments" / "exdd_ksdd2_released.yaml")
    again = load_run(write(tmp_path, "again.yaml", resolved_yaml(loaded.trials)))
    assert again.trials == loaded.trials


def test_ambiguous_endings_name_all_keys():
    with pytest.raises(ConfigError, match=r"bank.negative.rate, detector.bank.positive.rate"):
        resolve_key("rate", RunConfig)


def test_every_listed_key_resolves_to_itself():
    paths = [key.path for key in list_keys(RunConfig)]
    assert len(paths) > 40
    assert all(resolve_key(path, RunConfig) == path for path in paths)


@pytest.mark.parametrize("kind", ["experiments", "sweeps", "synthesizers"])
def test_bundled_configs_are_found_by_name_and_path_from_anywhere(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in bundled_names(kind):
        by_name = find_config(name, [kind])
        assert by_name.parent.name == kind
        assert find_config(f"configs/{kind}/{name}.yaml") == by_name


def test_a_file_of_ones_own_comes_before_a_bundled_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "folder", "name: mine\n")
    assert load_run(find_config("folder")).sweep.name == "mine"
    (tmp_path / "demo").mkdir()  # a folder is none
    assert load_run(find_config("demo")).sweep.name == "demo"


def test_a_base_by_name(tmp_path):
    file = write(tmp_path, "mine.yaml", "base: folder\ndataset: {root: /x}\n")
    assert load_run(file).trials[0].config.detector.system == "patchcore"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("foldr", "'foldr' is no YAML file, and no bundled config has this name: did you mean 'folder'?"),
        ("small", "did you mean 'diffusionad_small'?"),
        ("ksdd2_zero", "did you mean 'diag_ksdd2_zero' or 'in_and_out_ksdd2_zero'?"),
        ("zzz", "bundled: anomalydino_folder, classifier_magnetic_tile, demo"),
        (".", "is a folder, not a config; its images are those of `folder dataset.root=.`"),
    ],
)
def test_a_config_that_is_none(given, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        find_config(given)
    assert message in str(error.value)


def test_a_group_of_a_variant_joins_what_base_and_overrides_say(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "dataset: {name: procedural, procedural: {materials: [wood]}}\n"
        "synthesizer: {kind: per_region, preset: draem, count: 7}\n"
        "variants:\n"
        "  joined: {dataset: {split: {defects: 2}}, synthesizer: {count: 9}}\n"
        "  another: {dataset.split.defects: 2, synthesizer: {kind: cutpaste}}\n"
    )
    joined, another = (trial.config for trial in load_run(path, ["normal_train=6"]).trials)
    for config in (joined, another):
        assert config.dataset.procedural.materials == ("wood",)
        assert (config.dataset.procedural.normal_train, config.dataset.split.defects) == (6, 2)
    assert (joined.synthesizer.preset, joined.synthesizer.count) == ("draem", 9)
    assert (another.synthesizer.kind, another.synthesizer.count) == ("cutpaste", 100)


def test_what_a_variant_breaks_is_told_with_its_name():
    with pytest.raises(ConfigError, match=r"detector.system: not a key .*in 'single bank', one of its variants"):
        load_run(find_config("demo"), ["detector.kind=padim"])


def test_a_group_that_is_given_in_part_keeps_what_the_default_of_its_key_sets():
    training = TuningConfig(training={"gpus": 0.25}).training
    assert (training.batch, training.max_grad_norm, training.gpus) == (8, 1.0, 0.25)
    assert TuningConfig(training={"max_grad_norm": None}).training.max_grad_norm is None
    assert LoraConfig(preset="paper").tuning.training.max_grad_norm == 1.0  # kohya's
    assert LoraConfig(preset="paper").tuning.training.batch == 12


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match=r"merge\n.*finite number|greater than or equal to 0"):
        LoraConfig(merge=value)
