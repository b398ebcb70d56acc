"""The paper's image analogue: which 64 pixels, set to 0, turn an 8 into a 3 for a small classifier?

Every method chooses its pixels on all training 8s; what counts is how far the log-odds of 8 fall on
test 8s. Reads ``images/mnist.npz`` in the folder ``$LUCIDVI_DATA_DIR``, splits the 8s and 3s
0.7 / 0.1 / 0.2. Run with ``python benchmarks/grids_mnist.py [--quick] [--threads N]``.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from _mnist_figure import draw
from _report import RESULTS, Goals, finish
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from lucidvi.algorithms._affine import AffineMap
from lucidvi.algorithms._subset_problem import SubsetProblem
from lucidvi.algorithms._subset_search import (
    greedy,
    input_times_gradient,
    path_advantage,
    search,
    top_features,
)

SIDE, N_CANDIDATES = 28, 32
OURS = "Subset search"
Split = dict[str, tuple[Tensor, Tensor]]


def load_digits() -> tuple[np.ndarray, np.ndarray] | None:
    """Pixels in [0, 1], ``(n, 784)``, and 1 for an 8, 0 for a 3; None where the file is missing."""
    file = Path(os.environ.get("LUCIDVI_DATA_DIR", "")) / "images" / "mnist.npz"
    if "LUCIDVI_DATA_DIR" not in os.environ or not file.exists():
        return None
    with np.load(file) as data:
        images, labels = data["images"], data["labels"]
    chosen = np.isin(labels, (3, 8))
    return images[chosen].reshape(-1, SIDE**2).astype(np.float32) / 255, labels[chosen] == 8


def synthetic_digits(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two stacked rings for an 8, their right halves for a 3, shifted and blurred."""
    y, x = np.mgrid[:SIDE, :SIDE]
    rings = [np.abs(np.hypot(y - centre, x - 14) - 5) < 1.5 for centre in (9, 19)]
    eight = (rings[0] | rings[1]).astype(np.float32)
    three = eight * (x > 12)
    label = rng.random(n) < 0.5
    images = np.where(label[:, None, None], eight, three)
    shifts = rng.integers(-2, 3, (n, 2))
    images = np.stack([np.roll(im, s, (0, 1)) for im, s in zip(images, shifts, strict=True)])
    images = gaussian_filter(images, (0, 0.7, 0.7))
    return images.reshape(n, -1).astype(np.float32), label


def split(pixels: np.ndarray, is_8: np.ndarray, rng: np.random.Generator) -> Split:
    """Training, validation and test images, 0.7 / 0.1 / 0.2."""
    order = rng.permutation(len(pixels))
    cut = (np.array([0.7, 0.8]) * len(order)).astype(int)
    parts = zip(("train", "validation", "test"), np.split(order, cut), strict=True)
    return {
        name: (torch.from_numpy(pixels[i]), torch.from_numpy(is_8[i].astype(np.float32)))
        for name, i in parts
    }


