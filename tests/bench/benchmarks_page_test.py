#!/usr/bin/env python3
"""benchmarks_page.py replaces the measured part of a page and nothing else."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))
from benchmarks_page import BEGIN, END, PAGE  # noqa: E402


def result(what, **figures):
    return {"section": "layer", "subject": "4096 tokens", "what": what, "seconds": 0.25,
            "seconds_quartiles": [0.24, 0.26], "samples": 5, "ratios": [], **figures}


REPORT = {
    "format": "witan bench 1",
    "machine": {"cpu": "a CPU", "ranks": "2", "threads": "1", "precision": "float32"},
    "results": [
        result("forward", flop=5e9, gflops=20.0, bytes=3e6, gigabytes_per_second=0.012,
               ratios=[{"of": "of peak", "value": 0.5, "at_least": 0.75, "holds": False}]),
        result("hot", ratios=[{"of": "of the bound", "value": 1.1, "at_most": 1.15, "holds": True}]),
        {**result("up NT, 32 rows, own", gflops=190.4), "section": "gemm"},
        {**result("up NT, 32 rows, oneDNN", gflops=120.0, ratios=[{"of": "of peak", "value": 0.34}]), "section": "gemm"},
        result("phase: small", ratios=[{"of": "of the layer", "value": 0.001}]),
    ],
}


class BenchmarksPageTest(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.temporary.name)
        self.page = self.folder / "page.md"
        self.report = self.folder / "report.json"
        self.report.write_text(json.dumps(REPORT))

    def tearDown(self):
        self.temporary.cleanup()

    def write(self, page):
        self.page.write_text(page)
        return subprocess.run([str(FOLDER / "benchmarks_page.py"), "--page", str(self.page), str(self.report)],
                              text=True, capture_output=True, check=False)

    def test_replaces_the_measured_part_alone(self):
        done = self.write(f"by hand\n{BEGIN}\nold figures\n{END}\nalso by hand\n")
        self.assertEqual(done.returncode, 0, done.stderr)
        text = self.page.read_text()
        self.assertTrue(text.startswith(f"by hand\n{BEGIN}\n"))
        self.assertTrue(text.endswith(f"\n{END}\nalso by hand\n"))
        self.assertNotIn("old figures", text)
        self.assertIn("### 2 ranks with 1 threads, float32", text)
        self.assertIn("| forward | 250.0 ± 4% | 20.0 GFLOP/s | 3.0 | **0.50 of peak** (≥ 0.75, missed) |", text)
        self.assertIn("**1.10 of the bound** (≤ 1.15)", text)
        self.assertNotIn("phase: small", text)
        self.assertIn("| up NT, 32 rows | 190 | 120, 0.34 |", text)

    def test_twice_is_once(self):
        self.write(f"{BEGIN}\n{END}\n")
        once = self.page.read_text()
        self.write(once)
        self.assertEqual(self.page.read_text(), once)

    def test_refuses_a_page_without_its_marks_and_leaves_it(self):
        for page in ("no marks\n", f"{END}\n{BEGIN}\n", f"{BEGIN}\n"):
            self.assertNotEqual(self.write(page).returncode, 0)
            self.assertEqual(self.page.read_text(), page)

    def test_refuses_another_file(self):
        self.report.write_text('{"format": "else"}')
        self.assertNotEqual(self.write(f"{BEGIN}\n{END}\n").returncode, 0)

    def test_the_page_of_this_project_has_its_marks(self):
        text = PAGE.read_text(encoding="utf-8")
        self.assertEqual((text.count(BEGIN), text.count(END)), (1, 1))


if __name__ == "__main__":
    unittest.main()
