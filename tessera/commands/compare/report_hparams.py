"""TensorBoard's HParams page: what each finished run was, how it came out, and its curve.

The page takes the first description of the experiment that it finds, so that each run's file has
the whole of it. Written without torch and TensorFlow, as TensorBoard's records.

Source: ``tensorboard/plugins/hparams/summary_v2.py``, ``torch.utils.tensorboard.summary.hparams``.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from tessera.commands.compare.report_runs import RUNS, SAME, Comparison, Run
from tessera.commands.output_file import write_file

METRICS = ("excess_nats", "loss", "legal_top1", "tokens_per_s")
# The same name each time, so that a later report replaces it; it sorts before a run's own files.
FILE = "events.out.tfevents.0000000000.hparams"


def write_hparams(comparison: Comparison) -> int:
    """Write a file beside each finished run that has a folder.

    Returns:
        how many.

    Raises:
        OSError: if one cannot be written.
    """
    runs = {run.run_id: run for run in comparison.runs if run.is_done and run.tested_on == SAME}
    values = {run_id: _values(run) for run_id, run in runs.items()}
    names = list(dict.fromkeys(name for own in values.values() for name in own))
    written = 0
    for run_id, run in runs.items():
        folder = comparison.folder / RUNS / run_id
        if folder.is_dir():
            content = _content(run, values[run_id], {name: _domain(values, name) for name in names})
            write_file(str(folder / FILE), content)
            written += 1
    return written


def _values(run: Run) -> dict[str, str | float]:
    """What the run was, by name; what is not known is left out."""
    found: dict[str, Any] = {
        "row": run.row,
        "phase": run.phase,
        "seed": run.seed,
        "lr": run.lr,
        "features": run.features,
        "board_size": run.board_size,
        "player": run.player,
    }
    found |= {name: run.figures.get(name) for name in ("N", "D", "state_bytes")}
    return {
        name: value if isinstance(value, str) else float(value)
        for name, value in found.items()
        if value not in (None, "")
    }


def _domain(values: Mapping[str, Mapping[str, str | float]], name: str) -> list[str | float]:
    return list(dict.fromkeys(own[name] for own in values.values() if name in own))


def _content(
    run: Run, values: Mapping[str, str | float], domains: Mapping[str, Sequence[str | float]]
) -> bytes:
    # Here, so that a mistake is found before TensorBoard's parts are loaded.
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
    from tensorboard.summary.writer.record_writer import RecordWriter

    experiment, start = api_pb2.Experiment(), HParamsPluginData()
    for name, domain in domains.items():
        info = experiment.hparam_infos.add(name=name)
        if isinstance(domain[0], str):
            info.type = api_pb2.DATA_TYPE_STRING
            info.domain_discrete.extend(domain)
        else:
            info.type = api_pb2.DATA_TYPE_FLOAT64
    for name in METRICS:
        experiment.metric_infos.add(name=api_pb2.MetricName(tag=f"compare/{name}"))
    for name, value in values.items():
        own = start.session_start_info.hparams[name]
        if isinstance(value, str):
            own.string_value = value
        else:
            own.number_value = value
    plugin = {
        metadata.EXPERIMENT_TAG: HParamsPluginData(experiment=experiment),
        metadata.SESSION_START_INFO_TAG: start,
        metadata.SESSION_END_INFO_TAG: HParamsPluginData(
            session_end_info=SessionEndInfo(status=api_pb2.STATUS_SUCCESS)
        ),
    }
    looks = [(look.step, "val/excess_nats", look.excess_nats) for look in run.curve]
    ends = [(0, f"compare/{name}", run.figures.get(name)) for name in METRICS]
    found = [
        (0, Summary.Value(tag=tag, metadata=metadata.create_summary_metadata(data)))
        for tag, data in plugin.items()
    ]
    found += [
        (step, Summary.Value(tag=tag, simple_value=value))
        for step, tag, value in (*ends, *looks)
        if value is not None
    ]
    file = io.BytesIO()
    writer = RecordWriter(file)
    writer.write(Event(file_version="brain.Event:2").SerializeToString())
    for step, each in found:
        writer.write(Event(step=step, summary=Summary(value=[each])).SerializeToString())
    return file.getvalue()
