"""Engines that misbehave: they lose that game, with the reason, and the match goes on."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tessera.go import GPUGoEngine, get_player
from tessera.play.contestants import Contestant, Seated
from tessera.play.gtp_process import EngineFault, GtpProcess
from tessera.play.gtp_side import GtpSide
from tessera.play.match import fixtures_of, match_rules
from tessera.play.match_table import Fixture, MatchTable, PlayedGame
from tessera.vocabulary import Vocabulary

GNUGO = shutil.which("gnugo") or shutil.which("gnugo", path="/usr/games")
SCRIPT = Path(__file__).with_name("nasty_engine.py")
RULES = match_rules(komi=0.5)


def nasty(mode: str, when: int = 1) -> str:
    return shlex.join([sys.executable, "-S", "-E", str(SCRIPT), mode, str(when)])


class Passing:
    """Passes always."""

    name = "passing"

    def begin(self, engine: GPUGoEngine) -> None:
        pass

    def see(self, engine: GPUGoEngine, tokens: Tensor) -> None:
        pass

    def moves(self, engine: GPUGoEngine, is_mine: Tensor, words: Tensor) -> Tensor:
        return torch.full_like(words, engine.vocabulary.pass_token)


class Scripted(Passing):
    """Plays these vertices, one after another, in every game; then it passes."""

    def __init__(self, vertices: str) -> None:
        self.vertices = vertices.split()

    def moves(self, engine: GPUGoEngine, is_mine: Tensor, words: Tensor) -> Tensor:
        chosen = [
            engine.vocabulary.token((self.vertices[ply // 2 :] or ["pass"])[0])
            for ply in engine.move_number.tolist()
        ]
        return torch.tensor(chosen)


@contextmanager
def side_of(command: str, **more: float) -> Iterator[GtpSide]:
    side = GtpSide(command, 3, RULES, **{"deadline_s": 5.0, "start_s": 20.0, **more})
    try:
        yield side
    finally:
        side.close()


def play(
    sides: tuple[Contestant, Contestant],
    num_openings: int = 1,
    places: int = 2,
    lengths: tuple[int, int] = (0, 0),
) -> list[PlayedGame]:
    table = MatchTable(sides, places, board_size=3, rules=RULES, seed=0, device="cpu")
    numbers = range(num_openings)
    fixtures = fixtures_of(numbers, board_size=3, rules=RULES, seed=0, lengths=lengths)
    return sorted(table.play(fixtures), key=lambda game: game.fixture.game)


FORFEITS = {
    "crashes": "was ended by SIGABRT ('segfault in my head') when asked for genmove",
    "exits": "ended with exit code 4 when asked for genmove",
    "says-nonsense": "answered genmove with 'I resign, of course'",
    "no-vertex": "answered genmove with 'Z99'",
    "says-error": "refused genmove black: 'out of ideas'",
    "plays-on-a-stone": "illegal move: A3 is occupied",
    "floods": "wrote more than a MiB as the answer to genmove",
    "refuses": "refused play white PASS: 'illegal move'",
    "answers-twice": "said without being asked: '= A1'",
}


@pytest.mark.parametrize(
    ("mode", "title"),
    [
        ("odd-name", "[31mnasty second line [31m1 second line"),
        ("long-name", f"{('nasty' * 60)[:60]}…"),
        ("no-name", ""),
    ],
)
def test_what_an_engine_calls_itself_is_one_short_line(mode: str, title: str) -> None:
    with side_of(nasty(mode, 9)) as side:
        assert side.title == title


@pytest.mark.parametrize("mode", FORFEITS)
def test_an_engine_that_misbehaves_loses_that_game_and_the_match_goes_on(mode: str) -> None:
    # Its second move; the other one has passed. After a fault it is started anew, and after an
    # illegal move it goes on.
    with side_of(nasty(mode, 2)) as side:
        assert side.title == "nasty 1"
        games = play((side, Passing()), num_openings=2, places=1)
    assert [game.fixture.game for game in games] == [0, 1, 2, 3]
    blacks = [game for game in games if game.fixture.first_is_black]
    reason = FORFEITS[mode].replace("PASS", "pass")
    assert blacks[0].forfeit == reason, blacks[0].forfeit
    for game in games:
        assert game.ended == "forfeit" and game.points == 0 and game.loser == 0
        assert game.forfeit is not None and game.moves
    assert blacks[0].moves[:2] == (0, 9)


def test_an_engine_that_hangs_is_killed_at_its_deadline_with_its_children() -> None:
    with side_of(nasty("hangs", 2), deadline_s=0.4) as side:
        began = time.monotonic()
        games = play((side, Passing()), num_openings=1)
        assert time.monotonic() - began < 5
        mine = subprocess.run(
            ["ps", "-eo", "args"], capture_output=True, text=True, check=True
        ).stdout
    assert {game.forfeit for game in games} == {"no answer to genmove within 0.4 s"}
    assert "time.sleep(600)" not in mine and "nasty_engine.py hangs" not in mine


def test_a_hung_game_holds_up_no_other() -> None:
    ended: dict[int, tuple[float, str | None]] = {}
    with side_of(nasty("hangs-beside-C1"), deadline_s=2.0) as side:
        table = MatchTable((side, Passing()), 2, board_size=3, rules=RULES, seed=0, device="cpu")
        fixtures = [Fixture(number, True, (8, 9) if number == 0 else ()) for number in range(5)]
        began = time.monotonic()
        for game in table.play(fixtures):
            ended[game.fixture.number] = time.monotonic() - began, game.forfeit
    assert ended[0][1] == "no answer to genmove within 2 s" and ended[0][0] >= 2
    assert {ended[number][1] for number in range(1, 5)} == {None}
    assert max(ended[number][0] for number in range(1, 5)) < 2


def test_chatter_beside_the_protocol_and_a_slow_start_are_no_faults() -> None:
    for mode in ("chatters", "slow-start", "behaves"):
        with side_of(nasty(mode, 2), deadline_s=0.9 if mode == "slow-start" else 5.0) as side:
            games = play((side, Passing()))
        assert {game.forfeit for game in games} == {None}
        assert {game.ended for game in games} == {"passes"}
        assert all(game.seconds[0] > 0 and game.num_chosen[0] > 3 for game in games)


def test_resignations_are_no_forfeits_and_passes_end_games() -> None:
    with side_of(nasty("resigns", 3)) as side:
        games = play((Passing(), side))
    assert {(game.ended, game.forfeit, game.points) for game in games} == {
        ("resignation", None, 1.0)
    }
    with side_of(nasty("passes", 1)) as side:
        games = play((side, Passing()))
    assert {(game.ended, game.moves) for game in games} == {("passes", (9, 9))}
    assert {game.score for game in games} == {-0.5}


def test_a_repeated_position_is_illegal(tmp_path: Path) -> None:
    engine = tmp_path / "ko.py"
    engine.write_text(
        "import sys\n"
        "said = {'protocol_version': '2', 'name': 'ko', 'version': '1', 'known_command': 'false'}\n"
        "moves = iter('A1 C1 B2 A1'.split())\n"
        "for line in sys.stdin:\n"
        "    word = line.split()[0]\n"
        "    answer = next(moves, 'pass') if word == 'genmove' else said.get(word, '')\n"
        "    print('=', answer, end='\\n\\n', flush=True)\n"
    )
    # Black takes the ko in the corner at B1, and white takes it back at once.
    with side_of(shlex.join([sys.executable, "-S", str(engine)])) as side:
        table = MatchTable(
            (Scripted("A2 pass pass B1"), side), 1, board_size=3, rules=RULES, seed=0, device="cpu"
        )
        (game,) = table.play([Fixture(0, True, ())])
    vertices = [Vocabulary(3).vertex(token) for token in game.moves]
    assert vertices == ["A2", "A1", "pass", "C1", "pass", "B2", "B1"]
    said = "illegal move: A1 repeats a position, which the rules forbid (ko positional)"
    assert game.forfeit == said and game.points == 1


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (nasty("dies-on-start"), "ended with exit code 3 ('no licence was found')"),
        (nasty("small-boards"), None),
        (nasty("hangs-on-start"), "no answer to protocol_version within 0.5 s"),
        ("no-such-program --mode gtp", "no-such-program: No such file or directory"),
        ("'unclosed", "no command: No closing quotation"),
        ("/", "/: Permission denied"),
        (f"{sys.executable} -c 'print(1)'", "answered protocol_version with '1'"),
        ("true", "ended with exit code 0 when asked for protocol_version"),
    ],
)
def test_an_engine_that_cannot_be_started_is_said(command: str, says: str | None) -> None:
    if says is None:
        GtpSide(command, 3, RULES).close()
        with pytest.raises(EngineFault, match="refused boardsize 9: 'unacceptable size'"):
            GtpSide(command, 9, RULES)
        return
    wait_s = 0.5 if "hangs" in command else 20.0
    with pytest.raises(EngineFault) as caught:
        GtpSide(command, 3, RULES, start_s=wait_s)
    assert says in str(caught.value)


def test_an_engine_that_cannot_be_started_again_loses_the_rest(tmp_path: Path) -> None:
    once = tmp_path / "engine.py"
    once.write_text(
        f"import os, sys\nmark = {str(tmp_path / 'mark')!r}\n"
        "if os.path.exists(mark): sys.exit(7)\n"
        "open(mark, 'w').close()\n"
        f"sys.argv[1:] = ['crashes', '1']\nexec(open({str(SCRIPT)!r}).read())\n"
    )
    with side_of(shlex.join([sys.executable, "-S", str(once)])) as side:
        games = play((Passing(), side), num_openings=2, places=1)
    assert [game.points for game in games] == [1, 1, 1, 1]
    texts = [game.forfeit or "" for game in games]
    assert sum("was ended by SIGABRT" in text for text in texts) == 1
    assert sum("could not be started: ended with exit code 7" in text for text in texts) == 3


def test_ending_a_match_ends_the_engines_whatever_they_are_at() -> None:
    side = GtpSide(nasty("hangs", 1), 3, RULES, deadline_s=60.0)
    table = MatchTable((side, Passing()), 2, board_size=3, rules=RULES, seed=0, device="cpu")
    fixtures = fixtures_of(range(1), board_size=3, rules=RULES, seed=0, lengths=(0, 0))
    main = threading.get_ident()
    timer = threading.Timer(0.5, lambda: signal.pthread_kill(main, signal.SIGINT))
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(table.play(fixtures))
    side.close()
    timer.join()
    assert time.monotonic() - began < 10
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert "nasty_engine.py hangs 1" not in listing.stdout


def test_both_sides_may_be_engines() -> None:
    with side_of(nasty("behaves", 1)) as one, side_of(nasty("passes", 3)) as other:
        games = play((one, other), num_openings=2)
    assert len(games) == 4 and {game.forfeit for game in games} <= {
        None,
        *(game.forfeit for game in games if "illegal" in (game.forfeit or "")),
    }


@pytest.fixture
def gnugo() -> Callable[[int], str]:
    if GNUGO is None:
        pytest.skip("GNU Go is not installed (Debian's package gnugo)")
    flags = "--mode gtp --chinese-rules --positional-superko --forbid-suicide --capture-all-dead"
    return lambda level: f"{GNUGO} {flags} --level {level}"


def test_gnu_go_plays_the_same_games_in_any_number_of_processes(
    gnugo: Callable[[int], str],
) -> None:
    rules, played = match_rules(), []
    for places in (1, 3):
        side = GtpSide(gnugo(1), 5, rules)
        try:
            table = MatchTable(
                (Seated(get_player("rules")), side),
                places,
                board_size=5,
                rules=rules,
                seed=2,
                device="cpu",
            )
            fixtures = fixtures_of(range(2), board_size=5, rules=rules, seed=2)
            games = sorted(table.play(fixtures), key=lambda game: game.fixture.game)
        finally:
            side.close()
        assert side.title == "GNU Go 3.8" and {game.forfeit for game in games} == {None}
        assert sum(game.points for game in games) < 2
        played.append([game.moves for game in games])
    assert played[0] == played[1]
    # It captured what was dead, so that it is of the referee's opinion about the score.
    finished = [game for game in games if game.ended == "passes"]
    assert len(finished) >= 2
    with closing(GtpProcess(gnugo(1))) as judge:
        for game in finished:
            moves = [
                f"play {'black' if ply % 2 == 0 else 'white'} {Vocabulary(5).vertex(token)}"
                for ply, token in enumerate(game.moves)
            ]
            asked = ["boardsize 5", "clear_board", "komi 7", *moves, "final_score"]
            said = judge.ask(asked, 20.0)[-1]
            margin = float(said.lstrip("BW+")) * (-1 if said.startswith("W") else 1)
            assert margin == game.score


def test_a_process_says_how_it_ended_only_once_it_is_asked() -> None:
    process = GtpProcess("cat")
    try:
        with pytest.raises(EngineFault, match="answered name with 'name'"):
            process.ask(["name"], 5.0)
    finally:
        process.close()
        process.close()
    with suppress(ProcessLookupError):
        os.killpg(process._process.pid, 0)
        pytest.fail("the process is still there")
