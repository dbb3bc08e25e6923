"""Command lines of ``tessera arena`` that cannot be run, and what is said of each."""

from __future__ import annotations

_FILE = "checkpoints/small/version_0/last.ckpt"

# A command line and a part of its answer.
MATCHES: tuple[tuple[str, str], ...] = (
    ("arena", "PLAYER"),
    ("arena rules", "at least two players, got one."),
    ("arena rules none.ckpt", "none.ckpt is no checkpoint: there is no such file."),
    ("arena rules small.yaml", "small.yaml is torn or no checkpoint."),
    ("arena rules ''", "a player must be uniform, rules, playouts:N"),
    ("arena rules last --run_name a/b", "run_name must be letters"),
    ("arena rules last --run_name never", "no checkpoints/never/version_*/last.ckpt"),
    *(
        (f"arena rules {player}", says)
        for player, says in (
            ("uct:0", "N of uct:N must be at least 1, got 0."),
            ("playouts:many", "N of playouts:N must be a whole number"),
            (f"uct:{10**21}", "N of uct:N"),
            ("gtp:", "gtp:COMMAND must name a command, got none."),
            ("gtp:no-such-program", "gtp:no-such-program cannot play … No such file"),
            ("gtp:false", "gtp:false cannot play: ended with exit code 1"),
            ("small.yaml@sims=no", "sims must be a whole number"),
            ("small.yaml@considered=4", "considered is of a search; give sims as well."),
            ("small.yaml@speed=4", "a key must be one of temperature, sims"),
        )
    ),
    (f"arena rules {_FILE}@sims=2", "@sims=2"),
    (f"arena rules {_FILE} --board_size 9", "board_size"),
    *(
        (f"arena rules {_FILE} --games 2 {option} {_FILE}", f"{option} must be no model's file")
        for option in ("--json", "--log")
    ),
    ("arena rules small.yaml --json small.yaml", "--json must be another file than a player"),
    *(
        (f"arena rules uniform {option}", says)
        for option, says in (
            ("--games 7", "--games must be even"),
            ("--games 0", "--games must be at least 2, got 0."),
            (f"--games {10**12}", "--games must be at most 1000000"),
            ("--board_size 25", "--board_size must be at most 19, got 25."),
            ("--komi nan", "--komi must be -1000 to 1000, got nan."),
            ("--max_moves 0", "--max_moves must be at least 1, got 0."),
            ("--openings 8-4", "--openings must be plies such as 6 or 4-8, got 8-4."),
            ("--openings=", "--openings must be plies such as 6 or 4-8, got none."),
            ("--opening_player chess", "--opening_player must be one of uniform, rules"),
            ("--seed=-1", "--seed must be at least 0, got -1."),
            ("--processes 0", "--processes must be at least 1, got 0."),
            ("--deadline nan", "--deadline must be more than 0 and at most 86400, got nan."),
            ("--sprt 5", "--sprt must be ELO0,ELO1, got 5."),
            ("--sprt 5,5", "elo1 must be more than elo0, 5, got 5"),
            ("--openings 8 --max_moves 8", "--openings must be fewer plies than the move limit 8"),
            ("--openings 4-200", "--openings must be fewer plies than the move limit 162"),
            ("--log .", "--log: . cannot be written."),
            ("--log /dev/null", "--log must be a file; /dev/null is none."),
            ("--log x --json ./x", "--json must be another file than --log, got ./x."),
            ("--log x --sgf x", "--sgf must be another file than --log, got x."),
            ("--sgf x --json x", "--json must be another file than --sgf, got x."),
            ("--picture x.gif", "--picture must end in .png or .svg, got x.gif."),
            ("--picture no/x.svg", "--picture: there is no folder no."),
            (
                "--json x.svg --picture x.svg",
                "--picture must be another file than --json, got x.svg.",
            ),
            ("--sgf=", "--sgf must name a folder, got none."),
            ("--sgf small.yaml/x/y", "--sgf must name a folder; … small.yaml is a file."),
            (f"--sgf {'n' * 300}", "--sgf: … File name too long."),
            ("--log small.yaml", "--log small.yaml is no log of a match"),
            ("--sgf small.yaml", "--sgf must name a folder; small.yaml is a file."),
            ("--json none/x.json", "--json: there is no folder none."),
            ("--device abacus", "--device must be auto, cpu or cuda"),
            ("--device cuda", "torch finds no CUDA device here"),
            ("--force", "--force"),
        )
    ),
)
