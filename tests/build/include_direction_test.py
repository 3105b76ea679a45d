#!/usr/bin/env python3
"""Includes point downward only: launch -> optim -> parallel -> core -> configs, and inside core: model -> ops -> tensor -> base.

core/base, core/tensor and core/ops never see configs/ nor a .pb.h (so nvcc never parses protobuf), configs sees nothing
but itself, nobody includes a .cc, and mpi.h and nccl.h stand only where their communicators are.

usage: include_direction_test.py SOURCE_DIR
"""
import os
import re
import sys
import tempfile

# What each folder may include, itself apart; the first that matches a file counts.
ALLOWED = {
    "configs": [],
    "core/base": [],
    "core/tensor": ["core/base"],
    "core/ops": ["core/tensor", "core/base"],
    "core/model": ["core/ops", "core/tensor", "core/base", "configs"],
    "parallel": ["core", "configs"],
    "optim": ["parallel", "core", "configs"],
    "launch": ["optim", "parallel", "core", "configs"],
}
# Headers from outside and the only files that may include them.
RESTRICTED = {
    r"mpi\.h": r"parallel/(mpi_communicator|mpi_environment|raw_mpi)\.(h|cc)",
    r"nccl\.h": r"parallel/nccl_\w+\.(h|cc)",
    r"google/protobuf/.*": r"(configs|launch)/.*",
    r"CLI/.*": r"launch/.*",
}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)


def sources(root):
    for top in sorted({folder.split("/")[0] for folder in ALLOWED}):
        for folder, _, files in os.walk(os.path.join(root, top)):
            for file in sorted(files):
                if file.endswith((".h", ".cc", ".cu")):
                    yield os.path.relpath(os.path.join(folder, file), root)


def folder_of(path):
    return next((folder for folder in ALLOWED if path.startswith(folder + "/")), None)


def problem(root, path, own, system):
    """What is wrong with one include of `path`: "own" or <system>; None if it is right."""
    if system:
        for header, place in RESTRICTED.items():
            if re.fullmatch(header, system) and not re.fullmatch(place, path):
                return f"<{system}> belongs to {place} only"
        return None
    generated = own.endswith(".pb.h")
    known = own[: -len(".pb.h")] + ".proto" if generated else own
    if not os.path.isfile(os.path.join(root, known)):
        return f'"{own}" is no file; include paths start at the root of the repository'
    if own.endswith(".cc"):
        return f'"{own}" is not a header'
    here = folder_of(path)
    if not any(own.startswith(folder + "/") for folder in [here] + ALLOWED[here]):
        return f'"{own}" points upward: {here} may include {", ".join([here] + ALLOWED[here])}'
    return None


def problems(root):
    found, files = [], 0
    for path in sources(root):
        files += 1
        if folder_of(path) is None:
            found.append(f"{path}: no rule for this folder")
            continue
        with open(os.path.join(root, path), encoding="utf-8") as file:
            text = file.read()
        for match in INCLUDE.finditer(text):
            what = problem(root, path, match[1], match[2])
            if what:
                found.append(f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {what}")
    return found, files


def finds_what_is_wrong():
    """The test can fail: each kind of mistake, planted in a small tree."""
    tree = {
        "configs/a.h": '#include "core/base/b.h"\n',
        "configs/s.proto": "",
        "core/base/b.h": "#include <vector>\n",
        "core/base/m.cc": "#include <mpi.h>\n",
        "core/ops/o.cc": '#include "core/base/b.h"\n#include "configs/s.pb.h"\n',
        "core/model/m.cc": '#include "configs/s.pb.h"\n#include "core/ops/o.cc"\n',
        "parallel/p.cc": '#include "core/base/b.h"\n  #  include "launch/l.h"\n',
        "launch/l.h": '#include "parallel/gone.h"\n',
        "core/loose.h": "",
    }
    with tempfile.TemporaryDirectory() as root:
        for path, text in tree.items():
            os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                file.write(text)
        found = sorted(line.split(": ")[0] for line in problems(root)[0])
    expected = ["configs/a.h:1", "core/base/m.cc:1", "core/loose.h", "core/model/m.cc:2", "core/ops/o.cc:2",
                "launch/l.h:1", "parallel/p.cc:2"]
    if found != expected:
        print(f"the planted mistakes were not found as they should: {found}")
    return found == expected


def main(root):
    sound = finds_what_is_wrong()
    found, files = problems(root)
    print("\n".join(found))
    print(f"{files} files, {len(found)} wrong includes")
    return 0 if sound and files > 0 and not found else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
