"""Compiling the kernels for a GPU that need not be there."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from tessera.go.kernels.branching import branch_kernel
from tessera.go.kernels.census import census_kernel
from tessera.go.kernels.features import features_kernel
from tessera.go.kernels.playout import play_games_kernel
from tessera.go.kernels.playouts import REGISTERS, playouts_kernel
from tessera.go.kernels.ply import legal_kernel, play_kernel, score_kernel
from tessera.go.kernels.settled import settled_kernel

POINTERS = {
    "moves": "*i64",
    "turns": "*i64",
    "move_numbers": "*i64",
    "passes": "*i64",
    "last_captures": "*i64",
    "taken_sides": "*u8",
    "captured": "*i64",
    "history": "*i16",
    "ko_points": "*i64",
    "own_exposed_flags": "*u8",
    "opponent_exposed_flags": "*u8",
    "hashes": "*i64",
    "positions": "*i64",
    "keys": "*i64",
    "mask": "*u8",
    "scores": "*fp32",
    "owners": "*i64",
    "numbers": "*i64",
    "log_probs": "*fp32",
    "entropies": "*fp32",
    "results": "*fp32",
    "captures": "*i16",
    "copies": "*i64",
}
SCALARS = {"seeded": "i64", "num_games": "i32", "max_moves": "i32", "komi": "fp32"}
SCALARS |= {"streamed": "i64", "first": "i64", "num_each": "i32"}
COUNTS = ("plies", "wins", "draws", "areas", "area_squares", "owners", "first_moves", "first_areas")


def has_assembler() -> bool:
    """Whether Triton brings a ptxas that can be run."""
    return bool(_assemblers())


def compile_all(architecture: int) -> Iterator[tuple[str, int, int]]:
    """Name, registers and bytes of spilled registers of kernels with all rules they serve."""
    for rules_player, suicide, pass_alive, skip_settled in (
        (False, False, False, False),
        (True, True, False, False),
        (True, True, True, False),
        (True, True, True, True),
        (False, False, False, True),
    ):
        yield _compile(
            play_games_kernel,
            architecture,
            {"moves": "*i16"},
            SIZE=19,
            RULES_PLAYER=rules_player,
            KO=2 if suicide else 1,
            SUICIDE=suicide,
            SINGLE=False,
            PASS_ALIVE=pass_alive,
            SKIP_SETTLED=skip_settled,
            WITH_PROBABILITIES=True,
            WITH_LEGAL=suicide,
            WITH_BOARD=rules_player,
            WITH_LANDMARKS=rules_player,
            WITH_SETTLED=skip_settled,
        )
        yield _compile(
            playouts_kernel,
            architecture,
            dict.fromkeys(COUNTS, "*i64"),
            maxnreg=REGISTERS,
            SIZE=19,
            RULES_PLAYER=rules_player,
            KO=2 if suicide else 1,
            SUICIDE=suicide,
            SINGLE=False,
            PASS_ALIVE=pass_alive,
        )
    rules = {"SIZE": 19, "KO": 1, "SINGLE": False}
    yield _compile(play_kernel, architecture, {}, **rules)
    yield _compile(legal_kernel, architecture, {}, **rules, SUICIDE=True, AS_MASK=True)
    copied = {f"to_{name}": kind for name, kind in POINTERS.items()}
    copied |= {"sources": "*i64", "targets": "*i64"}
    yield _compile(branch_kernel, architecture, copied, SIZE=19, WITH_SUPERKO=True)
    for as_landmarks in (False, True):
        rows = {"SIZE": 19, "SUICIDE": False, "SINGLE": False, "AS_LANDMARKS": as_landmarks}
        yield _compile(features_kernel, architecture, {}, **rows)
    for pass_alive in (False, True):
        score = {"PASS_ALIVE": pass_alive, "SUICIDE": False}
        yield _compile(score_kernel, architecture, {}, SIZE=19, **score, AS_OWNERSHIP=True)
    for suicide in (False, True):
        yield _compile(settled_kernel, architecture, {}, SIZE=19, SUICIDE=suicide)
    yield _compile(
        census_kernel,
        architecture,
        {"counts": "*i64"},
        SIZE=5,
        ACROSS=5,
        NUM_STATES=243,
        NUM_LAST=10,
        PROGRAM_ROWS=2,
        LOOPS=243**2,
    )


def _compile(
    kernel: Any,
    architecture: int,
    pointers: dict[str, str],
    maxnreg: int | None = None,
    **constants: Any,
) -> tuple[str, int, int]:
    signature = {
        name: "constexpr"
        if name in constants
        else (SCALARS | POINTERS | pointers).get(name, "*i32")
        for name in kernel.arg_names
    }
    return kernel.__name__, *measure(kernel, architecture, signature, constants, maxnreg=maxnreg)


def measure(
    kernel: Any,
    architecture: int,
    signature: dict[str, str],
    constants: dict[str, Any],
    divisible: tuple[str, ...] = (),
    num_warps: int = 1,
    maxnreg: int | None = None,
) -> tuple[int, int]:
    """Registers and bytes of spilled registers of one kernel.

    Args:
        divisible: arguments that are multiples of 16.
        num_warps: of a program.
        maxnreg: the most registers that the assembler may take; None leaves it to it.
    """
    attributes: dict[Any, Any] = {
        (kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in divisible
    }
    compiled = triton.compile(
        ASTSource(kernel, signature, constants, attributes),
        target=GPUTarget("cuda", architecture, 32),
        options={"num_warps": num_warps, "enable_fp_fusion": True, "maxnreg": maxnreg},
    )
    said = _assembler_report(compiled.asm["ptx"])
    registers = re.search(r"Used (\d+) registers", said)
    assert registers, said
    spilled = sum(int(number) for number in re.findall(r"(\d+) bytes spill", said))
    return int(registers.group(1)), spilled


def _assembler_report(ptx: str) -> str:
    """What the first ptxas that knows this version of PTX says about the code."""
    target = re.search(r"\.target (sm_\w+)", ptx)
    assert target, ptx[:200]
    said = ""
    with tempfile.NamedTemporaryFile(suffix=".ptx") as file:
        file.write(ptx.encode())
        file.flush()
        for assembler in _assemblers():
            command = [assembler, "-v", "-arch", target.group(1), "-o", os.devnull, file.name]
            done = subprocess.run(command, capture_output=True, text=True)
            said += done.stderr
            if done.returncode == 0:
                return done.stderr
    raise RuntimeError(f"no ptxas of {_assemblers()} takes Triton's code: {said}")


def _assemblers() -> list[str]:
    """Paths of the ptxas that Triton brings; it has a second one for newer targets."""
    knobs = triton.knobs.nvidia
    found = []
    for name in ("ptxas", "ptxas_blackwell"):
        try:
            found.append(getattr(knobs, name).path)
        except (AttributeError, RuntimeError):
            continue  # not in this version or not in this build
    return found
