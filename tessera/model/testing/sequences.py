"""The contract of what reads a game: a mixer, and a whole model.

Shape suffixes: B games, L positions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from tessera.model.mixers.base import Mixer
from tessera.model.model import GameModel
from tessera.model.settings import ModelSettings
from tessera.model.state import StateTemplate
from tessera.model.testing.any_part import (
    answers_and_gradients,
    check_autocast,
    check_bits,
    check_copies,
    check_parameters,
    require,
    require_near,
    trying,
)
from tessera.model.testing.reading import (
    BEGINNINGS,
    LENGTH,
    LENGTHS,
    NUM_GAMES,
    MixerReader,
    ModelReader,
    Reader,
    all_answers,
    padded_rows,
    stepped,
)

_CUTS = ((1,), (5,), (3, 4, 11), range(1, LENGTH))  # where a game is left and gone on with
_TOLERANCE = 1e-4


def check_mixer(
    build: Callable[[int], Mixer],
    d_model: int = 16,
    num_parameters: int | None = None,
    device: torch.device | str = "cpu",
    tolerance: float = _TOLERANCE,
) -> None:
    """Raise AssertionError, beginning with what broke, unless a mixer keeps its contract.

    Causal to the bit; PAD invisible, and zero, and no gradient grows there; what is carried on and
    what is stepped in place as what is read at once; slots that begin at any time; the same bits
    twice; autocast; copies.

    Args:
        build: the mixer of a width, such as its class, with weights that look trained: what is zero
            at the start hides what it will do later.
        d_model: the width.
        num_parameters: as its settings state; None if they state nothing.
        device: where it is tried.
        tolerance: of the largest value.
    """
    place = torch.device(device)
    new = partial(MixerReader, d_model, place)
    with trying(lambda: build(d_model).to(place), Mixer, place, d_model) as mixer:
        _check(new, mixer, num_parameters, place, tolerance)
        _check_gradient_into_pad(new(mixer))
        check_copies(mixer, lambda: build(d_model).to(place), lambda own: all_answers(new(own)))


def check_model(
    settings: ModelSettings, device: torch.device | str = "cpu", tolerance: float = _TOLERANCE
) -> None:
    """As ``check_mixer``, of a whole model; all its parts, the user's own too, and what joins them.

    Args:
        settings: of the model.
        device: where it is tried.
        tolerance: of the largest value.
    """
    place = torch.device(device)

    def build() -> GameModel:
        # No answer that is asked for below comes from the outcome.
        model = whole()
        model.outcome = None
        return model

    def whole() -> GameModel:
        return GameModel(ModelSettings(**settings.as_dict())).to(place)

    new = partial(ModelReader, place)
    stated = None if settings.own_parts() else settings.num_parameters()
    with trying(whole, GameModel, place) as model:
        check_parameters(model, stated)
        if model.outcome is not None:
            _check_outlook(new(model), tolerance)
    with trying(build, GameModel, place) as model:
        _check(new, model, None, place, tolerance)
        check_copies(model, build, lambda own: all_answers(new(own)))


@torch.no_grad()
def _check_outlook(reader: ModelReader, tolerance: float) -> None:
    expected, *alone = reader.outlook(reader.inputs)
    is_same = torch.equal(expected, reader.read(reader.inputs))
    require(is_same, "outlook has other logits than forward")
    for side, rows, is_pad_BL in padded_rows(reader):
        for whole, own in zip(reader.outlook(rows)[1:], alone, strict=True):
            for game, length in enumerate(LENGTHS):
                what = f"sees PAD, or the future: outlook, {side} the moves"
                require_near(
                    whole[game, ~is_pad_BL[game]][:length], own[game, :length], tolerance, what
                )


def _check(
    new: Callable[[Any], Reader],
    module: Any,
    num_parameters: int | None,
    device: torch.device,
    tolerance: float,
) -> None:
    """All but the form and the copies."""
    check_parameters(module, num_parameters)
    reader = new(module)
    for rounds in (False, True):
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=rounds):
            _check_state(reader)
    # Of what draws random numbers nothing else can be told.
    check_bits(module, lambda own: all_answers(new(own)))
    with torch.no_grad():
        _check_causal(reader)
        _check_going_on(reader, tolerance)
        _check_padding(reader, tolerance)
        _check_steps(reader, tolerance)
        _check_reset(reader, tolerance)
    _check_gradient_at_pad(new, module, tolerance)
    check_autocast(module, lambda own: all_answers(new(own)), device)


def _check_state(reader: Reader) -> None:
    """Zeros of the length that was asked for, on the device that was asked for, games first."""
    length = 5
    _, after = reader.advance(reader.inputs)
    states = (
        reader.init_state(2, 0),
        reader.init_state(2, 1),
        reader.init_state(3, length),
        reader.init_state(3, length, "meta"),
        after,
    )
    for layers in zip(*(state.layers for state in states), strict=True):
        for own, other, longer, described, later in zip(*layers, strict=True):
            require(not longer.any(), "state not zero: init_state")
            sizes = zip(own.shape[1:], other.shape[1:], strict=True)
            wanted = [3, *(a if a == b else length for a, b in sizes)]
            is_fine = list(longer.shape) == wanted and len(own) == 2
            asked = f"{tuple(own.shape)} for 2 games, {tuple(longer.shape)} for 3 of {length} moves"
            require(is_fine, f"state not of its size: init_state gives {asked}")
            is_there = described.is_meta and described.shape == longer.shape
            require(is_there, "state not of its size: init_state on the device that is asked for")
            is_same = later.dtype == own.dtype
            require(is_same, f"state not of its form: {own.dtype} becomes {later.dtype}")
    fits = StateTemplate(lambda *asked: reader.init_state(*asked).layers).fits(after)
    require(fits and after.batch_size == NUM_GAMES, "state not of its form: advance gives another")


def _check_causal(reader: Reader) -> None:
    for is_pad in (None, reader.nowhere):
        expected = reader.read(reader.inputs, is_pad)
        is_said = bool(expected.any())
        require(is_said, "says nothing: all answers are zero, so nothing can be checked")
        for cut in (1, LENGTH // 2, LENGTH - 1):
            changed = torch.cat([reader.inputs[:, :cut], reader.others[:, cut:]], 1)
            actual = reader.read(changed, is_pad)
            is_past = torch.equal(actual[:, :cut], expected[:, :cut])
            require(is_past, f"not causal: what comes after {cut} positions changes them")
            is_heard = not torch.equal(actual[:, cut:], expected[:, cut:])
            require(is_heard, "says nothing: what is read makes no difference")


def _check_padding(reader: Reader, tolerance: float) -> None:
    for side, rows, is_pad_BL in padded_rows(reader):
        actual = reader.read(rows, is_pad_BL)
        is_zero = torch.allclose(actual[is_pad_BL], reader.at_pad, rtol=0, atol=1e-6)
        require(is_zero, f"not zero at PAD: {side} the moves")
        _require_moves(reader, actual, is_pad_BL, tolerance, f"sees PAD: {side} the moves")
    (_, rows, is_pad_BL), (_, *before) = padded_rows(reader)
    actual, state = reader.advance(rows, is_pad_BL)
    is_zero = torch.allclose(actual[is_pad_BL], reader.at_pad, rtol=0, atol=1e-6)
    require(is_zero, "not zero at PAD: in advance")
    _require_moves(reader, actual, is_pad_BL, tolerance, "sees PAD: in advance")
    for seen in (reader.seen(rows, is_pad_BL), reader.seen(*before)):
        for own, other in zip(seen, reader.watched(state), strict=True):
            require_near(own, other, tolerance, "watched is not what mix shows")
    following, _ = reader.advance(reader.others, None, state)
    for game, length in enumerate(LENGTHS):
        alone = torch.cat([reader.inputs[game, :length], reader.others[game]])[None]
        expected = reader.read(alone)[0, length:]
        require_near(following[game], expected, tolerance, "sees PAD: in advance, by the state")


def _require_moves(
    reader: Reader, actual: Tensor, is_pad_BL: Tensor, tolerance: float, what: str
) -> None:
    for game, length in enumerate(LENGTHS):
        if length:
            expected = reader.read(reader.inputs[game : game + 1, :length])[0]
            require_near(actual[game, ~is_pad_BL[game]], expected, tolerance, what)


def _check_gradient_at_pad(new: Callable[[Any], Reader], module: Any, tolerance: float) -> None:
    def alone(own: Any) -> tuple[Tensor, ...]:
        reader = new(own)
        games = enumerate(LENGTHS)
        return tuple(reader.read(reader.inputs[i : i + 1, :n])[0] for i, n in games if n)

    def padded(own: Any, side: int) -> tuple[Tensor, ...]:
        reader = new(own)
        _, rows, is_pad_BL = padded_rows(reader)[side]
        answer = reader.read(rows, is_pad_BL)
        return tuple(answer[i, ~is_pad_BL[i]] for i, n in enumerate(LENGTHS) if n)

    expected = answers_and_gradients(module, alone)
    # Gradients are sums over all positions, whose terms may cancel.
    sizes = (float(x.abs().max()) for name, x in expected.items() if "gradient" in name)
    most = max(sizes, default=0.0)
    for side in (0, 1):
        for name, value in answers_and_gradients(module, partial(padded, side=side)).items():
            error = float((value - expected[name]).abs().max())
            is_fine = error <= 10 * tolerance * max(most, float(expected[name].abs().max()))
            require(is_fine, f"sees PAD: {name} is another")


def _check_gradient_into_pad(reader: MixerReader) -> None:
    """What the answers at moves ask of the zeros at PAD, which nobody needs, is not enlarged.

    It would be enlarged again by each layer below, until it is infinite, and that times zero is no
    number. Behind the moves it is nothing, for no move sees what comes later.
    """
    for side, rows, is_pad_BL in padded_rows(reader):
        given = rows.detach().requires_grad_()
        answer = reader.read(given, is_pad_BL)[~is_pad_BL]
        (gradient,) = torch.autograd.grad((answer * answer.detach().cos()).sum(), given)
        at_pad, at_moves = (float(gradient[at].abs().max()) for at in (is_pad_BL, ~is_pad_BL))
        limit = 0.0 if side == "after" else at_moves
        what = f"sees PAD: the gradient of the inputs, {side} the moves"
        require(at_pad <= limit, f"{what}, is {at_pad:.1e} there and {at_moves:.1e} at moves")


def _check_going_on(reader: Reader, tolerance: float) -> None:
    expected = reader.read(reader.inputs)
    # To be told that there is no PAD, and not to be told of any, is the same.
    told = reader.read(reader.inputs, reader.nowhere)
    require_near(told, expected, tolerance, "sees PAD: where there is none")
    for cuts in _CUTS:
        for state in (None, reader.init_state(NUM_GAMES, 0), reader.init_state(NUM_GAMES, LENGTH)):
            pieces = []
            for begin, end in pairwise((0, *cuts, LENGTH)):
                answer, state = reader.advance(reader.inputs[:, begin:end], None, state)
                pieces.append(answer)
            what = f"advance is not mix: going on after {', '.join(map(str, cuts))} positions"
            require_near(torch.cat(pieces, 1), expected, tolerance, what)


def _check_steps(reader: Reader, tolerance: float) -> None:
    state = reader.init_state(NUM_GAMES, LENGTH)
    answers = stepped(reader, state, reader.inputs, ((),) * NUM_GAMES)
    expected = reader.read(reader.inputs)
    require_near(answers, expected, tolerance, "step_in_place is not advance")
    # In the same slots, whatever they hold by now, and each at its own time.
    answers = stepped(reader, state, reader.others, BEGINNINGS)
    for game, beginnings in enumerate(BEGINNINGS):
        for begin, end in pairwise((*beginnings, LENGTH)):
            alone = reader.read(reader.others[game : game + 1, begin:end])[0]
            what = f"not reset: a game that begins at ply {begin} of its slot"
            require_near(answers[game, begin:end], alone, tolerance, what)


def _check_reset(reader: Reader, tolerance: float) -> None:
    cut = 5
    _, state = reader.advance(reader.inputs[:, :cut])
    rest = reader.inputs[:, cut:]
    kept, anew = reader.advance(rest, None, state)[0], reader.read(rest)
    games = torch.arange(NUM_GAMES, device=rest.device)
    for game in range(NUM_GAMES):
        actual, _ = reader.advance(rest, None, state.reset(games == game))
        require_near(actual[game], anew[game], tolerance, "not reset: one game of several")
        others = games != game
        require_near(actual[others], kept[others], tolerance, "not reset: another game as well")
    order = games.roll(1)
    moved, _ = reader.advance(rest[order], None, state.select(order))
    require_near(moved, kept[order], tolerance, "state not of its games: in another order")
