#!/usr/bin/env python3
"""docs/adding_a_router.md does what it says: its snippets are applied to a copy of the tree, which is built as far as
the tests of routing need it, and those are run.

usage: adding_a_router_test.py SOURCE_DIR BUILD_DIR CXX PROTOC
"""
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

SNIPPET = re.compile(r"<!-- (insert (?P<into>\S+) before: (?P<before>.*?)|file (?P<file>\S+)) -->\n```\w+\n(?P<text>.*?)```\n",
                     re.DOTALL)


def end_of_selection(text):
    """Where the oneof `selection` ends: its closing brace."""
    begin = text.index("oneof selection {")
    return text.rindex("\n", 0, text.index("\n  }", begin) + 1) + 1


def apply_snippets(page, tree):
    files = []
    for match in SNIPPET.finditer(page):
        if match["file"]:
            (tree / match["file"]).write_text(match["text"])
            files.append(match["file"])
            continue
        path = tree / match["into"]
        text = path.read_text()
        at = end_of_selection(text) if match["before"] == "} // end of selection" else text.index(match["before"])
        path.write_text(text[:at] + match["text"] + text[at:])
        files.append(match["into"])
    return files


def run(command, **options):
    done = subprocess.run([str(part) for part in command], text=True, capture_output=True, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def main(source, build, compiler, protoc):
    page = (source / "docs" / "adding_a_router.md").read_text()
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder) / "tree"
        for part in ("configs", "core", "tests/model", "tests/support"):
            shutil.copytree(source / part, tree / part)
        applied = apply_snippets(page, tree)
        assert len(applied) == 5, applied
        generated = pathlib.Path(folder) / "generated"
        generated.mkdir()
        schema = sorted(p.relative_to(tree) for p in (tree / "configs/schema").glob("*.proto"))
        run([protoc, f"--cpp_out={generated}", *schema], cwd=tree)

        sources = sorted((tree / "core/model").rglob("*.cc")) + sorted(generated.rglob("*.cc"))
        sources += [tree / "configs/selection_k.cc", tree / "tests/model/routing_test.cc"]
        flags = ["-std=c++20", "-O0", "-fopenmp", f"-I{tree}", "-isystem", generated]

        def compile_one(number):
            target = pathlib.Path(folder) / f"{number}.o"
            run([compiler, *flags, "-c", sources[number], "-o", target])
            return target

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compile_one, range(len(sources))))
        program = pathlib.Path(folder) / "routing_test"
        libraries = [build / "core" / name / f"libwitan_{name}.a" for name in ("ops", "tensor", "base")]
        run([compiler, "-fopenmp", *objects, "-Wl,--start-group", *libraries, "-Wl,--end-group", "-lgtest", "-lgtest_main",
             "-lprotobuf", "-ldnnl", "-lpthread", "-o", program])
        out = run([program])
        assert "PASSED" in out, out
        print(out.splitlines()[-1], "with", ", ".join(applied))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3], sys.argv[4])
