"""What gene panels cost: next to plain gradient runs, and with more cells and genes.

Peer: one gradient run per group on whole perturbed inputs, one encoder pass for each group's logit. A few of its steps
are timed, and scaled to (a) as many steps as our whole path took for the group and (b) the steps Adam takes, at the
penalty our path ended with, until its objective is within 2 % of ours. PBMC3k where the data folder has it, else
simulated. Run with ``python benchmarks/ace_cost.py [--quick] [--threads N]``.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import scanpy as sc
import scvi
import torch
from _report import finish
from _sparse import peak_rss_gb, simulate

import lucidvi as lv
from lucidvi.algorithms._panel_problem import PanelProblem
from lucidvi.explain._cells import labels_of_cells
from lucidvi.explain.panel._problem import PanelInput, PanelOptions, prepare

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}
SCALES = [(3_000, 2_000), (30_000, 2_000), (100_000, 2_000), (3_000, 8_000), (3_000, 28_000)]
N_ADAM = 3000  # steps at most
N_TIMED = 5  # gradient steps of the peer that are timed, for each group


def pbmc() -> ad.AnnData:
    """Log-normalised PBMC3k, or as many simulated cells and genes."""
    if args.quick:
        return simulate(800, 400)
    file = Path(os.environ.get("LUCIDVI_DATA_DIR", "")) / "scrna" / "pbmc3k.h5ad"
    if not file.is_file():
        return simulate(2_638, 1_838)
    adata = ad.read_h5ad(file)
    adata = adata[:, adata.var["in_scanpy_1838"]].copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    torch.set_num_threads(args.threads)  # numba resets it
    adata.obs["group"] = adata.obs["louvain"].astype(str)
    return adata


def train(adata: ad.AnnData, max_epochs: int, **options) -> lv.model.ACE:
    """The embedding."""
    scvi.settings.seed = 0
    lv.model.ACE.setup_anndata(adata, labels_key="group")
    model = lv.model.ACE(adata, **options)
    model.train(max_epochs, **QUIET)
    return model


def groups_of(model: lv.model.ACE) -> PanelInput:
    """Groups in the latent space, as the panels read them."""
    function = lv.adapters.adapter(model)
    return prepare(function, labels_of_cells(function, "group"), "group", 0)


def count_steps(run) -> np.ndarray:
    """Gradient steps that each group's problem takes in a run."""
    plain = PanelProblem.hinge_and_gradient
    problems: list[PanelProblem] = []  # one after the other
    steps: list[int] = []

    def counting(self, theta, active):
        if not problems or problems[-1] is not self:
            problems.append(self)
            steps.append(0)
        steps[-1] += 1
        return plain(self, theta, active)

    PanelProblem.hinge_and_gradient = counting
    try:
        run()
    finally:
        PanelProblem.hinge_and_gradient = plain
    return np.array(steps)


def adam_steps(model: lv.model.ACE) -> np.ndarray:
    """Steps of plain gradients until the objective of each group is as low as ours, 3,000 at most."""
    given = groups_of(model)
    allowed = np.ones(model.adata.n_vars, dtype=bool)
    options = PanelOptions("gate", 2.0, allowed)
    problem = given.problem([(g, "rest") for g in given.groups], given.train, 200, options)
    path = model.adata.uns["gene_panel"]["path"].groupby("group", sort=False)["penalty"].last()
    penalty = torch.tensor(path.loc[given.groups].to_numpy(), dtype=torch.float32)
    everything = torch.ones(len(penalty), dtype=torch.bool)
    known = torch.from_numpy(model.adata.varm["gene_panel"].T)
    ours = torch.where(problem.direction.abs() > 1e-9, known / problem.direction, 0.0)
    with torch.no_grad():
        goal = 1.02 * (problem.hinge(ours, everything) + penalty * ours.abs().sum(1))
    theta = torch.zeros_like(ours).requires_grad_(True)
    optimizer = torch.optim.Adam([theta], lr=0.02)
    taken = np.full(len(penalty), N_ADAM)
    for step in range(N_ADAM):
        value = problem.hinge(theta, everything) + penalty * theta.abs().sum(1)
        taken = np.where((value <= goal).numpy(), np.minimum(taken, step), taken)
        if (taken < N_ADAM).all():
            break
        optimizer.zero_grad()
        value.sum().backward()
        optimizer.step()
        with torch.no_grad():
            theta.clamp_(min=0.0, max=2.0)
    return taken


