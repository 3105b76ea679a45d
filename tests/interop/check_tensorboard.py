#!/usr/bin/env python3
"""Trains a tiny model with train.tensorboard, in two parts, and reads the event files with TensorBoard: they say what
metrics.jsonl says, and what an interrupted part wrote beyond its checkpoint is void.

usage: check_tensorboard.py [--witan PROGRAM]
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIG = """
name: "tiny"
model {{
  vocab_size: 257 d_model: 16 layers: 2 max_seq_len: 32
  attention {{ heads: 2 }}
  moe {{ experts: 4 d_ff: 8 router {{ top_k {{ k: 2 }} }} balance {{ switch_aux {{}} }} }}
}}
data {{ train {{ name: "text" path: "{work}/text" }} seq_len: 32 }}
train {{ steps: 30 global_batch: 4 log_interval: 5 eval_interval: 10 tensorboard: true output: "{work}/run" }}
checkpoint {{ interval: 10 }}
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--witan', default=str(ROOT / 'build/release/bin/witan'))
    witan = parser.parse_args().witan
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        (work / 'run.textproto').write_text(CONFIG.format(work=work))

        def run(*arguments):
            subprocess.run([witan, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)

        run('prepare', ROOT / 'README.md', '-o', work / 'text')
        run('train', work / 'run.textproto', '--set', 'train.steps=25')
        # The first part went to step 25; as if it had been killed behind the checkpoint of step 20.
        for checkpoint in (work / 'run/checkpoints').iterdir():
            if checkpoint.name == 'step-00000025':
                checkpoint.rename(work / 'lost')
        run('train', work / 'run.textproto', '--resume', 'auto')

        steps = {}
        evaluations = {}
        for line in (work / 'run/metrics.jsonl').read_text().splitlines():
            entry = json.loads(line)
            (steps if entry['kind'] == 'step' else evaluations)[entry['step']] = entry
        board = EventAccumulator(str(work / 'run/tensorboard'), size_guidance={'scalars': 0, 'histograms': 0})
        board.Reload()

    def compare(tag, of_entry, entries):
        found = {event.step: event.value for event in board.Scalars(tag)}
        assert sorted(found) == sorted(entries), (tag, sorted(found), sorted(entries))
        for step, entry in entries.items():
            value = of_entry(entry)
            assert abs(found[step] - value) <= 1e-6 * abs(value) + 1e-12, (tag, step, found[step], value)

    assert len(steps) == 30
    compare('train/loss', lambda e: e['loss'], steps)
    compare('train/lr', lambda e: e['lr'], steps)
    compare('train/grad_norm', lambda e: e['grad_norm'], steps)
    compare('load/max_vio/layer_1', lambda e: e['layers'][1]['max_vio'], steps)
    compare('losses/switch_aux/layer_0', lambda e: e['layers'][0]['losses']['switch_aux'], steps)
    compare('validation/loss/text', lambda e: e['loss'], evaluations)
    compare('validation/nats_per_byte/text', lambda e: e['nats_per_byte'], evaluations)
    histograms = {event.step: event.histogram_value for event in board.Histograms('experts/layer_0')}
    assert sorted(histograms) == [5, 10, 15, 20, 25, 30], sorted(histograms)
    for step, histogram in histograms.items():
        assert list(histogram.bucket) == steps[step]['layers'][0]['counts'], step
    texts = [tensor.tensor_proto.string_val[0].decode() for tensor in board.Tensors('config')]
    assert 'experts: 4' in texts[-1], texts
    print(f'tensorboard: {len(board.Tags()["scalars"])} scalars, {len(board.Tags()["histograms"])} histograms, the config as text')
    return 0


if __name__ == '__main__':
    sys.exit(main())
