"""Command lines of ``tessera bench`` that cannot be run, and what is said of each."""

from __future__ import annotations

_LAST = "--ckpt_path last --run_name small"

# A command line and a part of its answer.
BENCH: tuple[tuple[str, str], ...] = (
    ("bench", "{engine,selfplay,search,train,map,memory,mixers,contexts}"),
    ("bench engines", "engines"),
    ("bench engine --board_size", "--board_size"),
    *(
        (f"bench {kind} {option}", option.partition("=")[0].split()[0])
        for kind in ("engine", "selfplay", "train")
        for option in (
            "--board_size=1",
            "--board_size=20",
            "--board_size=nine",
            f"--board_size={10**21}",
            "--device=abacus",
            "--device=cuda",
            "--seconds=0",
            "--seconds=-1",
            "--seconds=nan",
            "--seconds=inf",
            "--seconds=1e300",
            "--seconds=soon",
            "--runs=0",
            "--runs=1.5",
            f"--runs={10**12}",
            "--threads=0",
            "--threads=-1",
            f"--threads={10**9}",
            f"--threads={10**21}",
            "--json=none/bench.json",
            "--json=.",
            "--json=",
            "--surplus",
        )
    ),
    *(
        (f"bench map {option}", option.partition("=")[0].split()[0])
        for option in (
            "--board_size=1",
            "--board_size=nine",
            "--moves=0",
            "--moves=-1",
            "--moves=many",
            f"--moves={10**21}",
            "--threads=0",
            f"--threads={10**9}",
            "--device=abacus",
            "--config=none",
            "--config small.yaml",
            "--config",
            "--ckpt_path=",
            "--json=none/bench.json",
            "--seconds=1",
        )
    ),
    *(
        (f"bench contexts {option}", option.partition("=")[0].split()[0])
        for option in (
            "--rows=none",
            "--rows",
            "--tokens=1",
            "--tokens=many",
            "--steps=-1",
            "--steps=9.5",
            "--device=abacus",
            "--json=none/bench.json",
            "--threads=1",
        )
    ),
    *(
        (f"bench memory {option}", option.partition("=")[0].split()[0])
        for option in (
            "--rows=none",
            "--rows muse size",
            "--rows",
            "--precision=fp8",
            "--precision=",
            "--device=abacus",
            "--json=none/bench.json",
            "--report=none.json",
            "--report=small.yaml",
            "--report",
            "--threads=1",
        )
    ),
    *(
        (f"bench mixers {option}", option.partition("=")[0].split()[0])
        for option in (
            "--mixers=none",
            "--mixers=mamba,,attention",
            "--mixers=",
            "--board_size=1",
            "--batch_size=0",
            f"--batch_size={10**21}",
            "--length=0",
            "--d_model=wide",
            "--n_layers=0",
            "--seconds=0",
            "--timeout=0",
            "--timeout=nan",
            "--beside=0",
            "--device=abacus",
            "--json=none/bench.json",
            "--threads=1",
        )
    ),
    *(
        (f"bench search {option}", option.partition("=")[0].split()[0])
        for option in (
            "--board_size=1",
            "--board_size 9 20",
            "--board_size",
            "--simulations=-1",
            "--simulations=many",
            f"--simulations={10**21}",
            "--simulations",
            "--considered=0",
            "--channels=0",
            f"--depth={10**12}",
            "--batch_size=0",
            f"--batch_size={10**12}",
            "--seconds=0",
            "--seconds=nan",
            "--runs=0",
            "--threads=0",
            "--device=abacus",
            "--ckpt_path=",
            "--ckpt_path last --board_size 3 5",
            "--json=none/bench.json",
            "--surplus",
        )
    ),
    ("bench search --ckpt_path none.ckpt", "none.ckpt is no checkpoint: there is no such file."),
    (f"bench search {_LAST} --seconds 0.01", "mixer must be identity, for a search"),
    (f"bench map {_LAST} --config tessera", "--config must be left out"),
    (f"bench map {_LAST} --board_size 5", "board_size must be 3, the model's"),
    ("bench map --ckpt_path none.ckpt", "none.ckpt is no checkpoint: there is no such file."),
    ("bench map --ckpt_path last --run_name a/b", "run_name must be letters"),
    *(
        (f"bench {kind} --board_size=3 --batch_size={games}", "--batch_size")
        for kind in ("engine", "selfplay")
        for games in (0, -1, "many", 10**12, 10**21)
    ),
)
