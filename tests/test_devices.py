from typing import NoReturn

import pytest
import torch

from fewscan.devices import choose_device, choose_precision
from fewscan.errors import ConfigError

CPU = torch.device("cpu")


def test_auto_takes_what_is_there() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ConfigError, match="--device cuda:99: not to be had here"):
        choose_device("cuda:99")


@pytest.mark.parametrize("fast", [True, False])
def test_auto_precision_is_low_only_where_that_is_fast(monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": fast})
    assert choose_precision("auto", CPU) == ("bfloat16" if fast else "float32")
    assert choose_precision("float32", CPU) == "float32"
    assert choose_precision("bfloat16", CPU) == "bfloat16"


def test_a_precision_that_a_device_cannot_compute_in_is_refused_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise RuntimeError("not implemented for 'BFloat16'")

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    monkeypatch.setattr(torch.nn.functional, "conv2d", refuse)
    with pytest.raises(ConfigError, match=r"precision=bfloat16: cpu cannot compute in it\. Set precision=float32"):
        choose_precision("bfloat16", CPU)
    assert choose_precision("auto", CPU) == "float32"
