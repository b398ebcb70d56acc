"""Every class that can be explained keeps the contract, and every explanation works on it."""

import mudata as md
import numpy as np
import pytest
import torch
from builders import BUILDERS

import lucidvi as lv
from lucidvi.adapters import Adapter, adapter

QUIET = {"progress": False, "copy": True}
SHORT = {
    "subset_perturbation": {"n_features": 2, "n_null": 2, "max_sweeps": 2} | QUIET,
    "attributions": {"n_cells": 8, "n_draws": 2, "n_references": 5} | QUIET,
    "faithfulness": {"n_cells": 8, "n_draws": 2, "n_references": 5, "n_null": 2, "n_models": 1, "n_bootstrap": 2} | QUIET,
    "gene_panel": {"n_steps": 3, "n_null": 1, "n_cells": 20} | QUIET,
    "loadings": {"n_cells": 20, "copy": True},
}  # fmt: skip


@pytest.mark.parametrize("name", BUILDERS)
def test_contract(fitted, name):
    lv.testing.check_adapter(fitted(name))


def stored(data, function):
    return data[function.input.modality] if isinstance(data, md.MuData) else data


@pytest.mark.parametrize("name", BUILDERS)
def test_every_explanation_of_every_output(fitted, name):
    """What needs what a model lacks says so in one sentence; all else is stored and the same a second time."""
    model = fitted(name)
    for modality in adapter(model).inputs():
        function = adapter(model, modality=modality)
        for kind in function.kinds:
            target = {kind: str(function.output(kind).names[0])}
            for call in ("attributions", "faithfulness"):
                options = {"modality": modality} | SHORT[call]
                first, second = (getattr(lv.explain, call)(model, target, **options) for _ in "ab")
                first, second = stored(first, function), stored(second, function)
                if call == "attributions":
                    values = first.varm["attributions"]
                    assert np.isfinite(values).all() and (values != 0).any()
                    np.testing.assert_array_equal(values, second.varm["attributions"])
                else:
                    assert first.uns[call]["curves"].equals(second.uns[call]["curves"])
            try:
                function.cut(kind)
            except TypeError as error:
                assert "GRIDS" in str(error) or "joint space" in str(error)
                continue
            sets = {"modality": modality} | SHORT["subset_perturbation"]
            if not len(function.held_out_cells):  # RESOLVI trains on all cells
                with pytest.raises(ValueError, match="no held-out cell"):
                    lv.explain.subset_perturbation(model, target, **sets)
                continue
            found = lv.explain.subset_perturbation(model, target, **sets)
            sets = stored(found, function).uns["subset_perturbation"]["sets"]
            limit = 1e-4 * sets["expression_before"].abs()
            assert np.isfinite(sets["delta"]).all() and (sets["delta_search"] <= limit).all()
        for call, given in (("gene_panel", ["labels"]), ("loadings", [])):
            try:
                found = getattr(lv.explain, call)(model, *given, modality=modality, **SHORT[call])
            except TypeError as error:
                assert "GRIDS" in str(error) or "does not decode" in str(error)
                continue
            assert call in stored(found, function).varm
        names = {"few": list(function.features[:4])}
        found = stored(lv.explain.set_space(model, names, modality=modality, copy=True), function)
        assert np.isfinite(found.obsm["set_space"]).all() and len(found.uns["set_space"]["weights"])


def test_the_check_notices_what_is_wrong(fitted, monkeypatch):
    """An adapter that gives something else, depends on other cells, or draws at random does not pass."""
    model = fitted("SCVI")
    cls = type(adapter(model))
    right = cls.decode

    def check(wrong, message):
        monkeypatch.setattr(cls, "decode", wrong)
        with pytest.raises(AssertionError, match=message):
            lv.testing.check_adapter(model, save=False)

    check(lambda *a: 1.01 * right(*a), "expression: adapter and public method: differs by")
    check(lambda *a: right(*a).detach(), "no gradient")
    monkeypatch.setattr(cls, "public", lambda *a: None)
    check(lambda *a: right(*a) + right(*a).mean(0), "depends on the minibatch")
    counter = iter(range(10**6))
    check(lambda *a: right(*a) * (1 + next(counter)), "another answer the second time")
    check(lambda *a: right(*a) + 0 * torch.rand(1) + np.nan, "not finite")


def test_one_adapter_is_one_class():
    """Abstract or final: no concrete adapter is derived from another, and no method is written more than once below."""

    def below(cls):
        return [c for child in cls.__subclasses__() for c in (child, *below(child))]

    concrete = [c for c in below(Adapter) if not c.__abstractmethods__ and c.__module__.startswith("lucidvi")]  # fmt: skip
    assert len(concrete) > 10
    for cls in concrete:
        assert not cls.__subclasses__(), cls
