#!/usr/bin/env python3
"""witan grow as its users meet it: a dense run becomes sparse and trains on; mistakes.

usage: grow_program_test.py WITAN [TestCase.test ...]
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

WITAN = os.path.abspath(sys.argv.pop(1))
ROOT = pathlib.Path(__file__).resolve().parents[2]
LAUNCHER = ROOT / "launch" / "witan-mpirun.sh"

DENSE = """\
name: "dense"
model {
  vocab_size: 257
  d_model: 16
  layers: 2
  max_seq_len: 16
  init_std: 0.2
  attention { heads: 2 }
  ffn { d_ff: 24 }
}
data {
  train { name: "text" path: "text" }
  seq_len: 16
}
train {
  steps: 4
  global_batch: 6
}
runtime { threads: 1 }
"""
# The dense model upcycled with 6 experts, top-2, and granularity 2.
SPARSE = DENSE.replace('"dense"', '"sparse"').replace("ffn { d_ff: 24 }", """\
moe {
    experts: 6
    d_ff: 24
    granularity: 2
    router { top_k { k: 2 } }
    balance { expert_bias {} }
  }""")


class GrowTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.temporary.name)
        (cls.folder / "dense.textproto").write_text(DENSE)
        (cls.folder / "sparse.textproto").write_text(SPARSE)
        text = "".join(f"{i} sheep jumped over {i * i % 97} fences.\n" for i in range(300))
        (cls.folder / "text.txt").write_text(text)
        cls.run_witan(0, "prepare", "text.txt", "--output", "text")
        cls.run_witan(0, "train", "dense.textproto")
        cls.run_witan(0, "grow", "upcycle", "runs/dense", "sparse", "--experts", 6, "--top-k", 2, "--granularity", 2,
                      "--json", "grow.json")

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    @classmethod
    def run_witan(cls, expected, *arguments, ranks=0):
        command = [str(LAUNCHER), "-n", str(ranks)] if ranks else []
        done = subprocess.run([*command, WITAN, *map(str, arguments)], cwd=cls.folder, text=True, timeout=120,
                              stdin=subprocess.DEVNULL, capture_output=True)
        assert done.returncode == expected, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def read(self, name):
        return json.loads((self.folder / name).read_text())

    def test_upcycling_keeps_the_loss(self):
        for model in ("runs/dense", "sparse"):
            self.run_witan(0, "eval", model, "--json", f"{pathlib.Path(model).name}.json")
        dense, sparse = self.read("dense.json"), self.read("sparse.json")
        self.assertAlmostEqual(dense["validation"][0]["loss"], sparse["validation"][0]["loss"], delta=1e-5)
        grown = self.read("grow.json")
        self.assertEqual((grown["experts"], grown["top_k"], grown["moe_layers"]), (12, 4, 2))
        self.assertEqual(grown["output"], "sparse")

    def test_the_result_trains_at_any_expert_parallel_size(self):
        first = {}
        for ranks in (1, 2, 3):
            output = f"runs/sparse-{ranks}"
            self.run_witan(0, "train", "sparse.textproto", "--set", "train.init_from=sparse", "--set",
                           f"train.output={output}", ranks=ranks)
            lines = (self.folder / output / "metrics.jsonl").read_text().splitlines()
            steps = [json.loads(line) for line in lines]
            first[ranks] = steps[0]["loss"]
            self.assertLess(steps[3]["loss"], steps[0]["loss"])
            self.assertEqual(self.read(f"{output}/summary.json")["expert_parallel"], ranks)
        for loss in first.values():
            self.assertAlmostEqual(loss, first[1], delta=1e-5)

    def test_mistakes(self):
        def refused(part, *arguments):
            said = self.run_witan(2, "grow", *arguments)
            self.assertIn(part, said)
            self.assertFalse((self.folder / "new").exists())
            self.assertFalse((self.folder / "new.tmp").exists())

        sizes = ("--experts", 4, "--top-k", 2)
        refused("exists already", "upcycle", "runs/dense", "sparse", *sizes)
        refused("is not dense", "upcycle", "sparse", "new", *sizes)
        refused("no such folder", "upcycle", "nowhere", "new", *sizes)
        refused("granularity: found 7; it must divide", "upcycle", "runs/dense", "new", *sizes, "--granularity", 7)
        refused("do not sum to 1", "upcycle", "runs/dense", "new", *sizes, "--weights", "as_is")
        refused("--score", "upcycle", "runs/dense", "new", *sizes, "--score", "hard")
        refused("--top-k is required", "upcycle", "runs/dense", "new", "--experts", 4)
        refused("--noise", "upcycle", "runs/dense", "new", *sizes, "--noise", -1)
        refused("subcommand is required")

    def test_help(self):
        self.assertIn("upcycle", self.run_witan(0, "grow", "--help"))
        self.assertIn("Examples:", self.run_witan(0, "grow", "upcycle", "--help"))


if __name__ == "__main__":
    unittest.main()
