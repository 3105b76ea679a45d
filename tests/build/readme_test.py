#!/usr/bin/env python3
"""What README.md, CONTRIBUTING.md and docs/ say about the files is true.

Checked in each document: links to files; `paths` in code style; in ```sh blocks: scripts, `witan` subcommands and
their long options, presets of CMake and of configs. In README.md besides: the tree (```tree block, two spaces a level)
names what exists and every top-level folder; each step of "Follow one token" names a file that holds the identifiers
behind it; every preset is mentioned.

usage: readme_test.py SOURCE_DIR
"""
import glob
import json
import os
import re
import shlex
import sys

# Named in docs/cuda.md as the place for what the first kernel with PTX will bring.
TO_COME = {"core/base/cuda/device_intrinsics.h"}
TOP = ("configs", "core", "parallel", "optim", "launch", "tests", "docs", "cmake", ".ci")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


class Document:
    """A Markdown file: its fenced blocks by language, and the text outside of them."""

    def __init__(self, root, path):
        self.root, self.path = root, path
        self.blocks, self.prose, language = [], [], None
        for line in read(os.path.join(root, path)).splitlines():
            fence = re.match(r"\s*```(\w*)", line)
            if fence and language is None:
                language = fence[1]
                self.blocks.append((language, []))
            elif fence:
                language = None
            elif language is not None:
                self.blocks[-1][1].append(line)
            else:
                self.prose.append(line)
        self.problems = []

    def check(self, condition, message):
        if not condition:
            self.problems.append(f"{self.path}: {message}")

    def exists(self, path, why):
        """`parallel/mesh` may stand for mesh.h and mesh.cc."""
        full = os.path.join(self.root, path)
        self.check(os.path.exists(full) or glob.glob(full + ".*"), f"{path} does not exist ({why})")

    def lines(self, language):
        text = "\n".join(line for name, lines in self.blocks if name == language for line in lines)
        return text.replace("\\\n", " ").splitlines()


def check_paths(doc):
    text = "\n".join(doc.prose)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in target:
            doc.exists(os.path.normpath(os.path.join(os.path.dirname(doc.path), target)), "link")
    for code in re.findall(r"`([^`\n]+)`", text):
        path = code.removeprefix("./")
        ours = re.fullmatch(r"[\w./-]+", path) and "/" in path and path.split("/")[0] in TOP
        if ours and "NAME" not in path and path not in TO_COME:
            doc.exists(path, "path")


def subcommands(root):
    """Long options of each subcommand of `witan`, read from its source."""
    found = {}
    folder = os.path.join(root, "launch/commands")
    for name in re.findall(r"register_(\w+)\(CLI::App", read(os.path.join(folder, "commands.h"))):
        path = os.path.join(folder, name + "_command.cc")
        if os.path.exists(path):
            found[name] = set(re.findall(r"--[a-z][a-z-]+", read(path))) | {"--help"}
    return found


def check_commands(doc, commands, cmake_presets):
    for line in doc.lines("sh"):
        words = shlex.split(line, comments=True)
        if not words:
            continue
        for word in words:
            if word.startswith("./") or word.split("/")[0] in TOP and "/" in word and "NAME" not in word:
                doc.exists(word, f"in: {line}")
        if words[0].startswith("./"):
            doc.check(os.access(os.path.join(doc.root, words[0]), os.X_OK), f"{words[0]} is not executable")
        if "--preset" in words:
            name = words[words.index("--preset") + 1]
            doc.check(name in cmake_presets, f"CMakePresets.json has no preset {name}, in: {line}")
        if "witan" in words:
            check_witan(doc, line, words[words.index("witan") + 1:], commands)


def check_witan(doc, line, arguments, commands):
    if not arguments or arguments[0] in ("--version", "--help"):
        return
    doc.check(arguments[0] in commands, f"witan has no command {arguments[0]}, in: {line}")
    for option in arguments[1:]:
        if option.startswith("--"):
            known = option.split("=")[0] in commands.get(arguments[0], ())
            doc.check(known, f"witan {arguments[0]} has no option {option}, in: {line}")


def check_tree(doc):
    parents, shown = [], set()
    for line in doc.lines("tree"):
        match = re.match(r"( *)(\S+)", line)
        if not match:
            continue
        depth = len(match[1]) // 2
        if depth > len(parents):  # a comment that goes on
            continue
        del parents[depth:]
        for name in match[2].split(","):
            doc.exists("/".join(parents + [name]), "tree")
        parents.append(match[2].rstrip("/"))
        shown.add(parents[0])
    doc.check(shown, "there is no ```tree block")
    for name in sorted(os.listdir(doc.root)):
        ours = name in TOP and os.path.isdir(os.path.join(doc.root, name))
        doc.check(not ours or name in shown, f"the tree leaves out {name}/")


def check_token_path(doc):
    text = "\n".join(doc.prose)
    section = re.search(r"^#+ Follow one token$(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    steps = re.findall(r"^\d+\. (`.*)$", section[1], re.MULTILINE) if section else []
    doc.check(len(steps) >= 8, "the list under \"Follow one token\" is missing or short")
    for step in steps:
        path, *names = re.findall(r"`([^`]+)`", step)
        if not os.path.isfile(os.path.join(doc.root, path)):
            doc.check(False, f"{path} does not exist (follow one token)")
            continue
        source = read(os.path.join(doc.root, path))
        for name in names:
            doc.check(re.search(rf"\b{re.escape(name.removesuffix('()'))}\b", source),
                      f"{path} does not contain {name} (follow one token)")


def check_presets(doc):
    text = read(os.path.join(doc.root, doc.path))
    for preset in os.listdir(os.path.join(doc.root, "configs/presets")):
        model = preset.replace("_tiny.textproto", ".textproto")  # a tiny twin goes with its model
        doc.check(model in text, f"the preset {model} is not mentioned")


def main(root):
    presets = json.loads(read(os.path.join(root, "CMakePresets.json")))
    cmake_presets = {preset["name"] for preset in presets["configurePresets"]}
    commands = subcommands(root)
    docs = ["docs/" + name for name in sorted(os.listdir(os.path.join(root, "docs"))) if name.endswith(".md")]
    problems = []
    for path in ["README.md", "CONTRIBUTING.md"] + docs:
        doc = Document(root, path)
        check_paths(doc)
        check_commands(doc, commands, cmake_presets)
        if path == "README.md":
            check_tree(doc)
            check_token_path(doc)
            check_presets(doc)
        problems += doc.problems
    print("\n".join(problems))
    print(f"{2 + len(docs)} documents, {len(problems)} statements that are not true")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
