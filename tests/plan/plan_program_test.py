#!/usr/bin/env python3
"""witan plan as its users meet it: text, JSON, machines, the table, mistakes.

usage: plan_program_test.py WITAN [TestCase.test ...]
"""
import json
import pathlib
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from program_case import ROOT, WITAN, ProgramCase  # noqa: E402

QUICKSTART = str(ROOT / "configs/presets/quickstart.textproto")
H100 = str(ROOT / "configs/machines/h100.textproto")
H200 = str(ROOT / "configs/machines/h200.textproto")

MIXTRAL = """\
name: "mixtral"
model {
  vocab_size: 32000 d_model: 4096 layers: 32
  attention { heads: 32 kv_heads: 8 }
  moe { experts: 8 d_ff: 14336 router { top_k { k: 2 } } }
}
data { seq_len: 4096 tokenizer: "none" }
train { global_batch: 256 micro_batch: 1 }
runtime { precision: BF16 }
"""


class PlanTest(ProgramCase):
    def setUp(self):
        super().setUp()
        self.mixtral = self.folder / "mixtral.textproto"
        self.mixtral.write_text(MIXTRAL)

    def witan(self, *arguments, code=0):
        done = self.execute(code, WITAN, "plan", *arguments)
        return done.stdout if code == 0 else done.stderr

    def planned(self, *arguments):
        self.witan(*arguments, "--json", "plan.json")
        return json.loads((self.folder / "plan.json").read_text())

    def test_without_a_machine(self):
        text = self.witan(QUICKSTART)
        self.assertIn("6 x active matrix parameters", text)
        self.assertIn("MOE_ACTIVATION", text)
        plan = self.planned(QUICKSTART, "--ranks", 4, "--imbalance", 1.5)
        self.assertEqual(plan["layout"]["expert"], 4)
        self.assertEqual(sum(v for k, v in plan["memory_bytes"].items() if k != "total"), plan["memory_bytes"]["total"])
        kinds = {part["kind"] for part in plan["sent_bytes"]}
        self.assertLessEqual({"dispatch", "combine", "dense gradients, reduce-scatter"}, kinds)
        self.assertNotIn("step", plan)
        even = self.planned(QUICKSTART, "--ranks", 4)
        self.assertLess(even["memory_bytes"]["activations"], plan["memory_bytes"]["activations"])

    def test_the_memory_of_a_gpu(self):
        on_gpus = ("--set", "device=CUDA", "--ranks", 8)
        text = self.witan(self.mixtral, *on_gpus)
        self.assertIn("kernels and cuBLAS", text)
        self.assertNotIn("fits in", text)  # of no GPU in particular
        self.assertIn("DOES NOT FIT in 80.0000 GB (--device-memory): a rank needs", self.witan(
            self.mixtral, *on_gpus, "--device-memory", "80GB"))
        quick = self.planned(QUICKSTART, *on_gpus, "--device-memory", "80GiB")
        self.assertEqual(quick["device_memory"], {"bytes": 80 << 30, "of": "--device-memory", "fits": True})
        self.assertEqual(sum(v for k, v in quick["memory_bytes"].items() if k != "total"), quick["memory_bytes"]["total"])
        staged = self.planned(QUICKSTART, *on_gpus, "--set", "parallel.device_transport=STAGED_MPI")
        self.assertGreater(staged["pinned_host_bytes"], 0)
        self.assertEqual(staged["memory_bytes"], quick["memory_bytes"])

        # What it says would fit does, and the step before it does not.
        levels = quick["memory_bytes_by_recompute"]
        room = levels["LAYER"]["total"] + 1000
        tight = self.planned(QUICKSTART, *on_gpus, "--device-memory", room)["device_memory"]
        self.assertFalse(tight["fits"])
        self.assertIn(f"train.recompute: LAYER ({levels['LAYER']['total'] / 1e6:.1f} MB)", tight["advice"])
        self.assertTrue(self.planned(QUICKSTART, *on_gpus, "--set", "train.recompute=LAYER", "--device-memory",
                                     room)["device_memory"]["fits"])
        least = self.planned(QUICKSTART, *on_gpus, "--set", "train.recompute=LAYER", "--set", "train.micro_batch=1")
        shorter = self.planned(QUICKSTART, *on_gpus, "--device-memory", least["memory_bytes"]["total"] - 1)
        self.assertIn("train.recompute: LAYER, train.micro_batch: 1 and data.seq_len: ", shorter["device_memory"]["advice"])
        none = self.planned(QUICKSTART, *on_gpus, "--device-memory", "1MB")["device_memory"]["advice"]
        self.assertIn("no train.recompute, train.micro_batch or data.seq_len makes it fit", none)
        self.assertIn("--device-memory is for device: CUDA", self.witan(QUICKSTART, "--device-memory", "80GB", code=2))

    def test_with_a_machine(self):
        plan = self.planned(self.mixtral, "--machine", H200, "--ranks", 64)
        self.assertEqual(plan["parameters"]["total"], 46702792704)
        self.assertEqual(plan["parameters"]["active"], 12879925248)
        best = plan["layouts"]["fitting"][0]
        self.assertLessEqual(best["memory_bytes"]["total"], 141e9)
        self.assertGreater(best["step"]["mfu"], 0.2)
        self.assertLess(best["step"]["mfu"], 0.7)
        self.assertAlmostEqual(sum(best["step"]["parts"].values()), best["step"]["seconds"], places=6)
        text = self.witan(self.mixtral, "--machine", H200, "--ranks", 64, "--layouts", 2)
        self.assertIn("best", text)

    def test_does_not_fit(self):
        text = self.witan(self.mixtral, "--machine", H100)
        self.assertIn("DOES NOT FIT in 80.0 GB a rank", text)
        self.assertIn("and on no number of such ranks", text)

    def test_table(self):
        text = self.witan("--table", self.mixtral, QUICKSTART, "--json", "table.json")
        self.assertIn("46,702,792,704", text)
        models = json.loads((self.folder / "table.json").read_text())["models"]
        self.assertEqual([model["name"] for model in models], ["mixtral", "quickstart"])
        self.assertLess(models[0]["flops_per_token"]["forward"], models[0]["flops_per_token"]["forward_of_dense"])

    def test_mistakes(self):
        bad = self.folder / "bad.textproto"
        bad.write_text(pathlib.Path(H100).read_text().replace("memory: 80", "memory: -80"))
        self.assertRegex(self.witan(QUICKSTART, "--machine", bad, code=2), r"bad.textproto:\d+:1: memory: ")
        self.assertIn("no.textproto", self.witan(QUICKSTART, "--machine", "no.textproto", code=2))
        self.assertIn("no.textproto", self.witan("no.textproto", code=2))
        self.assertIn("train.global_batch", self.witan(QUICKSTART, "--ranks", 3, code=2))
        self.assertIn("takes one config", self.witan(QUICKSTART, QUICKSTART, code=2))
        (self.folder / "empty.json").write_text("{}")
        self.assertIn("witan bench", self.witan(QUICKSTART, "--measured", "empty.json", code=2))
        self.assertIn("--imbalance", self.witan(QUICKSTART, "--imbalance", 0.5, code=2))
        self.assertFalse((self.folder / "plan.json").exists())


if __name__ == "__main__":
    unittest.main()
