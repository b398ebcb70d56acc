"""Do the tests notice mistakes? Each of some hand-made ones is built in and tested.

Claim: at least 90 % of the mistakes (wrong signs, axes, comparisons, defaults, lost factors and limits) in ``algorithms``,
``adapters``, ``explain``, ``metrics`` and the checks of input make a test of the file named beside them fail. They are made in a copy of the package. A mistake
that lets the tests run for more than ``LIMIT`` seconds of processor time is noticed, too; one that lets no test
begin is none. Not on Windows. Run with ``python benchmarks/mutants.py [--only MODULE]``, 5 to 10 minutes on one core.
"""

import argparse
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

import pytest
from _report import finish

ROOT = Path(__file__).parents[1]
TESTS = "tests/algorithms"
LIMIT = 120
LOADED_ONCE = ("torch", "numpy", "scipy.optimize", "scipy.sparse", "sklearn.linear_model", "sklearn.cluster", "mudata")  # fmt: skip
OPTIONS = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--import-mode=importlib"]

# fmt: off
MUTANTS: dict[str, tuple[str, list[tuple[str, str]]]] = {  # module: its test file, old and new texts
    "_affine": ("test_subset_search.py", [
        ("(x @ self.extra).toarray()", "((x != 0).astype(x.dtype) @ self.extra).toarray()"),
        ("x[:, peak] * torch.from_numpy(pairs.data).to(x)", "x[:, peak]"),
        (".to(device) + self.n_pooled\n", ".to(device)\n"),
        ("value, accumulate=True", "value, accumulate=False"),
        ("change = -(block @", "change = (block @"),
        ("[pairs.col] - seen) * pairs.data", "[pairs.col] - seen)"),
    ]),
    "_attributions": ("test_attributions.py", [
        ("(x.detach() - baseline) * saliency", "x.detach() * saliency"),
        ("NOISE = 0.1 ", "NOISE = 1.0 "),
        ("x.std(0, correction=0)", "x.std(0)"),
        ("x.amax(0) - x.amin(0)", "x.amax(1, keepdim=True) - x.amin(1, keepdim=True)"),
        ("point if minimum is None else point.clamp(min=minimum)", "point"),
        ("return total / n_draws", "return total"),
        ("kept = [s[differs[s]]", "kept = [s[~differs[s]]"),
        ("effects = x.new_zeros(", "effects = x.new_ones("),
        ("(unchanged - value).T", "(value - unchanged).T"),
        ("differs = (x != baseline).any(0)", "differs = (x != baseline).all(0)"),
    ]),
    "_deep_lift": ("test_deep_lift.py", [
        ("found[:, : len(x)]", "found[:, len(x) :]"),
        ("gap < 1e-4", "gap < 1e-1"),
        ("torch.maximum(a, b) + log", "torch.minimum(a, b) + log"),
        ("slope * (change - (share", "slope * (change + (share"),
        ("if len(h) != n_rows:", "if False:"),
        ("same = run.abs() <= 16 *", "same = run.abs() <= 0 *"),
        ("nn.AlphaDropout, nn.BatchNorm1d)", "nn.AlphaDropout)"),
    ]),
    "_expected_gradients": ("test_expected_gradients.py", [
        ("device=x.device) + 0.5) / n_steps", "device=x.device)) / n_steps"),
        ("origin + u * step", "x - u * step"),
        ("return total / n_draws", "return total"),
        ("_or_one(high - low)", "_or_one(high)"),
        ("square().mean(-1", "square().sum(-1"),
        ("share / _or_one(total)", "share"),
        ("size.sum(1, keepdim=True)", "size.sum(0, keepdim=True)"),
        ("divisor > tiny", "divisor > 1e-6"),
    ]),
    "_holdout_test": ("test_holdout_test.py", [
        ("<= own)", "< own)"),
        ("(1 + better) / (1 + n_draws)", "better / n_draws"),
        ("(done + 1 + int(", "(done + int("),
        ("256, n_draws - done)", "256)"),
        ("x if reference is None else reference", "x"),
        ("self._z[:, feature] - error +", "self._z[:, feature] +"),
        (" / self._precision[feature, feature]", ""),
    ]),
    "_knockoff_filter": ("test_knockoffs.py", [
        ("importance[0] > importance[1:]", "importance[0] >= importance[1:]"),
        ("np.median(ranked[:-1], axis=0)", "ranked[-2]"),
        ("np.searchsorted(above, sizes)", "np.searchsorted(above, sizes, side='right')"),
        ("(n_copies * np.maximum(n_above, 1))", "np.maximum(n_above, 1)"),
        ("size[place] = np.abs(model.coef_)", "size = np.abs(model.coef_)[place]"),
        ("np.argsort(-marginal)", "np.argsort(marginal)"),
        ("return np.median([", "return np.min(["),
        ("level / 2, n_copies", "level, n_copies"),
        ("(1 + (one <= -t).sum())", "1"),
    ]),
    "_knockoffs": ("test_knockoffs.py", [
        ("out -= out.mean(0)", "out -= 0"),
        ("(self.n_copies + 1) / self.n_copies", "2.0"),
        ("z - z @ self._pull", "z + z @ self._pull"),
        ("(out + shared) * self.scale + self.mean", "(out + shared) * self.scale"),
        ("_directions(z[fold != k], rank)", "_directions(z, rank)"),
        ("(vectors * (values - rest))", "(vectors * values)"),
        ("(n_copies + 1) / n_copies * least", "least"),
        ("np.full(len(correlation), min(1.0, ", "np.full(len(correlation), max(0.0, "),
        ("correlation - m * np.diag(s)", "correlation - np.diag(s)"),
    ]),
    "_layer_attributions": ("test_layer_attributions.py", [
        ("(step + 0.5) / n_steps", "step / n_steps"),
        ("total / n_steps):", "total):"),
        ("yield a.div_(n_draws)", "yield a"),
        (" * values[:, None]", ""),
        ("summed.index_add_(1, places[1],", "summed.index_copy_(1, places[1],"),
        ("slice(first, first + step)", "slice(first, first + step + 1)"),
    ]),
    "_conditional_means": ("test_conditional_means.py", [
        ("max(share, _LEAST)", "1.0"),
        ("(n / (1 - share))", "n"),
        ("share * size * n / (1 - share)", "share * n / (1 - share)"),
        ("np.square(square).sum() / n - total", "np.square(square).sum() / n"),
        ("spread = total / d - size**2", "spread = total / d"),
    ]),
    "_forward_selection": ("test_forward_selection.py", [
        ("x = x - x.mean(0)", "x = x + 0.0"),
        ("np.square(product) / np.maximum(rest, 1e-12)[:, None]", "np.square(product)"),
        ("rest - np.square(along, dtype=np.float64)", "rest"),
        ("product -= np.outer", "product += np.outer"),
        ("by_group * (lacking > 0)", "by_group"),
        ("free[feature] = False", "pass"),
        ("_DEPENDENT * length", "-1.0"),
    ]),
    "_neural_kmeans": ("test_neural_kmeans.py", [
        ("2 * z @ mu.T", "z @ mu.T"),
        ("score[:, 1:].flip(1)", "score.flip(1)[:, 1:]"),
        ("torch.logaddexp(before, after)", "before"),
        ("argmax(1)", "argmin(1)"),
        ("return 2.0 /", "return 1.0 /"),
        (".min(1).values", ".max(1).values"),
        (".clamp_min(1e-12)", ""),
    ]),
    "_panel_path": ("test_panel_path.py", [
        ("moved & (reached <= value)", "moved"),
        ("penalty / lipschitz)", "penalty)"),
        ("0.9 * lipschitz, 2 * lipschitz", "0.9 * lipschitz, 0.5 * lipschitz"),
        ("penalty * at.abs().sum(1)", "penalty * at.abs().mean(1)"),
        (" & (path.entry == len(penalties))", ""),
        ("done &= rate > flip_rate - _ROUNDING", "done |= rate > flip_rate - _ROUNDING"),
        (".sum(1) >= n_features", ".sum(1) > n_features"),
        ("reversed(list(enumerate(penalties.tolist())))", "enumerate(penalties.tolist())"),
    ]),
    "_panel_problem": ("test_panel_path.py", [
        ("change = theta * self.direction", "change = theta"),
        ("chosen - others, others - chosen", "others - chosen, chosen - others"),
        ("short - 0.5 * self.smoothing", "short"),
        ("(margin < 0)", "(margin < self.alpha)"),
        ("owner, values) / self._size", "owner, values)"),
        (" - threshold[:, None]).clamp_min(0.0)", " - threshold[:, None])"),
        ("torch.minimum(torch.maximum(shrunk, self.low), self.high)", "torch.maximum(shrunk, self.low)"),
        ("torch.where(gradient < 0,", "torch.where(gradient > 0,"),
    ]),
    "_subset_problem": ("test_subset_search.py", [
        ("change.toarray() + self.base[at]", "change.toarray()"),
        ("if j != drop", "if True"),
        ("subset.cell_loss.clone()", "subset.cell_loss"),
        ("np.full(len(c), len(at) / len(c))", "np.ones(len(c))"),
        ("* n_turns + turn)", "* n_turns)"),
        ("score[~self.allowed] = np.inf", "pass"),
        ("score[subset.features] = np.inf", "pass"),
        ("np.argpartition(score, k - 1)", "np.argpartition(-score, k - 1)"),
        ("view.loss(h, cells) - subset.cell_loss[cells]", "view.loss(h, cells)"),
        ("else allowed.copy()", "else allowed"),
    ]),
    "_subset_search": ("test_subset_search.py", [
        ("(np.arange(n_steps) + 0.5) / n_steps", "np.arange(n_steps) / n_steps"),
        ("problem.allowed.astype(np.float32)", "np.ones(len(problem.allowed), np.float32)"),
        (" and loss < current.loss - _TOLERANCE * abs(current.loss)", ""),
        ("if not changed or", "if changed or"),
        ("key=lambda item: item[0])[:beam_size]", "key=lambda item: item[0])[:1]"),
        ("np.where(problem.allowed, score, np.inf)", "score"),
        ("[min(starts, key", "[max(starts, key"), ("losses.min() < best_loss", "losses.max() > best_loss"),
        ("range(first, len(allowed) - left + 1)", "range(first, len(allowed) - left)"),
        ("n_restarts + (start", "(start"),
        ("np.argsort(problem.mean_losses(subset, tried)", "np.argsort(-problem.mean_losses(subset, tried)"),
    ]),
    "_link_prior": ("test_link_prior.py", [
        ("return y - self.basis", "return y + self.basis"), ("(self.shared**2).sum(1)", "0.0"),
        ("coefficient[[2, 1]]", "coefficient[[1, 2]]"), ("1.0 + ridge)", "1.0)"), ("- shared @ shared.T", ""), ("score * distance_curve(", "score / distance_curve("), ("(1 - agreement) / (1", "(1 + agreement) / (1"),
        ("peak[part] - start, column]", "peak[part] - start, 0]"), ("misfit < least", "misfit > least"), ("correlation - correlation.mean()", "correlation"),
    ]),
    "_set_statistics": ("test_set_statistics.py", [
        ("(1 + (null >= own - rounding).sum())", "(null >= own - rounding).sum()"), ("own - rounding", "own + rounding"),
        ("len(null) < MIN_SETS", "len(null) < 1"), ("false_discovery_control(p[known])", "p[known]"),
        ("means.std(0, ddof=1)", "means.var(0, ddof=1)"), ("(times @ total) / (times @ size)", "(times @ total) / size.sum()"),
        ("seen = {tuple(sorted(int(j) for j in features))}", "seen = set()"), ("if len(pool) < width:", "if False:"),
        ("np.clip(place - width // 2, 0,", "np.clip(place, 0,"),
    ]),
    "_calibration": ("test_calibration.py", [
        ("torch.expm1(power * ", "torch.expm1("), ("predicted.clamp_min(0.0)", "predicted"),
        ("total / np.maximum(mean.sum(0), 1e-12)", "total / np.maximum(mean.max(0), 1e-12)"),
        ("best = np.where(better, fit, best)", "best = fit"),
    ]),
    "model/grids/_cis_prior": ("model/test_grids_links.py", [
        ("np.where(at >= 0, score[at], 0.0)", "np.where(at >= 0, score[at], 1.0)"), ("or (score < 0).any()", ""),
    ]),
    "explain/_results": ("explain/test_ordinary_use.py", [
        ("before[what] != now[what]", "before[what] == now[what]"),
        ('if own is not None and own["function"] == self.made_by:', "if own is not None:"),
        ("if taken := taken + self._earlier(store):", "if taken:"),
        ("        if self.fresh:\n            for slot", "        if not self.fresh:\n            for slot"),
        ("to_numpy(object)) ^ (known", "to_numpy(object)) | (known"),
        ('digest(hash_array(function.features.to_numpy(object)))', '"the same"'),
    ]),
    "explain/_cells": ("explain/test_ordinary_use.py", [
        ('if reference == "all" and (labels', 'if reference == "none" and (labels'),
        ("if missing.all():", "if False:"),
        ('return as_text(column, argument, groupby)', "return column.astype(object).where(~missing).map(str)"),
    ]),
    "explain/panel/_problem": ("explain/test_which_cells.py", [
        ("self.size[others] / self.size[others].sum()", "np.full(len(others), 1 / len(others))"),
        ("first, second = cells[~held[cells]], cells[held[cells]]", "first, second = cells, cells"),
        ("share @ square - (share @ mean).square()", "share @ square"),
        ("share = share / share.sum()", "share = torch.ones_like(share) / len(share)"),
    ]),
    "explain/panel/_search": ("explain/test_which_cells.py", [
        ("[pair], given.held_out, n_cells if", "[pair], given.train, n_cells if"),
        ("given.problem([pair], given.train, n_cells, options)", "given.problem([pair], given.held_out, n_cells, options)"),
    ]),
    "explain/attribution/_attribution_confidence": ("explain/test_which_cells.py", [
        ("-size[:, k]", "-size[:, 0]"), ("-size[:, k]", "size[:, k]"),
    ]),
    "explain/subset/_report": ("explain/test_which_cells.py", [
        ("return float(np.corrcoef(contribution, self.observed)[0, 1])", "return float(abs(np.corrcoef(contribution, self.observed)[0, 1]))"),
    ]),
    "model/_matrix": ("model/test_values.py", [
        ("values.max() > _MOST_LOG or", "values.max() > 1e9 or"), ("some.data = np.expm1(values)", "some.data = values"),
        ("float(np.median(shares)) > 0.95", "float(np.median(shares)) > 0.5"), ("if values.min() < 0:", "if False:"),
        ("if isinstance(x, np.ma.MaskedArray):", "if False:"), ('if values.dtype.kind not in "biuf":', "if False:"),
    ]),
    "./_genomics": ("./test_genomics.py", [
        ('np.where(strand == "-", end, start)', "start"),
        ("np.maximum(first - end, start - last), 0.0)", "np.maximum(first - end, start - last), 1.0)"),
        ("start=tss - window - 1", "start=tss - window + 1"),
        ("np.where(minus, -distance, distance)", "np.where(minus, distance, -distance)"),
        ("lost = np.isnan(found) &", "lost = np.isinf(found) &"),
    ]),
    "./_intervals": ("./test_genomics.py", [
        ('return "MT" if plain == "M" else plain', "return plain"), ("str(chrom).upper().remove", "str(chrom).remove"),
    ]),
    "metrics/_hit_ratio": ("metrics/test_hit_ratio.py", [("gap <= window", "gap < 0")]),
    "metrics/_set_hits": ("metrics/test_set_hits.py", [
        ("(gap < 0).any()", "(gap <= 0).any()"), ("inside.mean()", "inside.sum()"), ("np.maximum(gap, 0).min()", "gap.min()"),
    ]),
    "adapters/_registry": ("adapters/test_registry.py", [
        ("if not model.is_trained:", "if False:"), ("np.abs(own - z).max() >", "np.abs(own - z).min() >"),
        ("if adata is None and model.adata is None:", "if False:"),
    ]),
}
# fmt: on


