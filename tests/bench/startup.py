#!/usr/bin/env python3
"""Start-up of `witan train`: from mpirun to the beginning of step 1, less an empty MPI program.

usage: tests/bench/startup.py [WITAN] [--config CONFIG] [--runs N]

Both programs run in turn under launch/witan-mpirun.sh -n 2 with a warm page cache; medians. The empty program is
MPI_Init and MPI_Finalize, timed to its end; witan is timed until its line "start-up:" arrives, which it prints where
step 1 begins. The config's data must have been prepared (launch/quickstart.sh does it).
"""
import argparse
import pathlib
import re
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MPIRUN = [str(ROOT / "launch/witan-mpirun.sh"), "-n", "2"]
EMPTY = "#include <mpi.h>\nint main(int c, char** v) { MPI_Init(&c, &v); MPI_Finalize(); }\n"


def time_empty(program):
    start = time.perf_counter()
    subprocess.run(MPIRUN + [program], check=True)
    return time.perf_counter() - start


def time_witan(program, config, folder):
    command = MPIRUN + [program, "train", config, "--set", "train.steps=1", "--set", f"train.output={folder}",
                        "--set", "train.eval_interval=0", "--set", "checkpoint.at_end=false",
                        "--set", "data.validation_share=0"]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    seconds, report, text = None, "", ""
    for line in process.stdout:
        text += line
        if seconds is None and "start-up:" in line:
            seconds, report = time.perf_counter() - start, line.split("start-up:")[1].strip()
    if process.wait() != 0 or seconds is None:
        raise SystemExit(f"{' '.join(command)} failed:\n{text}")
    return seconds, report


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("witan", nargs="?", default=str(ROOT / "build/release/bin/witan"))
    parser.add_argument("--config", default=str(ROOT / "configs/presets/quickstart.textproto"))
    parser.add_argument("--runs", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        empty = folder + "/empty"
        pathlib.Path(empty + ".c").write_text(EMPTY)
        subprocess.run(["mpicc", empty + ".c", "-o", empty], check=True)
        pairs = []
        for run in range(options.runs + 1):
            pair = time_empty(empty), *time_witan(options.witan, options.config, f"{folder}/run-{run}")
            if run > 0:  # the first one warms the page cache
                pairs.append(pair)
    bare, whole = (statistics.median(column) for column in list(zip(*pairs))[:2])
    print(f"empty MPI program {bare:.3f} s, witan to step 1 {whole:.3f} s, difference {whole - bare:.3f} s "
          f"(medians of {len(pairs)})")
    print("by part:", re.sub(r"\x1b\[[0-9;]*m", "", sorted(pairs, key=lambda pair: pair[1])[len(pairs) // 2][2]))


if __name__ == "__main__":
    main()
