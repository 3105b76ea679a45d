#!/usr/bin/env python3
"""`witan train --set device=CUDA` as its users meet it, on the stand-in for GPUs.

usage: program_cuda_test.py WITAN [TestCase.test ...]    WITAN: the program linked with the stand-in
"""
import json
import os
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
  d_model: 16
  layers: 2
  max_seq_len: 16
  attention { heads: 2 }
  moe {
    experts: 4
    d_ff: 16
    router { score: SIGMOID top_k { k: 2 } }
    balance { expert_bias { rate: 0.01 } }
    balance { switch_aux { coefficient: 0.01 } }
  }
}
data { train { name: "text" path: "text" } seq_len: 16 }
train { steps: 20 global_batch: 8 log_interval: 1 eval_interval: 10 eval_sequences: 8 }
optimizer { lr: 1e-3 }
runtime { threads: 1 }
"""


class CudaProgramTest(ProgramCase):
    def setUp(self):
        super().setUp()
        (self.folder / "tiny.textproto").write_text(CONFIG)
        self.prepare_text(60)

    def train(self, output, *settings, expected=0, ranks=0, gpus=1, resume=None, **stand_in):
        changes = [word for setting in (f"train.output={output}", *settings) for word in ("--set", setting)]
        more = ["--resume", resume] if resume else []
        return self.execute(expected, WITAN, "train", "tiny.textproto", *changes, *more, ranks=ranks,
                            env={**os.environ, "WITAN_STAND_IN_GPUS": str(gpus),
                                 **{f"WITAN_STAND_IN_{name}": str(value) for name, value in stand_in.items()}})

    def losses(self, output):
        lines = (self.folder / output / "metrics.jsonl").read_text().splitlines()
        return [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]

    def assert_same_losses(self, found, expected):
        self.assertEqual(len(found), len(expected))
        for a, b in zip(found, expected):
            self.assertLess(abs(a - b), 1e-4 * abs(b), (found, expected))

    def test_losses_of_both_devices_agree(self):
        for ranks in (0, 2, 4):
            self.train(f"cpu{ranks}", ranks=ranks)
            self.train(f"gpu{ranks}", "device=CUDA", ranks=ranks, gpus=max(ranks, 1))
            self.assert_same_losses(self.losses(f"gpu{ranks}"), self.losses(f"cpu{ranks}"))

    def test_two_ranks_share_a_gpu(self):
        self.train("cpu", ranks=2)
        done = self.train("shared", "device=CUDA", ranks=2, gpus=1)
        self.assertIn("MPI through pinned memory", done.stdout + done.stderr)
        self.assert_same_losses(self.losses("shared"), self.losses("cpu"))
        done = self.train("refused", "device=CUDA", "parallel.device_transport=NCCL", ranks=2, gpus=1, expected=2)
        self.assertIn("NCCL needs a GPU for each rank, but ranks 0 and 1 have GPU 0000:00:00.0", done.stderr)
        self.assertIn("STAGED_MPI", done.stderr)

    def test_ranks_take_the_gpus_that_the_config_names(self):
        named = self.train("one", "device=CUDA", "runtime.device_index=1", "train.steps=1", gpus=3)
        self.assertIn("GPU 0000:01:00.0", named.stderr + named.stdout)
        done = self.train("two", "device=CUDA", "runtime.device_index=[2, 0]", "train.steps=1", ranks=2, gpus=3)
        self.assertIn("GPU 0000:02:00.0", done.stderr + done.stdout)  # of rank 0
        self.assertIn("between GPUs: NCCL", done.stderr + done.stdout)
        done = self.train("far", "device=CUDA", "runtime.device_index=3", gpus=3, expected=2)
        self.assertIn("runtime.device_index[0]: found 3, but this machine has 3 GPUs; 0 .. 2 would be right", done.stderr)
        self.assertFalse((self.folder / "far").exists())
        done = self.train("cpu", "runtime.device_index=0", expected=2)
        self.assertIn("runtime.device_index: is for device: CUDA", done.stderr)

    def test_a_run_goes_on_on_the_other_device(self):
        self.train("whole")
        self.train("moved", "device=CUDA", "train.steps=20", "checkpoint.interval=10")
        step = "moved/checkpoints/step-00000010"
        self.train("resumed", "train.steps=20", resume=step)
        self.assert_same_losses(self.losses("resumed")[-10:], self.losses("whole")[-10:])
        for device in ("CPU", "CUDA"):
            self.execute(0, WITAN, "eval", "moved", "--set", f"device={device}", "--json", f"{device}.json")
        self.assert_same_losses(*([entry["loss"] for entry in json.loads((self.folder / file).read_text())["validation"]]
                                  for file in ("CUDA.json", "CPU.json")))
        texts = [self.execute(0, WITAN, "generate", "moved", "--set", f"device={device}", "--prompt", "3 sheep", "--greedy",
                              "--tokens", "6").stdout for device in ("CPU", "CUDA")]
        self.assertEqual(*texts)

    def test_verify_says_how_far_the_devices_agree(self):
        done = self.execute(0, WITAN, "verify", "tiny.textproto", "--set", "device=CUDA", "--check", "devices",
                            "--json", "verify.json", ranks=2, env={**os.environ, "WITAN_STAND_IN_GPUS": "2"})
        self.assertIn("everything agrees", done.stdout)
        report = json.loads((self.folder / "verify.json").read_text())
        self.assertIn("CUDA", report["kernels"])
        self.assertEqual([result["variant"].split(", ")[:2] for result in report["results"]],
                         [["gradients", "float64"], ["4 steps", "float64"], ["gradients", "float32"], ["4 steps", "float32"]])
        self.assertTrue(all(result["digits"] > 3 for result in report["results"]))

    def bench(self, expected, *arguments, ranks=0, gpus=1):
        return self.execute(expected, WITAN, "bench", *arguments, "--config", "tiny.textproto", "--repeat", "1", ranks=ranks,
                            env={**os.environ, "WITAN_STAND_IN_GPUS": str(gpus)})

    def test_bench_measures_what_there_is_on_a_gpu(self):
        for ranks, precision in ((0, "bf16"), (2, "f32")):
            done = self.bench(0, "--device", "cuda", "--precision", precision, "--json", "bench.json", ranks=ranks, gpus=2)
            report = json.loads((self.folder / "bench.json").read_text())
            self.assertEqual(report["machine"]["gpu"], "stand-in for a GPU")
            self.assertEqual(report["machine"]["clock"], "events")
            results = report["results"]
            self.assertEqual({result["section"] for result in results}, {"limits", "gemm", "layer", "step", "decode"})
            whats = [result["what"] for result in results if result["section"] == "limits"]
            for begin in ("copy memory", "cuBLAS float32, 64 x 64 x 64", "cuBLAS bf16", "cuBLAS float64"):
                self.assertTrue(any(what.startswith(begin) for what in whats), (begin, whats))
            self.assertEqual("all-to-all by NCCL, 1 MiB" in whats, ranks == 2)
            shares = {ratio["of"] for result in results for ratio in result["ratios"]}
            self.assertLessEqual({"of peak", "of copy bandwidth"}, shares)
            self.assertFalse(any("at_least" in ratio for result in results for ratio in result["ratios"]), "bars of CPUs")
            self.assertFalse(any(result["what"].startswith("phase") for result in results))
            for section in ("routing", "exchange", "imbalance"):
                self.assertIn(f"{section}: left out, since it measures the CPU only", done.stdout)

    def test_bench_refuses_what_it_cannot_measure(self):
        done = self.bench(2, "routing", "--set", "device=CUDA")
        self.assertIn('"routing" measures the CPU only', done.stderr)
        done = self.bench(2, "layer", "--device", "cuda", "--clock", "cpu")
        self.assertIn("--clock", done.stderr)

    def test_mistakes(self):
        done = self.train("none", "device=CUDA", gpus=0, expected=2)
        self.assertIn("this machine has no usable one: no NVIDIA driver was found", done.stderr)
        done = self.train("none", "device=CUDA", expected=2, DRIVER=12040)
        self.assertIn("its NVIDIA driver is for CUDA 12.4 at most", done.stderr)
        done = self.train("none", "device=CUDA", expected=2, COMPUTE_CAPABILITY=75)
        self.assertIn("device CUDA 0 has compute capability 7.5, but the kernels need 8.0", done.stderr)
        done = self.train("none", "parallel.device_transport=NCCL", expected=2)
        self.assertIn("parallel.device_transport", done.stderr)
        done = self.train("none", "device=CUDA", "parallel.exchange.transport=SHARED_WINDOWS", ranks=2, gpus=2,
                          expected=2)
        self.assertIn("parallel.exchange.transport", done.stderr)
        done = self.execute(2, WITAN, "verify", "tiny.textproto", "--check", "devices")
        self.assertIn("add --set device=CUDA", done.stderr)
        done = self.execute(2, WITAN, "verify", "tiny.textproto", "--set", "device=CUDA", "--set",
                            "parallel.exchange.transport=SHARED_WINDOWS")
        self.assertIn("parallel.exchange.transport", done.stderr)

    def test_out_of_memory_names_the_tensor(self):
        done = self.train("large", "device=CUDA", "model.d_model=4096", "model.moe.d_ff=8192", expected=1)
        self.assertIn("weights: out of memory: ", done.stderr)

    def test_a_rank_that_runs_out_of_memory_ends_all(self):
        # The second rank only, in a step, while the first goes on.
        done = self.train("small", "device=CUDA", "train.steps=2", ranks=2, gpus=2, expected=1,
                          GPU_MEMORY=f"{1 << 26},5600000")
        self.assertRegex(done.stderr, r"[a-z ]+ \([a-z ,0-9]+\): out of memory: \d+ bytes asked for on CUDA device 1, \d+ of 5600000 free")
        self.assertRegex(done.stderr, r"by `witan plan` a rank needs [0-9.]+ MB of the [0-9.]+ MB that it has")


if __name__ == "__main__":
    unittest.main()
