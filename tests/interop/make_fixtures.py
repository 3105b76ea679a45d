#!/usr/bin/env python3
"""Writes tests/fixtures/NAME/: a tiny model of transformers as it saves it, tokens, and the logits, loss and gradients that it
gets. The default tests compare the program with them, without Python (tests/launch/fixtures_test.cc).
usage: build/.venv-interop/bin/python tests/interop/make_fixtures.py
"""
import pathlib
import shutil

import torch
import transformers
from safetensors.torch import save_file

import reference

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / 'fixtures'


def write(name, config, seed):
    folder = empty_folder(name)
    model = reference.make_model(config, seed)
    reference.save_model(model, folder)
    tokens = reference.tokens_without_ties(model, sequences=3, length=9)
    write_results(folder, tokens, *reference.reference(model, tokens))


def write_mtp(name, config, depth, seed):
    folder = empty_folder(name)
    model = reference.MtpModel(config, depth, seed)
    model.save(folder)
    tokens = reference.tokens_without_ties(model, sequences=3, length=9, margin_of=lambda m, t: m(t)[-1])
    write_results(folder, tokens, *reference.mtp_reference(model, tokens))


def empty_folder(name):
    folder = FIXTURES / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def write_results(folder, tokens, logits, loss, grads, margin):
    (folder / 'generation_config.json').unlink(missing_ok=True)
    reference.save_tokens(tokens, folder / 'tokens.safetensors')
    source = {'source': f'transformers {transformers.__version__}, torch {torch.__version__}'}
    save_file({'logits': logits.contiguous(), 'loss': loss.reshape(1)}, folder / 'logits.safetensors', source)
    save_file({key: value.contiguous() for key, value in grads.items()}, folder / 'gradients.safetensors', source)
    for file in folder.iterdir():
        file.chmod(0o644)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f'{folder}: {size} bytes, loss {loss:.6f}, routing margin {margin:.2g}')


torch.set_num_threads(1)
write('mixtral', reference.mixtral(), seed=1)
write('llama', reference.llama(attention_bias=True), seed=2)
write('mistral', reference.mistral(), seed=3)
write('qwen2_moe', reference.qwen2_moe(), seed=4)
write('olmoe', reference.olmoe(), seed=5)
write('deepseek_v2', reference.deepseek_v2(), seed=6)
write('deepseek_v3', reference.deepseek_v3(), seed=7)
write_mtp('deepseek_v3_mtp', reference.deepseek_v3(hidden_size=18, num_hidden_layers=2, n_routed_experts=8), depth=2, seed=8)
write('mistral_window', reference.mistral(sliding_window=4), seed=9)
