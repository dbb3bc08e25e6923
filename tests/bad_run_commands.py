"""Command lines of ``tessera compare`` and ``tessera scaling`` that cannot be run."""

from __future__ import annotations

# A command line and a part of its answer.
RUNS: tuple[tuple[str, str], ...] = (
    ("compare small.yaml", "either --tokens or --seconds must say how long each run trains"),
    ("compare small.yaml --tokens none", "--tokens must be more than 0"),
    ("compare small.yaml --tokens 5 --lrs x", "--lrs must be different numbers"),
    ("compare small.yaml --tokens 5 --seeds=-1", "--seeds must be different whole numbers"),
    ("compare small.yaml --tokens 5 --trainer.max_steps 5", "--trainer.max_steps is compare's own"),
    ("compare small.yaml --tokens 5", "small.yaml: data.context must be null"),
    ("compare small.yaml --tokens 5 --data.context null --mixers gla", "gla: model.mixer must be"),
    ("compare small.yaml --tokens 5 --data.context null --data.selfplay_share 1", "selfplay_share"),
    ("compare none.yaml --tokens 5", "config must be a file or one of any_board"),
    ("compare report", "FOLDER"),
    ("compare report none", "there is no such folder"),
    ("compare report small.yaml", "that is a file"),
    ("compare report .", "there is no plan.json in it"),
    ("compare report ''", "there is no plan.json in it"),
    ("compare report . surplus", "surplus"),
    ("compare report . --json x", "--json"),
    (f"compare report {'n' * 300}", "File name too long"),
    ("scaling", "ROW"),
    ("scaling small.yaml", "either --tokens or --from and --to must say the budgets."),
    *(
        (f"scaling small.yaml {option}", says)
        for option, says in (
            ("--tokens 1e6,2e6", "--tokens must be 4 to 64 budgets, got 2."),
            ("--tokens many", "--tokens must be different whole numbers"),
            (f"--tokens {'9' * 400}", "--tokens must be different whole numbers"),
            ("--from 1e3", "--to must be a whole number of tokens"),
            ("--from 1e4 --to 1e3", "--to must be more than --from"),
            ("--from 1e3 --to 1e4 --rungs 2", "--rungs must be 4 to 64, got 2."),
            ("--from 1e3 --to 1e4", "data.context must be null"),
            ("--from 1e3 --to 1e4 --cooldown 0", "--cooldown must be more than 0"),
            ("--from 1e3 --to 1e4 --seeds=-1", "--seeds must be different whole numbers"),
            ("--from 1e3 --to 1e4 --sizes 8,8", "--sizes must be different whole numbers"),
            ("--from 1e3 --to 1e4 --folder=", "--folder must name a folder, got none."),
            ("--from 1e3 --to 1e4 --folder small.yaml --data.context null", "--folder"),
            ("--from 1e3 --to 1e4 --trainer.max_steps 3", "--trainer.max_steps is the ladder's"),
            ("--from 1e3 --to 1e4 --config none.yaml", "config must be a file"),
            ("--from 1e3 --to 1e4 --floor low", "--floor must be known, free or a number"),
            ("--from 1e3 --to 1e4 --json .", "--json: . cannot be written."),
            ("--from 1e3 --to 1e4 --data.context null --cpu_threads=0", "cpu_threads must be"),
        )
    ),
    ("scaling fit", "RUNS.CSV"),
    ("scaling fit none.csv", "none.csv is no file; a runs.csv is wanted."),
    ("scaling fit .", ". is a folder; a runs.csv is wanted."),
    ("scaling fit ''", "nothing is no file; a runs.csv is wanted."),
    ("scaling fit small.yaml", "small.yaml lacks the columns row, N, D"),
    *(
        (f"scaling fit small.yaml {option}", says)
        for option, says in (
            ("--floor low", "--floor must be known, free or a number of nats, got low."),
            ("--floor nan", "--floor must be known, free or a number of nats, got nan."),
            ("--floor", "--floor"),
            ("--floor=-1e308", "--floor must be -1000 to 1000 nats, got -1e308."),
            ("--replicates=-1", "--replicates must be 0 to 10,000, got -1."),
            (f"--replicates {10**21}", "--replicates must be 0 to 10,000"),
            ("--replicates many", "--replicates"),
            ("--bootstrap_seed=-1", "--bootstrap_seed must be 0 to"),
            ("--picture a.pdf", "--picture must end in .png or .svg, got a.pdf."),
            ("--picture none/a.png", "--picture: there is no folder none."),
            ("--json none/a.json", "--json: there is no folder none."),
            ("--json .", "--json: . cannot be written."),
            ("--json ''", "--json must name a file, got none."),
            ("--json ./small.yaml", "--json must be another file than RUNS.CSV"),
            ("--picture a.svg --json a.svg", "--json must be another file than --picture"),
            ("surplus", "surplus"),
        )
    ),
)
