"""What the tests of the whole program share: the program, the launcher, and a folder that goes away with the test.

A test that imports this module is started as  TEST.py WITAN [TestCase.test ...]
"""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

WITAN = os.path.abspath(sys.argv.pop(1))
ROOT = pathlib.Path(__file__).resolve().parents[2]
LAUNCHER = ROOT / "launch" / "witan-mpirun.sh"


def execute(folder, expected, *command, ranks=0, timeout=120, **options):
    """Runs a command in `folder`, under the launcher with `ranks`; its exit code has to be the expected one."""
    launcher = [LAUNCHER, "-n", ranks] if ranks else []
    done = subprocess.run([str(part) for part in [*launcher, *command]], cwd=folder, text=True, errors="replace",
                          capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout, check=False, **options)
    if done.returncode != expected:
        raise AssertionError(f"{command}: exit code {done.returncode}, not {expected}\n{done.stdout}\n{done.stderr}")
    return done


class ProgramCase(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)

    def prepare_text(self, lines):
        """A dataset "text" of the folder, as bytes."""
        text = "".join(f"{i} sheep jumped over {i * i % 97} fences.\n" for i in range(lines))
        (self.folder / "text.txt").write_text(text)
        self.execute(0, WITAN, "prepare", "text.txt", "--output", "text")

    def execute(self, expected, *command, **options):
        return execute(self.folder, expected, *command, **options)
