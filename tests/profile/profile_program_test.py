#!/usr/bin/env python3
"""witan train --profile and witan profile as their users meet them.

usage: profile_program_test.py WITAN [TestCase.test ...]
"""
import collections
import json
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
  layers: 3
  max_seq_len: 32
  attention { heads: 2 }
  ffn { d_ff: 32 }
  moe { experts: 6 d_ff: 32 shared_d_ff: 16 pattern { first: 1 } router { top_k { k: 2 } } }
}
data { train { name: "text" path: "text" } seq_len: 32 }
train { steps: 7 global_batch: 12 eval_interval: 4 eval_sequences: 12 output: "run" }
checkpoint { interval: 4 }
runtime { threads: 1 }
"""
# Phases that stand in every layer, in the dense one, in the MoE layers, and in none.
EVERY_LAYER = {"attention", "attention backward", "norm", "norm backward"}
DENSE_LAYER = {"dense ffn", "dense ffn backward"}
MOE_LAYERS = {name + suffix for suffix in ("", " backward")
              for name in ("router", "dispatch", "combine", "experts", "experts up", "experts activation",
                           "experts down", "shared expert")} | {"exchange plan", "expert load", "balancing backward"}
NO_LAYER = {"step", "data", "forward", "backward", "embedding", "embedding backward", "head and loss",
            "gradient reduction", "gradient norm", "optimizer step", "all-gather of weights", "metrics",
            "evaluation", "checkpoint"}


class ProfileTest(ProgramCase):
    def setUp(self):
        super().setUp()
        (self.folder / "tiny.textproto").write_text(CONFIG)
        (self.folder / "text.txt").write_text("".join(f"{i} sheep, {i * i % 97} wolves.\n" for i in range(800)))
        self.check(0, [WITAN, "prepare", "text.txt", "--output", "text"])

    def check(self, expected, arguments, ranks=0):
        done = self.execute(expected, *arguments, ranks=ranks)
        return done.stdout + done.stderr

    def events(self, path):
        trace = json.loads((self.folder / path).read_text())
        return trace, [e for e in trace["traceEvents"] if e["ph"] == "X"]

    def check_nesting(self, events):
        """On a thread an event lies inside the one before it or behind it."""
        threads = collections.defaultdict(list)
        for event in events:
            threads[event["pid"], event["tid"]].append(event)
        for of_thread in threads.values():
            open_ends = []
            for event in sorted(of_thread, key=lambda e: (e["ts"], -e["dur"])):
                end = event["ts"] + event["dur"]
                while open_ends and open_ends[-1] <= event["ts"] + 5e-4:
                    open_ends.pop()
                if open_ends:
                    self.assertLessEqual(end, open_ends[-1] + 5e-4, event)
                open_ends.append(end)

    def check_phases(self, events):
        layers = collections.defaultdict(set)
        for event in events:
            if event["cat"] == "phase":
                layers[event["name"]].add(event["args"].get("layer"))
        for name in EVERY_LAYER:
            self.assertLessEqual({0, 1, 2}, layers[name], name)
        for name in DENSE_LAYER:
            self.assertEqual(layers[name], {0}, name)
        for name in MOE_LAYERS:
            self.assertEqual(layers[name], {1, 2}, name)
        for name in NO_LAYER:
            self.assertEqual(layers[name], {None}, name)
        steps = sorted(e["args"]["step"] for e in events if e["name"] == "step")
        self.assertEqual(steps, [3, 4, 5], "the steps that were asked for")

    def test_one_rank(self):
        out = self.check(0, [WITAN, "train", "tiny.textproto", "--profile", "3:5"])
        self.assertIn("witan profile run", out)
        trace, events = self.events("run/profile/rank-00000.json")
        self.check_phases(events)
        self.check_nesting(events)
        self.assertEqual(trace["otherData"]["lost_events"], 0)
        self.assertFalse([e for e in events if e["cat"] != "phase"], "one rank has no collectives")

    def test_three_ranks_are_merged(self):
        self.check(0, [WITAN, "train", "tiny.textproto", "--profile", "3:5"], ranks=3)
        for rank in range(3):
            trace, events = self.events(f"run/profile/rank-{rank:05d}.json")
            self.assertEqual({e["pid"] for e in events}, {rank})
            self.check_phases(events)
            self.check_nesting(events)
            exchanged = [e for e in events if e["cat"] == "collective" and e["args"]["communicator"] == "expert"]
            self.assertEqual({e["args"].get("layer") for e in exchanged}, {1, 2})
            self.assertGreater(sum(e["args"]["bytes"] for e in exchanged), 0)
        out = self.check(0, [WITAN, "profile", "run", "-o", "all.json", "--json", "figures.json"])
        for part in ("steps 3 to 5, 3 ranks (EP 3)", "attention backward", "collectives of a rank"):
            self.assertIn(part, out)
        merged, events = self.events("all.json")
        self.assertEqual({e["pid"] for e in events}, {0, 1, 2})
        self.check_nesting(events)
        names = {(e["pid"], e["args"]["name"]) for e in merged["traceEvents"] if e["name"] == "thread_name"}
        self.assertLessEqual({(r, "collectives: world") for r in range(3)}, names)
        # A collective joins all ranks: on one time axis it begins for the last one before it ends for any.
        barriers = collections.defaultdict(list)
        for event in events:
            if event["cat"] == "collective" and event["name"] == "all_reduce":
                self.assertGreater(event["args"]["bytes"], 0)
                barriers[event["args"]["communicator"], event["pid"]].append(event)
        ranks = [sorted(barriers["world", r], key=lambda e: e["ts"]) for r in range(3)]
        self.assertTrue(ranks[0] and len(ranks[0]) == len(ranks[1]) == len(ranks[2]))
        for together in zip(*ranks):
            latest_begin = max(e["ts"] for e in together)
            self.assertLess(latest_begin, min(e["ts"] + e["dur"] for e in together))
        figures = json.loads((self.folder / "figures.json").read_text())
        self.assertAlmostEqual(sum(p["ms"] for p in figures["phases"]), figures["step_ms"], delta=1e-3)
        self.assertEqual([layer["layer"] for layer in figures["layers"]], [0, 1, 2])
        # A profile of fewer ranks leaves none of the old files behind.
        self.check(0, [WITAN, "train", "tiny.textproto", "--profile", "2", "--set", "train.output=run",
                       "--set", "train.steps=12", "--resume", "auto"])
        self.assertEqual(sorted(p.name for p in (self.folder / "run/profile").iterdir()), ["rank-00000.json"])
        self.assertIn("steps 11 to 12", self.check(0, [WITAN, "profile", "run"]))

    def test_mistakes(self):
        for steps, part in (("5:3", "expected FIRST:LAST"), ("x", "expected FIRST:LAST"),
                            ("6:8", "train.steps = 7"), ("5", "train.steps = 7")):
            self.assertIn(part, self.check(2, [WITAN, "train", "tiny.textproto", "--profile", steps]))
        self.assertIn("has no profile", self.check(2, [WITAN, "profile", "."]))


if __name__ == "__main__":
    unittest.main()
