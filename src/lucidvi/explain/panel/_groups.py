"""Which group of cells is turned into which other one."""

import pandas as pd

from lucidvi._logging import warn
from lucidvi._validation import check_names, near
from lucidvi.adapters import Adapter
from lucidvi.explain._cells import Groups, chosen_groups, labels_of_cells

Pairs = list[tuple[str, str]]
"""Groups, and what each is turned into."""


def labels_of_panel(function: Adapter, groupby: str, within: str | None) -> pd.Series:
    """Return the group of each cell; within cell types, ``"<type>: <group>"``."""
    labels = labels_of_cells(function, groupby)
    if not within:
        return labels
    if within == groupby:
        raise ValueError(f"within={within!r} is groupby, too. Pass the column with the cell types, or leave it out.")  # fmt: skip
    types = labels_of_cells(function, within, "within")
    both = labels.notna() & types.notna()
    joined = (types.astype(str) + ": " + labels.astype(str)).where(both)
    n_pairs = len(pd.DataFrame({"type": types[both], "group": labels[both]}).drop_duplicates())
    if joined.nunique() < n_pairs:
        raise ValueError(f"Names of within={within!r} and groupby={groupby!r} cannot be told apart when joined by ': '. Rename some.")  # fmt: skip
    return joined


def pairs_of_groups(labels: pd.Series, groups: Groups, reference: str, groupby: str) -> Pairs:
    """Return pairs of a group and the reference, checked."""
    known = chosen_groups(labels, None)
    if reference in ("rest", "each") and (taken := [name for name in ("rest", "each") if name in known]):  # fmt: skip
        raise ValueError(
            f"reference={reference!r} means all other groups, but a group of {groupby!r} is called {taken[0]!r}. "
            "Rename that group."
        )
    if reference not in ("rest", "each", *known):
        raise ValueError(
            f"reference={reference!r} is neither 'rest', nor 'each', nor a group of {groupby!r}. {near(reference, known)}"
        )
    target = "rest" if reference == "each" else reference
    pairs = [(group, target) for group in chosen_groups(labels, groups) if group != target]
    if not pairs:
        raise ValueError(f"groups={reference!r} is the reference, too. Name another group, or another reference.")  # fmt: skip
    return pairs


def pairs_within(function: Adapter, groups: Groups, reference: str, groupby: str, within: str) -> Pairs:  # fmt: skip
    """Return pairs of a group and the reference within each cell type that has cells of the group."""
    labels, types = labels_of_cells(function, groupby), labels_of_cells(function, within, "within")
    known = chosen_groups(labels, None)
    if reference in ("rest", "each") and len(known) != 2:
        raise ValueError(
            f"Within {within!r}, reference={reference!r} could be any of {len(known)} groups of {groupby!r}. Name one: {known}."
        )
    if reference not in ("rest", "each"):
        check_names([reference], pd.Index(known), "Group (reference)")
    present = {(t, g) for t, g in zip(types, labels, strict=True) if pd.notna(t) and pd.notna(g)}
    both = False
    pairs = []
    for group in chosen_groups(labels, groups):
        target = (
            next(g for g in known if g != group) if reference in ("rest", "each") else reference
        )
        for one in chosen_groups(types, None) if group != target else ():
            if (one, group) in present:
                pairs.append((f"{one}: {group}", f"{one}: {target}"))
                both |= (one, target) in present
    if not both:
        raise ValueError(f"No cell type of {within!r} has cells of {groups or known!r} and of the reference {reference!r}.")  # fmt: skip
    return pairs


def with_cells(pairs: Pairs, kept: list[str], skipped: pd.DataFrame, groupby: str, least: int) -> tuple[Pairs, pd.DataFrame]:  # fmt: skip
    """Return the pairs whose groups have enough cells, and a row for each group that is left out for its reference."""
    enough = [pair for pair in pairs if pair[0] in kept and pair[1] in ("rest", *kept)]
    if not enough:
        shown = ", ".join(f"{row.group!r} ({row.n_cells})" for row in skipped.itertuples())
        raise ValueError(
            f"Groups of {groupby!r} with fewer than {least} cells have no panel: {shown}. Merge them with others."
        )
    alone = [pair for pair in pairs if pair[0] in kept and pair not in enough]
    if alone:
        warn(
            "No panel for %s: the reference has fewer than %d cells.", ", ".join(repr(group) for group, _ in alone), least
        )  # fmt: skip
    more = pd.DataFrame(
        [{"group": group, "reason": f"reference {other!r} has fewer than {least} cells"} for group, other in alone]
    )  # fmt: skip
    return enough, pd.concat([skipped, more], ignore_index=True) if len(more) else skipped
