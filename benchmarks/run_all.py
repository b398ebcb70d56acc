"""Runs all benchmarks one after the other, each in a process of its own; a second call goes on where the first stopped.

What is done is kept in ``results/suite.json`` (exit code, seconds, commit, arguments), the output in ``results/logs``.
Benchmarks whose data are not in the folder ``$LUCIDVI_DATA_DIR`` are skipped. ``benchmarks/make_page.py`` turns the
results into a page. Run with ``python benchmarks/run_all.py [--quick] [--jobs N] [--only NAME ...] [--again [NAME ...]]
[--list]``.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results"
CORTEX, A549 = "multiome/snareseq_cortex.h5mu", "multiome/a549_dex.h5mu"
MNIST, PBMC3K, KANG = "images/mnist.npz", "scrna/pbmc3k.h5ad", "scrna/kang_pbmc_8donors.h5ad"
PBMC, GO = "scrna/pbmc_3batches.h5ad", "genesets/go_bp_2021.gmt.gz"


@dataclass(frozen=True)
class Claim:
    """One benchmark of the suite.

    Parameters
    ----------
    name
        What it is called on the command line and in ``suite.json``.
    script
        File in this folder.
    full, quick
        Its arguments as on a command line; without quick ones it is left out of the quick suite.
    rebuilds
        Figure or table of a paper, or what is asked beyond the papers.
    minutes
        About how long the full run takes on two cores.
    data
        Files of the data folder that the full run cannot do without; quick runs need none.
    alone
        Measures time: nothing else runs at the same time.
    """

    name: str
    script: str
    full: str
    quick: str | None
    rebuilds: str
    minutes: float
    data: tuple[str, ...] = ()
    alone: bool = False

    def command(self, quick: bool) -> list[str]:
        """Script and arguments."""
        return [self.script, *shlex.split((self.quick or "") if quick else self.full)]


VARIANTS = "VAE 'siVAE gamma 0' 'siVAE gamma 0.05' 'siVAE linear' 'siVAE NB' LinearSCVI"
CLAIMS = (
    Claim("simulation_scale", "simulation_scale.py", "", "500 100 5000",
          "beyond the papers: cost of the simulated multiome", 1),
    Claim("grids_mnist", "grids_mnist.py", "", "--quick",
          "GRIDS, appendix E, figures 1 and 2", 2.5, (MNIST,)),
    Claim("grids_cortex", "grids_cortex.py", "", None,
          "GRIDS, tables 1 and 3, figures 2 and 3", 22, (CORTEX,)),
    Claim("grids_expressed", "grids_expressed.py", "", None,
          "GRIDS, table 2", 3, (CORTEX,)),
    Claim("grids_planted", "grids_planted.py", "--seeds 0", None,
          "beyond the papers: recovery of known regulators", 6),
    Claim("grids_other_data", "grids_other_data.py", "unpaired", None,
          "beyond the papers: unpaired cells", 4, (CORTEX,)),
    Claim("grids_speed", "grids_speed.py", "", "--quick",
          "GRIDS, appendix D, time analysis", 20, alone=True),
    Claim("ace_simulation", "ace_panels.py", "simulation --seeds 0", None,
          "ACE, figure 2", 8),
    Claim("ace_pbmc", "ace_panels.py", "pbmc close models --seeds 0 --sizes 5 18", None,
          "ACE, figure 3", 14, (PBMC3K,)),
    Claim("ace_mnist", "ace_mnist.py", "--images 60", None,
          "ACE, figure 4", 8, (MNIST,)),
    Claim("ace_cost", "ace_cost.py", "", "--quick",
          "beyond the papers: cost of panels", 4, alone=True),
    Claim("scare_steering", "scare_steering.py",
          "--data pbmc --scalars projection --weights 0 --steering 0.6 --seeds 0", None,
          "scARE, figures 1 and 4", 8, (PBMC, GO)),
    Claim("scare_conditions", "scare_conditions.py", "--data a549 types --seeds 0", None,
          "scARE, figure 3", 10, (A549, KANG)),
    Claim("scare_minimal", "scare_minimal.py", "--prices 0.1 1 --epochs 40", None,
          "beyond the papers: panels for targeted assays", 4, (PBMC3K,)),
    Claim("scare_cost", "scare_cost.py", "", "--quick",
          "beyond the papers: cost of steering", 2, alone=True),
    Claim("sivae_accuracy", "sivae_table.py",
          f"--data kang --seeds 0 --n-latent 20 --models {VARIANTS}", None,
          "siVAE, figure 2", 10, (KANG,)),
    Claim("sivae_loadings", "sivae_table.py",
          "--data kang --seeds 0 --n-latent 2 --models VAE 'siVAE gamma 0.05' LinearSCVI", None,
          "siVAE, figure 3a", 5, (KANG,)),
    Claim("sivae_cost", "sivae_cost.py", "", "--quick",
          "siVAE, figures 3d to 3f", 15, alone=True),
    Claim("sivae_hubs", "sivae_hubs.py", "--seeds 0", "--quick --seeds 0",
          "siVAE, figure 4", 5),
    Claim("sivae_networks", "sivae_networks.py", "", None,
          "siVAE, figure 5", 8, (KANG,)),
    Claim("known_truth", "known_truth.py", "", "--quick",
          "beyond the papers: explanations beside a known truth", 6),
    Claim("attribution_cost", "attribution_cost.py", "", "--quick",
          "beyond the papers: attributions beside captum", 8, alone=True),
    Claim("scvi_tools_own", "scvi_tools_own.py", "", "--quick",
          "beyond the papers: what scvi-tools itself offers", 10, alone=True),
    Claim("knockoff_fdr", "knockoff_fdr.py", "", "--quick",
          "beyond the papers: false discoveries", 6),
)  # fmt: skip


def missing_data(claim: Claim, quick: bool) -> list[str]:
    """Files that the run needs and the data folder does not have."""
    folder = os.environ.get("LUCIDVI_DATA_DIR", "")
    return [f for f in claim.data if not quick and not (folder and Path(folder, f).is_file())]


def commit() -> str | None:
    """Commit of the working tree, with a plus where files differ from it."""
    git = ["git", "-C", str(HERE)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True
        )
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return head.stdout.strip() + ("+" if changed.stdout else "") if head.returncode == 0 else None


def stop(process: subprocess.Popen) -> None:
    """End a benchmark and what it has started."""
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        if hasattr(os, "killpg"):
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                return
        else:
            process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            continue
        return


class Suite:
    """The benchmarks, what is known of them, and where it is kept."""

    def __init__(self, claims: Sequence[Claim], folder: Path, scripts: Path, quick: bool):
        self.claims = [c for c in claims if not quick or c.quick is not None]
        self.folder, self.scripts, self.quick = folder, scripts, quick
        self.file = folder / "suite.json"
        known = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.state: dict[str, dict] = {"full": {}, "quick": {}} | known
        self.mine = self.state["quick" if quick else "full"]
        self.lock, self.stopping, self.interrupted = threading.Lock(), False, False
        self.running: set[subprocess.Popen] = set()

    def is_done(self, claim: Claim) -> bool:
        """Ended well, with the arguments it would get now."""
        row = self.mine.get(claim.name, {})
        return row.get("exit_code") == 0 and row.get("arguments") == claim.command(self.quick)

    def log(self, claim: Claim) -> Path:
        """Where the output goes."""
        return self.folder / "logs" / f"{claim.name}{'_quick' if self.quick else ''}.log"

    def keep(self, claim: Claim, **row) -> None:
        """Write what is known now; the file is whole at any time."""
        with self.lock:
            self.mine[claim.name] = row
            part = self.file.with_suffix(".part")
            part.write_text(json.dumps(self.state, indent=1))
            part.replace(self.file)

    def run(self, claim: Claim) -> int | None:
        """Exit code of one benchmark, None if it was stopped."""
        command = claim.command(self.quick)
        log = self.log(claim)
        log.parent.mkdir(parents=True, exist_ok=True)
        row = {"arguments": command, "commit": commit(), "began": time.strftime("%F %T")}
        env = {"MPLBACKEND": "Agg", "PYTHONUNBUFFERED": "1"} | os.environ
        tick = time.perf_counter()
        with log.open("w") as out:
            with self.lock:
                if self.stopping:
                    return None
                process = subprocess.Popen(
                    [sys.executable, self.scripts / command[0], *command[1:]],
                    stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env,
                    start_new_session=True,
                )  # fmt: skip
                self.running.add(process)
            print(f"{claim.name}: started", flush=True)
            code = process.wait()
        self.running.discard(process)
        seconds = round(time.perf_counter() - tick, 1)
        if self.stopping:
            self.keep(claim, exit_code=None, seconds=seconds, state="interrupted", **row)
            return None
        self.keep(claim, exit_code=code, seconds=seconds, state="failed" if code else "done", **row)
        end = f"FAILED with exit code {code}, see {log}" if code else f"done in {seconds:.0f} s"
        print(f"{claim.name}: {end}", flush=True)
        return code

    def run_all(self, names: Sequence[str], again: Sequence[str], jobs: int = 1) -> list[str]:
        """Names of the benchmarks that failed; ``jobs`` run at the same time, those that measure time alone."""
        todo = []
        for claim in [c for c in self.claims if not names or c.name in names]:
            if lacking := missing_data(claim, self.quick):
                print(f"{claim.name}: skipped, {', '.join(lacking)} not found in $LUCIDVI_DATA_DIR")
            elif self.is_done(claim) and claim.name not in again:
                print(f"{claim.name}: done before in {self.mine[claim.name]['seconds']:.0f} s")
            else:
                todo.append(claim)
        one_by_one = [c for c in todo if c.alone or jobs == 1]
        codes: dict[str, int | None] = {}
        for part, workers in ((one_by_one, 1), ([c for c in todo if c not in one_by_one], jobs)):
            with ThreadPoolExecutor(workers) as pool:
                futures = {c.name: pool.submit(self.run, c) for c in part}
                while wait(futures.values(), timeout=0.2).not_done:
                    if self.interrupted:
                        self.stop()
            codes |= {name: future.result() for name, future in futures.items()}
        return [name for name, code in codes.items() if code]

    def interrupt(self, *_) -> None:
        """Take note of Ctrl-C; an exception raised while threads are waited for may be lost."""
        self.interrupted = True

    def stop(self) -> None:
        """End what is running, start nothing more."""
        with self.lock:
            self.stopping = True
            running = list(self.running)
        for process in running:
            stop(process)

    def show(self) -> None:
        """List what there is."""
        for claim in self.claims:
            row = self.mine.get(claim.name, {})
            state = "done" if self.is_done(claim) else row.get("state", "to do")
            state = "changed" if state == "done" and not self.is_done(claim) else state
            lacking = missing_data(claim, self.quick)
            note = f"  (needs {', '.join(lacking)})" if lacking else ""
            minutes = "" if self.quick else f"{claim.minutes:>5g} min  "
            print(f"{claim.name:<18}{state:<12}{minutes}{claim.rebuilds}{note}")


def main(
    argv: Sequence[str] | None = None,
    claims: Sequence[Claim] = CLAIMS,
    folder: Path = RESULTS,
    scripts: Path = HERE,
) -> int:
    """Run what is asked for; 1 where a benchmark failed, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [c.name for c in claims]
    parser.add_argument("--quick", action="store_true", help="small sizes, minutes, no data needed")
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        help="benchmarks at a time; give each one thread with OMP_NUM_THREADS=1",
    )
    parser.add_argument("--only", nargs="+", default=[], choices=names, metavar="NAME")
    parser.add_argument(
        "--again",
        nargs="*",
        choices=names,
        metavar="NAME",
        help="repeat these, or all without a name",
    )
    parser.add_argument("--list", action="store_true", help="say what there is, run nothing")
    args = parser.parse_args(argv)
    suite = Suite(claims, Path(folder), Path(scripts), args.quick)
    if args.list:
        suite.show()
        return 0
    tick = time.perf_counter()
    again = names if args.again == [] else args.again or []
    before = signal.signal(signal.SIGINT, suite.interrupt)
    try:
        failed = suite.run_all(args.only, again, args.jobs)
    finally:
        signal.signal(signal.SIGINT, before)
    if suite.interrupted:
        print("\nstopped; the same command goes on from here")
        return 130
    spent = sum(row["seconds"] for row in suite.mine.values() if row["exit_code"] == 0)
    print(f"{time.perf_counter() - tick:.0f} s, {spent:.0f} s with what was done before; failed: {', '.join(failed) or 'none'}")  # fmt: skip
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
