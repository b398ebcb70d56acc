"""DeepLIFT against captum, completeness and networks computed by hand."""

import anndata as ad
import numpy as np
import pytest
import torch
from torch import nn

from lucidvi.algorithms._deep_lift import deep_lift

N_IN = 7


class Exp(nn.Module):
    def forward(self, h):
        return h.exp()


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def build(*between):
    """Layers of eight numbers between a linear layer and one number per cell."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(N_IN, 8), *between, nn.Linear(8, 1), nn.Flatten(0))
    for module in layers.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    return layers.double().eval()


@pytest.mark.parametrize(
    "between",
    [
        (nn.ReLU(),),
        (nn.ReLU(inplace=True), nn.Linear(8, 8), nn.LeakyReLU(0.2)),
        (nn.BatchNorm1d(8), nn.Softplus(), nn.Dropout(0.3)),
        (nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 8), nn.Sigmoid()),
        (nn.ELU(), nn.Linear(8, 8), nn.ReLU()),
    ],
    ids=lambda between: "-".join(type(m).__name__ for m in between),
)
def test_equals_captum(between):
    attr = pytest.importorskip("captum.attr")
    network, x, baseline = build(*between), draw(5, N_IN, seed=1), draw(5, N_IN, seed=2)
    ours = deep_lift(network, network, x, baseline)
    theirs = attr.DeepLift(network).attribute(x, baseline).detach()
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize(
    "between",
    [
        (nn.ReLU(),),
        (nn.ReLU(inplace=True), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 8), nn.ReLU()),
        (nn.PReLU(8, 0.1), nn.Linear(8, 8), nn.Softplus()),
        (nn.Sigmoid(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.GELU()),
        (nn.Linear(8, 8), nn.Softmax(-1)),
        (nn.Tanh(), nn.Softmax(1), nn.Linear(8, 8), nn.Softmax(-1)),
        (nn.Tanh(), Exp()),
    ],
    ids=lambda between: "-".join(type(m).__name__ for m in between),
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_attributions_are_complete(between, dtype):
    network = build(*between).to(dtype)
    x, baseline = draw(20, N_IN, seed=1).to(dtype), draw(N_IN, seed=2).to(dtype)
    x[0], x[1, 2:], x[2] = baseline, baseline[2:], 30 * x[2]
    a = deep_lift(network, network, x, baseline, elementwise=(Exp,))
    rise = (network(x) - network(baseline[None])).detach()
    close = {"atol": 2e-5, "rtol": 2e-5} if dtype == torch.float32 else {"atol": 1e-9, "rtol": 1e-9}
    torch.testing.assert_close(a.sum(1), rise, **close)
    assert (a[0] == 0).all() and (a[1, 2:] == 0).all()


def test_by_hand_and_sign():
    # relu(x0 - x1 + 1): masking the activator x0 lowers it, masking the repressor x1 raises it
    network = nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Flatten(0))
    network[0].weight.data[:] = torch.tensor([[1.0, -1.0]])
    network[0].bias.data[:] = 1.0
    a = deep_lift(network, network, torch.tensor([[2.0, 1.0], [0.0, 4.0], [3.0, 0.0]]))
    # cell 1 falls from 1 to 0 while its sum falls by 4
    torch.testing.assert_close(a, torch.tensor([[2.0, -1.0], [0.0, -1.0], [3.0, 0.0]]))


def test_linear_function_without_activations():
    network, x, baseline = nn.Linear(4, 1).double(), draw(3, 4), draw(4, seed=1)
    a = deep_lift(lambda v: network(v)[:, 0], network, x, baseline)
    torch.testing.assert_close(a, (x - baseline) * network.weight.detach())


def test_softmax_of_two_is_a_sigmoid_for_opposite_logits():
    soft = nn.Softmax(-1)
    x = draw(6, 1, seed=3)
    a = deep_lift(lambda v: soft(torch.cat([v, -v], 1))[:, 0], soft, x)
    sigmoid = nn.Sigmoid()
    torch.testing.assert_close(a, deep_lift(lambda v: sigmoid(2 * v)[:, 0], sigmoid, x))


def test_rows_that_are_no_cells_are_left_alone():
    """Such as those of an encoder of three genes, whose output is a constant for the cells."""
    sigmoid, genes, x = nn.Sigmoid(), draw(3, 1), draw(4, 3, seed=1)
    a = deep_lift(lambda v: sigmoid(v @ sigmoid(genes))[:, 0], sigmoid, x)
    share = x * genes[:, 0].sigmoid()
    total = share.sum(1, keepdim=True)
    torch.testing.assert_close(a, share * (total.sigmoid() - 0.5) / total)


def test_a_chord_of_rounding_errors_is_the_slope():
    # both sums are 0.6, but one is 0.6000000000000001
    sigmoid = nn.Sigmoid()
    x, baseline = torch.tensor([[[0.1, 0.2, 0.3]], [[0.2, 0.3, 0.1]]], dtype=torch.float64)
    a = deep_lift(lambda v: sigmoid(v[:, 0] + v[:, 1] + v[:, 2]), sigmoid, x, baseline)
    p = 1 / (1 + np.exp(-0.6))
    torch.testing.assert_close(a, (x - baseline) * p * (1 - p))


def test_a_module_may_be_used_twice_and_leaves_no_trace():
    relu = nn.ReLU(inplace=True)
    w, v = draw(5, 5), draw(5, seed=1)
    function = lambda x: relu(relu(x @ w) @ w) @ v
    x, baseline = draw(4, 5, seed=2), draw(5, seed=3)
    a = deep_lift(function, relu, x, baseline)
    torch.testing.assert_close(a.sum(1), function(x) - function(baseline[None]))
    assert relu.inplace and not relu._forward_hooks
    with pytest.raises(RuntimeError, match="stop"):
        deep_lift(lambda x: (_ for _ in ()).throw(RuntimeError("stop")), relu, x)
    assert relu.inplace and not relu._forward_hooks


def test_works_without_gradients_and_leaves_inputs_alone():
    network, x = build(nn.ReLU()), draw(3, N_IN)
    expected = deep_lift(network, network, x)
    with torch.inference_mode():
        torch.testing.assert_close(deep_lift(network, network, 1 * x), expected)
    tracked = x.clone().requires_grad_(True)
    assert not deep_lift(network, network, tracked).requires_grad
    assert tracked.grad is None and all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize("random", [nn.Dropout(0.1), nn.BatchNorm1d(8)])
def test_messages(random):
    network, x = build(nn.ReLU(), random), draw(2, N_IN)
    with pytest.raises(ValueError, match="1 activations inside of root"):
        deep_lift(lambda v: v.sum(1), network, x)
    with pytest.raises(ValueError, match=r"root\.eval\(\)"):
        deep_lift(network, network.train(), x)


@pytest.fixture(scope="module")
def scvi_module():
    import scvi

    counts = np.random.default_rng(0).poisson(1.0, (30, 12)).astype(np.float32)
    adata = ad.AnnData(counts, obs={"batch": [str(i % 3) for i in range(30)]})
    scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
    scvi.settings.seed = 0
    model = scvi.model.SCVI(adata, n_layers=2, n_hidden=16, encode_covariates=True)
    module = model.module.eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d):
            part.running_mean.normal_(std=0.3)
            part.running_var.uniform_(0.5, 2.0)
    return module, torch.from_numpy(counts), torch.arange(30)[:, None] % 3


class LatentMean(nn.Module):
    """One latent mean of cells whose batch is known."""

    def __init__(self, encoder, batch):
        super().__init__()
        self.encoder, self.batch = encoder, batch

    def forward(self, x):
        q, _ = self.encoder(x, self.batch.repeat(len(x) // len(self.batch), 1))
        return q.mean[:, 2] if hasattr(q, "mean") else q[:, 2]


def test_scvi_encoder(scvi_module):
    module, counts, batch = scvi_module
    x, baseline = counts.log1p(), counts.log1p().mean(0)
    function = LatentMean(module.z_encoder, batch)
    a = deep_lift(function, module, x, baseline)
    rise = (function(x) - function(baseline.expand_as(x))).detach()
    torch.testing.assert_close(a.sum(1), rise, atol=1e-5, rtol=1e-5)
    attr = pytest.importorskip("captum.attr")
    theirs = attr.DeepLift(function).attribute(x, baseline.expand_as(x)).detach()
    torch.testing.assert_close(a, theirs, atol=1e-5, rtol=1e-5)


def test_scvi_decoder_ends_in_a_softmax(scvi_module):
    module, _, batch = scvi_module
    z = torch.randn(30, module.n_latent, generator=torch.Generator().manual_seed(0))

    def function(z):
        here = batch.repeat(len(z) // len(batch), 1)
        return module.decoder(module.dispersion, z, torch.zeros(len(z), 1), here)[0][:, 4]

    a = deep_lift(function, module, z)
    rise = (function(z) - function(torch.zeros_like(z))).detach()
    torch.testing.assert_close(a.sum(1), rise, atol=1e-6, rtol=1e-4)
