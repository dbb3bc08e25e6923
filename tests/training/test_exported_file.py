"""Whatever is in a file that looks like an exported model, it is used or refused in one line."""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tessera.data import GameDataModule
from tessera.training import CheckpointError, TesseraModule
from tessera.training.checkpoint_content import read_checked
from tessera.training.checkpoint_file import describe_exported, read_checkpoint
from tessera.training.export import exported, weights_of
from tessera.training.precision import SCALE
from tests.training.exported_bytes import (
    changed_header,
    changed_settings,
    joined,
    parted,
    with_weight,
)

FILE = Path("model.safetensors")
WEIGHT = "blocks.mixers.0.in_proj.weight"


def checkpoint() -> dict[str, Any]:
    """That of a small model, as a run would write it."""
    torch.manual_seed(0)
    module = TesseraModule(vocab_size=12, d_model=16, mamba={"d_state": 4})
    return {
        "hyper_parameters": dict(module.hparams),
        "datamodule_hyper_parameters": dict(GameDataModule(board_size=3, backend="torch").hparams),
        "state_dict": module.state_dict(),
        "global_step": 7,
    }


@pytest.fixture(scope="module")
def whole() -> bytes:
    return exported(checkpoint(), None, "1.2")


@pytest.fixture(scope="module")
def int8() -> bytes:
    return exported(checkpoint(), "int8", "1.2")


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refusal(content: bytes, is_fit: bool = False) -> str | None:
    """What is said of a file; None if it can be used."""
    FILE.write_bytes(content)
    try:
        read_checked(FILE, is_fit)
    except CheckpointError as error:
        line = str(error)
        assert line.startswith(f"{FILE} ") and line.endswith(".")
        assert "\n" not in line and len(line) < 300
        return line
    return None


def test_the_weights_come_back_to_the_bit_with_their_settings(whole: bytes) -> None:
    FILE.write_bytes(whole)
    before, after = checkpoint(), read_checked(FILE, is_fit=False)
    assert before["state_dict"].keys() == after["state_dict"].keys()
    for name, weight in before["state_dict"].items():
        assert torch.equal(weight, after["state_dict"][name])
    assert after["global_step"] == 7
    kept = before["datamodule_hyper_parameters"]
    for name in ("backend", "selfplay_share", "selfplay_temperature"):
        del kept[name]
    assert after["datamodule_hyper_parameters"] == kept
    settings = json.loads(parted(whole)[0]["__metadata__"]["tessera"])
    assert (settings["format"], settings["version"], settings["step"]) == (1, "1.2", 7)
    assert settings["model"]["vocab_size"] == 12 and settings["model"]["mamba"]["d_state"] == 4
    assert "lr" not in settings["model"] and "mamba2" not in settings["model"]


def test_others_can_read_the_weights_by_the_names_that_the_model_has(whole: bytes) -> None:
    FILE.write_bytes(whole)
    assert load_file(FILE).keys() == weights_of(checkpoint()).keys()


def test_int8_rounds_matrices_and_leaves_the_rest(int8: bytes) -> None:
    FILE.write_bytes(int8)
    held, before = load_file(FILE), weights_of(checkpoint())
    whole_numbers = {name for name, tensor in held.items() if tensor.dtype is torch.int8}
    projections = ("in_proj", "x_proj", "out_proj")
    mixer = {f"blocks.mixers.0.{name}.weight" for name in projections}
    assert whole_numbers == {"embedding.weight", "head.weight", *mixer}
    assert held.keys() - before.keys() == {name + SCALE for name in whole_numbers}
    after = weights_of(read_checked(FILE, is_fit=False))
    for name, weight in before.items():
        assert after[name].dtype is torch.float32
        if name in whole_numbers:
            step = weight.abs().amax(1, keepdim=True) / 127
            off = (after[name] - weight).abs()
            assert off.max() > 0 and (off <= 0.5001 * step).all()
        else:
            assert torch.equal(after[name], weight)


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "float32"])
def test_other_precisions_round_the_same_weights(precision: str) -> None:
    FILE.write_bytes(exported(checkpoint(), precision, "1"))
    held = load_file(FILE)
    assert held[WEIGHT].dtype is getattr(torch, precision)
    assert held["blocks.mixers.0.A_log"].dtype is torch.float32
    assert (
        read_checked(FILE, is_fit=False)["state_dict"].keys() == checkpoint()["state_dict"].keys()
    )


