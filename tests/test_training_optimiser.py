import pytest
import torch

from tokenface.errors import CheckpointError
from tokenface.training.config import OptimiserConfig
from tokenface.training.optimiser import MuonAdamW, create_optimiser, orthogonalised
from tokenface.training.state import Progress, load_state, save_state


def groups_of(parameter, muon, decay=0.1):
    return [{"params": [parameter], "weight_decay": decay, "muon": muon}]


@pytest.mark.parametrize("shape", [(24, 24), (16, 40), (40, 16)])
def test_orthogonalised_keeps_the_singular_vectors_and_evens_the_values(shape):
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalised(matrix)
    values = torch.diagonal(u.T @ result @ vh.T)
    assert values.min() > 0.6
    assert values.max() < 1.3
    assert torch.allclose(u.T @ result @ vh.T, torch.diag(values), atol=1e-3)


def test_other_parameters_follow_adamw():
    start = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    mine = MuonAdamW(groups_of(ours, muon=False), lr=0.01, betas=(0.9, 0.98))
    reference = torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.98), weight_decay=0.1)
    for step in range(5):
        gradient = torch.randn(7, 5, generator=torch.Generator().manual_seed(10 + step))
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step()
        reference.step()
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_a_first_muon_step_is_the_size_of_an_adamw_step_whatever_the_gradient():
    for scale in (1e-4, 1.0, 1e4):
        kernel = torch.nn.Parameter(torch.zeros(32, 8, 3, 3))
        kernel.grad = scale * torch.randn(32, 8, 3, 3, generator=torch.Generator().manual_seed(2))
        MuonAdamW(groups_of(kernel, muon=True), lr=0.01).step()
        assert 0.1 < float(kernel.detach().square().mean().sqrt()) / 0.01 < 0.3


def test_half_precision_gives_nearly_the_same_direction():
    matrix = torch.randn(32, 72, generator=torch.Generator().manual_seed(3))
    exact, half = orthogonalised(matrix), orthogonalised(matrix, half=True)
    assert half.dtype == exact.dtype == torch.float32
    assert not torch.equal(exact, half)
    assert float(torch.nn.functional.cosine_similarity(exact.flatten(), half.flatten(), dim=0)) > 0.999


def test_a_state_of_another_optimiser_is_refused(tmp_path):
    model = torch.nn.Linear(4, 4)
    groups = [{"params": list(model.parameters()), "weight_decay": 0.0, "muon": False}]
    muon, adamw = (create_optimiser(groups, OptimiserConfig(name=name)) for name in ("muon", "adamw"))
    save_state(tmp_path / "state.safetensors", model, {}, adamw, Progress())
    with pytest.raises(CheckpointError, match=r"AdamW.*optimiser\.name"):
        load_state(tmp_path / "state.safetensors", model, {}, muon)
