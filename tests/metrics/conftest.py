import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def peaks():
    """200 peaks of 500 bp, one per 10 kb: half on chr1, half on chr2."""
    start = np.tile(np.arange(100) * 10_000, 2)
    chrom = np.repeat(["chr1", "chr2"], 100)
    table = pd.DataFrame({"chrom": chrom, "start": start, "end": start + 500})
    table.index = [f"{c}:{s}-{s + 500}" for c, s in zip(chrom, start, strict=True)]
    return table


@pytest.fixture
def genes():
    """``a`` overlaps 3 peaks of chr1 and has 13 within 50 kb; ``b`` lies at the start of chr2."""
    columns = {"chrom": ["chr1", "chr2"], "start": [500_000, 0], "end": [520_100, 100]}
    return pd.DataFrame(columns, index=["a", "b"])


@pytest.fixture
def make_features():
    def make(sets):
        parts = [
            pd.DataFrame(
                {"gene": g, "group": t, "rank": np.arange(1, len(f) + 1), "feature": list(f)}
            )
            for (g, t), f in sets.items()
        ]
        return pd.concat(parts, ignore_index=True)

    return make
