#!/usr/bin/env python3
"""Witan against what a user would pick instead: the same layers and training steps, in turns.

usage: tests/bench/peers.py --peers DIR [--witan PROGRAM] [--only layer,step,experts] [--precision f32,bf16] [--rounds N]
                            [--threads N] [--deepspeed] [--kt EXT.so] [--json FILE]

DIR holds the peers' scripts: torch_ep_layer.py (PyTorch and gloo), deepspeed_moe_layer.py, torch_mixtral_step.py
(transformers' Mixtral), ktransformers_moe_forward.py; each prints its median time or rate. Every round runs each of them and `witan bench` once, one after the
other; the ratio is that of the medians over the rounds. The layer runs on two ranks with one thread each, the step on one
process with --threads. `experts` is a forward in bf16 on --threads against KTransformers' kernel, from its wheel (--kt), and a
PyTorch loop over the experts, all with weights that lie ready in bf16; ours includes router and permutation. PyTorch comes from requirements.txt, into build/.venv-peers; --deepspeed installs DeepSpeed too.
"""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAUNCHER = ROOT / "launch" / "witan-mpirun.sh"
REQUIREMENTS = ROOT / "tests" / "bench" / "requirements.txt"
DEEPSPEED = "deepspeed==0.19.*"

# tokens, d, ff, experts, top-k; how many times as fast as the better peer the layer should be.
LAYERS = {"4096 tokens, d 512, ff 1024, 8 experts top-2": ("4096,512,1024,8,2", 1.2),
          "4096 tokens, d 512, ff 256, 64 experts top-8": ("4096,512,256,64,8", 1.7),
          "1024 tokens, d 256, ff 512, 64 experts top-2": ("1024,256,512,64,2", 2.5)}
# The experts' forward in bf16 against the better of KTransformers and a PyTorch loop.
FORWARDS = dict(zip(LAYERS, (1.3, 2.0, 2.0)))
# How many times as fast as transformers a step should be in float32.
STEPS = {"coarse": 1.5, "fine": 2.0, "quick": 2.0, "many": 2.0}


def has_amx():
    return "amx_bf16" in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")


def step_bar(name, precision):
    return STEPS[name] if precision == "f32" else (3.0 if has_amx() else 2.0)


def environment(deepspeed):
    """The Python with the peers' packages, made once."""
    folder = ROOT / "build" / ".venv-peers"
    python = folder / "bin" / "python"
    wanted = REQUIREMENTS.read_text(encoding="utf-8") + (DEEPSPEED if deepspeed else "")
    installed = folder / "installed.txt"
    if not installed.exists() or installed.read_text(encoding="utf-8") != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", str(REQUIREMENTS)], check=True)
        if deepspeed:
            subprocess.run([*pip, DEEPSPEED], check=True)
        installed.write_text(wanted, encoding="utf-8")
    return python


def run(command, timeout, **variables):
    """What the command prints; None if it fails or takes too long, which is said."""
    command = [str(part) for part in command]
    try:
        done = subprocess.run(command, text=True, capture_output=True, timeout=timeout, check=False,
                              env={**os.environ, **{k: str(v) for k, v in variables.items()}})
    except subprocess.TimeoutExpired:
        print(f"no end after {timeout} s: {' '.join(command)}", file=sys.stderr)
        return None
    if done.returncode != 0:
        print(f"failed: {' '.join(command)}\n{done.stderr[-2000:]}", file=sys.stderr)
        return None
    return done.stdout


def milliseconds(text):
    """The first "123 ms" of a peer's line, in seconds."""
    found = re.search(r"(\d+(?:\.\d+)?) ms", text or "")
    return float(found[1]) / 1e3 if found else None


class Peers:
    def __init__(self, arguments):
        self.arguments = arguments
        self.python = environment(arguments.deepspeed)
        self.timeout = arguments.timeout

    def script(self, name):
        path = self.arguments.peers / name
        if not path.exists():
            sys.exit(f"--peers: {path} does not exist")
        return path

    def layer(self, script, **variables):
        command = [self.python, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2, self.script(script)]
        return milliseconds(run(command, self.timeout, OMP_NUM_THREADS=1, **variables))

    def step(self, experts, precision, shape):
        command = [self.python, self.script("torch_mixtral_step.py"), self.arguments.threads, experts, precision, shape]
        return milliseconds(run(command, self.timeout))

    def forward(self, config):
        """Seconds of KTransformers and of the PyTorch loop, from the rates that the script prints."""
        script = self.script("ktransformers_moe_forward.py")
        text = run([self.python, script, self.arguments.kt, config, self.arguments.threads], self.timeout) or ""
        tokens, d, ff, _, k = map(int, config.split(","))
        rates = re.findall(r"(KTransformers|PyTorch loop) (\d+) GFLOP/s", text)
        return {name: 6e-9 * tokens * k * d * ff / float(rate) for name, rate in rates}

    def forward_peers(self, config):
        measured = {}  # one run of the script measures both

        def of(name):
            if not measured:
                measured.update(self.forward(config))
            return measured.get(name)
        return {name: lambda name=name: of(name) for name in ("KTransformers", "PyTorch loop")}

    def layer_peers(self, config, precision):
        peers = {"PyTorch + gloo": lambda: self.layer("torch_ep_layer.py", CFG=config, DT=precision)}
        if self.arguments.deepspeed and precision == "f32":
            for name, capacity in (("DeepSpeed, capacity 1.25", "1.25"), ("DeepSpeed, dropless", "0")):
                peers[name] = lambda capacity=capacity: self.layer("deepspeed_moe_layer.py", CFG=config, CF=capacity)
        return peers

    def step_peers(self, shape, precision):
        return {f"transformers, {experts}": lambda experts=experts: self.step(experts, precision, shape)
                for experts in self.arguments.experts.split(",")}


