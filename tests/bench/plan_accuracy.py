#!/usr/bin/env python3
"""How far the step times of `witan plan` are from measured ones: several shapes at 1 and 2 ranks.

For each number of ranks, rounds alternate between the limits of the machine (`witan bench limits`) and the steps of
every shape (`witan bench step`), so that both see the same machine; the plan of a round uses that round's limits.
Printed is the median over the rounds of planned / measured. Meant for a quiet machine: with others at work the limits
and the steps of a round differ by more than the model.

usage: plan_accuracy.py [--witan PROGRAM] [--rounds N] [--ranks 1 2] [--shape NAME ...] [--clock cpu] [--json FILE]
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOAL = 0.15

# vocabulary 512; name: (d_model, layers, sequences, tokens each, the feed-forward part)
SHAPES = {
    "coarse": (512, 4, 8, 512, "moe { experts: 8 d_ff: 1024 router { top_k { k: 2 } } }"),
    "fine": (512, 4, 8, 512, "moe { experts: 64 d_ff: 256 router { top_k { k: 8 } } }"),
    "quick": (256, 4, 16, 256, "moe { experts: 16 d_ff: 512 router { top_k { k: 2 } } }"),
    "many": (256, 4, 4, 256, "moe { experts: 64 d_ff: 512 router { top_k { k: 2 } } }"),
    "shared": (512, 4, 8, 512, "moe { experts: 16 d_ff: 256 shared_d_ff: 1024 router { top_k { k: 4 } } }"),
    "long": (512, 4, 2, 2048, "moe { experts: 8 d_ff: 512 router { top_k { k: 2 } } }"),
    "dense": (512, 4, 8, 512, "ffn { d_ff: 2048 }"),
}


def config_of(name):
    d_model, layers, sequences, seq_len, ffn = SHAPES[name]
    return f"""\
name: "{name}"
model {{
  vocab_size: 512 d_model: {d_model} layers: {layers} max_seq_len: {seq_len}
  attention {{ heads: {d_model // 64} }}
  {ffn}
}}
data {{ seq_len: {seq_len} }}
train {{ global_batch: {sequences} }}
"""


class Bench:
    def __init__(self, arguments, folder):
        self.arguments, self.folder = arguments, pathlib.Path(folder)

    def run(self, ranks, *command):
        launcher = [] if ranks == 1 else [str(ROOT / "launch/witan-mpirun.sh"), "-n", str(ranks)]
        done = subprocess.run([*launcher, self.arguments.witan, *command], capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):
            sys.exit(f"witan {' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")

    def limits(self, ranks):
        file = self.folder / "limits.json"
        self.run(ranks, "bench", "limits", "--repeat", "5", "--clock", self.arguments.clock, "--json", str(file))
        return file

    def measured(self, ranks, config):
        file = self.folder / "step.json"
        self.run(ranks, "bench", "step", "--config", str(config), "--repeat", "3", "--clock", self.arguments.clock,
                 "--json", str(file))
        results = json.loads(file.read_text())["results"]
        return next(result["seconds"] for result in results if result["what"] == "step")

    def planned(self, config, limits):
        file = self.folder / "plan.json"
        self.run(1, "plan", str(config), "--measured", str(limits), "--layouts", "1", "--json", str(file))
        return json.loads(file.read_text())["step"]["seconds"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--witan", default=str(ROOT / "build/release/bin/witan"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--json", help="write every round to this file")
    arguments = parser.parse_args()

    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments, folder)
        for name in arguments.shape:
            (bench.folder / f"{name}.textproto").write_text(config_of(name))
        for index in range(arguments.rounds):
            for ranks in arguments.ranks:
                limits = bench.limits(ranks)
                for name in arguments.shape:
                    config = bench.folder / f"{name}.textproto"
                    measured = bench.measured(ranks, config)
                    planned = bench.planned(config, limits)
                    rounds.append({"round": index, "ranks": ranks, "shape": name, "measured": measured,
                                   "planned": planned})
                    print(f"round {index}, {ranks} ranks, {name}: measured {measured * 1e3:.1f} ms, "
                          f"planned {planned * 1e3:.1f} ms, {planned / measured:.2f}", flush=True)
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(rounds, indent=1) + "\n")

    print("\n| shape | ranks | measured, ms | planned / measured | |\n|---|---|---|---|---|")
    outside = 0
    for name in arguments.shape:
        for ranks in arguments.ranks:
            mine = [entry for entry in rounds if entry["shape"] == name and entry["ranks"] == ranks]
            ratio = statistics.median(entry["planned"] / entry["measured"] for entry in mine)
            measured = statistics.median(entry["measured"] for entry in mine)
            outside += abs(ratio - 1) > GOAL
            print(f"| {name} | {ranks} | {measured * 1e3:.1f} | {ratio:.2f} | "
                  f"{'' if abs(ratio - 1) <= GOAL else 'outside'} |")
    sys.exit(1 if outside else 0)


if __name__ == "__main__":
    main()
