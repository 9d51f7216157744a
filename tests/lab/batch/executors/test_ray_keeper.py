"""That what keeps a cluster ends all that is below it, also what has let go of its parents."""

import subprocess
import sys
import time

from tests.lab.batch.pictures import alive, wait_until
from tests.lab.command import environment

# A keeper whose cluster is a process that starts another one, in a session of its own, which outlives it.
PROGRAM = """
import subprocess, sys
from pathlib import Path
from lab.batch.executors import ray_keeper

def start(folder, cpus, gpus, memory):
    code = "import subprocess as s; print(s.Popen(['sleep', '99'], start_new_session=True, stdout=s.DEVNULL).pid)"
    out = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True).stdout
    (folder / "ray_current_cluster").write_text(out)
    return subprocess.Popen(["sleep", "99"])

ray_keeper._start = start
sys.argv = ["keeper", sys.argv[1], "1", "0", "1"]
sys.exit(ray_keeper.main())
"""


def test_orphans_end_with_the_pipe_and_the_folder_goes(tmp_path):
    folder = tmp_path / "cluster"
    folder.mkdir()
    keeper = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    orphan = int(keeper.stdout.readline())
    assert alive(orphan)
    time.sleep(0.2)
    assert keeper.poll() is None
    keeper.stdin.close()
    assert keeper.wait(20) == 0
    wait_until(lambda: not alive(orphan), 5)
    assert not folder.exists()
    keeper.stdout.close()
