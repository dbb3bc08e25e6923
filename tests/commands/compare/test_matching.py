"""Rows of about the same number of parameters, and what code a run is told apart by."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tessera.commands import code_version
from tessera.commands.compare.matching import matched, non_embedding
from tessera.model import ModelSettings
from tessera.setting_errors import SettingError

BASELINE = ModelSettings(84, 256, 2, feed_forward="dense")


@pytest.mark.parametrize("mixer", ["attention", "gated_delta", "bk_core", "phase7_hybrid"])
def test_no_other_width_comes_nearer(mixer: str) -> None:
    found = matched(replace(BASELINE, mixer=mixer), BASELINE)
    wanted = non_embedding(BASELINE)
    assert abs(non_embedding(found) / wanted - 1) < 0.05
    for width in range(found.d_model - 64, found.d_model + 65, 8):
        try:
            other = non_embedding(replace(found, d_model=width))
        except SettingError:
            continue
        assert abs(other - wanted) >= abs(non_embedding(found) - wanted)


def test_the_same_model_stays_as_wide() -> None:
    assert matched(BASELINE, BASELINE) == BASELINE


def test_what_no_width_brings_near_is_refused() -> None:
    # Without a feed-forward layer its parameters grow with the width alone.
    bare = ModelSettings(84, 256, 4)
    with pytest.raises(SettingError, match=r"d_model must make about .* got .* are the nearest"):
        matched(replace(bare, mixer="bk_core"), bare)


def test_code_is_what_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "mine_to_compare.py"
    path = "mine_to_compare.Mixer"
    seen = []
    for text in ("x = 1\n", '"""Of mine."""\n\nx = 1  # why\n', "x = 2\n"):
        file.write_text(text)
        seen.append(code_version.code_version([path]))
    sys.modules.pop("mine_to_compare", None)
    assert seen[0] == seen[1] != seen[2]
    assert code_version.code_version() not in seen
