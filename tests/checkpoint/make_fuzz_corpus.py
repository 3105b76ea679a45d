#!/usr/bin/env python3
"""Writes what .ci/fuzz.sh starts from: small safetensors files, good ones and some that are nearly good.
usage: make_fuzz_corpus.py FOLDER
"""
import json
import pathlib
import struct
import sys


def tensor(dtype, shape, begin, end):
    return {'dtype': dtype, 'shape': shape, 'data_offsets': [begin, end]}


def file_of(header, data_bytes, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack('<Q', len(text) if length is None else length) + text + bytes(data_bytes)


SEEDS = {
    'empty': file_of({}, 0),
    'one': file_of({'a': tensor('F32', [2, 3], 0, 24)}, 24),
    'several': file_of({'__metadata__': {'format': 'pt'}, 'a': tensor('F32', [2, 3], 0, 24), 'b': tensor('BF16', [4], 24, 32),
                        'c': tensor('I64', [], 32, 40), 'd': tensor('U8', [0, 7], 40, 40)}, 40),
    'dtypes': file_of({name: tensor(name, [1], 8 * i, 8 * i + 8) for i, name in enumerate(['F64', 'I64'])}, 16),
    'fp8': file_of({'w': tensor('F8_E4M3', [3], 0, 3), 'b': tensor('BOOL', [1], 3, 4)}, 4),
    'padded': file_of(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}   ', 1),
    'escaped': file_of(b'{"\\u0061\\n":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1),
    'overlap': file_of({'a': tensor('U8', [4], 0, 4), 'b': tensor('U8', [4], 2, 6)}, 6),
    'gap': file_of({'a': tensor('U8', [1], 0, 1), 'b': tensor('U8', [1], 2, 3)}, 3),
    'huge_shape': file_of({'a': tensor('U8', [2**62, 4], 0, 0)}, 0),
    'negative': file_of({'a': tensor('U8', [-1], 0, 1)}, 1),
    'twice': file_of(b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}', 0),
    'long_header': file_of({}, 0, length=2**63),
    'short': b'\x08\x00\x00',
}

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for name, content in SEEDS.items():
    (folder / name).write_bytes(content)
