#!/usr/bin/env python3
"""A tokenizer on its way through the program: prepare, train, resume, generate, eval and convert, where each step finds it in
what the step before wrote.

usage: tokenizer_program_test.py WITAN [TestCase.test ...]
"""
import json
import pathlib
import shutil
import struct
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from program_case import ROOT, WITAN, ProgramCase  # noqa: E402

FIXTURES = ROOT / "tests" / "fixtures" / "tokenizers"

# Mixtral's architecture, so that it converts.
CONFIG = """\
name: "tiny"
model {
  vocab_size: 420 d_model: 16 layers: 2 max_seq_len: 64
  attention { heads: 2 }
  moe { experts: 4 d_ff: 8 router { top_k { k: 2 } } balance { switch_aux {} } }
}
data { train { name: "text" path: "text" } seq_len: 32 mask_document_start: true }
train { steps: 4 global_batch: 4 log_interval: 2 tensorboard: true }
runtime { threads: 1 }
"""
PROMPT = "Every rank holds"


class TokenizerProgramTest(ProgramCase):
    def setUp(self):
        super().setUp()
        (self.folder / "tiny.textproto").write_text(CONFIG)

    def run_witan(self, *arguments, expected=0, ranks=0):
        done = self.execute(expected, WITAN, *arguments, ranks=ranks)
        return done.stdout + done.stderr

    def prepare(self, tokenizer):
        self.run_witan("prepare", ROOT / "README.md", "-o", "text", "--overwrite", "--tokenizer", tokenizer)

    def generate(self, model, *more):
        self.run_witan("generate", model, "--max-tokens", 8, "--greedy", "--json", "out.json", *more)
        return json.loads((self.folder / "out.json").read_text())

    def train_and_lose_everything_else(self, kind):
        """The checkpoint folder of a run whose tokenizer and data are gone."""
        shutil.copytree(FIXTURES / kind, self.folder / "tokenizer")
        self.prepare("tokenizer")
        self.run_witan("train", "tiny.textproto", ranks=2)
        shutil.rmtree(self.folder / "tokenizer")
        for name in ("text.bin", "text.idx"):
            (self.folder / name).unlink()
        shutil.rmtree(self.folder / "text.tokenizer")
        return self.folder / "runs/tiny/checkpoints/step-00000004"

    def test_bpe_checkpoint_stands_alone(self):
        expected = {}
        for line in (FIXTURES / "gpt2/expected.jsonl").read_text().splitlines():
            case = json.loads(line)
            expected[case["text"]] = case["ids"]
        checkpoint = self.train_and_lose_everything_else("gpt2")
        self.assertEqual((checkpoint / "tokenizer.json").read_bytes(), (FIXTURES / "gpt2/tokenizer.json").read_bytes())
        text = "don't DON'T I'LL we'd ''s 's"
        sample = self.generate(checkpoint, "--prompt", text)
        self.assertEqual(sample["prompt"], text)
        self.assertEqual(sample["prompt_ids"], expected[text])
        self.assertIsInstance(sample["samples"][0]["text"], str)
        notes = json.loads((checkpoint / "witan.json").read_text())["notes"]
        self.assertRegex(notes["tokenizer"], "^bpe-[0-9a-f]{16}$")
        self.assertTrue(list((self.folder / "runs/tiny/tensorboard").glob("events.out.tfevents.*")))

        # To Hugging Face's folder and back the tokenizer comes along.
        self.run_witan("convert", checkpoint, "hf")
        self.assertEqual((self.folder / "hf/tokenizer.json").read_bytes(), (checkpoint / "tokenizer.json").read_bytes())
        self.run_witan("convert", "hf", "back")
        for model in ("hf", "back"):
            again = self.generate(model, "--prompt", text)
            self.assertEqual(again["prompt_ids"], sample["prompt_ids"])
            self.assertEqual(again["samples"], sample["samples"])

        # A damaged tokenizer is noticed like damaged weights.
        with open(checkpoint / "tokenizer.json", "a") as file:
            file.write("\n")
        self.assertIn("tokenizer.json: corrupt", self.run_witan("generate", checkpoint, "--prompt", "a", expected=2))

    def test_sentencepiece_checkpoint_stands_alone(self):
        checkpoint = self.train_and_lose_everything_else("sentencepiece")
        sample = self.generate(checkpoint, "--prompt", PROMPT)
        self.assertEqual(sample["prompt"], PROMPT)
        self.prepare(checkpoint)  # a checkpoint is a folder with a tokenizer like any other
        evaluated = self.run_witan("eval", checkpoint, "--data", "text=text")
        self.assertIn("nats per byte", evaluated)

    def test_checkpoint_does_not_ask_the_datasets(self):
        self.prepare("byte")
        self.run_witan("train", "tiny.textproto")
        self.prepare(FIXTURES / "gpt2")
        sample = self.generate("runs/tiny", "--prompt", PROMPT)
        self.assertEqual(sample["prompt_ids"], list(PROMPT.encode()))
        output = self.run_witan("eval", "runs/tiny", expected=2)
        self.assertIn("was prepared with the tokenizer in text.tokenizer", output)

    def test_other_tokenizers_are_refused(self):
        self.prepare(FIXTURES / "gpt2")
        self.run_witan("train", "tiny.textproto", "--set", "train.steps=2")
        self.run_witan("train", "tiny.textproto", "--resume", "auto")
        self.prepare(FIXTURES / "olmoe")
        output = self.run_witan("train", "tiny.textproto", "--resume", "auto", "--set", "train.steps=6",
                                "--set", "model.vocab_size=500", expected=2)
        self.assertIn("vocab_size", output)
        output = self.run_witan("train", "tiny.textproto", expected=2, ranks=2)
        self.assertRegex(output, "model.vocab_size: found 420; the tokenizer bpe-[0-9a-f]+ needs at least 42")
        self.prepare(FIXTURES / "llama3")
        output = self.run_witan("train", "tiny.textproto", "--resume", "auto", "--set", "train.steps=6", expected=2)
        self.assertIn("was trained with the tokenizer bpe-", output)
        output = self.run_witan("train", "tiny.textproto", "--set", "data.tokenizer=byte", expected=2)
        self.assertIn('dataset "text" (text) was prepared with the tokenizer in text.tokenizer', output)
        output = self.run_witan("train", "tiny.textproto", "--set", "data.tokenizer=absent.json", expected=2)
        self.assertIn('unknown tokenizer "absent.json"', output)

    def test_trains_on_files_of_llm_c_and_nanogpt(self):
        ids = [(7 * i) % 400 for i in range(4000)]
        tokens = struct.pack(f"<{len(ids)}H", *ids)
        (self.folder / "raw.bin").write_bytes(tokens)
        (self.folder / "llmc.bin").write_bytes(struct.pack("<256i", 20240520, 1, len(ids), *[0] * 253) + tokens)
        common = ["train", "tiny.textproto", "--set", "data.tokenizer=none", "--set", "data.end_of_document=0"]
        losses = []
        for name, more in (("llmc", []), ("raw", ["--set", "data.train[0].format=RAW_UINT16"])):
            self.run_witan(*common, *more, "--set", f"data.train[0].path={name}.bin", "--set", f"train.output={name}",
                           "--json", "out.json")
            losses.append(json.loads((self.folder / "out.json").read_text())["validation"][0]["loss"])
        self.assertEqual(losses[0], losses[1])
        output = self.run_witan(*common, "--set", "data.train[0].path=raw.bin", expected=2)
        self.assertIn("RAW_UINT16", output)


if __name__ == "__main__":
    unittest.main(verbosity=2)