def naive_step_seconds(model: lv.model.ACE) -> np.ndarray:
    """One step of the peer for each group: whole inputs, one pass per logit."""
    given = groups_of(model)
    seconds = []
    for g, group in enumerate(given.groups):
        u = given.function.values(given.function.minibatch(given.train[group][:200]))
        delta = torch.zeros(u.shape[1], requires_grad=True)
        tick = time.perf_counter()
        for _ in range(N_TIMED):
            logit = [
                given.kmeans.logits(model.module.encode(u + delta * given.std))[:, c]
                for c in range(len(given.groups))
            ]
            other = torch.stack([m for c, m in enumerate(logit) if c != g]).max(0).values
            loss = (1 + logit[g] - other).relu().mean() + 0.1 * delta.abs().sum()
            (gradient,) = torch.autograd.grad(loss, delta)
            delta = (delta - 0.01 * gradient).detach().requires_grad_(True)
        seconds.append((time.perf_counter() - tick) / N_TIMED)
    return np.array(seconds)


def against_naive(max_epochs: int) -> dict:
    """All one-vs-rest panels in one call, next to the peer."""
    adata = pbmc()
    model = train(adata, max_epochs)

    def call():
        lv.explain.gene_panel(model, "group", progress=False, n_null=0)

    before = peak_rss_gb()
    tick = time.perf_counter()
    call()
    seconds, after = time.perf_counter() - tick, peak_rss_gb()
    steps = count_steps(call)
    step_s, adam = naive_step_seconds(model), adam_steps(model)
    same, equal = float(step_s @ steps), float(step_s @ adam)
    return {
        "cells": adata.n_obs, "genes": adata.n_vars, "groups": len(steps), "panels_s": round(seconds, 2),
        "gradient_steps": int(steps.sum()), "naive_same_steps_s": round(same, 1), "ratio_same_steps": round(same / seconds, 1),
        "adam_steps": int(adam.sum()), "naive_same_objective_s": round(equal, 1), "ratio_same_objective": round(equal / seconds, 1),
        "flip_rate_least": float(adata.uns["gene_panel"]["panels"]["flip_rate"].min()),
        "rss_before_gb": round(before, 2), "rss_after_gb": round(after, 2),
    }  # fmt: skip


def at_scale(n_cells: int, n_genes: int) -> dict:
    """Seconds and memory of all panels of a process of its own."""
    adata = simulate(n_cells, n_genes)
    model = train(adata, max(1, 30_000 // n_cells))
    before, tick = peak_rss_gb(), time.perf_counter()
    lv.explain.gene_panel(model, "group", progress=False)
    seconds = time.perf_counter() - tick
    return {
        "n_cells": n_cells, "n_genes": n_genes, "panels_s": round(seconds, 1), "before_gb": round(before, 2),
        "peak_gb": round(peak_rss_gb(), 2),
    }  # fmt: skip


def main() -> None:
    """Run all parts."""
    result: dict = {"benchmark": "ace_cost", "threads": args.threads}
    result["naive"] = against_naive(5 if args.quick else 60)
    print(result["naive"], flush=True)
    result["scale"] = []
    for n_cells, n_genes in [(1_000, 300)] if args.quick else SCALES:
        command = [sys.executable, __file__, "--scale", str(n_cells), str(n_genes), "--threads", str(args.threads)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        result["scale"].append(json.loads(done.stdout.splitlines()[-1]))
        print(result["scale"][-1], flush=True)
    growth = max(row["peak_gb"] - row["before_gb"] for row in result["scale"])
    goals = {
        "faster than plain gradient runs to the same objective": (
            result["naive"]["ratio_same_objective"],
            ">=",
            20,
        ),
        "faster than as many plain gradient steps": (result["naive"]["ratio_same_steps"], ">=", 10),
        "memory that panels add at any scale, GB": (round(growth, 2), "<", 1),
    }
    finish(result, goals, save=not args.quick)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--scale", nargs=2, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")
    if args.scale:
        print(json.dumps(at_scale(*args.scale)))
    else:
        main()
