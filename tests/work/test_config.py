"""FitConfig refuses what cannot be used, in words that say what can."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest

from eqdisc.work.config import FitConfig, read_bounds
from eqdisc.work.errors import OptionError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"restart": 8}, "FitConfig has no 'restart'. Did you mean 'restarts'?"),
        ({"search": "networks"}, "use proposals, network or both. Did you mean 'network'?"),
        ({"chain": "realnpu"}, "write units with their widths, the last without, such as realnpu:9,nau"),
        ({"chain": "realnpu:0,nau"}, "write units with their widths"),
        ({"restarts": 0}, "restarts is 0; at least 1"),
        ({"restarts": 1.5}, "restarts is 1.5; it must be a whole number"),
        ({"restarts": True}, "it must be a whole number"),
        ({"l1": -1.0}, "l1 is -1; a penalty is 0 or more"),
        ({"l1": float("nan")}, "a penalty is 0 or more"),
        ({"device": "gpu"}, "use auto, cpu, cuda or cuda:N. Did you mean 'cpu'?"),
        ({"exponents": "meny"}, "use menu, real, or bounds such as 0..2. Did you mean 'menu'?"),
        ({"exponents": "2..0"}, "the lower bound comes first"),
        ({"exponents": "1"}, "use menu, real, or bounds"),
        ({"exponents": "0..inf"}, "use menu, real, or bounds"),
        ({"snap": 1}, "snap is 1; it must be True or False"),
        ({"held_out": 1.0}, "use a share from 0"),
        ({"seed": -1}, "use a whole number from 0 on"),
        ({"bootstrap": 1}, "use 0 for none, or 2 replicates and more"),
        ({"time_limit": 0}, "use seconds above 0"),
    ],
)
def test_a_wrong_key_or_value_teaches(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        FitConfig(**options)
    assert message in str(caught.value)


def test_replace_refuses_like_the_constructor_and_leaves_the_original() -> None:
    config = FitConfig()
    assert config.replace(seed=4).seed == 4
    assert config.seed == 0
    with pytest.raises(OptionError, match="Did you mean 'held_out'"):
        config.replace(heldout=0.2)
    with pytest.raises(OptionError, match="at least 1"):
        config.replace(restarts=0)


def test_a_configuration_survives_being_written_copied_and_pickled() -> None:
    config = FitConfig(search="both", exponents="0..2", time_limit=3.0)
    assert FitConfig(**config.as_dict()) == copy.copy(config) == pickle.loads(pickle.dumps(config)) == config


def test_fields_are_what_help_and_editors_see() -> None:
    assert "restarts" in inspect.signature(FitConfig.__init__).parameters


def test_bounds_may_be_negative_or_fractions() -> None:
    assert read_bounds("-1.5..0.5") == (-1.5, 0.5)
