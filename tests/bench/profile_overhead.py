#!/usr/bin/env python3
"""What a profile costs: the same training steps with and without --profile, in alternation.

Runs `witan train` several times, each with half of its steps profiled (--profile FIRST:LAST), first the earlier half,
then the later half, in turn, so that a drift of the machine falls on both. Prints the ratio of the median step times,
profiled / not, per run and over all runs, and that of two halves of runs without any profile as a measure of the noise.

usage: profile_overhead.py WITAN CONFIG [--ranks N] [--runs N] [--steps N] [--set PATH=VALUE ...]
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

LAUNCHER = pathlib.Path(__file__).resolve().parents[2] / "launch" / "witan-mpirun.sh"
WARM_UP = 4  # steps of every run that count for neither side


def step_seconds(arguments, profile, steps, folder):
    output = folder / "run"
    command = ([str(LAUNCHER), "-n", str(arguments.ranks)] if arguments.ranks > 1 else []) + [
        arguments.witan, "train", arguments.config, "--set", f"train.output={output}", "--set", f"train.steps={steps}",
        "--set", "train.eval_interval=0", "--set", "checkpoint.interval=0", "--set", "checkpoint.at_end=false",
        "--set", "data.validation_share=0"]
    for change in arguments.set:
        command += ["--set", change]
    if profile:
        command += ["--profile", f"{profile[0]}:{profile[1]}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["seconds"]["wall"] for line in lines if line["kind"] == "step"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("witan")
    parser.add_argument("config")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--runs", type=int, default=4, help="even")
    parser.add_argument("--steps", type=int, default=24, help="of each half")
    parser.add_argument("--set", action="append", default=[], help="as of witan train")
    arguments = parser.parse_args()

    halves = [(WARM_UP + 1, WARM_UP + arguments.steps), (WARM_UP + arguments.steps + 1, WARM_UP + 2 * arguments.steps)]
    ratios = {"profiled / not": [], "neither profiled": []}
    for run in range(arguments.runs):
        for kind, found in ratios.items():
            one, other = (halves[run % 2], halves[1 - run % 2])
            with tempfile.TemporaryDirectory() as folder:
                profile = one if kind == "profiled / not" else None
                seconds = step_seconds(arguments, profile, halves[1][1], pathlib.Path(folder))
            median = [statistics.median(seconds[step] for step in range(first, last + 1)) for first, last in (one, other)]
            found.append(median[0] / median[1])
            print(f"run {run + 1}, {kind}: {found[-1]:.4f}  ({1e3 * median[0]:.2f} ms / {1e3 * median[1]:.2f} ms)", flush=True)
    for kind, found in ratios.items():
        print(f"median of {arguments.runs} runs, {kind}: {statistics.median(found):.4f}")


if __name__ == "__main__":
    main()