class Notes:
    """What pytest tells: how long each test took and which failed first; quick tests go first."""

    def __init__(self, seconds: dict[str, float]):
        self.before, self.seconds, self.failed = seconds, {}, None

    def pytest_collection_modifyitems(self, items):
        """Sort by the time of the run without a mistake."""
        items.sort(key=lambda item: self.before.get(item.nodeid, 0.0))

    def pytest_runtest_logreport(self, report):
        """Note the time of a step of a test, and a failure."""
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if report.failed and self.failed is None:
            self.failed = report.nodeid.split("::", 1)[1]


def test_here(folder: Path, file: str, seconds: dict[str, float]) -> None:
    """In a process of its own: run a test file on the package in the folder, silently; never returns."""
    code = 3
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT + 10))
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        sys.dont_write_bytecode = True  # two mistakes of one second and one length look alike to it
        sys.path.insert(0, str(folder))
        package = import_module("lucidvi")
        assert Path(package.__file__) == folder / "lucidvi" / "__init__.py", package.__file__
        os.dup2(nowhere, 2)
        notes = Notes(seconds)
        code = int(
            pytest.main(
                [*OPTIONS, f"tests/{file}" if "/" in file else f"{TESTS}/{file}"], plugins=[notes]
            )
        )
        files = {m.__file__ for name, m in sys.modules.items() if name.startswith("lucidvi.")}
        assert files and all(Path(f).is_relative_to(folder) for f in files), files
        (folder / "notes.json").write_text(json.dumps([notes.failed, notes.seconds]))
    finally:
        os._exit(code)


