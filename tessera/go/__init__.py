"""The game of Go: rules, a batched engine, players, their loop and playouts, records of games."""

from tessera.go.engine import GPUGoEngine
from tessera.go.features import FEATURES, replayed
from tessera.go.legality import IllegalMoveError
from tessera.go.loop import GameLoop
from tessera.go.play import play_games
from tessera.go.players import PLAYERS, Choice, Player, distribution, get_player
from tessera.go.playouts import NotWanted, Playouts, play_out
from tessera.go.record import GameRecord, kept_tables
from tessera.go.rules import RULES, Rules, resolve_rules
from tessera.go.settled import Settled, settled_points

__all__ = [
    "FEATURES",
    "PLAYERS",
    "RULES",
    "Choice",
    "GPUGoEngine",
    "GameLoop",
    "GameRecord",
    "IllegalMoveError",
    "NotWanted",
    "Player",
    "Playouts",
    "Rules",
    "Settled",
    "distribution",
    "get_player",
    "kept_tables",
    "play_games",
    "play_out",
    "replayed",
    "resolve_rules",
    "settled_points",
]
