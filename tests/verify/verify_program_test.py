#!/usr/bin/env python3
"""witan verify as its users meet it: a shipped preset, the JSON, mistakes.

usage: verify_program_test.py WITAN SOURCE_DIR [TestCase.test ...]
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

WITAN = os.path.abspath(sys.argv.pop(1))
ROOT = pathlib.Path(sys.argv.pop(1)).resolve()
LAUNCHER = ROOT / "launch" / "witan-mpirun.sh"
QUICKSTART = ROOT / "configs/presets/quickstart.textproto"


class VerifyTest(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.temporary.name)

    def tearDown(self):
        self.temporary.cleanup()

    def verify(self, expected, *arguments, ranks=0):
        command = ([str(LAUNCHER), "-n", str(ranks)] if ranks else []) + [WITAN, "verify"]
        done = subprocess.run(command + [str(a) for a in arguments], cwd=self.folder, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=200)
        self.assertEqual(done.returncode, expected, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def test_quickstart_on_two_ranks(self):
        out = self.verify(0, QUICKSTART, "--json", "verify.json", ranks=2)
        for part in ("tokens: synthetic", "model.d_model", "everything agrees", "EP 2 x DP 1 against one rank"):
            self.assertIn(part, out)
        report = json.loads((self.folder / "verify.json").read_text())
        self.assertTrue(report["passed"])
        self.assertEqual(report["ranks"], 2)
        self.assertLess(report["seconds"], 60)
        self.assertEqual({r["check"] for r in report["results"]},
                         {"gradients", "expert_parallel", "accumulation", "resume", "reshape", "kernels"})
        for result in report["results"]:
            self.assertLessEqual(result["error"], result["tolerance"], result)
            self.assertGreater(result["compared"], 0, result)

    def test_one_rank_and_some_checks(self):
        out = self.verify(0, QUICKSTART, "--check", "resume", "--check", "expert_parallel", "--folder", ".",
                          "--set", "parallel.expert=8")
        self.assertIn("skipped", out)
        self.assertIn("parallel.expert", out)
        self.assertNotIn("gradients", out)
        self.assertEqual(list(self.folder.iterdir()), [], "temporary files are removed")

    def test_mistakes(self):
        self.assertIn("the checks are", self.verify(2, QUICKSTART, "--check", "everything"))
        self.assertIn("model.d_model", self.verify(2, QUICKSTART, "--set", "model.d_model=0"))
        self.assertIn("--folder", self.verify(2, QUICKSTART, "--folder", "no/such/folder"))


if __name__ == "__main__":
    unittest.main()