def run_tests(folder: Path, file: str, seconds: dict[str, float]) -> tuple[str | None, dict]:
    """The first test that fails (``None`` if all pass), and the seconds of each test."""
    notes = folder / "notes.json"
    notes.unlink(missing_ok=True)
    sys.stdout.flush()
    if not (child := os.fork()):
        test_here(folder, file, seconds)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        return "the time limit", {}
    if not os.WIFEXITED(status) or not notes.exists():
        raise RuntimeError(f"{file}: the process of the tests broke off with status {status}.")
    failed, seconds = json.loads(notes.read_text())
    if (os.WEXITSTATUS(status) != 0) != (failed is not None):
        raise RuntimeError(f"{file}: no test ran, exit code {os.WEXITSTATUS(status)}.")
    return failed, seconds


def place(module: str) -> str:
    """Where a module lies in the package; those without a folder are algorithms."""
    return f"{module}.py" if "/" in module else f"algorithms/{module}.py"


def mutated(module: str, old: str, new: str) -> str:
    """Text of a module with the mistake."""
    text = (ROOT / "src/lucidvi" / place(module)).read_text()
    if (n := text.count(old)) != 1:
        raise ValueError(f"{module}: {old!r} is there {n} times, not once.")
    compile(text := text.replace(old, new), module, "exec")
    return text


