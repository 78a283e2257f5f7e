"""Texture images for synthesis: not a dataset to detect in."""

from exdd_ray.data.datasets.spec import Collection, Source

DTD = Collection(
    name="dtd",
    title="Describable Textures Dataset (Cimpoi et al. 2014)",
    licence="for research purposes (as the homepage says)",
    homepage="https://www.robots.ox.ac.uk/~vgg/data/dtd/",
    sources=(
        Source(
            url="https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
            filename="dtd-r1.0.1.tar.gz",
            checksum="md5:fff73e5086ae6bdbea199a49dfb8a4c1",
        ),
    ),
    note="The images are in images/<texture>/: give that folder as the synthesizer's textures.",
)


def procedural_textures(of: str, key: str) -> str:
    """The remark on made textures that stand in for those of DTD.

    Args:
        of: whose ingredient they are.
        key: that names a folder of textures.
    """
    return f"stand-in: {of} fills regions with textures of DTD, here they are procedural ({key}; `exdd data get dtd`)"
