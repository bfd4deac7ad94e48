"""Small files in the formats of the published ones."""

import gzip
from pathlib import Path

import numpy as np

from cotrain.data.census import CENSUS_COLUMNS

N_TRAIN, N_TEST, SIDE = 120, 40, 5


def write_idx(path: Path, values: np.ndarray) -> None:
    header = bytes((0, 0, 8, values.ndim)) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    path.write_bytes(gzip.compress(header + values.tobytes()))


ANSWERS = {
    "ACLSWKR": ["Private", "Local government", "Never worked", "Not in universe", "Self-employed-incorporated"],
    "AHGA": ["Bachelors degree(BA AB BS)", "Masters degree(MA MS MEng MEd MSW MBA)", "9th grade", "Children"],
    "AMARITL": ["Never married", "Widowed"],
    "AREORGN": ["NA", "All other"],
    "ASEX": ["Female", "Male"],
    "AUNMEM": ["Not in universe", "No", "Yes"],
    "AWKSTAT": ["Not in labor force", "Full-time schedules", "Unemployed full-time", "Children or Armed Forces"],
    "HHDFMX": ["Householder", "Grandchild <18 ever marr not in subfamily"],
    "HHDREL": ["Householder", "Spouse of householder", "Child 18 or older"],
    "MIGSUN": ["?", "Yes", "No"],
    "PRCITSHP": ["Native- Born in the United States", "Foreign born- Not a citizen of U S "],
    "VETYN": ["0", "1", "2"],
    "target": ["- 50000.", "50000+."],
}
NUMBERS = {"AAGE": 90, "AHRSPAY": 900, "CAPGAIN": 99, "CAPLOSS": 9, "DIVVAL": 50, "MARSUPWT": 3000, "WKSWORK": 53}


def census_rows(count: int, seed: int) -> list[dict[str, str]]:
    random = np.random.default_rng(seed)
    return [
        {
            name: str(random.integers(NUMBERS[name]))
            if name in NUMBERS
            else str(random.choice(ANSWERS.get(name, ["a", "b"])))
            for name in CENSUS_COLUMNS
        }
        for _ in range(count)
    ]


def census_text(rows: list[dict[str, str]]) -> bytes:
    return "".join(", ".join(row.values()) + "\n" for row in rows).encode()
