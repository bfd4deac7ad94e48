"""Where the built-in data sets come from: files, publishers, checksums and licences."""

from dataclasses import dataclass

__all__ = ["CENSUS_INCOME", "DIGITS", "FASHION_MNIST", "MULTI_FASHION", "DataFile", "Source"]


@dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Args:
        name: As it is looked for; the same name without `.gz` is accepted, too.
        url: Where its publisher has it: the file itself, or an archive that holds it.
        sha256: Of the uncompressed content. The compressed bytes differ between packings of the same data; the
            content is what its publisher released, whoever compressed it.
    """

    name: str
    url: str
    sha256: str


@dataclass(frozen=True)
class Source:
    """A built-in data set.

    Args:
        name: As `cotrain run NAME` takes it.
        description: In one line.
        homepage: Where its publisher describes it, and where a person can download it.
        licence: Of the data.
        files: What must be found; none for data that ships with an installed package.
        folder: Name of the folder that holds them, where that is another data set's; empty for `name`.
    """

    name: str
    description: str
    homepage: str
    licence: str
    files: tuple[DataFile, ...] = ()
    folder: str = ""


DIGITS = Source(
    "digits",
    "1,797 handwritten digits, 8 x 8, 15 binary tasks; ships with scikit-learn",
    "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
    "CC BY 4.0",
)

_FASHION_URL = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"

FASHION_MNIST = Source(
    "fashion-mnist",
    "70,000 images of clothes, 28 x 28, 15 binary tasks",
    "https://github.com/zalandoresearch/fashion-mnist",
    "MIT",
    tuple(
        DataFile(name, _FASHION_URL + name, sha256)
        for name, sha256 in (
            ("train-images-idx3-ubyte.gz", "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
            ("train-labels-idx1-ubyte.gz", "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
            ("t10k-images-idx3-ubyte.gz", "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
            ("t10k-labels-idx1-ubyte.gz", "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
        )
    ),
)

MULTI_FASHION = Source(
    "multi-fashion",
    "70,000 pairs (or triples) of overlaid Fashion-MNIST images, 28 x 28, a ten-class task per image",
    FASHION_MNIST.homepage,
    FASHION_MNIST.licence,
    FASHION_MNIST.files,
    folder=FASHION_MNIST.name,
)

_CENSUS_URL = "https://archive.ics.uci.edu/static/public/117/census+income+kdd.zip"

CENSUS_INCOME = Source(
    "census-income",
    "299,285 people in US surveys of 1994 and 1995; ten tasks of mixed kinds, or the pair age and education",
    "https://archive.ics.uci.edu/dataset/117/census+income+kdd",
    "CC BY 4.0",
    (
        DataFile(
            "census-income.data.gz", _CENSUS_URL, "3676a81db7d3528f3f8b9f3c699d0f0aa28db45e6e994fa0b8ed38327539ee86"
        ),
        DataFile(
            "census-income.test.gz", _CENSUS_URL, "98402b1ab879573d0a7f38a699a40258080e25e33d3401e7bf9c96d3fa0fab8c"
        ),
    ),
)
