#!/usr/bin/env python3
"""witan verify as its users meet it: a shipped preset, the JSON, mistakes.

usage: verify_program_test.py WITAN [TestCase.test ...]
"""
import json
import pathlib
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from program_case import ROOT, WITAN, ProgramCase  # noqa: E402

QUICKSTART = ROOT / "configs/presets/quickstart.textproto"


class VerifyTest(ProgramCase):
    def verify(self, expected, *arguments, ranks=0):
        done = self.execute(expected, WITAN, "verify", *arguments, ranks=ranks, timeout=200)
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
