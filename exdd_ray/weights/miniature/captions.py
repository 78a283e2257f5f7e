"""What the model reads: many ways to say which defect is on which material, and the words of a whole surface."""

from collections.abc import Iterator

import numpy as np

from exdd_ray.data.procedural.defects import DEFECT_KINDS

NORMAL = "normal"
COPPER = "copper"
PLAIN_SHARE = 0.35

DEFECT_WORDS: dict[str, tuple[str, ...]] = {
    "scratch": ("scratch", "scratches", "long scratch", "thin scratches", "scratch mark", "scrape", "scratched line"),
    "hole": ("hole", "holes", "small hole", "dark pit", "pits", "pinhole", "puncture"),
    "stain": ("stain", "stains", "oil stain", "discoloration", "dried spot", "water stain", "blotch"),
    "crack": ("crack", "cracks", "branching crack", "jagged crack", "fissure", "fracture", "hairline crack"),
    "dent": ("dent", "dents", "shallow dent", "bump", "dimple", "hollow", "smooth depression"),
    "white_marks": ("white marks", "white mark", "chalk marks", "white specks", "white smear", "white spots", "chalk"),
    "fray": ("fray", "frayed edge", "ragged edge", "torn edge", "broken edge", "chipped edge", "missing piece"),
    "inclusion": ("inclusion", "inclusions", "foreign particle", "embedded grain", "foreign material", "foreign body"),
    COPPER: ("copper metal scratches", "copper scratch", "copper scratches", "reddish copper scratch"),
    NORMAL: ("smooth clean surface", "clean surface", "flawless texture", "no defect", "normal surface", "undamaged"),
}

MATERIAL_WORDS: dict[str, tuple[str, ...]] = {
    "brushed_metal": ("metal", "brushed metal", "steel", "metal surface"),
    "ceramic": ("ceramic", "tile", "ground ceramic", "metal surface"),
    "textile": ("textile", "fabric", "cloth", "carpet"),
    "wood": ("wood", "wooden board", "timber"),
    "leather": ("leather", "brown leather"),
    "concrete": ("concrete", "wall", "stone", "plaster"),
    "printed_grid": ("circuit board", "grid", "printed board"),
    "texture": ("texture", "pattern", "surface"),
    "grain": ("surface", "grey surface", "metal surface", "wall"),
}

TEMPLATES = (
    "{defect} on {material}",
    "{defect} on the {material}",
    "a {defect} in {material}",
    "{material} with {defect}",
    "{material} {defect}",
    "a photo of {defect} on {material}",
    "{defect}, {material}",
    "close-up of a {defect}",
    "a photo of a {defect}",
    "a {defect}",
    "defect: {defect}",
    "{defect} defect",
    "damaged {material}, {defect}",
    "industrial inspection image of {material} with {defect}",
)
NORMAL_TEMPLATES = (
    "{defect}",
    "{defect} of {material}",
    "clean {material}",
    "smooth {material}",
    "{material}, {defect}",
)


def plain_words(kind: str) -> str:
    """The shortest prompt for a kind: its name in words."""
    return DEFECT_WORDS[kind][0]


def make_caption(kind: str, material: str, rng: np.random.Generator) -> str:
    """One of the captions of a defect kind (or NORMAL, or COPPER) on a material; often just the name of the kind."""
    words = DEFECT_WORDS[kind]
    if rng.uniform() < PLAIN_SHARE:
        return words[0] if rng.uniform() < 0.6 else words[rng.integers(len(words))]
    templates = NORMAL_TEMPLATES if kind == NORMAL else TEMPLATES
    materials = MATERIAL_WORDS[material]
    return templates[rng.integers(len(templates))].format(
        defect=words[rng.integers(len(words))], material=materials[rng.integers(len(materials))]
    )


def corpus() -> Iterator[str]:
    """Every caption that make_caption can give, for the tokenizer's vocabulary."""
    kinds = (*DEFECT_KINDS, COPPER, NORMAL)
    for kind in kinds:
        templates = NORMAL_TEMPLATES if kind == NORMAL else TEMPLATES
        for defect in DEFECT_WORDS[kind]:
            yield defect
            for template in templates:
                for materials in MATERIAL_WORDS.values():
                    yield from (template.format(defect=defect, material=material) for material in materials)
