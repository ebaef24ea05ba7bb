"""The proofs that every model passes before it is used."""

import pytest
from torch import Tensor, nn

from heedful.errors import ProofError
from heedful.jobs import models
from heedful.model.base import load_base
from heedful.model.trunk import Trunk
from heedful.train import proofs


def test_the_test_model_computes_as_its_own_forward_does() -> None:
    trunk = Trunk(load_base("test"))
    proofs.computes_as_the_base_does(trunk)
    config = trunk.base.model.config
    assert config._attn_implementation == "heedful"


def test_another_way_to_logits_refuses_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    class Doubling(nn.Linear):
        def forward(self, states: Tensor) -> Tensor:
            return 2 * super().forward(states)

    def unlike(name: str, **kwargs: object) -> object:
        base = load_base(name)
        base.model.lm_head.__class__ = Doubling
        return base

    monkeypatch.setattr(models, "load_base", unlike)
    with pytest.raises(ProofError, match="log-probabilities are those of test itself"):
        models.open_trunk(models.ModelRef(base="test"), dtype="auto")
