"""The stored tables of a subset perturbation: what earlier calls found is kept, and added to."""

from typing import cast

import numpy as np
import pandas as pd
import scipy.sparse as sp

from lucidvi._logging import warn
from lucidvi._subset_tables import check_subset_tables
from lucidvi.algorithms._set_statistics import q_values
from lucidvi.explain._results import Place, numbered, positions
from lucidvi.explain.subset._pairs import Pair

type Tables = dict[str, pd.DataFrame]
_TABLES = ("sets", "features", "cells", "null")
_ALL = (*_TABLES, "donors")


def finished_pairs(place: Place, params: dict, overwrite: bool) -> dict[Pair, Tables]:
    """Return pairs that an earlier call with the same model, cells, groups and arguments has stored."""
    key, stored = place.key, place.store.uns.get(place.key)
    if stored is None:
        return {}
    check_subset_tables(stored, key, _TABLES)
    earlier = {k: str(v) for k, v in stored["params"].items()}
    now = {k: str(v) for k, v in params.items()}
    if earlier != now:
        if overwrite:
            return {}
        differ = sorted(k for k in earlier | now if earlier.get(k) != now.get(k))
        raise ValueError(
            f"'{key}' holds results of other arguments ({', '.join(differ)}). Pass another key_added, or "
            "overwrite=True to replace them."
        )
    if changed := [w for w in ("cells", "groups") if stored["made_from"][w] != place.made_from[w]]:
        warn("uns[%r] was made from other %s than those given now; it is replaced.", key, changed[0])  # fmt: skip
        return {}
    by_pair: dict[Pair, Tables] = {
        pair: {} for pair in stored["sets"][["gene", "group"]].itertuples(index=False, name=None)
    }
    tables = [name for name in _ALL if name in stored]
    for name in tables:
        for pair, part in stored[name].groupby(["gene", "group"], sort=False, observed=True):
            by_pair[pair][name] = part  # type: ignore[index]
    empty = {name: stored[name].iloc[:0] for name in tables}
    return {pair: empty | tables for pair, tables in by_pair.items()}


def store(place: Place, params: dict, pairs: dict[Pair, Tables], skipped: list[dict]) -> None:
    """Store the tables and the matrix of single effects."""
    result: dict[str, object] = {"params": params}
    for name in _ALL:
        if parts := [tables[name] for tables in pairs.values() if name in tables]:
            result[name] = numbered(pd.concat(parts, ignore_index=True))
    sets = cast("pd.DataFrame", result["sets"])
    sets["reliable"] = sets["reliable"].astype("boolean")
    of_group = sets.groupby("group", sort=False, observed=True)["p_value"]
    sets["q_value"] = of_group.transform(lambda p: q_values(p.to_numpy()))
    if skipped:
        result["skipped"] = pd.DataFrame(skipped)
    members = [tables["features"] for tables in pairs.values()]
    rows = positions(pd.concat(members)["feature"], place.store)
    columns = np.repeat(np.arange(len(members)), [len(table) for table in members])
    values = pd.concat(members)["single_effect"].to_numpy(np.float32)
    effects = sp.csr_matrix((values, (rows, columns)), (place.store.n_vars, len(members)))
    place.write(result, varm={place.key: effects})


def warn_of_unreliable(sets: pd.DataFrame) -> None:
    """Name rows whose prediction is far from the measurement."""
    off = sets[~sets["reliable"].fillna(True).astype(bool)]
    if len(off):
        row = off.iloc[0]
        warn(
            "%d of %d sets are not reliable: the prediction for held-out cells is more than a factor of 2 from the measurement, such "
            "as %.3g instead of %.3g for %s in %s. Their column 'reliable' is False.",
            len(off), len(sets), row["expression_before"], row["expression_measured"], row["gene"], row["group"],
        )  # fmt: skip