def test_a_row_of_zeros_and_the_smallest_numbers_survive_rounding() -> None:
    given = checkpoint()
    weight = given["state_dict"][f"model.{WEIGHT}"]
    weight[0], weight[1], weight[2], weight[3, 0] = 0, 1e-45, -1e-38, 3e38
    FILE.write_bytes(exported(given, "int8", "1"))
    after = read_checked(FILE, is_fit=False)["state_dict"][f"model.{WEIGHT}"]
    assert (after[0] == 0).all() and (after[1].abs() < 1e-40).all()
    assert torch.allclose(after[2], weight[2], rtol=0.01) and after[3, 0] == pytest.approx(3e38)
    with pytest.raises(ValueError, match=f"{WEIGHT} has a weight that is too large for float16"):
        exported(given, "float16", "1")


def test_no_run_goes_on_from_it(whole: bytes) -> None:
    told = refusal(whole, is_fit=True)
    assert told is not None and "has no optimizer, so it can be measured but not trained on" in told
    assert "give the run's own last.ckpt" in told


def test_every_beginning_of_a_file_is_refused(whole: bytes, int8: bytes) -> None:
    for content in (whole, int8):
        header = int.from_bytes(content[:8], "little")
        ends = {*range(12), 8 + header // 2, *range(4 + header, 13 + header), len(content) - 1}
        ends |= {8 + header + (len(content) - header) // 2}
        for end in ends:
            assert refusal(content[:end]), end
        assert refusal(content + b"x") and refusal(content + content) and refusal(content[1:])


def test_a_damaged_byte_is_seen_or_changes_nothing(whole: bytes, int8: bytes) -> None:
    draw = random.Random(0)
    for content in (whole, int8):
        FILE.write_bytes(content)
        right = read_checked(FILE, is_fit=False)
        header = 8 + int.from_bytes(content[:8], "little")
        places = [*range(9), *draw.sample(range(9, header), 60)]
        places += draw.sample(range(header, len(content)), 20)
        refused = 0
        for place in places:
            damaged = bytearray(content)
            damaged[place] ^= 1 << draw.randrange(8)
            if refusal(bytes(damaged)):
                refused += 1
                continue
            assert place < header
            found = read_checked(FILE, is_fit=False)
            for name, weight in right["state_dict"].items():
                assert torch.equal(weight, found["state_dict"][name])
            assert found["exported"] == right["exported"]
        assert refused > 0.9 * len(places)


SETTINGS: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda s: s.update(format=2), "its format must be 1, the one that this version reads, got 2"),
    (lambda s: s.pop("format"), "its format must be 1, the one that this version reads, got None"),
    (lambda s: s.update(format=True), "its format must be 1"),
    (lambda s: "[]", "its settings must have names, got []"),
    (lambda s: "{", "its settings are damaged, or no JSON"),
    (lambda s: "[" * 100_000, "its settings are damaged, or no JSON"),
    (lambda s: '{"format": NaN}', "its settings are damaged, or no JSON"),
    (lambda s: '{"format": 1, "format": 1}', "its settings are damaged, or no JSON"),
    (lambda s: '{"format": ' + "1" * 5000 + "}", "its settings are damaged, or no JSON"),
    (lambda s: s.pop("model"), "hyper_parameters must hold settings by name, got None"),
    (lambda s: s.pop("data"), "datamodule_hyper_parameters must hold settings by name, got None"),
    (lambda s: s.update(step=-1), "global_step must be a whole number of at least 0, got -1"),
    (lambda s: s["model"].update(mixer="os.system"), "its os.system is used only if the command"),
    (lambda s: s["model"].update(d_model=10**9), "model.d_model is 1000000000, too much for"),
    (lambda s: s["model"].update(n_layers=10**9), "model.n_layers is 1000000000, too much for"),
    (lambda s: s["model"].update(d_model=1e999), "its settings are damaged, or no JSON"),
    (lambda s: s["model"].update(width=3), "model.width is no setting of this version"),
    (
        lambda s: s["model"].update(vocab_size=28),
        "model.vocab_size must be 12 on a 3×3 board, got 28",
    ),
    (lambda s: s["data"].update(board_size=5), "model.vocab_size must be 28 on a 5×5 board"),
    (lambda s: s["data"].update(komi="six"), "data.komi must be a number or null, got 'six'"),
    (
        lambda s: json.dumps(s).replace('"komi": null', '"komi": 1e999'),
        "data.komi must be a number",
    ),
    (lambda s: s["data"].update(player="me"), "data.player must be one of uniform, rules, got me"),
]


@pytest.mark.parametrize(("change", "says"), SETTINGS)
def test_wrong_settings_are_refused_though_their_digest_is_right(
    whole: bytes, change: Callable[[dict[str, Any]], Any], says: str
) -> None:
    told = refusal(changed_settings(change)(whole))
    assert told is not None and says in told, told