def train(data: Split, max_epochs: int, lr: float, patience: int = 5) -> nn.Sequential:
    """ReLU network whose output is the log-odds of 8; the weights of the best validation loss are kept."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(SIDE**2, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 1)
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    best, weights, waited = np.inf, net.state_dict(), 0
    x, y = data["train"]
    for _ in range(max_epochs):
        for part in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(net(x[part]).ravel(), y[part]).backward()
            optimizer.step()
        with torch.no_grad():
            images, label = data["validation"]
            score = float(F.binary_cross_entropy_with_logits(net(images).ravel(), label))
        waited = 0 if score < best else waited + 1
        if score < best:
            best, weights = score, {k: v.clone() for k, v in net.state_dict().items()}
        if waited == patience:
            break
    net.load_state_dict(weights)
    return net.requires_grad_(False)


def mean_gradient_size(net: nn.Module, x: Tensor, noise: float = 0.0, n: int = 1) -> np.ndarray:
    """Mean absolute gradient over images, at the images or at noisy copies of them."""
    total, generator = torch.zeros(x.shape[1]), torch.Generator().manual_seed(0)
    for _ in range(n):
        at = x + noise * torch.randn(x.shape, generator=generator)
        (gradient,) = torch.autograd.grad(net(at.requires_grad_(True)).sum(), at)
        total += gradient.abs().sum(0)
    return (total / n / len(x)).numpy()


def choose_pixels(
    net: nn.Sequential, x: Tensor, n_pixels: int
) -> tuple[dict[str, list[int]], dict[str, float]]:
    """Pixels of every method, and what each took in seconds."""
    first, rest = net[0], net[1:]
    affine = AffineMap(first.weight.T.contiguous(), np.zeros(x.shape[1], dtype=np.int64))
    problem = SubsetProblem(x.numpy(), affine, lambda h, rows: rest(h + first.bias).ravel())
    inked = x.mean(0).numpy() >= 0.1  # the size of a gradient says nothing about the ink there
    methods = {
        OURS: lambda: search(problem, n_pixels, n_candidates=N_CANDIDATES).features,
        "Greedy start": lambda: greedy(problem, n_pixels, n_candidates=N_CANDIDATES).features,
    }
    scores = {
        "Path start": lambda: path_advantage(problem),
        "Input x gradient": lambda: input_times_gradient(problem),
        "Saliency": lambda: -mean_gradient_size(net, x),
        "Saliency, inked": lambda: -mean_gradient_size(net, x) * inked,
        "SmoothGrad": lambda: -mean_gradient_size(net, x, noise=0.1, n=20),
    }
    for name, score in scores.items():
        methods[name] = lambda score=score: top_features(problem, score(), n_pixels)
    chosen, seconds = {}, {}
    for name, method in methods.items():
        start = time.perf_counter()
        chosen[name] = method()
        seconds[name] = round(time.perf_counter() - start, 2)
    return chosen, seconds


@torch.no_grad()
def log_odds_drop(net: nn.Module, x: Tensor, pixels: list[int]) -> tuple[np.ndarray, float]:
    """Fall of the log-odds of 8 in every image when pixels are set to 0, and the share still called 8."""
    masked = x.clone()
    masked[:, pixels] = 0.0
    after = net(masked).ravel()
    return (net(x).ravel() - after).numpy(), float((after > 0).float().mean())


def measure(
    net: nn.Module, eights: dict[str, Tensor], sets: dict[str, list[list[int]]]
) -> tuple[dict[str, dict[str, float]], dict[str, np.ndarray]]:
    """One row of the table per method, and the drop in every test image."""
    rows, drops = {}, {}
    for name, of_method in sets.items():
        row = {}
        for part, x in eights.items():
            drop, still = zip(*(log_odds_drop(net, x, pixels) for pixels in of_method), strict=True)
            drops[name] = np.concatenate(drop)  # the last part is the test images
            row[f"drop_{part}"] = round(float(np.mean(drop)), 3)
            row[f"still_8_{part}"] = round(float(np.mean(still)), 4)
        rows[name] = row
    return rows, drops


def goals_of(rows: dict[str, dict[str, float]], accuracy: float) -> Goals:
    """Ours next to the best of the others."""
    peers = [n for n in rows if n not in (OURS, "Greedy start", "Path start")]
    goals: Goals = {"test accuracy": (accuracy, ">=", 0.975)}
    for part in ("train", "test"):
        best = max(peers, key=lambda n: rows[n][f"drop_{part}"])
        goals[f"fall of the log-odds, {part} 8s, vs the best other ({best})"] = (
            rows[OURS][f"drop_{part}"], ">=", rows[best][f"drop_{part}"],
        )  # fmt: skip
    return goals


def main(quick: bool, threads: int) -> None:
    """Train, choose, measure, draw."""
    rng = np.random.default_rng(0)
    digits = load_digits()
    if digits is None and not quick:
        sys.exit("Skipped: images/mnist.npz not found in the folder that LUCIDVI_DATA_DIR names.")
    n_pixels = 16 if quick else 64
    source = "MNIST" if digits is not None else "synthetic"
    pixels, is_8 = digits if digits is not None else synthetic_digits(1000, rng)
    if quick:
        pixels, is_8 = pixels[:1000], is_8[:1000]
    data = split(pixels, is_8, rng)
    start = time.perf_counter()
    net = train(data, max_epochs=5 if quick else 50, lr=1e-3 if quick else 1e-4)
    training_s = time.perf_counter() - start
    images, label = data["test"]
    accuracy = float(((net(images).ravel() > 0) == (label > 0)).float().mean())
    eights = {part: data[part][0][data[part][1] > 0] for part in ("train", "test")}
    chosen, seconds = choose_pixels(net, eights["train"], n_pixels)
    random = [rng.choice(SIDE**2, n_pixels, replace=False).tolist() for _ in range(20)]
    sets = {name: [pixels] for name, pixels in chosen.items()} | {"Random": random}
    rows, drops = measure(net, eights, sets)
    columns = ("drop_train", "drop_test", "still_8_train", "still_8_test")
    print(f"{'':<18}" + "".join(f"{c:>15}" for c in columns) + f"{'seconds':>12}")
    for name, row in rows.items():
        numbers = "".join(f"{row[c]:>15}" for c in columns)
        print(f"{name:<18}{numbers}{seconds.get(name, 0):>12}")
    if not quick:
        shown = [name for name in sets if name != "Greedy start"]
        surest = torch.argsort(net(eights["test"]).ravel(), descending=True)
        examples = eights["test"][surest[[len(surest) * i // 10 for i in (2, 4, 6, 8)]]]
        masks = {name: sets[name][0] for name in shown}
        draw(examples.numpy(), masks, [drops[name] for name in shown], RESULTS / "grids_mnist.png")
    result = {
        "benchmark": "grids_mnist", "data": source, "threads": threads, "n_pixels": n_pixels,
        "n_train_8": len(eights["train"]), "n_test_8": len(eights["test"]),
        "test_accuracy": round(accuracy, 4), "training_s": round(training_s, 1),
        "search_s": seconds[OURS], "methods": rows, "seconds": seconds,
    }  # fmt: skip
    finish(result, goals_of(rows, round(accuracy, 4)), save=not quick)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1,000 images, seconds")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    main(args.quick, args.threads)
