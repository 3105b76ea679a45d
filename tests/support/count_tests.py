#!/usr/bin/env python3
"""Counts the tests in JUnit files as ctest writes them, and names those that failed.

usage: count_tests.py FILE...    last line: N passed, N failed[, N skipped]; exit code 1 if any failed or none ran
"""
import sys
import xml.etree.ElementTree as xml


def count(path):
    """(passed, failed, skipped, names of the failed) of one file."""
    passed, failed, skipped = 0, [], 0
    for case in xml.parse(path).getroot().iter("testcase"):
        status, skip = case.get("status"), case.find("skipped")
        if status == "run":
            passed += 1
        elif status == "disabled" or (skip is not None and skip.get("message", "").startswith("SKIP_")):
            skipped += 1  # it said so itself; a program that ctest did not find is a failure
        else:
            failed.append(case.get("name"))
    return passed, len(failed), skipped, failed


def text(passed, failed, skipped):
    return f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")


def main(paths):
    totals = [0, 0, 0]
    for path in paths:
        try:
            *counts, names = count(path)
        except (OSError, xml.ParseError) as error:
            print(f"count_tests.py: {path}: {error}", file=sys.stderr)
            counts, names = (0, 1, 0), [f"{path} (no report)"]
        totals = [a + b for a, b in zip(totals, counts)]
        for name in names:
            print(f"FAILED: {name}")
    print(text(*totals))
    return 0 if totals[0] > 0 and totals[1] == 0 else 1


if __name__ == "__main__":
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(sys.argv[1:]))