def marked(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    """With other settings, and the digest that is there."""

    def written(header: dict[str, Any]) -> None:
        settings = json.loads(header["__metadata__"]["tessera"])
        change(settings)
        header["__metadata__"]["tessera"] = json.dumps(settings)

    return changed_header(written)


def entry(**change: Any) -> Callable[[bytes], bytes]:
    return changed_header(lambda header: header[WEIGHT].update(change))


HEADERS: list[tuple[Callable[[bytes], bytes], str]] = [
    (changed_header(lambda h: h.pop("__metadata__")), "it has no settings of Tessera"),
    (changed_header(lambda h: h["__metadata__"].pop("tessera")), "it has no settings of Tessera"),
    (changed_header(lambda h: h["__metadata__"].update(tessera=3)), "it has no settings"),
    (changed_header(lambda h: h.update(__metadata__=[])), "it has no settings"),
    (marked(lambda s: s.pop("sha256")), "it is damaged"),
    (marked(lambda s: s.update(sha256="0" * 64)), "it is damaged"),
    (marked(lambda s: s.update(sha256="")), "it is damaged"),
    (marked(lambda s: s.update(sha256=7)), "it is damaged"),
    (marked(lambda s: s["data"].update(komi=0.5)), "it is damaged"),
    (changed_header(lambda h: b"{}"), "it has no settings"),
    (changed_header(lambda h: b"{" + b"[" * 100_000), "its header is damaged, or no JSON"),
    (changed_header(lambda h: b'{"a": \xff}'), "its header is damaged, or no JSON"),
    (changed_header(lambda h: b'{"a": 1, "a": 1}'), "its header is damaged, or no JSON"),
    (changed_header(lambda h: h.pop(WEIGHT)), "its tensors do not lie one behind the other"),
    (changed_header(lambda h: h.update({WEIGHT: 3})), "must have a dtype, a shape and data_off"),
    (entry(more=1), "must have a dtype, a shape and data_offsets"),
    (entry(dtype="F8_E4M3"), "must be of F64, F32, F16, BF16, I8, got 'F8_E4M3'"),
    (entry(dtype=["F32"]), "must be of F64, F32, F16, BF16, I8, got ['F32']"),
    (entry(shape=[10**12]), "has other bytes than its shape"),
    (entry(shape=[10**30, 10**30]), "must have whole numbers"),
    (entry(shape=[-64, -16]), "must have whole numbers"),
    (entry(shape=[True]), "must have whole numbers"),
    (entry(shape="many"), "must have whole numbers"),
    (entry(shape=[16, 64]), "must have the shape (64, 16), got (16, 64)"),
    (entry(shape=[64, 16, 1]), "must have the shape (64, 16), got (64, 16, 1)"),
    (entry(shape=[0] * 1000), "has other bytes than its shape"),
    (entry(data_offsets=[0, 10**15]), "has other bytes than its shape"),
    (entry(data_offsets=[0, 4096]), "its tensors do not lie one behind the other"),
    (entry(data_offsets=[0]), "has other bytes than its shape"),
    (lambda content: joined(*parted(content), length=0), "it is torn"),
    (lambda content: joined(*parted(content), length=2**63), "it is torn"),
    (lambda content: joined(*parted(content), length=10), "its header is damaged"),
    (with_weight(WEIGHT, None), f"state_dict lacks model.{WEIGHT}"),
    (with_weight("more", torch.zeros(3)), "state_dict has model.more, which the model has not"),
    (with_weight("more", torch.zeros(2**4, 0, 3)), "state_dict has model.more"),
    (with_weight(WEIGHT, torch.zeros(64, 17)), "must have the shape (64, 16), got (64, 17)"),
    (with_weight(WEIGHT, torch.full((64, 16), math.nan)), f"model.{WEIGHT} is not finite"),
    (with_weight("head.bias", torch.full((12,), -math.inf)), "model.head.bias is not finite"),
]


@pytest.mark.parametrize(("change", "says"), HEADERS)
def test_wrong_headers_and_weights_are_refused(
    whole: bytes, change: Callable[[bytes], bytes], says: str
) -> None:
    told = refusal(change(whole))
    assert told is not None and says in told, told


NO_SCALE = f"{WEIGHT} must have a float32 scale for each row"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (with_weight(WEIGHT + SCALE, None), NO_SCALE),
        (with_weight(WEIGHT + SCALE, torch.zeros(63)), NO_SCALE),
        (with_weight(WEIGHT + SCALE, torch.zeros(64).half()), NO_SCALE),
        (with_weight(WEIGHT + SCALE, torch.zeros(64, dtype=torch.int8)), NO_SCALE),
        (with_weight(WEIGHT, None), f"lacks model.{WEIGHT}"),
        (with_weight(WEIGHT + SCALE, torch.full((64,), math.nan)), f"{WEIGHT} is not finite"),
        (with_weight(WEIGHT + SCALE, torch.full((64,), 3e38)), f"{WEIGHT} is not finite"),
        (with_weight("head.bias", torch.zeros(12, dtype=torch.int8)), "head.bias must have a flo"),
    ],
)
def test_whole_numbers_and_their_scales_have_to_fit(
    int8: bytes, change: Callable[[bytes], bytes], says: str
) -> None:
    told = refusal(change(int8))
    assert told is not None and says in told, told
    if says == NO_SCALE:
        with pytest.raises(CheckpointError, match="must have a float32 scale"):
            read_checkpoint(FILE)


