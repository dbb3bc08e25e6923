"""A process for one measurement: what it says is heard, and nothing of it is left."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import tessera
from tessera.commands.bench.fresh_process import FreshProcess, TookTooLongError
from tessera.commands.bench.rivals import NotMeasuredError

TALKS = """
import os
import json, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("a library's own words\\n[1]\\n2")
print(json.dumps({"child": child.pid, "told": json.loads(sys.stdin.readline()),
    "path": os.environ["PYTHONPATH"]}), flush=True)
sys.stdin.readline()
print(json.dumps({"missing": "memory"}), flush=True)
sys.stdin.readline()
sys.exit("the last words")
"""


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def talking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "talks.py").write_text(TALKS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "talks"


def test_what_a_process_says_is_heard_and_it_is_ended_with_its_own(talking: str) -> None:
    with FreshProcess(talking) as process:
        process.tell({"a": 1})
        found = process.hear(60)
        assert found["told"] == {"a": 1}
        # What runs is the package that runs here, wherever it is started.
        assert found["path"].split(os.pathsep)[0] == str(Path(tessera.__file__).parents[1])
        for timeout_s in (0.01, -1):  # which may be over before it is asked
            with pytest.raises(TookTooLongError):
                process.hear(timeout_s)
        process.tell({})
        with pytest.raises(NotMeasuredError, match=r"^memory$"):
            process.hear(60)
        assert is_running(found["child"])
    until = time.monotonic() + 30
    while is_running(found["child"]) and time.monotonic() < until:
        time.sleep(0.01)
    assert not is_running(found["child"])


def test_a_process_that_ends_says_why(talking: str) -> None:
    with FreshProcess(talking) as process:
        process.tell({})
        os.kill(process.hear(60)["child"], 9)
        process.tell({})
        process.tell({})
        with pytest.raises(NotMeasuredError, match=r"^memory$"):
            process.hear(60)
        with pytest.raises(NotMeasuredError, match=r"^ended: the last words$"):
            process.hear(60)
        process.tell({})  # nobody hears it
