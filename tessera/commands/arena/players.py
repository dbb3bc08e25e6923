"""The players of ``tessera arena`` as they are named, before torch is loaded."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tessera.setting_errors import Check, SettingError, number, one_of, whole

_FORMS = "uniform, rules, playouts:N, uct:N, gtp:COMMAND or a checkpoint with FILE@key=value,..."
_COUNTED = {"playouts": whole(1, 10_000_000), "uct": whole(1, 100_000)}
_FROM_0 = number("0 to 1000000", lambda x: 0 <= x <= 1_000_000)
# What may follow a checkpoint, how it is read and what is allowed.
_KEYS: Mapping[str, tuple[Callable[[str], Any], Check]] = {
    "temperature": (float, number("0 to 1000", lambda x: 0 <= x <= 1000)),
    "sims": (int, whole(0, 32767)),
    "considered": (int, whole(1, 1000)),
    "value_scale": (float, _FROM_0),
    "max_visit": (float, _FROM_0),
    "passes": (str, one_of("free", "last", "sensible")),
    "first_pass": (int, whole(0, 1_000_000)),
    "score_weight": (float, number("0 to 1", lambda x: 0 <= x <= 1)),
    "dtype": (str, one_of("float32", "bfloat16")),
}
_WITHOUT_SEARCH = ("temperature",)
_MOST_LETTERS = 40  # of a label
_SETTING = r"[^@=,/]+=[^@,]*"
_SETTINGS = re.compile(rf"(.*)@({_SETTING}(?:,{_SETTING})*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PlayerName:
    """One player as it was named.

    Attributes:
        text: all of it.
        kind: ``uniform``, ``rules``, ``playouts``, ``uct``, ``gtp`` or ``model``.
        number: of playouts.
        target: of gtp the command, of a model its file, ``last`` or a run's name.
        settings: of a model, those that were given.
    """

    text: str
    kind: str
    number: int = 0
    target: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_search(self) -> bool:
        """Whether a model searches."""
        return "sims" in self.settings


def player_named(text: str) -> PlayerName:
    """What a player's name means.

    Raises:
        SettingError: if it means nothing, with a line.
    """
    if text in ("uniform", "rules"):
        return PlayerName(text, text)
    kind, colon, rest = text.partition(":")
    if colon and kind in _COUNTED:
        count = int(rest) if re.fullmatch(r"\d{1,12}", rest) else rest
        _COUNTED[kind](f"N of {kind}:N", count)
        assert isinstance(count, int)
        return PlayerName(text, kind, count)
    if colon and kind == "gtp":
        if not rest.strip():
            raise SettingError("gtp:COMMAND must name a command, got none.")
        return PlayerName(text, kind, target=rest)
    match = _SETTINGS.fullmatch(text)
    target, given = (match[1], match[2]) if match else (text, "")
    if not target:
        raise SettingError(f"a player must be {_FORMS}; got {text or 'none'}.")
    return PlayerName(text, "model", target=target, settings=_settings(text, given))


def _settings(text: str, given: str) -> dict[str, Any]:
    """The settings behind a checkpoint's ``@``."""
    found: dict[str, Any] = {}
    for each in given.split(",") if given else ():
        key, _, value = each.partition("=")
        if key not in _KEYS:
            allowed = ", ".join(_KEYS)
            raise SettingError(f"{text}: a key must be one of {allowed}, got {key}.")
        if key in found:
            raise SettingError(f"{text}: {key} is there twice; keep one of them.")
        read, check = _KEYS[key]
        try:
            found[key] = read(value)
        except ValueError:
            found[key] = value
        try:
            check(key, found[key])
        except SettingError as error:
            raise SettingError(f"{text}: {error}") from None
    if "sims" not in found and (more := [key for key in found if key not in _WITHOUT_SEARCH]):
        raise SettingError(f"{text}: {more[0]} is of a search; give sims as well.")
    return found


def labels_of(titles: Sequence[str]) -> list[str]:
    """The players as results show them: what is there twice, or is long, has its number."""
    labels = []
    for nth, title in enumerate(titles, 1):
        is_long = len(title) > _MOST_LETTERS
        short = f"…{_end_of(title)}" if is_long else title
        labels.append(f"{short} (player {nth})" if is_long or titles.count(title) > 1 else short)
    return labels


def _end_of(title: str) -> str:
    """The end of what is long: from a folder's or a word's beginning on, if one is near."""
    end = title[-_MOST_LETTERS:]
    near = range(_MOST_LETTERS // 2)
    return next((end[nth:] for nth in near if end[nth] in "/ "), end)