class Witan:
    """`witan bench`; one call measures every shape of a section."""

    def __init__(self, arguments):
        self.program = arguments.witan
        self.arguments = arguments

    def seconds(self, section, what, precision, ranks, threads):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "bench.json"
            command = [LAUNCHER, "-n", ranks, self.program, "bench", section, "--precision", precision, "--repeat",
                       self.arguments.repeat, "--json", file]
            if run(command, 600, OMP_NUM_THREADS=threads) is None:
                sys.exit("witan bench failed")
            results = json.loads(file.read_text(encoding="utf-8"))["results"]
        return {r["subject"]: r["seconds"] for r in results if r["what"] == what}


def of_shape(seconds, shape):
    found = [value for subject, value in seconds.items() if subject.startswith(shape)]
    if len(found) != 1:
        sys.exit(f"witan bench measured {len(found)} times {shape}")
    return found[0]


def in_turns(rounds, measure_ours, shapes, peers_of):
    """shape -> name -> seconds of each round; ours under "witan"."""
    samples = {shape: {} for shape in shapes}
    for turn in range(rounds):
        ours = measure_ours()
        for shape in shapes:
            samples[shape].setdefault("witan", []).append(of_shape(ours, shape))
            for name, measure in peers_of(shape).items():
                if turn > 0 and name not in samples[shape]:
                    continue  # failed before
                seconds = measure()
                if seconds is not None:
                    samples[shape].setdefault(name, []).append(seconds)
                    print(f"  round {turn + 1}: {shape}: {name} {seconds * 1e3:.0f} ms, witan "
                          f"{samples[shape]['witan'][-1] * 1e3:.0f} ms", flush=True)
    return samples


def results_of(subject, samples, bar):
    """Lines in the format of `witan bench --json`."""
    def line(name, times, ratios):
        times = sorted(times)
        return {"section": "peers", "subject": subject, "what": name, "seconds": statistics.median(times),
                "seconds_quartiles": [times[len(times) // 4], times[-1 - len(times) // 4]], "samples": len(times),
                "ratios": ratios}
    peers = {name: times for name, times in samples.items() if name != "witan"}
    lines = [line(name, times, []) for name, times in peers.items()]
    ratios = []
    if peers:
        ours = statistics.median(samples["witan"])
        best = min(peers, key=lambda name: statistics.median(peers[name]))
        value = statistics.median(peers[best]) / ours
        ratios = [{"of": f"times the speed of {best}", "value": value, "at_least": bar, "holds": value >= bar}]
    lines.append(line("witan", samples["witan"], ratios))
    return lines


def measure(arguments):
    peers, witan, results = Peers(arguments), Witan(arguments), []
    if "experts" in arguments.only:
        samples = in_turns(arguments.rounds, lambda: witan.seconds("layer", "forward where nothing trains", "bf16", 1, arguments.threads),
                           FORWARDS, lambda shape: peers.forward_peers(LAYERS[shape][0]))
        for shape, times in samples.items():
            results += results_of(f"experts forward, {shape}, bf16", times, FORWARDS[shape])
    for precision in arguments.precision.split(","):
        if "layer" in arguments.only:
            samples = in_turns(arguments.rounds,
                               lambda: witan.seconds("layer", "forward + backward", precision, 2, 1), LAYERS,
                               lambda shape: peers.layer_peers(LAYERS[shape][0], precision))
            for shape, times in samples.items():
                results += results_of(f"layer, {shape}, EP 2, {precision}", times, LAYERS[shape][1])
        if "step" in arguments.only:
            samples = in_turns(arguments.rounds,
                               lambda: witan.seconds("step", "step", precision, 1, arguments.threads), STEPS,
                               lambda shape: peers.step_peers(shape, precision))
            for shape, times in samples.items():
                results += results_of(f"step, {shape}, {precision}", times, step_bar(shape, precision))
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=pathlib.Path, required=True, help="folder with the peers' scripts")
    parser.add_argument("--witan", type=pathlib.Path, default=ROOT / "build" / "release" / "bin" / "witan")
    parser.add_argument("--only", default="layer,step", help="layer, step, experts (default: layer,step)")
    parser.add_argument("--precision", default="f32,bf16")
    parser.add_argument("--experts", default="grouped_mm", help="transformers' experts: eager, grouped_mm (its fastest)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=7, help="of witan bench, in each round")
    parser.add_argument("--threads", type=int, default=2, help="of the step")
    parser.add_argument("--timeout", type=int, default=300, help="seconds for one run of a peer")
    parser.add_argument("--deepspeed", action="store_true", help="install and measure DeepSpeed too")
    parser.add_argument("--kt", type=pathlib.Path, help="KTransformers' extension, from the wheel kt-kernel 0.7.2")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures to this file")
    arguments = parser.parse_args()
    if "experts" in arguments.only and not (arguments.kt and arguments.kt.exists()):
        parser.error(f"--kt: {arguments.kt} does not exist; `experts` needs the extension from the wheel kt-kernel 0.7.2")
    if not arguments.witan.exists():
        parser.error(f"--witan: {arguments.witan} does not exist; build it: cmake --build --preset program")
    results = measure(arguments)
    for entry in results:
        ratios = ", ".join(f"{r['value']:.2f} {r['of']} (bar {r['at_least']})" for r in entry["ratios"])
        print(f"{entry['subject']:60} {entry['what']:26} {entry['seconds'] * 1e3:9.1f} ms  {ratios}")
    if arguments.json:
        machine = {"peers": "torch 2.13, transformers 5.23", "threads": str(arguments.threads), "ranks": "1 and 2",
                   "precision": arguments.precision, "repeat": str(arguments.rounds)}
        report = {"format": "witan bench 1", "machine": machine, "results": results}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
