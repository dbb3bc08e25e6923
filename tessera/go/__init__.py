"""The game of Go: rules, a batched engine, players that are distributions, records of games."""

from tessera.go.engine import GPUGoEngine, IllegalMoveError
from tessera.go.players import PLAYERS, Choice, Player, choose, distribution, get_player
from tessera.go.record import GameRecord, play_games
from tessera.go.rules import RULES, Rules, resolve_rules

__all__ = [
    "PLAYERS",
    "RULES",
    "Choice",
    "GPUGoEngine",
    "GameRecord",
    "IllegalMoveError",
    "Player",
    "Rules",
    "choose",
    "distribution",
    "get_player",
    "play_games",
    "resolve_rules",
]
