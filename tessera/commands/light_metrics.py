"""torchmetrics without the parts that nothing here asks for; Lightning needs two classes of it."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import sys
from importlib.util import find_spec, module_from_spec
from typing import Any

_NAME = "torchmetrics"


def load_metrics_lightly() -> None:
    """Load of torchmetrics what Lightning names; the rest follows when somebody asks for it.

    The package loads all its metrics at once, and with them whatever it finds of torchvision,
    transformers, SciPy and others: seconds on a machine that has them. If its parts are not where
    they are looked for, or it is loaded already, everything stays as it is.
    """
    spec = None if _NAME in sys.modules else find_spec(_NAME)
    if spec is None or spec.loader is None:
        return
    loader, package = spec.loader, module_from_spec(spec)

    def load_rest(name: str) -> Any:
        if name.startswith("__"):  # Python asks modules for names that need not be there
            raise AttributeError(f"module {_NAME!r} has no attribute {name!r}")
        del package.__getattr__
        loader.exec_module(package)
        return getattr(package, name)

    names = vars(package)
    sys.modules[_NAME] = package
    try:
        names["__version__"] = importlib.metadata.version(_NAME)
        names["_logger"] = logging.getLogger(_NAME)
        names["__getattr__"] = load_rest
        importlib.import_module(f"{_NAME}.utilities")  # first: it and Metric import each other
        for module, name in (("metric", "Metric"), ("collections", "MetricCollection")):
            names[name] = vars(importlib.import_module(f"{_NAME}.{module}"))[name]
    except (ImportError, KeyError):
        for name in [name for name in sys.modules if name.partition(".")[0] == _NAME]:
            del sys.modules[name]
