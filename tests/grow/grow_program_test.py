#!/usr/bin/env python3
"""witan grow as its users meet it: a dense run becomes sparse and trains on; mistakes.

usage: grow_program_test.py WITAN [TestCase.test ...]
"""
import json
import pathlib
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from program_case import WITAN, execute  # noqa: E402

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


# The sparse model with three experts more for a new domain.
NEW_DOMAIN = SPARSE.replace('"sparse"', '"new-domain"').replace("experts: 6", "experts: 15").replace(
    "d_ff: 24\n    granularity: 2", "d_ff: 12").replace("k: 2", "k: 4").replace("expert_bias {} }", """expert_bias {} }
    allowed_experts { tag { name: "text" experts: "0-11" } tag { name: "new" experts: "0-14" } }""").replace(
    'path: "text" }', 'path: "text" weight: 1e-5 }\n  train { name: "new" path: "other" }')


def tensors_of(folder):
    """Bytes by name, of all weights of a checkpoint."""
    tensors = {}
    for file in sorted(folder.glob("model*.safetensors")):
        content = file.read_bytes()
        size = int.from_bytes(content[:8], "little")
        for name, entry in json.loads(content[8:8 + size]).items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                tensors[name] = content[8 + size + begin:8 + size + end]
    return tensors


class GrowTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.temporary.name)
        (cls.folder / "dense.textproto").write_text(DENSE)
        (cls.folder / "sparse.textproto").write_text(SPARSE)
        text = "".join(f"{i} sheep jumped over {i * i % 97} fences.\n" for i in range(300))
        (cls.folder / "text.txt").write_text(text)
        (cls.folder / "other.txt").write_text("".join(f"{i}! = {i} * {i - 1}!; " for i in range(1, 500)))
        (cls.folder / "new-domain.textproto").write_text(NEW_DOMAIN)
        cls.run_witan(0, "prepare", "text.txt", "--output", "text")
        cls.run_witan(0, "prepare", "other.txt", "--output", "other")
        cls.run_witan(0, "train", "dense.textproto")
        cls.run_witan(0, "grow", "upcycle", "runs/dense", "sparse", "--experts", 6, "--top-k", 2, "--granularity", 2,
                      "--json", "grow.json")

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    @classmethod
    def run_witan(cls, expected, *arguments, ranks=0):
        done = execute(cls.folder, expected, WITAN, *arguments, ranks=ranks)
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

    @staticmethod
    def experts_of(names):
        return {int(name.split(".experts.")[1].split(".")[0]) for name in names if ".experts." in name}

    def loss_on_old_text(self, model):
        self.run_witan(0, "eval", model, "--data", "text=text", "--json", "old.json")
        return self.read("old.json")["validation"][0]["loss"]

    def train_new_domain(self, name, rules, ranks):
        self.run_witan(0, "train", "new-domain.textproto", "--set", f"train.output=runs/{name}", "--set",
                       "train.init_from=larger", "--set", f"optimizer.rule={rules}", ranks=ranks)
        checkpoint = self.folder / "runs" / name / "checkpoints" / "step-00000004"
        return {tensor for tensor, value in tensors_of(checkpoint).items()
                if value != tensors_of(self.folder / "larger")[tensor]}

    def test_new_experts_leave_the_old_domain_alone(self):
        self.run_witan(0, "grow", "experts", "sparse", "larger", "--add", 3, "--copy-of", 1, "--noise", 0.1,
                       "--tag", "new")
        before = self.loss_on_old_text("larger")
        self.assertEqual(before, self.loss_on_old_text("sparse"))

        changed = self.train_new_domain("frozen", '[{ pattern: "layers.*.experts.*" experts: "0-11" factor: 0 }]', 3)
        self.assertTrue(self.experts_of(changed))
        self.assertLessEqual(self.experts_of(changed), {12, 13, 14})
        self.assertTrue(any(".embed_tokens." in name for name in changed))
        self.assertNotEqual(before, self.loss_on_old_text("runs/frozen"))

        rules = '[{ pattern: "layers.*.moe.*" experts: "12-14" factor: 1 }, { pattern: "*" factor: 0 }]'
        changed = self.train_new_domain("only-new", rules, 3)
        self.assertTrue(changed)
        self.assertLessEqual(self.experts_of(changed), {12, 13, 14})
        self.assertFalse([name for name in changed if ".gate." not in name and ".experts." not in name])
        bias = "model.moe.balance=[{ expert_bias { rate: 0 } }]"
        self.run_witan(0, "train", "new-domain.textproto", "--set", "train.output=runs/still", "--set",
                       "train.init_from=larger", "--set", f"optimizer.rule={rules}", "--set", bias)
        self.assertEqual(before, self.loss_on_old_text("runs/still"))

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
        new = ("--add", 3, "--copy-of", 1, "--tag", "new")
        refused("is dense", "experts", "runs/dense", "new", *new)
        refused("the model knows already", "experts", "sparse", "new", "--add", 3, "--copy-of", 1, "--tag", "text")
        refused("copy-of: found 12", "experts", "sparse", "new", "--add", 3, "--copy-of", 12, "--tag", "new")
        refused("--tag is required", "experts", "sparse", "new", "--add", 3, "--copy-of", 1)
        refused("last expert is 14", "experts", "sparse", "new", *new, "--allow", "3-15")

    def test_help(self):
        self.assertIn("upcycle", self.run_witan(0, "grow", "--help"))
        self.assertIn("Examples:", self.run_witan(0, "grow", "upcycle", "--help"))
        self.assertIn("allowed_experts", self.run_witan(0, "grow", "experts", "--help"))


if __name__ == "__main__":
    unittest.main()
