#!/usr/bin/env python3
"""witan train on two ranks with every selection, balancing scope and bound of the experts' rows; what is refused, and why.

usage: routing_program_test.py WITAN [TestCase.test ...]
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
name: "routing"
model {
  vocab_size: 257
  d_model: 16
  layers: 2
  attention { heads: 2 }
  moe {
    experts: 4
    d_ff: 16
    router { ROUTER }
    BALANCE
    CAPACITY
  }
}
data {
  train { name: "text" path: "text" }
  seq_len: 16
  validation_share: 0
}
train { steps: 2 global_batch: 8 log_interval: 1 TRAIN }
checkpoint { at_end: false }
parallel { exchange { EXCHANGE } }
runtime { threads: 1 }
"""
PARTS = {"ROUTER": "top_k { k: 2 }", "BALANCE": "balance { none {} }", "CAPACITY": "", "TRAIN": "", "EXCHANGE": ""}


class RoutingProgramTest(ProgramCase):
    def setUp(self):
        super().setUp()
        self.prepare_text(300)

    def write(self, parts):
        text = CONFIG
        for name, value in {**PARTS, **parts}.items():
            text = text.replace(name, value)
        (self.folder / "routing.textproto").write_text(text)

    def train(self, name, ranks=2, **parts):
        """The steps of metrics.jsonl."""
        self.write(parts)
        self.execute(0, WITAN, "train", "routing.textproto", "--set", f"train.output=runs/{name}", ranks=ranks)
        lines = (self.folder / "runs" / name / "metrics.jsonl").read_text().splitlines()
        steps = [step for step in map(json.loads, lines) if step["kind"] == "step"]
        self.assertEqual(len(steps), 2)
        for step in steps:
            self.assertTrue(math.isfinite(step["loss"]) and math.isfinite(step["grad_norm"]), step)
            self.assertEqual(len(step["layers"]), 2)
        return steps

    def refused(self, message, **parts):
        self.write(parts)
        done = self.execute(2, WITAN, "train", "routing.textproto")
        self.assertIn(message, done.stderr)
        self.assertIn("routing.textproto", done.stderr)
        self.assertFalse((self.folder / "runs").exists())

    def test_every_selection(self):
        tokens = 8 * 16
        for router, pairs in {
                "group_limited { k: 2 n_group: 2 topk_group: 1 }": 2 * tokens,
                "top_p { p: 0.6 k_max: 3 }": None,
                "noisy_top_k { k: 2 noise: FIXED } input_jitter: 0.1": 2 * tokens,
                "hash { k: 1 } weights: UNIFORM": tokens,
                "all {} weights: UNIFORM": 4 * tokens,
                "sinkhorn { k: 2 } allow_non_causal: true": 2 * tokens,
                "expert_choice { k: 2 scope: EXPERT_GROUP } weights: AS_IS allow_non_causal: true": 2 * tokens,
        }.items():
            with self.subTest(router=router):
                steps = self.train(router.split()[0], ROUTER=router)
                for layer in steps[-1]["layers"]:
                    if pairs is None:
                        self.assertTrue(tokens <= sum(layer["counts"]) <= 3 * tokens, layer)
                    else:
                        self.assertEqual(sum(layer["counts"]), pairs)
                    self.assertEqual(sum(layer["rank_counts"]), sum(layer["counts"]))

    def test_balancing_of_every_scope_at_once(self):
        steps = self.train(
            "balance", ROUTER="noisy_top_k { k: 2 }", TRAIN="micro_batch: 2", BALANCE="""
            balance { switch_aux { coefficient: 0.1 counts: RUNNING } }
            balance { switch_aux { coefficient: 0.1 scope: SEQUENCE load: FIRST_CHOICE } }
            balance { importance_cv2 { coefficient: 0.1 scope: GLOBAL_MICRO_BATCH } }
            balance { load_cv2 { coefficient: 0.1 scope: GLOBAL_MICRO_BATCH } }""")
        self.assertEqual(set(steps[0]["layers"][0]["losses"]), {"switch_aux", "switch_aux_2", "importance_cv2", "load_cv2"})
        pooled = "balance { switch_aux { coefficient: 0.1 pool_layers: true counts: EXACT } }"
        apart = pooled.replace("pool_layers", "mean_over_layers")
        loss = self.train("pooled", BALANCE=pooled)[0]["router_loss"]
        self.assertAlmostEqual(loss, self.train("apart", BALANCE=apart)[0]["router_loss"], delta=0.3 * loss)

    def test_bounds_change_no_number(self):
        plain = self.train("plain")
        rounds = self.train("rounds", EXCHANGE="max_rows: 40")
        for a, b in zip(plain, rounds):
            self.assertAlmostEqual(a["loss"], b["loss"], delta=1e-5)
            self.assertGreater(b["layers"][0]["rounds"], 1)
            self.assertEqual(a["layers"][0]["rounds"], 1)
        for policy in ("TOKEN_MAJOR", "PROBABILITY"):
            capacity = f"capacity {{ factor: 0.8 policy: {policy} renormalize_after_drop: true PAD }}"
            options = {"ROUTER": "top_k { k: 2 } allow_non_causal: true", "EXCHANGE": "rows: PER_CHOICE"}
            bare = self.train(f"bare-{policy}", CAPACITY=capacity.replace("PAD", ""), **options)
            padded = self.train(f"padded-{policy}", CAPACITY=capacity.replace("PAD", "pad_to_capacity: true"), **options)
            for a, b in zip(bare, padded):
                self.assertAlmostEqual(a["loss"], b["loss"], delta=1e-5)
                self.assertGreater(b["layers"][0]["dropped"], 0)

    def test_refusals_say_why(self):
        for message, parts in {
                "max_rows: found 1; at least 2": {"EXCHANGE": "max_rows: 1"},
                "max_rows: and chunks both cut": {"EXCHANGE": "max_rows: 64 chunks: 2"},
                "pad_to_capacity needs PER_CHOICE": {"CAPACITY": "capacity { factor: 1 pad_to_capacity: true }"},
                "pad_to_capacity is for shapes that never change": {
                    "CAPACITY": "capacity { factor: 1 pad_to_capacity: true }",
                    "EXCHANGE": "rows: PER_CHOICE max_rows: 64"},
                "load_cv2: needs the noise of the selection noisy_top_k": {
                    "BALANCE": "balance { load_cv2 { scope: GLOBAL_MICRO_BATCH } }"},
                "counts: applies to scope GLOBAL_BATCH only": {
                    "BALANCE": "balance { switch_aux { scope: SEQUENCE counts: RUNNING } }"},
                "FIRST_CHOICE needs choices in an order": {
                    "ROUTER": "all {}", "BALANCE": "balance { switch_aux { scope: SEQUENCE load: FIRST_CHOICE } }"},
                "pools the routed counts": {
                    "BALANCE": "balance { switch_aux { scope: SEQUENCE pool_layers: true } }"},
                "expert_choice: lets a token's experts depend on later tokens": {
                    "ROUTER": "expert_choice { k: 2 scope: EXPERT_GROUP } weights: AS_IS"},
                "PROBABILITY lets later tokens take a token's place": {
                    "CAPACITY": "capacity { factor: 1 policy: PROBABILITY }"},
                "k: found 5; at most moe.experts = 4": {"ROUTER": "hash { k: 5 }"},
        }.items():
            with self.subTest(message=message):
                self.refused(message, **parts)


if __name__ == "__main__":
    unittest.main()
