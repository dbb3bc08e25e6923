"""The settings of the objective ``expert_iteration``."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, ClassVar

from tessera.model import GameModel
from tessera.play.evaluator import check_evaluator
from tessera.setting_errors import Problem, SettingError, number, problems_of, under, whole
from tessera.training.objectives.base import ObjectiveSettings

if TYPE_CHECKING:
    from tessera.training.objectives.expert_iteration import ExpertIteration

# More than any machine plays or holds: a number that is too long is said before anything is begun.
MOST_SLOTS, MOST_ROWS, MOST_PLIES = 2**20, 2**20, 100_000
MOST_SIMULATIONS, _MOST_PLAYOUTS = 32767, 10_000_000
_MOST_VERSIONS = 1000
REUSE = number("0.001 to 1000", lambda reuse: 0.001 <= reuse <= 1000)
MATCHES = {
    "match_pairs": whole(0, 500_000),
    "match_simulations": whole(0, MOST_SIMULATIONS),
    "match_playouts": whole(0, _MOST_PLAYOUTS),
    "pool": whole(0, _MOST_VERSIONS),
}
_SHARE = number("0 to 1", lambda share: 0 <= share <= 1)
_ALLOWED = {
    "slots": whole(1, MOST_SLOTS),
    "simulations": whole(1, MOST_SIMULATIONS),
    "fast_simulations": whole(0, MOST_SIMULATIONS),
    "considered": whole(2, MOST_SIMULATIONS),
    "full_share": number("0.001 to 1", lambda share: 0.001 <= share <= 1),
    "reuse": REUSE,
    "rows": whole(1, MOST_ROWS),
    "first_rows": whole(1, MOST_ROWS),
    "window_share": number("more than 0, to 1", lambda share: 0 < share <= 1),
    "opening_plies": whole(0, MOST_PLIES),
    "temperature_plies": whole(0, MOST_PLIES),
    "playout_steps": whole(0),
    "playouts": whole(1, _MOST_PLAYOUTS),
    "value_share": _SHARE,
    "score_share": _SHARE,
    "value_scale": number("at least 0", lambda scale: 0 <= scale < math.inf),
    **MATCHES,
    "pool_share": number("0 to 0.5", lambda share: 0 <= share <= 0.5),
    "ema_decay": number("0 to less than 1", lambda decay: 0 <= decay < 1),
}


@dataclass(frozen=True)
class ExpertIterationSettings(ObjectiveSettings):
    """Settings of the objective expert_iteration.

    Args:
        slots: games at once, on each device.
        simulations: of a full search.
        fast_simulations: of the searches that only get on.
        considered: moves that a search looks at, at most; and no more than half its simulations.
        full_share: of the plies that are searched in full; their positions are learned from.
        reuse: how often a position is trained on, on average.
        rows: moments of all slots that are kept, so slots times rows positions.
        first_rows: moments before the first step, and the least that is drawn from.
        window_share: the newest part of all positions that is drawn from.
        opening_plies: half of the games begin with up to so many plies of the rule-based player.
        temperature_plies: so many first moves are drawn from the search's policy.
        playout_steps: so many first steps are trained on positions of the rule-based player, of
            which playouts say what is worth playing and who will win.
        playouts: games to the end from each of these.
        value_share: of the search's own value in the chance of winning that is learned.
        score_share: of the score in the search's values.
        value_scale: how much values weigh beside the model's policy in a search.
        ema_decay: of the moving average of the weights that play; 0 for the newest weights.
        match_pairs: with each validation the player meets the rule-based player and past versions
            of itself, from so many openings with both colours; 0 for no matches.
        match_simulations: of its searches there.
        match_playouts: it also meets one who asks so many playouts for each move; 0 for nobody.
        pool: past versions that are kept on the device, one of each validation and thinned so that
            they are of the whole run; 0 for none.
        pool_share: of the slots, whose games are against one of these, which plays without a
            search; nothing is learned from what it chose.
    """

    slots: int = 256
    simulations: int = 32
    fast_simulations: int = 6
    considered: int = 16
    full_share: float = 0.25
    reuse: float = 4.0
    rows: int = 256
    first_rows: int = 32
    window_share: float = 0.5
    opening_plies: int = 20
    temperature_plies: int = 12
    playout_steps: int = 0
    playouts: int = 32
    value_share: float = 0.25
    score_share: float = 0.0
    value_scale: float = 1.0
    ema_decay: float = 0.0
    match_pairs: int = 0
    match_simulations: int = 8
    match_playouts: int = 0
    pool: int = 8
    pool_share: float = 0.0

    keeps_games: ClassVar[bool] = True
    free: ClassVar[tuple[str, ...]] = (
        *("simulations", "fast_simulations", "considered", "opening_plies", "temperature_plies"),
        *("value_share", "score_share", "value_scale", "ema_decay"),
        *("match_pairs", "match_simulations", "match_playouts", "pool", "pool_share"),
    )

    @property
    def num_against(self) -> int:
        """Slots whose games are against a past version."""
        return max(1, round(self.pool_share * self.slots)) if self.pool_share else 0

    def build(self, model: GameModel) -> ExpertIteration:
        """See ``ObjectiveSettings.build``."""
        own = SimpleNamespace(**asdict(self))
        problems: list[Problem] = problems_of(own, _ALLOWED)
        if not problems and self.pool_share and not self.pool:
            problems.append(Problem("pool", self.pool, "be at least 1 with a pool_share"))
        if problems:
            with under("expert_iteration"):
                raise SettingError(*problems)
        check_evaluator(model)
        from tessera.training.objectives.expert_iteration import ExpertIteration

        return ExpertIteration(model, self)