def check_without(folder: Path, files: set[str]) -> dict[str, float]:
    """All tests have to pass without a mistake; their seconds."""
    seconds = {}
    for file in sorted(files):
        failed, took = run_tests(folder, file, {})
        if failed:
            raise RuntimeError(f"{file} fails without a mistake, by {failed}.")
        print(f"{file} passes, {len(took)} tests in {sum(took.values()):.1f} s", flush=True)
        seconds |= took
    return seconds


def main(only: str | None) -> None:
    """Make each mistake, run the tests, count what they notice."""
    start = time.perf_counter()
    os.chdir(ROOT)
    modules = {m: v for m, v in MUTANTS.items() if only in (None, m, m[1:])}
    if not modules:
        raise ValueError(f"module {only!r} is unknown. Allowed: {', '.join(MUTANTS)}.")
    todo = [(m, old, new, mutated(m, old, new)) for m, v in modules.items() for old, new in v[1]]
    for name in LOADED_ONCE:
        import_module(name)
    assert "lucidvi" not in sys.modules
    survivors, n_late = [], 0
    with tempfile.TemporaryDirectory() as where:
        folder = Path(where).resolve()
        shutil.copytree(ROOT / "src/lucidvi", folder / "lucidvi", ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
        seconds = check_without(folder, {file for file, _ in modules.values()})
        for module, old, new, text in todo:
            path = folder / "lucidvi" / place(module)
            right = path.read_text()
            path.write_text(text)
            failed, _ = run_tests(folder, modules[module][0], seconds)
            path.write_text(right)
            n_late += failed == "the time limit"
            survivors += [] if failed else [f"{module}: {old!r} -> {new!r}"]
            verdict = f"by {failed}" if failed else ""
            print(f"{'killed' if failed else 'SURVIVED':<9}{module}: {old!r} -> {new!r} {verdict}", flush=True)  # fmt: skip
    killed = len(todo) - len(survivors)
    result = {
        "benchmark": "mutants", "mutants": len(todo), "modules": len(modules), "killed": killed,
        "by_time_limit": n_late, "share_killed": round(killed / len(todo), 3),
        "minutes": round((time.perf_counter() - start) / 60, 1), "survivors": survivors,
    }  # fmt: skip
    finish(
        result, {"share of mistakes noticed": (result["share_killed"], ">=", 0.9)}, save=not only
    )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", metavar="MODULE")
    main(parser.parse_args().only)
