#!/usr/bin/env python3
"""Writes the measured part of docs/benchmarks.md from files that `witan bench --json` and peers.py --json wrote.

usage: tests/bench/benchmarks_page.py [--page PAGE] REPORT.json...

What stands between the lines BEGIN and END of the page is replaced; the rest, written by hand, is kept. The reports
come in the order of the command line.
"""
import argparse
import json
import pathlib
import sys

BEGIN = "<!-- measured: written by tests/bench/benchmarks_page.py -->"
END = "<!-- end of measured -->"
PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
SMALL_PHASE = 0.01  # a phase below this share of the whole is left out


def number(value, digits=1):
    return f"{value:,.{digits}f}"


def milliseconds(result):
    low, high = result["seconds_quartiles"]
    spread = (high - low) / result["seconds"] * 100 if result["seconds"] else 0
    digits = 1 if result["seconds"] >= 0.01 else 3
    return f"{number(result['seconds'] * 1e3, digits)} ± {spread / 2:.0f}%"


def rate(result):
    if "tokens_per_second" in result:
        return f"{number(result['tokens_per_second'], 0)} tokens/s"
    if "gflops" in result:
        return f"{number(result['gflops'])} GFLOP/s"
    if "gigabytes_per_second" in result:
        return f"{number(result['gigabytes_per_second'])} GB/s"
    return ""


def ratio(entry):
    text = f"{entry['value']:.2f} {entry['of']}"
    bar = entry.get("at_least", entry.get("at_most"))
    if bar is None:
        return text
    sign = "≥" if "at_least" in entry else "≤"
    return f"**{text}** ({sign} {bar:g}{'' if entry['holds'] else ', missed'})"


def is_small_phase(result):
    return result["what"].startswith("phase: ") and all(r["value"] < SMALL_PHASE for r in result["ratios"])


def rows(results):
    for result in results:
        if is_small_phase(result):
            continue
        moved = number(result["bytes"] / 1e6) if "bytes" in result else ""
        ratios = ", ".join(ratio(entry) for entry in result["ratios"])
        yield f"| {result['what']} | {milliseconds(result)} | {rate(result)} | {moved} | {ratios} |"


def gemm_table(results):
    """One line a product, one column a kernel: rate and share of the peak."""
    cells, kernels = {}, []
    for result in results:
        product, kernel = result["what"].rsplit(", ", 1)
        kernels += [kernel] if kernel not in kernels else []
        share = "".join(f", {entry['value']:.2f}" for entry in result["ratios"][:1])
        cells.setdefault(product, {})[kernel] = f"{result['gflops']:.0f}{share}"
    yield "| GFLOP/s, share of peak | " + " | ".join(kernels) + " |\n|---|" + "---|" * len(kernels)
    for product, of_kernel in cells.items():
        yield f"| {product} | " + " | ".join(of_kernel.get(kernel, "") for kernel in kernels) + " |"


def tables(report):
    by_subject = {}
    for result in report["results"]:
        by_subject.setdefault((result["section"], result["subject"]), []).append(result)
    for (section, subject), results in by_subject.items():
        if section == "gemm":
            yield f"**{section}**: {subject}\n\n" + "\n".join(gemm_table(results)) + "\n"
            continue
        yield f"**{section}**: {subject}\n\n| | ms | | MB | |\n|---|---|---|---|---|\n" + "\n".join(rows(results)) + "\n"


def heading(report):
    machine = report["machine"]
    title = f"### {machine.get('ranks', '?')} ranks with {machine.get('threads', '?')} threads, {machine.get('precision', '?')}"
    rest = ", ".join(f"{name} {value}" for name, value in machine.items()
                     if name not in ("ranks", "threads", "precision", "nodes"))
    return f"{title}\n{rest}.\n"


def generated(paths):
    parts = []
    for path in paths:
        report = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        if report.get("format") != "witan bench 1":
            sys.exit(f"{path}: expected a file that `witan bench --json` wrote")
        parts += [heading(report), *tables(report)]
    return "\n".join(parts)


def replaced(page, text):
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        sys.exit(f"the page needs one line {BEGIN!r} and, behind it, one line {END!r}")
    head, rest = page.split(BEGIN)
    return f"{head}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", type=pathlib.Path, default=PAGE)
    parser.add_argument("reports", nargs="+")
    arguments = parser.parse_args()
    page = arguments.page.read_text(encoding="utf-8")
    arguments.page.write_text(replaced(page, generated(arguments.reports)), encoding="utf-8")


if __name__ == "__main__":
    main()
