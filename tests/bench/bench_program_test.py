#!/usr/bin/env python3
"""witan bench as its users meet it: every section at several numbers of ranks, --json, --compare, mistakes.

usage: bench_program_test.py WITAN [TestCase.test ...]
"""
import json
import math
import pathlib
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from program_case import WITAN, ProgramCase  # noqa: E402

CONFIG = """\
name: "tiny"
model {
  vocab_size: 257
  d_model: 32
  layers: 2
  max_seq_len: 32
  attention { heads: 2 }
  ffn { d_ff: 32 }
  moe {
    experts: 6
    d_ff: 32
    pattern { first: 1 }
    router { top_k { k: 2 } }
    balance { switch_aux {} }
  }
}
data { seq_len: 32 }
train { global_batch: 12 }
runtime { threads: 1 }
"""
DENSE = """\
name: "dense"
model {
  vocab_size: 257
  d_model: 32
  layers: 1
  attention { heads: 2 }
  ffn { d_ff: 32 }
}
data { seq_len: 32 }
train { global_batch: 4 }
"""
# Everything but the limits, which need a gigabyte.
SECTIONS = ["gemm", "layer", "routing", "step", "exchange", "decode", "imbalance"]


class BenchProgramTest(ProgramCase):
    def setUp(self):
        super().setUp()
        (self.folder / "tiny.textproto").write_text(CONFIG)
        (self.folder / "dense.textproto").write_text(DENSE)

    def bench(self, expected, *arguments, ranks=0):
        done = self.execute(expected, WITAN, "bench", *arguments, ranks=ranks)
        return done.stdout, done.stderr

    def report(self, *arguments, ranks=0):
        out, _ = self.bench(0, *arguments, "--repeat", "1", "--json", "out.json", ranks=ranks)
        return json.loads((self.folder / "out.json").read_text()), out

    def check_report(self, report, out):
        self.assertEqual(report["format"], "witan bench 1")
        keys = [(r["section"], r["subject"], r["what"]) for r in report["results"]]
        self.assertEqual(len(keys), len(set(keys)), "results of the same name")
        for result in report["results"]:
            low, high = result["seconds_quartiles"]
            self.assertLessEqual(0.0, low, result)
            self.assertLessEqual(low, result["seconds"], result)
            self.assertLessEqual(result["seconds"], high, result)
            if not result["what"].startswith("phase: "):  # small ones are not printed
                self.assertIn(result["what"], out)
            for ratio in result["ratios"]:
                self.assertTrue(math.isfinite(ratio["value"]), result)
                if "at_least" in ratio:
                    self.assertEqual(ratio["holds"], ratio["value"] >= ratio["at_least"])
                if "at_most" in ratio:
                    self.assertEqual(ratio["holds"], ratio["value"] <= ratio["at_most"])

    def check_sections(self, report, ranks):
        found = {r["section"] for r in report["results"]}
        self.assertEqual(found, set(SECTIONS) - (set() if ranks > 1 else {"exchange"}))
        self.assertEqual(report["machine"]["ranks"], str(ranks))
        both = next(r for r in report["results"] if r["what"] == "forward + backward")
        # 18 T k d ff, whatever the number of ranks.
        self.assertAlmostEqual(both["flop"], 18 * 12 * 32 * 2 * 32 * 32, delta=1)
        step = next(r for r in report["results"] if r["what"] == "step")
        self.assertEqual(step["tokens"], 12 * 32)

    def test_every_section_at_several_ranks(self):
        for ranks in (1, 2, 3):
            with self.subTest(ranks=ranks):
                report, out = self.report(*SECTIONS, "--config", "tiny.textproto", ranks=ranks)
                self.check_report(report, out)
                self.check_sections(report, ranks)
                whats = {r["what"] for r in report["results"]}
                self.assertIn("MaxVio 1, one hot expert", whats)
                self.assertEqual("MaxVio 1, 2 hot experts on rank 0" in whats, ranks == 3)

    def test_bf16_stands_beside_float32(self):
        report, out = self.report("layer", "gemm", "--config", "tiny.textproto", "--precision", "bf16",
                                  "--clock", "cpu")
        self.check_report(report, out)
        self.assertEqual(report["machine"]["precision"], "bf16")
        both = next(r for r in report["results"] if r["what"] == "forward + backward")
        self.assertIn("against float32", [ratio["of"] for ratio in both["ratios"]])
        layer = {r["what"]: r["bytes"] for r in report["results"] if r["section"] == "layer" and r.get("bytes")}
        self.assertLess(layer["forward where nothing trains"], layer["forward"], "weights in bfloat16 are read")

    def test_a_dense_model_has_steps_alone(self):
        report, _ = self.report("step", "decode", "--config", "dense.textproto")
        self.assertEqual({r["section"] for r in report["results"]}, {"step", "decode"})
        _, err = self.bench(2, "layer", "--config", "dense.textproto")
        self.assertIn("model.moe", err)

    def test_compare(self):
        report, _ = self.report("layer", "--config", "tiny.textproto")
        fast = json.loads(json.dumps(report))
        for result in fast["results"]:
            result["seconds"] /= 1000
            for ratio in result["ratios"]:
                ratio["value"] *= 1000
        (self.folder / "fast.json").write_text(json.dumps(fast))
        slow = json.loads(json.dumps(report))
        for result in slow["results"]:
            result["seconds"] *= 1000
        (self.folder / "slow.json").write_text(json.dumps(slow))
        common = ["layer", "--config", "tiny.textproto", "--repeat", "1"]
        out, _ = self.bench(1, *common, "--compare", "fast.json")
        self.assertIn("SLOWER", out)
        out, _ = self.bench(0, *common, "--compare", "slow.json")
        self.assertIn("0 slower", out)

    def test_mistakes(self):
        (self.folder / "other.json").write_text("{}")
        for arguments, message in (
                (["nonsense"], "nonsense"),
                (["layer", "--set", "train.steps=1"], "--config"),
                (["layer", "--threshold", "2"], "--compare"),
                (["layer", "--config", "absent.textproto"], "absent.textproto"),
                (["layer", "--compare", "absent.json"], "absent.json"),
                (["layer", "--compare", "other.json"], "other.json"),
                (["layer", "--repeat", "0"], "0")):
            with self.subTest(arguments=arguments):
                _, err = self.bench(2, *arguments)
                self.assertIn(message, err)


if __name__ == "__main__":
    unittest.main()
