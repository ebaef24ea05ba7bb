"""What a setting is refused with: the key as a person writes it, the value, what is allowed."""

import pytest

from heedful.config import RewardConfig, resolve
from heedful.errors import ConfigError


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seed=-1", "'seed' is -1: input should be greater than or equal to 0"),
        ("adapter.rank=0", "'adapter.rank' is 0: input should be greater than 0"),
        ("remedies.length_penalty=-1", "'remedies.length_penalty' is -1: input should be"),
        ("loss.margin=inf", "'loss.margin' is inf: input should be a finite number"),
        ("loss.source_weights.human=inf", "'loss.source_weights.human' is inf: input should be"),
        ("loss.params.label_smoothing=nan", "'loss.params.label_smoothing' is nan: input should"),
    ],
)
def test_a_refused_value_is_named_as_it_was_written(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"config key {said}"):
        resolve(RewardConfig, overrides=[override], flags={"data": "test"})