def test_what_does_not_fit_the_model_is_refused_before_it_is_read(whole: bytes) -> None:
    header, _ = parted(whole)
    end = max(header[name]["data_offsets"][1] for name in header.keys() - {"__metadata__"})
    header["more"] = {"dtype": "F32", "shape": [2**38], "data_offsets": [end, end + 2**40]}
    FILE.write_bytes(joined(header, b""))
    os.truncate(FILE, FILE.stat().st_size + end + 2**40)  # a terabyte that no disk has to hold
    with pytest.raises(CheckpointError, match=r"state_dict has model\.more, which the model"):
        read_checked(FILE, is_fit=False)


def test_layers_are_counted_before_they_are_built(whole: bytes) -> None:
    header, tensors = parted(whole)
    settings = json.loads(header["__metadata__"]["tessera"])
    settings["model"] |= {"n_layers": 10_000, "mixer": ["mamba", "attention"]}
    header["__metadata__"]["tessera"] = json.dumps(settings)
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [len(tensors)] * 2}
    header |= {f"{number}": empty for number in range(10_000)}
    began = time.process_time()
    told = refusal(joined(header, tensors))
    assert told is not None and "model.n_layers is 10000, too much for the weights" in told
    assert time.process_time() - began < 5  # it would take minutes to build them


def test_many_layers_can_be_read() -> None:
    torch.manual_seed(0)
    module = TesseraModule(vocab_size=12, d_model=4, n_layers=65, mixer="attention")
    given = {**checkpoint(), "hyper_parameters": dict(module.hparams)}
    FILE.write_bytes(exported({**given, "state_dict": module.state_dict()}, None, "1"))
    assert read_checked(FILE, is_fit=False)["state_dict"].keys() == module.state_dict().keys()


def test_the_description_takes_no_memory(int8: bytes) -> None:
    FILE.write_bytes(int8)
    told = describe_exported(FILE)
    assert told is not None
    assert told["state_dict"].keys() == checkpoint()["state_dict"].keys()
    assert all(zero.untyped_storage().nbytes() <= 8 for zero in told["state_dict"].values())


def test_a_header_has_a_limit(whole: bytes) -> None:
    header, tensors = parted(whole)
    told = refusal(joined(json.dumps(header).encode() + b" " * 2**22, tensors))
    assert told is not None and "its header must be at most 4,194,304 bytes" in told


def test_what_a_digest_covers_cannot_be_exchanged(whole: bytes) -> None:
    header, tensors = parted(whole)
    first, second = "blocks.mixers.0.D", "blocks.mixers.0.dt_proj.bias"
    header[first], header[second] = header[second], header[first]
    told = refusal(joined(header, tensors))
    assert told is not None and "it is damaged" in told


def test_the_kind_of_a_file_is_seen_from_its_content(whole: bytes) -> None:
    Path("model.ckpt").write_bytes(whole)
    assert read_checked(Path("model.ckpt"), is_fit=False)["global_step"] == 7
    assert "torn or no checkpoint" in str(refusal(b"PK" + whole[2:8] + b"\0" + whole[9:]))
    for text in (b"", b"x", b"trainer:{max_steps: 20}\n", b"        {}"):
        assert refusal(text)


def test_settings_of_a_part_that_are_no_json_are_refused() -> None:
    given = checkpoint()
    given["hyper_parameters"]["own"] = {"a.B": {"width": math.nan}}
    given["hyper_parameters"]["feed_forward"] = "a.B"
    with pytest.raises(ValueError, match="its settings cannot be written as JSON"):
        exported(given, None, "1")
