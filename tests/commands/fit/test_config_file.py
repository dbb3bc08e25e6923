"""Whatever stands in a configuration file or a value, what comes back is a line and a code."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from tessera.commands.fit.config_file import SECTIONS
from tests.runs import tessera

DEEP = "[" * 3000
BOMB = "a0: &a0 [x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)
MERGES = "data: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 20)
)
IN_ITSELF = "YAML with &a inside itself."
TOO_DEEP = "YAML nested more than 20 levels deep."
TOO_MANY = "YAML with more than 5,000 values."

# What is in x.yaml, and what is said after "tessera: config x.yaml".
FILES: dict[str, tuple[str | bytes, str]] = {
    "an anchor in itself": ("data: &a {x: *a}", f", line 1: {IN_ITSELF}"),
    "a list in itself": ("run_name: r\nmodel: {x: &a [*a]}", f", line 2: {IN_ITSELF}"),
    "a merge with itself": ("data: &a {<<: *a}", f", line 1: {IN_ITSELF}"),
    "open brackets": (f"data: {DEEP}", f", line 1: {TOO_DEEP}"),
    "closed brackets": (f"data: {DEEP}{']' * 3000}", f", line 1: {TOO_DEEP}"),
    "indented blocks": ("\n".join(" " * i + "a:" for i in range(30)), f", line 21: {TOO_DEEP}"),
    "dashes": ("data:\n  " + "- " * 3000, f", line 2: {TOO_DEEP}"),
    "nines of nines": (BOMB, f", line 5: {TOO_MANY}"),
    "merges of merges": (MERGES, f", line 8: {TOO_MANY}"),
    "many names": ("".join(f"k{i}: 1\n" for i in range(9999)), f", line 2500: {TOO_MANY}"),
    "a megabyte": ("#" * 2**20 + "\n", " must have at most 1,048,576 bytes, got 1,048,577."),
    **{
        f"{section} {value}": (
            f"{section}: {value}\nrun_name: r",
            f": {section} must hold settings by name, got {shown}.",
        )
        for section in SECTIONS
        for value, shown in (("", "null"), ("[1, 2]", "[1, 2]"), ("hello", "hello"))
    },
    "another file": ("config: small.yaml", ": config cannot be set in a file; give --config twice"),
    "a number as name": ("1: 2", ": a setting's name must be text, got 1."),
    "nothing as name": ("data: {null: 2}", ": a setting's name must be text, got None."),
    "a list as name": ("data: {[1]: 2}", ", line 1: found unhashable key."),
    "a merge of a number": ("data: {<<: 3}", ", line 1: expected a mapping or list of mappings"),
    "python": ("data: !!python/object/apply:os.abort []", ", line 1: could not determine a "),
    "no whole number": (
        "data: {seed: !!int nine}",
        ": a value that cannot be read: a number without",
    ),
    "hardly a number": ("data: {seed: 0b_}", ": a value that cannot be read: a number without"),
    "many digits": (
        f"data: {{seed: {'1' * 5000}}}",
        ": a value that cannot be read: a number without",
    ),
    "no character": ('data: {player: "\\U00110000"}', ": YAML that cannot be read: chr() arg not"),
    "two documents": (
        "data: {}\n---\ndata: {}",
        ", line 2: expected a single document in the stream, but found another document.",
    ),
    "an alias of nothing": ("data: *a", ", line 1: found undefined alias 'a'."),
    "an open quote": ("data: {player: 'me}", ", line 1: found unexpected end of stream."),
    "twice by alias": ("data: {&a seed : 1, *a : 2}", ", line 1: data.seed is there twice"),
    "a null byte": (b"data: {seed: 1\0}", " must be text; there is the character"),
    "utf-16": ("data: {seed: 1}".encode("utf-16"), " must be UTF-8 text."),
    "latin-1": ("run_name: größe".encode("latin-1"), " must be UTF-8 text."),
}


def said(capfd: pytest.CaptureFixture) -> str:
    """What was printed after "tessera: ", in one line."""
    out, err = capfd.readouterr()
    (line,) = err.splitlines()
    assert out == "" and line.isprintable() and len(line) < 420
    return line.removeprefix("tessera: ")


def is_said(message: str, line: str) -> bool:
    """Whether the line is the message, or begins with it if the message is no whole sentence."""
    return line == message if message.endswith(".") else line.startswith(message)


@pytest.mark.parametrize("name", FILES)
def test_a_fault_of_a_file_is_a_line(name: str, folder: Path, capfd: pytest.CaptureFixture) -> None:
    content, message = FILES[name]
    Path("x.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    began = time.monotonic()
    assert tessera("fit", "--config", "x.yaml") == 2
    assert time.monotonic() - began < 5
    assert is_said(f"config x.yaml{message}", said(capfd))
    assert {file.name for file in folder.iterdir()} == {"small.yaml", "x.yaml"}


# What jsonargparse finds: settings that are no settings, and values that are none.
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "fit: {data: {board_size: 9}}",
            "fit.data.board_size is no setting. Did you mean data.boa",
        ),
        ("data: {a: 1}", "data.a is no setting"),
        ("subcommand: fit", "subcommand is no setting."),
        ('data: {"a\\nb\\e[2J": 1}', r"data.a\nb\x1b[2J is no setting."),
        ("data: {board_size: {a: 1}}", "data.board_size must be a whole number, got {'a': 1}."),
        ("data: {board_size: }", "data.board_size must be a whole number, got null."),
        ("data: {board_size: true}", "data.board_size must be a whole number, got true."),
        ("data: {seed: .nan}", "data.seed must be a whole number, got nan."),
        ("trainer: {max_steps: 1e400}", "trainer.max_steps must be a whole number, got inf."),
        ("model: {lr: null}", "model.lr must be a number, got null."),
        ("model: {mamba: null}", "model.mamba must be settings by name, got null."),
        ("model: {mamba: [1], d_state: 4}", "model.mamba must be settings by name, got [1]."),
        ("monitor: {on_high: null}", "monitor.on_high must be one of warn, checkpoint, stop, got"),
        ("seed_everything: [1]\ndata: {}", "seed_everything must be true or false, a whole number"),
        ("run_name: {a: 1}", "run_name must be text or null, got {'a': 1}."),
        ("cpu_threads: 2020-01-01", "cpu_threads must be a whole number or null, got 2020-01-01."),
        ("trainer: {callbacks: 3}", "trainer.callbacks must be a list of Callback, Callback or nu"),
        (
            "trainer: {callbacks: [{class_path: EarlyStopping, init_args: {monitor: 3}}]}",
            "trainer.callbacks: EarlyStopping: monitor must be text, got 3.",
        ),
    ],
)
def test_a_wrong_value_in_a_file_is_a_line(
    folder: Path, capfd: pytest.CaptureFixture, content: str, message: str
) -> None:
    Path("x.yaml").write_text(content)
    assert tessera("fit", "--config", "x.yaml", "--ckpt_path", "none.ckpt") == 2
    assert is_said(message, said(capfd))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "[1,2]"], "model must be settings by name, or a file of them, got [1,2]."),
        (["--data", "{board_size: 9"], "data must be settings by name, or a file of them, got {b"),
        (["--data", ""], "data must be settings by name, or a file of them, got nothing."),
        (["--trainer", "{max_steps: x}"], "trainer.max_steps must be a whole number, got x."),
        (["--data.board_size", ""], "data.board_size must be a whole number, got nothing."),
        (["--trainer.callbacks", "[[["], "trainer.callbacks must be a list of Callback, Callback"),
        (["--trainer.callbacks", DEEP + "]" * 3000], f"trainer.callbacks: {TOO_DEEP}"),
        (["--data.komi", "&a [*a]"], f"data.komi: {IN_ITSELF}"),
        (["--data.seed", BOMB], f"data.seed: {TOO_MANY}"),
        (
            ["--data.seed", "1" * 5000],
            "data.seed: a value that cannot be read: a number without",
        ),
        (["--data.seed", "!!timestamp x"], "data.seed: a value that cannot be read"),
        (["--monitor", BOMB], "monitor must be settings by name, or a file of them, got a0: &a0 "),
        (
            ["--trainer.logger", "CSVLogger"],
            "trainer.logger: CSVLogger: save_dir must be text, Path, g",
        ),
        (["--trainer.callbacks.foo", "1"], "trainer.callbacks: Callback: foo is no setting."),
        (["--data", "utf16.yaml"], "data utf16.yaml must be UTF-8 text."),
        (["--data", "huge.yaml"], "data huge.yaml must have at most 1,048,576 bytes, got 2,147,4"),
        (["--config", "huge.yaml"], "config huge.yaml must have at most 1,048,576 bytes, got 2,1"),
        (["--config", "-"], "config must be a file or one of any_board, board_19x19, "),
        (["--config", "x" * 5000], "config xxx"),
        (["--config", "/dev/zero"], "config /dev/zero must be a file, got a pipe or a device."),
        (["-cutf16.yaml"], "config utf16.yaml must be UTF-8 text."),
        (["--no\nsuch\x1b[2J", "1"], "--no is no setting."),
    ],
)
def test_a_wrong_value_on_the_command_line_is_a_line(
    folder: Path, capfd: pytest.CaptureFixture, arguments: list[str], message: str
) -> None:
    Path("utf16.yaml").write_text("data: {}", encoding="utf-16")
    with open("huge.yaml", "wb") as huge:
        huge.truncate(2**31)
    assert tessera("fit", "--ckpt_path", "none.ckpt", *arguments) == 2
    assert is_said(message, said(capfd))


def test_a_file_that_cannot_be_read_is_a_line(capfd: pytest.CaptureFixture) -> None:
    # The kernel has no memory of this process to show at address 0.
    assert tessera("fit", "--config", "/proc/self/mem") == 2
    assert said(capfd) == "config /proc/self/mem cannot be read: Input/output error."


def test_aliases_merges_dates_and_a_byte_order_mark_are_read(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    text = "\ufeffmodel: &m {d_model: 8}\ndata:\r\n  <<: {seed: 5}\r\n  seed: 1_0\r\n"
    Path("x.yaml").write_text(text + "  batch_size: &b 3\nrun_name: 2020-99-99\ncpu_threads: *b\n")
    Path("y.yaml").write_text("mamba2: {d_state: 4}\nmixer: mamba2")
    assert tessera("fit", "--config", "x.yaml", "--model", "y.yaml", "--print_config") == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert (shown["model"]["d_model"], shown["model"]["mamba2"]["d_state"]) == (8, 4)
    assert (shown["data"]["seed"], shown["data"]["batch_size"], shown["cpu_threads"]) == (10, 3, 3)
    assert shown["run_name"] == "2020-99-99"


@pytest.mark.parametrize(
    ("arguments", "d_states"),
    [
        (["--model.d_state", "4"], (4, 4)),
        (["--model.d_state=4", "--model.mixer", "mamba2"], (16, 4)),
        (["--model.d_state", "4", "--model.mamba.d_state", "5"], (5, 4)),
        (["--model", "z.yaml"], (4, 4)),
        (["--model={mixer: mamba2, d_state: 4}", "--model.d_model", "8"], (16, 4)),
    ],
)
def test_names_of_before_the_parts_are_read(
    folder: Path, capsys: pytest.CaptureFixture, arguments: list[str], d_states: tuple[int, int]
) -> None:
    Path("z.yaml").write_text("d_state: 4")
    assert tessera("fit", *arguments, "--print_config") == 0
    model = yaml.safe_load(capsys.readouterr().out)["model"]
    assert (model["mamba"]["d_state"], model["mamba2"]["d_state"]) == d_states


@pytest.mark.parametrize("value", ["true", "false"])
@pytest.mark.parametrize(
    "options",
    [
        ["--model.compile", "?"],
        ["--model.compile=?"],
        ["--model={compile: ?}"],
        ["--config", "compile.yaml"],
    ],
)
def test_what_there_is_no_more_is_left_out(
    folder: Path, capsys: pytest.CaptureFixture, options: list[str], value: str
) -> None:
    Path("compile.yaml").write_text(f"model: {{compile: {value}}}")
    shown = []
    for more in ([], [option.replace("?", value) for option in options]):
        assert tessera("fit", *more, "--model.d_model", "8", "--print_config") == 0
        shown.append(yaml.safe_load(capsys.readouterr().out))
    assert shown[0] == shown[1] and "compile" not in shown[0]["model"]


def test_sections_are_those_of_the_command_line(capsys: pytest.CaptureFixture) -> None:
    assert tessera("fit", "--print_config") == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert set(SECTIONS) == {name for name, value in shown.items() if isinstance(value, dict)}
