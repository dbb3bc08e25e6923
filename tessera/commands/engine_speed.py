"""How fast the engine plays, by the clock: whole games with their records, and ply by ply.

Every figure is counted plies over measured seconds; nothing is extrapolated.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from tessera.go import GPUGoEngine, choose, get_player, play_games
from tessera.go.randomness import MOVE, random_words

_WARM_UP_GAMES = 8


@dataclass(frozen=True, slots=True)
class Speed:
    """One measured row.

    Attributes:
        name: who played.
        what: what was timed.
        batch_size: games at once.
        plies: moves and passes that were played, counted.
        seconds: how long they took, warm-up excluded.
    """

    name: str
    what: str
    batch_size: int
    plies: int
    seconds: float

    @property
    def plies_per_s(self) -> float:
        """Plies played in a second, all games together."""
        return self.plies / self.seconds


@dataclass(frozen=True, slots=True)
class Costs:
    """Where the time of a ply of uniform games goes, over the first plies of a batch.

    Attributes:
        batch_size: games at once.
        plies: plies a game over which the times are means.
        mask_ms: the legal points of all games.
        choice_ms: the player's distribution and the draw.
        play_ms: playing the moves.
        one_game_ms: all three for a batch of one game, the cost of the calls themselves.
    """

    batch_size: int
    plies: int
    mask_ms: float
    choice_ms: float
    play_ms: float
    one_game_ms: float

    @property
    def ply_ms(self) -> float:
        """All three together."""
        return self.mask_ms + self.choice_ms + self.play_ms


def time_games(
    player: str, board_size: int, batch_size: int, device: torch.device, seconds: float
) -> Speed:
    """Play batches of whole games with their records until the time is up.

    At least one batch is played to its end, however long that takes.
    """

    def play(first: int, games: int) -> int:
        numbers = range(first, first + games)
        record = play_games(player, numbers, seed=0, board_size=board_size, device=device)
        return int(record.lengths.sum())

    play(0, _WARM_UP_GAMES)
    plies, batches, began = 0, 0, _now(device)
    while batches == 0 or _now(device) - began < seconds:
        plies += play(batches * batch_size, batch_size)
        batches += 1
    kind = "rule-based" if player == "rules" else player
    what = f"{kind} games, records included"
    return Speed("Tessera", what, batch_size, plies, _now(device) - began)


def time_mask_and_play(
    board_size: int, batch_size: int, device: torch.device, seconds: float
) -> Speed:
    """Ask for the dense mask, take a random legal point outside of the engine, play it.

    The choice, one product and one argmax with noise that was drawn before, is in the time.
    """
    engine = GPUGoEngine(batch_size, device, board_size)
    generator = torch.Generator(device).manual_seed(0)
    shape = (2 * batch_size, board_size**2 + 1)
    noise = 0.5 + 0.5 * torch.rand(shape, generator=generator, device=device)
    noise[:, -1] = 0.25  # a pass is taken only where nothing else is legal

    def play_ply(ply: int) -> None:
        start = ply * 7919 % (batch_size + 1)
        engine.play_batch((engine.get_legal_mask() * noise[start : start + batch_size]).argmax(1))

    play_ply(0)
    engine.reset()
    plies, ply, began = 0, 0, _now(device)
    while ply == 0 or _now(device) - began < seconds:
        if ply and ply % engine.max_moves == 0:
            plies += int(engine.move_number.sum())
            engine.reset()
        play_ply(ply)
        ply += 1
    plies += int(engine.move_number.sum())
    return Speed("Tessera", "mask, choice and play", batch_size, plies, _now(device) - began)


def time_parts(board_size: int, batch_size: int, device: torch.device, seconds: float) -> Costs:
    """Time the three parts of a ply one by one, at this batch size and for one game."""
    plies, parts = _time_parts(board_size, batch_size, device, seconds)
    _, alone = _time_parts(board_size, 1, device, seconds)
    mask_ms, choice_ms, play_ms = parts
    return Costs(batch_size, plies, mask_ms, choice_ms, play_ms, sum(alone))


def _time_parts(
    board_size: int, batch_size: int, device: torch.device, seconds: float
) -> tuple[int, list[float]]:
    """Plies played, and the mean milliseconds a ply of mask, choice and play."""
    engine = GPUGoEngine(batch_size, device, board_size)
    player, numbers = get_player("uniform"), torch.arange(batch_size, device=device)
    totals, plies, began = [0.0, 0.0, 0.0], 0, _now(device)
    while plies == 0 or (plies < board_size**2 and _now(device) - began < seconds):
        times = [_now(device)]
        engine.legal_rows()
        times.append(_now(device))
        choice = choose(player, engine, random_words(0, numbers, plies, MOVE))
        times.append(_now(device))
        engine.play_batch(choice.moves)
        times.append(_now(device))
        totals = [sum_ + times[i + 1] - times[i] for i, sum_ in enumerate(totals)]
        plies += 1
    return plies, [1000 * total / plies for total in totals]


def _now(device: torch.device) -> float:
    """The clock in seconds, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
