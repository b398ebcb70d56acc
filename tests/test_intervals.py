import numpy as np
import pandas as pd
import pytest

from lucidvi._intervals import overlaps, plain_chromosome, same_chromosome


@pytest.mark.parametrize("seed", range(20))
def test_overlaps_equal_brute_force(seed):
    rng = np.random.default_rng(seed)

    def table(n, names):
        start = rng.integers(0, 60, n)
        width = rng.choice([1, 3, 30], n)
        return pd.DataFrame({"chrom": rng.choice(names, n), "start": start, "end": start + width})

    a, b = table(15, ["chr1", "chr2", "chrM", "", "chr9"]), table(25, ["1", "2", "MT", "X"])
    plain = [t["chrom"].map(plain_chromosome).to_numpy() for t in (a, b)]
    expected = [
        (i, j) for i in range(15) for j in range(25)
        if plain[0][i] == plain[1][j] and a["start"][i] < b["end"][j] and b["start"][j] < a["end"][i]
    ]  # fmt: skip
    found = overlaps(a, b)
    assert list(zip(*(i.tolist() for i in found), strict=True)) == expected


def test_nothing_overlaps_nothing():
    table = pd.DataFrame({"chrom": ["1"], "start": [0], "end": [5]})
    for a, b in ((table, table.iloc[:0]), (table.iloc[:0], table)):
        assert [i.tolist() for i in overlaps(a, b)] == [[], []]


def test_chromosomes_with_and_without_chr():
    assert same_chromosome(pd.Series(["chr1", "1", "CHR1", "chr11"]), "1").tolist() == [True, True, True, False]  # fmt: skip
