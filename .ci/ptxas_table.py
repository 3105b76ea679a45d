#!/usr/bin/env python3
"""What every kernel takes of an SM, as a Markdown table, from ptxas: registers of a thread, shared memory of a block.

Every .cu file of a configured CUDA build is compiled once more with its own flags and -Xptxas -v. Of a kernel's
instantiations the largest figures are shown, those for float64 (checks only) left out. Exit code 1, after the table, if a
kernel spills registers to memory.

usage: ptxas_table.py BUILD_DIR
"""
import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile


def ptxas_output(entry):
    command = shlex.split(entry["command"])
    if command[0].endswith("ccache"):
        command = command[1:]
    with tempfile.TemporaryDirectory() as folder:
        command[command.index("-o") + 1] = os.path.join(folder, "object.o")
        run = subprocess.run(command + ["-Xptxas=-v"], cwd=entry["directory"], text=True, capture_output=True)
    if run.returncode != 0:
        sys.exit(f"{entry['file']} does not compile:\n{run.stderr}")
    return run.stdout + run.stderr


def kernels(text):
    """(mangled name, architecture, registers, shared bytes, spilled bytes) of each kernel in ptxas's output."""
    for part in re.split(r"Compiling entry function", text)[1:]:
        name, arch = re.search(r"'(\w+)' for 'sm_(\d+)'", part).groups()
        # The properties of the functions it calls may follow; its own come first.
        stores, loads = map(int, re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", part).groups())
        registers = int(re.search(r"Used (\d+) registers", part)[1])
        shared = re.search(r"(\d+) bytes smem", part)
        yield name, arch, registers, int(shared[1]) if shared else 0, stores + loads


def demangled(names):
    return subprocess.run(["c++filt"], input="\n".join(names), text=True, capture_output=True, check=True).stdout.splitlines()


def main():
    build = pathlib.Path(sys.argv[1])
    entries = [e for e in json.loads((build / "compile_commands.json").read_text())
               if e["file"].endswith(".cu") and "/core/" in e["file"]]
    if not entries:
        sys.exit(f"no .cu file in {build}/compile_commands.json")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        outputs = list(pool.map(ptxas_output, entries))

    rows, spilled = {}, []
    for entry, output in zip(entries, outputs):
        found = list(kernels(output))
        for (_, arch, registers, shared, spill), full in zip(found, demangled([k[0] for k in found])):
            name, first_type = re.search(r"(\w+_kernel)(?:<(\w+))?", full).groups()
            if first_type == "double":
                continue
            row = rows.setdefault((os.path.basename(entry["file"]), name), {})
            most = row.setdefault(arch, [0, 0, 0])
            row[arch] = [max(a, b) for a, b in zip(most, (registers, shared, spill))]
            if spill:
                spilled.append(f"{full}, sm_{arch}: {spill} bytes")

    archs = sorted({arch for row in rows.values() for arch in row})
    print("| File | Kernel | " + " | ".join(f"Registers, sm_{a}" for a in archs) + " | Shared memory, bytes | Spilled, bytes |")
    print("|---|---|" + "---:|" * (len(archs) + 2))
    for (file, name), row in sorted(rows.items()):
        figures = [str(row[a][0]) for a in archs]
        shared, spill = (max(f[i] for f in row.values()) for i in (1, 2))
        print(f"| {file} | {name} | " + " | ".join(figures) + f" | {shared} | {spill} |")
    if spilled:
        print("registers are spilled:\n" + "\n".join(spilled), file=sys.stderr)
    return 1 if spilled else 0


if __name__ == "__main__":
    sys.exit(main())
