#!/usr/bin/env python3
"""launch/study.sh: runs, table, what it keeps; and the shipped studies are configs that witan accepts.

usage: study_test.py WITAN [TestCase.test ...]
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

WITAN = pathlib.Path(sys.argv.pop(1)).resolve()
ROOT = pathlib.Path(__file__).resolve().parents[2]
STUDIES = ROOT / "configs" / "presets" / "studies"

CONFIG = """\
name: "tiny"
model {
  vocab_size: 257
  d_model: 16
  layers: 1
  max_seq_len: 16
  attention { heads: 2 }
  moe {
    experts: 4
    d_ff: 8
    router { top_k { k: 1 } }
  }
}
data {
  train { name: "text" path: "text" }
  seq_len: 16
}
train {
  steps: 3
  global_batch: 2
}
checkpoint { at_end: false }
runtime { threads: 1 }
"""
STUDY = {
    "prepare": [["prepare", "{here}/text.txt", "--output", "{output}/text"]],
    "seeds": [1, 2],
    "variants": [
        {"name": "coarse", "set": ["data.train[0].path={output}/text", "model.moe.balance=[{ none {} }]"]},
        {"name": "fine", "set": ["data.train[0].path={output}/text", "model.moe.granularity=2"]},
    ],
}


class StudyTest(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.temporary.name)
        (self.folder / "tiny.textproto").write_text(CONFIG)
        (self.folder / "tiny.json").write_text(json.dumps(STUDY))
        (self.folder / "text.txt").write_text("".join(f"{i} sheep and {i * i % 97} fences.\n" for i in range(300)))

    def tearDown(self):
        self.temporary.cleanup()

    def study(self, expected, *arguments):
        environment = dict(os.environ, PATH=f"{WITAN.parent}:{os.environ['PATH']}")
        done = subprocess.run([ROOT / "launch" / "study.sh", *map(str, arguments)], text=True, env=environment,
                              capture_output=True, timeout=120)
        self.assertEqual(done.returncode, expected, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def test_runs_variants_and_seeds_and_keeps_what_is_finished(self):
        out = self.folder / "out"
        said = self.study(0, self.folder / "tiny", "--output", out)
        table = (out / "table.md").read_text().splitlines()
        self.assertIn(table[-1], said)
        self.assertEqual([line.split(" | ")[0] for line in table], ["| variant", "|---|---|---|---|---|---|---|---|",
                                                                    "| coarse", "| fine"])
        cells = [cell.strip() for cell in table[2].split("|")]
        losses = [json.loads((out / f"coarse-{seed}" / "summary.json").read_text())["validation"][0]["loss"]
                  for seed in (1, 2)]
        self.assertEqual(cells[3], ", ".join(f"{loss:.4f}" for loss in losses))
        self.assertTrue(cells[4].startswith(f"{sum(losses) / 2:.4f} ± "), cells[4])
        self.assertIn("experts: 8 ", (out / "fine-2" / "config.textproto").read_text())
        before = (out / "fine-1" / "metrics.jsonl").stat().st_mtime_ns
        stopped = out / "coarse-2" / "summary.json"
        stopped.write_text(stopped.read_text().replace('"step": 3', '"step": 2'))
        again = self.study(0, self.folder / "tiny", "--output", out)
        self.assertEqual(again.count("is there"), 3, again)
        self.assertEqual((out / "fine-1" / "metrics.jsonl").stat().st_mtime_ns, before)
        self.assertEqual((out / "table.md").read_text().splitlines(), table)

    def test_a_run_that_fails_ends_the_study_and_tells_why(self):
        self.assertIn("expected one of balance", self.study(2, "nonsense"))
        said = self.study(2, self.folder / "tiny", "--output", self.folder / "out", "--set", "model.d_model=15")
        self.assertIn("model.attention.heads", said)
        said = self.study(2, self.folder / "tiny", "--output", self.folder / "out", "--set", "train.max_minutes=1e-6")
        self.assertIn("was stopped before its last step", said)
        self.assertFalse((self.folder / "out" / "table.md").exists())

    def test_shipped_studies(self):
        found = sorted(STUDIES.glob("*.json"))
        self.assertGreaterEqual(len(found), 2)
        for file in found:
            study = json.loads(file.read_text())
            self.assertEqual(len(study["seeds"]), 3, file)
            for variant in study["variants"]:
                options = [word for override in variant["set"] for word in ("--set", override)]
                done = subprocess.run([WITAN, "train", file.with_suffix(".textproto"), *options, "--print-config"],
                                      text=True, capture_output=True, timeout=60)
                self.assertEqual(done.returncode, 0, f"{file.name}, {variant['name']}: {done.stderr}")


if __name__ == "__main__":
    unittest.main()
