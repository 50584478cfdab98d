"""Files that are old or new and nothing between; a folder that one process has at a time, for as long as it lives."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from trec_dse.durable import locked, write_bytes, write_text
from trec_dse.errors import StudyError

HOLDER = """
import signal, sys
from pathlib import Path
from trec_dse.durable import locked
with locked(Path(sys.argv[1])):
    print("holds", flush=True)
    signal.pause()
"""


def test_a_folder_is_one_process_s_at_a_time_and_a_killed_one_gives_it_back(tmp_path: Path) -> None:
    folder, is_in = tmp_path / "parents" / "a", threading.Event()

    def wait() -> None:
        with locked(folder) as found:
            assert found == folder
            is_in.set()

    with subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holds\n"
        thread = threading.Thread(target=wait)
        thread.start()
        assert not is_in.wait(0.2)
        holder.send_signal(signal.SIGKILL)
        assert is_in.wait(60)
        thread.join()


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    write_text(path, "größer")
    assert path.read_bytes() == "größer".encode()
    (tmp_path / "taken").touch()
    with pytest.raises(StudyError, match="cannot be written"):
        write_bytes(tmp_path / "taken" / "file", b"new")
    with pytest.raises(TypeError):
        write_bytes(path, "no bytes")  # type: ignore[arg-type]
    assert [found.name for found in path.parent.iterdir()] == ["file"]
    assert path.read_bytes() == "größer".encode()
