#!/usr/bin/env python3
"""The program as its users meet it: exit codes, messages, signals, resume, a rank that dies.

usage: program_test.py WITAN [TestCase.test ...]
"""
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from program_case import LAUNCHER, WITAN, ProgramCase  # noqa: E402

CONFIG = """\
name: "tiny"
model {
  vocab_size: 257
  d_model: 32
  layers: 2
  max_seq_len: 32
  attention { heads: 2 }
  moe {
    experts: 4
    d_ff: 32
    router {
      score: SIGMOID
      top_k { k: 2 }
    }
    balance { expert_bias { rate: 0.01 interval: 3 } }
    balance { switch_aux { coefficient: 0.01 counts: PREVIOUS_STEP } }
  }
}
data {
  train { name: "text" path: "text" }
  seq_len: 32
}
train {
  steps: 8
  global_batch: 12
  log_interval: 1
}
optimizer { lr: 1e-3 }
runtime { threads: 1 }
"""


class ProgramTest(ProgramCase):
    def setUp(self):
        super().setUp()
        (self.folder / "tiny.textproto").write_text(CONFIG)
        self.prepare_text(1500)

    def start(self, arguments, ranks=0):
        command = [str(LAUNCHER), "-n", str(ranks)] if ranks else []
        command += [str(a) for a in arguments]
        return subprocess.Popen(command, cwd=self.folder, text=True, errors="replace", stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def finish(self, process, expected, timeout=120):
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            self.fail(f"no end after {timeout} s\n{out}\n{err}")
        said = f"exit code {process.returncode}\n{out}\n{err}"
        if expected == "failure":
            self.assertNotEqual(process.returncode, 0, said)
        else:
            self.assertEqual(process.returncode, expected, said)
        return out, err

    def check(self, expected, arguments, ranks=0):
        return self.finish(self.start(arguments, ranks), expected)

    def train(self, expected, *options, ranks=0):
        arguments = [WITAN, "train", "tiny.textproto", *options]
        return self.check(expected, arguments, ranks)

    def weights(self, run, step=8):
        """SHA-256 of every file with tensors of a checkpoint."""
        folder = self.folder / run / "checkpoints" / f"step-{step:08d}"
        files = sorted(folder.glob("*.safetensors"))
        self.assertTrue(files, f"no tensors in {folder}")
        return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}

    def wait_for_step(self, process, step):
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith(f"step {step}/"):
                return
        self.fail("ended before step %d: %s\n%s" % (step, "".join(lines), process.stderr.read()))

    # Mistakes of the user: exit code 2 on every rank, before any work.

    def test_every_config_error_at_once_with_its_place(self):
        bad = CONFIG.replace("d_model: 32", "d_modle: 32").replace("k: 2", "k: 9")
        bad = bad.replace("heads: 2", "heads: 3 kv_heads: 2").replace("seq_len: 32\n}", "seq_len: 0\n}")
        (self.folder / "tiny.textproto").write_text(bad)
        _, err = self.train(2, ranks=2)
        self.assertIn("tiny.textproto:4:3", err)
        self.assertIn("d_model", err)
        self.assertEqual(err.count("d_modle"), 1, err)  # rank 0 only
        self.assertIn("seq_len", err)
        self.assertFalse((self.folder / "runs").exists())

    def test_contradictions(self):
        for option, words in [("model.moe.router.top_k.k=9", "top_k"),
                              ("model.attention.heads=3", "heads"),
                              ("model.attention.kv_heads=3", "kv_heads"),
                              ("parallel.expert=3", "parallel.expert"),
                              ("train.global_batch=7", "global_batch"),
                              ("data.seq_len=64", "max_seq_len"),
                              ("device=CUDA", "CUDA"),
                              ("parallel.tensor=2", "tensor"),
                              ("optimizer.lr=fast", "optimizer.lr"),
                              ("model.moe.pattern.first=7", "pattern")]:
            with self.subTest(option):
                # Without mpirun, which takes its time to report a run that failed; one case per rank count is enough.
                ranks = 2 if option.startswith(("parallel.expert", "train.global_batch")) else 0
                _, err = self.train(2, "--set", option, ranks=ranks)
                self.assertIn(words, err)

    def test_missing_config_and_data(self):
        _, err = self.check(2, [WITAN, "train", "nothing.textproto"])
        self.assertIn("nothing.textproto", err)
        _, err = self.train(2, "--set", "data.train[0].path=nowhere", ranks=2)
        self.assertIn("nowhere", err)

    def test_usage(self):
        self.check(2, [WITAN])
        self.check(2, [WITAN, "train"])
        self.check(2, [WITAN, "trian", "x"])
        out, _ = self.check(0, [WITAN, "--version"])
        for word in ("kernels", "Open MPI", "Protobuf"):
            self.assertIn(word, out)

    def test_print_config_reads_back(self):
        out, _ = self.train(0, "--set", "optimizer.lr=5e-4", "--print-config")
        self.assertIn("--set", out)
        self.assertIn("# default", out)
        (self.folder / "tiny.textproto").write_text(out)
        again, _ = self.train(0, "--print-config")
        values = [line.split("#")[0].rstrip() for line in out.splitlines()]
        self.assertEqual(values, [line.split("#")[0].rstrip() for line in again.splitlines()])

    # Runs.

    def test_same_bits_twice_and_summary(self):
        self.train(0, "--set", "train.output=a", "--json", "a.json", ranks=2)
        self.train(0, "--set", "train.output=b", ranks=2)
        self.assertEqual(self.weights("a"), self.weights("b"))
        summary = json.loads((self.folder / "a.json").read_text())
        self.assertEqual(summary["step"], 8)
        self.assertEqual(summary["ranks"], 2)
        self.assertEqual(summary["expert_parallel"], 2)
        self.assertEqual(sum(summary["load"][0]["counts"]), 12 * 32 * 2)
        steps = [json.loads(line) for line in (self.folder / "a/metrics.jsonl").read_text().splitlines()]
        self.assertEqual([s["step"] for s in steps if s["kind"] == "step"], list(range(1, 9)))
        self.assertLess(summary["train_loss"], steps[0]["loss"])

    def test_losses_do_not_depend_on_ranks_micro_batches_or_recompute(self):
        def losses(name, *options, ranks=0):
            self.train(0, "--set", f"train.output={name}", "--set", "checkpoint.at_end=false",
                       "--set", "data.validation_share=0", *options, ranks=ranks)
            lines = (self.folder / name / "metrics.jsonl").read_text().splitlines()
            return [json.loads(line)["loss"] for line in lines]
        one = losses("one")
        for name, options, ranks in [("two", [], 2), ("four", [], 4),
                                     ("replicas", ["--set", "parallel.expert=1"], 3),
                                     ("micro", ["--set", "train.micro_batch=2"], 2),
                                     ("layer", ["--set", "train.recompute=LAYER"], 2)]:
            with self.subTest(name):
                for a, b in zip(one, losses(name, *options, ranks=ranks)):
                    self.assertAlmostEqual(a, b, delta=1e-4 * a)

    def test_experts_by_tag(self):
        allowed = """allowed_experts {
          tag { name: "english" experts: "0-1" }
          tag { name: "korean" experts: "1,3" }
        }
        router {"""
        config = CONFIG.replace("router {", allowed)
        config = config.replace('train { name: "text" path: "text" }',
                                'train { name: "a" path: "text" tag: "korean" } train { name: "english" path: "text" }')
        (self.folder / "tiny.textproto").write_text(config)
        _, err = self.train(2, "--set", "data.train[1].tag=french", "--set", "train.routing.force_balanced=true")
        self.assertIn('data.train[1].tag: found "french"', err)
        self.assertIn("train.routing.force_balanced", err)
        self.train(0, ranks=2)
        lines = (self.folder / "runs/tiny/metrics.jsonl").read_text().splitlines()
        for line in map(json.loads, lines):
            if line["kind"] != "step":
                continue
            for layer in line["layers"]:
                self.assertEqual([n > 0 for n in layer["counts_by_tag"]["english"]], [True, True, False, False])
                self.assertEqual([n > 0 for n in layer["counts_by_tag"]["korean"]], [False, True, False, True])
        run = "runs/tiny"
        for arguments, words in [(["generate", run, "--prompt", "3", "--tokens", "4"], "english, korean"),
                                 (["generate", run, "--prompt", "3", "--tag", "french"], "french"),
                                 (["eval", run, "--data", "text=text"], "english, korean"),
                                 (["eval", run, "--tag", "korean"], "--data")]:
            _, err = self.check(2, [WITAN, *arguments])
            self.assertIn(words, err)
        for tag in ("english", "korean"):
            self.check(0, [WITAN, "generate", run, "--prompt-ids", "50,51", "--tokens", "8", "--tag", tag, "--greedy",
                           "--set", "data.tokenizer=none"])
        self.check(0, [WITAN, "eval", run, "--windows", "2"])
        self.check(0, [WITAN, "eval", run, "--windows", "2", "--data", "text=text", "--tag", "korean", "--json", "e.json"])
        layer = json.loads((self.folder / "e.json").read_text())["validation"][0]["load"][0]
        self.assertEqual([n > 0 for n in layer["counts"]], [False, True, False, True])

    def test_generate_is_causal_and_dropless(self):
        for name, selection, code in [("choice", "expert_choice { k: 2 } weights: AS_IS", 2), ("sinkhorn", "sinkhorn { k: 2 }", 2),
                                      ("tight", "top_k { k: 2 }", 0)]:
            with self.subTest(name):
                router = f"score: SOFTMAX allow_non_causal: true {selection}"
                config = CONFIG.replace("score: SIGMOID\n      top_k { k: 2 }", router)
                config = config.replace("balance { expert_bias { rate: 0.01 interval: 3 } }",
                                        "capacity { factor: 0.1 evaluation_factor: 0.1 }")
                (self.folder / "tiny.textproto").write_text(config)
                self.train(0, "--set", "train.steps=1", "--set", f"train.output={name}")
                generate = [WITAN, "generate", name, "--prompt-ids", "50,51,52,53", "--greedy", "--tokens", "3",
                            "--set", "data.tokenizer=none"]
                _, err = self.check(code, generate)
                if code:
                    self.assertIn("later tokens", err)
                    continue
                # The same text whatever else is generated beside it: nothing is dropped.
                self.check(0, [*generate, "--json", "one.json"])
                self.check(0, [*generate, "--samples", "3", "--json", "three.json"])
                one, three = (json.loads((self.folder / f).read_text())["samples"] for f in ("one.json", "three.json"))
                self.assertEqual(three, 3 * one)

    def test_a_dense_model(self):
        begin = CONFIG.index("  moe {")
        end = CONFIG.index("data {")
        dense = CONFIG[:begin] + "  ffn { d_ff: 32 }\n}\n" + CONFIG[end:]
        (self.folder / "tiny.textproto").write_text(dense)
        self.train(0, "--set", "train.steps=1", ranks=2)
        self.check(0, [WITAN, "generate", "runs/tiny", "--prompt-ids", "50,51", "--greedy", "--tokens", "3",
                       "--set", "data.tokenizer=none"])

    def test_a_run_is_not_overwritten(self):
        self.train(0)
        _, err = self.train(2)
        self.assertIn("--resume auto", err)

    def test_usr1_stops_gracefully_and_resume_gives_the_same_bits(self):
        options = ["--set", "train.steps=400", "--set", "train.eval_interval=0"]
        process = self.start([WITAN, "train", "tiny.textproto", *options], ranks=2)
        self.wait_for_step(process, 5)
        process.send_signal(signal.SIGUSR1)
        out, _ = self.finish(process, 0)
        self.assertIn("stopped early", out)
        summary = json.loads((self.folder / "runs/tiny/summary.json").read_text())
        self.assertLess(summary["step"], 400)
        self.train(0, *options, "--resume", "auto", ranks=2)
        self.train(0, *options, "--set", "train.output=whole", ranks=2)
        self.assertEqual(self.weights("runs/tiny", 400), self.weights("whole", 400))

    def test_term_to_the_launcher_leaves_a_checkpoint(self):
        process = self.start([WITAN, "train", "tiny.textproto", "--set", "train.steps=100000"], ranks=2)
        self.wait_for_step(process, 5)
        process.terminate()
        self.finish(process, "failure", 60)  # mpirun's own code after SIGTERM is not 0
        found = list((self.folder / "runs/tiny/checkpoints").glob("step-*"))
        self.assertEqual(len(found), 1)
        self.assertFalse(found[0].name.endswith(".tmp"))

    def test_max_minutes(self):
        out, _ = self.train(0, "--set", "train.steps=1000000", "--set", "train.max_minutes=0.03")
        self.assertIn("stopped early", out)

    def test_a_killed_rank_ends_the_others(self):
        process = self.start([WITAN, "train", "tiny.textproto", "--set", "train.steps=100000"], ranks=2)
        self.wait_for_step(process, 5)
        found = subprocess.run(["pgrep", "-f", f"^{WITAN} train tiny.textproto"], text=True,
                               stdout=subprocess.PIPE, check=False).stdout.split()
        ours = [int(p) for p in found if os.readlink(f"/proc/{p}/cwd") == str(self.folder)]
        self.assertEqual(len(ours), 2)
        os.kill(ours[-1], signal.SIGKILL)
        began = time.monotonic()
        _, err = self.finish(process, "failure", 60)
        self.assertLess(time.monotonic() - began, 30)
        self.assertTrue(err.strip())

    def test_not_finite(self):
        _, err = self.train(1, "--set", "optimizer.lr=100", "--set", "optimizer.clip_norm=0",
                            "--set", "model.init_std=10", "--set", "train.steps=200")
        self.assertIn("not finite", err)


if __name__ == "__main__":
    unittest.main(verbosity=2)
