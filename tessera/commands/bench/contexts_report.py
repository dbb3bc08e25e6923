"""What ``tessera bench contexts`` found, as a person and as a program reads it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tessera.commands.table import Cell, Form, table
from tessera.model.context_blocks import num_parameters
from tessera.model.embeddings import TableSettings
from tessera.model.mixers.context_token import ContextTokenSettings
from tessera.training.objectives.context_cache import bytes_of

_D, _VOCABULARY = 768, 50_257
_SHOWN = (5, 10, 15, 20, 30)  # sweeps
_COLUMNS: dict[str, Form] = {
    "context block": None,
    "parameters": ",d",
    "": None,
    "rank / d": ".3f",
    "centred": ".3f",
    **{f"sweep {sweep}": ".1%" for sweep in _SHOWN},
}


@dataclass(frozen=True, slots=True)
class Block:
    """A published context block.

    Attributes:
        name: in words.
        d_context: C.
        d_input: numbers of a token's vector.
        layers: how many.
        expand: see ``UpdateLayer``.
    """

    name: str
    d_context: int
    d_input: int
    layers: int
    expand: int


@dataclass(frozen=True, slots=True)
class Found:
    """What is measured of a block's contexts.

    Attributes:
        rank: their effective rank over their width.
        centred: the same without their mean.
        converged: by sweep, which share of them it has changed by less than 0.03.
    """

    rank: float
    centred: float
    converged: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class BlockResult:
    """A block, untrained and trained.

    Attributes:
        block: which.
        parameters: counted.
        untrained: as it was drawn.
        trained: None if nothing was trained.
    """

    block: Block
    parameters: int
    untrained: Found
    trained: Found | None


@dataclass(frozen=True, slots=True)
class ContextsReport:
    """Everything one run of the command found.

    Attributes:
        machine: where it ran, in words.
        tokens: of the stream, and rows of each rank.
        steps: of training.
        results: of all blocks.
    """

    machine: str
    tokens: int
    steps: int
    results: tuple[BlockResult, ...]

    def lines(self) -> list[str]:
        """The tables."""
        head = f"{self.machine}; a stream of {self.tokens:,} tokens, Zipf over 50,257, normal"
        head += " vectors; trained is stage 1 with the published settings"
        rows: list[list[Cell]] = []
        for result in self.results:
            name, count = result.block.name, result.parameters
            rows.append([name, count, "untrained", *_cells(result.untrained)])
            if result.trained is not None:
                rows.append(["", None, f"{self.steps} steps", *_cells(result.trained)])
        return [head, "", *table(rows, _COLUMNS), "", *table(*_published())]

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)


def _cells(found: Found) -> list[Cell]:
    return [found.rank, found.centred, *(found.converged[sweep - 1] for sweep in _SHOWN)]


def _published() -> tuple[list[list[Cell]], dict[str, Form]]:
    """What the design says of its own sizes, beside what is counted by the same arithmetic."""
    of_layer = num_parameters(_D, _D, _D, expand=0)
    of_blocks = ContextTokenSettings(context_layers=6, token_layers=6, plan="E").num_parameters(_D)
    of_table = TableSettings().num_parameters(_VOCABULARY, _D, 0)
    rows: list[list[Cell]] = [
        ["embedding, tied to the head", "38.60 million", of_table],
        ["context block", "7.09 million", 6 * of_layer],
        ["token block", "7.09 million", of_blocks - 6 * of_layer],
        ["all parameters", "52.78 million", of_table + of_blocks],
        ["bytes of 100,000 tokens' contexts", "1.84 GB", bytes_of((100_000, 6, _D))],
    ]
    return rows, {"six layers, d 768, plan E": None, "published": None, "counted": ",d"}
