"""What an experiment says of itself: stand-ins for published parts, words that the model does not know."""

from pathlib import Path

import pytest

from exdd_ray.cli.main import main
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.remarks import synthesis_remarks
from exdd_ray.methods.table import method_of

SMALL = ("procedural.normal_train=4", "procedural.normal_test=2", "procedural.defects_per_kind=2", "category=wood")


def detector_remarks(config):
    return method_of(config.detector).remarks(config.detector)


def experiment(**given: object) -> ExperimentConfig:
    return ExperimentConfig.model_validate(given)


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_diffusionad_without_its_textures_and_foregrounds_says_so(preset):
    said = detector_remarks(experiment(detector={"kind": "diffusionad", "preset": preset}))
    assert len(said) == 2
    assert all(remark.startswith(f"stand-in: DiffusionAD's preset {preset}") for remark in said)
    assert "textures of DTD, here they are procedural (detector.anomalies.textures" in said[0]
    assert "foreground masks made beforehand, here they lie anywhere" in said[1]
    with_dtd = {"kind": "diffusionad", "preset": preset, "anomalies": {"textures": "dtd/images"}}
    assert detector_remarks(experiment(detector=with_dtd)) == said[1:]
    own = {
        "kind": "diffusionad",
        "preset": preset,
        "anomalies": {"texture_share": 0, "foreground": {"kind": "threshold"}},
    }
    (only,) = detector_remarks(experiment(detector=own))
    assert "where the grey value says" in only


def test_what_is_not_published_stands_in_for_nothing():
    assert detector_remarks(experiment(detector={"kind": "diffusionad"})) == ()
    assert detector_remarks(experiment()) == ()
    assert synthesis_remarks(experiment(synthesizer={"kind": "cutpaste"})) == ()


@pytest.mark.parametrize("recipe", ["memseg", "diffusionad", "draem"])
def test_per_region_recipes_without_dtd_say_so(recipe):
    (remark,) = synthesis_remarks(experiment(synthesizer={"kind": "per_region", "preset": recipe}))
    assert remark.startswith(f"stand-in: the recipe {recipe} fills regions with textures of DTD")
    for given in ({"textures": "dtd/images"}, {"texture_share": 0}):
        assert synthesis_remarks(experiment(synthesizer={"kind": "per_region", "preset": recipe, **given})) == ()


def test_prompts_of_no_known_word_are_named_with_the_words_that_are():
    def said(*prompts: str, **more: object) -> tuple[str, ...]:
        return synthesis_remarks(experiment(synthesizer={"kind": "inpaint", "prompts": prompts, **more}))

    (remark,) = said("rust", "scratch", "Zebra on a surface")
    assert "no word of 'rust', 'Zebra on a surface' " in remark
    assert "scratch, hole, stain, crack, dent, white marks, fray, inclusion" in remark
    assert said("a Scratch, deep", "copper metal scratches") == ()
    assert said("rust", model="owner/name") == ()


def test_a_resampling_of_one_kind_of_images_alone_is_said():
    paper = {"kind": "inpaint", "preset": "paper", "masks": {"source": "procedural"}}
    diag = {"kind": "classifier", "preset": "diag"}
    assert synthesis_remarks(experiment(synthesizer=paper, detector=diag)) == ()
    (remark,) = synthesis_remarks(experiment(synthesizer=paper, detector={"kind": "classifier"}))
    assert "synthesizer.working_size is (632, 224), the detector's None" in remark
    own_size = {"kind": "inpaint", "prompts": ["scratch"]}
    assert synthesis_remarks(experiment(synthesizer=own_size, detector=diag)) == ()


@pytest.mark.parametrize("command", ["run", "synth"])
def test_runs_and_syntheses_print_it(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = "synthesizer={kind: inpaint, prompts: [zebra], count: 2, steps: 2, filters: null}"
    detector = "detector={system: exdd, features: {resize: [64, 64]}}"
    assert main([command, "demo", "variants={}", detector, "split.defects=1", "bootstrap=0", *SMALL, given]) == 0
    assert "no word of 'zebra'" in capsys.readouterr().out
    page = next(Path(tmp_path, "runs").rglob("*.html")).read_text()
    assert "no word of &#39;zebra&#39;" in page


def test_sweeps_print_it_with_their_plan(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = "space={synthesizer.prompts: [[scratch], [zebra]]}"
    assert main(["sweep", "prompts", "--plan", "--here", words, "seeds=[0]", "validation_defects=1", *SMALL]) == 0
    assert "note: the miniature knows no word of 'zebra'" in capsys.readouterr().err
