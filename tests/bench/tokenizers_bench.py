#!/usr/bin/env python3
"""Speed of byte-level BPE: `witan prepare --threads 1` and the `tokenizers` package on one thread, in turn on the same text,
whose ids must be the same. Times are seconds of the processor, all threads together, so that a busy machine changes little;
witan's are those of the whole command: start, tokenizer.json, reading, writing the dataset.
usage: tokenizers_bench.py TOKENIZER.json TEXT... [--witan PROGRAM] [--rounds N] [--megabytes N]
"""

import argparse
import array
import os
import pathlib
import resource
import statistics
import subprocess
import tempfile
import time

os.environ['TOKENIZERS_PARALLELISM'] = 'false'

import tokenizers  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]


def processor_seconds_of_children():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('tokenizer', type=pathlib.Path)
    parser.add_argument('texts', nargs='+', type=pathlib.Path)
    parser.add_argument('--witan', default=str(ROOT / 'build/release/bin/witan'))
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--megabytes', type=float, default=100, help='text for witan: the files, again and again')
    arguments = parser.parse_args()

    text = b''.join(path.read_bytes() for path in arguments.texts)
    repeats = max(1, round(arguments.megabytes * 1e6 / len(text)))
    theirs = tokenizers.Tokenizer.from_file(str(arguments.tokenizer))
    unicode_text = text.decode()
    speeds = {'witan': [], 'tokenizers': []}
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        for name, times in (('once', 1), ('often', repeats)):
            (work / f'{name}.txt').write_bytes(text * times)

        def prepare(name):
            command = [arguments.witan, 'prepare', str(work / f'{name}.txt'), '-o', str(work / name), '--overwrite',
                       '--threads', '1', '--tokenizer', str(arguments.tokenizer)]
            start = processor_seconds_of_children()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            return processor_seconds_of_children() - start

        prepare('once')
        ours = array.array('H' if theirs.get_vocab_size() < 65500 else 'i', (work / 'once.bin').read_bytes())
        assert list(ours[:-1]) == theirs.encode(unicode_text, add_special_tokens=False).ids, 'other ids'
        for _ in range(arguments.rounds):
            speeds['witan'].append(len(text) * repeats / prepare('often') / 1e6)
            start = time.process_time()
            theirs.encode(unicode_text, add_special_tokens=False)
            speeds['tokenizers'].append(len(text) / (time.process_time() - start) / 1e6)
    for name, values in speeds.items():
        print(f'{name:10} {statistics.median(values):8.2f} MB per second of a core, median of {len(values)} '
              f'({min(values):.2f} to {max(values):.2f})')
    ratios = [ours / theirs for ours, theirs in zip(speeds['witan'], speeds['tokenizers'])]
    print(f'ratio      {statistics.median(ratios):8.2f} ({min(ratios):.2f} to {max(ratios):.2f}); '
          f'tokenizers {tokenizers.__version__}, load average {os.getloadavg()[0]:.1f}')


if __name__ == '__main__':
    main()
