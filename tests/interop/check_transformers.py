#!/usr/bin/env python3
"""Compares the program with transformers: logits, loss, every gradient, five steps of AdamW, and a checkpoint trained here.
usage: check_transformers.py --witan PROGRAM        run by run.sh; exit code 0 if everything agrees
"""
import argparse
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

import numpy
import safetensors
import torch
import transformers
from safetensors.torch import load_file

import reference

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TOLERANCE = 2e-4        # relative, of logits, loss and gradients in norms per tensor
GRADIENT_FLOOR = 1e-4   # of the norm of all gradients: smaller gradients are rounding
STEPS, LR, STEP_SHARE = 5, 1e-3, 0.05


class Checks:
    def __init__(self):
        self.failed = 0
        self.passed = 0

    def __call__(self, name, value, limit):
        good = value <= limit
        self.passed += good
        self.failed += not good
        print(f'  {"ok  " if good else "FAIL"} {name}: {value:.3g} (at most {limit:.3g})')

    def equal(self, name, found, expected):
        good = found == expected
        self.passed += good
        self.failed += not good
        print(f'  {"ok  " if good else "FAIL"} {name}')
        if not good:
            print(f'       found    {found}\n       expected {expected}')


check = Checks()


def run_witan(witan, ranks, *arguments):
    command = [str(ROOT / 'tests/support/mpirun.sh'), str(ranks), witan, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f'{" ".join(command)}\nexit code {done.returncode}\n{done.stdout}{done.stderr}')
    return done.stdout


def relative(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


def gradient_error(found, expected, everything):
    """|a - b| as a share of max(|b|, floor)."""
    return ((found - expected).norm() / max(expected.norm(), GRADIENT_FLOOR * everything)).item()


def norm_of_all(tensors):
    return sum(tensor.double().square().sum() for tensor in tensors.values()).sqrt().item()


def check_same_names(what, found, expected):
    check.equal(f'{what}: names and shapes', {n: list(t.shape) for n, t in found.items()},
                {n: list(t.shape) for n, t in expected.items()})


def check_logits(witan, ranks, folder, work, model, tokens, reference_of=reference.reference):
    """Logits, loss and gradients of `witan logits`."""
    logits, loss, grads, margin = reference_of(model, tokens)
    check(f'{ranks} ranks: routing choices are no ties, 1e-4 / margin', reference.TIE / margin, 1.0)
    tokens_file, out, grad_file = work / 'tokens.safetensors', work / 'logits.safetensors', work / 'grads.safetensors'
    reference.save_tokens(tokens, tokens_file, torch.int32 if ranks == 2 else torch.int64)
    run_witan(witan, ranks, 'logits', folder, '--tokens', tokens_file, '--out', out, '--gradients', grad_file,
              '--json', work / 'logits.json')
    if reference.sparse_options(model.config):
        check.equal(f'{ranks} ranks: EP = {ranks}', json.loads((work / 'logits.json').read_text())['expert_parallel'], ranks)
    found = load_file(out)
    check(f'{ranks} ranks: logits', relative(found['logits'], logits), TOLERANCE)
    check(f'{ranks} ranks: loss', abs(found['loss'].item() - loss.item()) / loss.item(), TOLERANCE)
    found = load_file(grad_file)
    check_same_names(f'{ranks} ranks: gradients', found, grads)
    total = norm_of_all(grads)
    worst = max(grads, key=lambda name: gradient_error(found[name], grads[name], total))
    check(f'{ranks} ranks: {len(grads)} gradients, the worst is {worst}',
          gradient_error(found[worst], grads[worst], total), TOLERANCE)


def write_dataset(prefix, tokens):
    """Megatron-LM's indexed dataset of one document, int32."""
    count = len(tokens)
    numpy.asarray(tokens, dtype=numpy.int32).tofile(f'{prefix}.bin')
    with open(f'{prefix}.idx', 'wb') as index:
        index.write(b'MMIDIDX\x00\x00' + struct.pack('<QBQQ', 1, 4, 1, 2))
        index.write(struct.pack('<iqqq', count, 0, 0, 1))


def model_text(witan, folder, work):
    """The model part of a run config: `witan convert` writes it. Expert biases stay as they are."""
    checkpoint = work / 'converted'
    if not checkpoint.exists():
        run_witan(witan, 1, 'convert', folder, checkpoint)
    text = (checkpoint / 'run.textproto').read_text()
    depth, begin = 0, text.index('model {')
    for end in range(text.index('{', begin), len(text)):
        depth += {'{': 1, '}': -1}.get(text[end], 0)
        if depth == 0:
            return text[begin:end + 1]
    raise RuntimeError('no model in run.textproto')


def without_moving_bias(model):
    """transformers has no rule that moves it."""
    return model.replace('expert_bias {', 'expert_bias { rate: 0')


def train_here(witan, ranks, folder, work, windows):
    """Five steps of `witan train` from the weights in `folder`; all windows in every step. The saved tensors.
    The dataset has exactly as many windows as a step has sequences, so that every step is an epoch: the same batch, in some
    order."""
    sequences, length = windows.shape[0], windows.shape[1] - 1
    write_dataset(work / f'steps{ranks}', [*windows[:, :-1].reshape(-1).tolist(), windows[-1, -1].item()])
    output = work / f'run{ranks}'
    run = work / f'run{ranks}.textproto'
    run.write_text(f'''name: "interop"
{without_moving_bias(model_text(witan, folder, work))}
data {{ train {{ name: "windows" path: "{work / f'steps{ranks}'}" }} validation_share: 0 seq_len: {length} tokenizer: "none" }}
train {{ steps: {STEPS} global_batch: {sequences} init_from: "{folder}" output: "{output}" }}
optimizer {{ lr: {LR} beta1: 0.9 beta2: 0.95 eps: 1e-8 weight_decay: 0.1 clip_norm: 0 schedule {{ kind: CONSTANT }} }}
''')
    run_witan(witan, ranks, 'train', run)
    return reference.load_tensors(output / 'checkpoints' / f'step-{STEPS:08d}')


def train_there(model, windows):
    """The same steps with torch. The saved tensors, the first step's gradients under those names, the smallest routing margin."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW([{'params': decayed, 'weight_decay': 0.1}, {'params': plain, 'weight_decay': 0.0}],
                                  lr=LR, betas=(0.9, 0.95), eps=1e-8)
    smallest, first = float('inf'), None
    for _ in range(STEPS):
        optimizer.zero_grad()
        logits, margin = reference.forward(model, windows[:, :-1])
        smallest = min(smallest, margin)
        reference.next_token_loss(logits, windows[:, 1:]).backward()
        first = first or reference.under_saved_names(model, reference.gradients(model))
        optimizer.step()
    with tempfile.TemporaryDirectory() as folder:
        reference.save_model(model, folder)
        return reference.load_tensors(folder), first, smallest


def overlapping_windows(config, seed, sequences, length):
    """Windows [sequences, length + 1] of one stream: each begins with the last token of the one before."""
    stream = reference.make_tokens(config, seed, 1, sequences * length + 1)[0]
    return torch.stack([stream[i * length:(i + 1) * length + 1] for i in range(sequences)])


def check_steps(witan, folder, work, config):
    for seed in range(1000):
        windows = overlapping_windows(config, seed, sequences=4, length=12)
        trained, grads, margin = train_there(load(folder), windows)
        if margin > reference.TIE:
            break
    else:
        sys.exit('no windows without a near tie')
    floor = GRADIENT_FLOOR * norm_of_all(grads)
    small = sorted(name for name, grad in grads.items() if grad.norm() < floor)
    for name in small:
        print(f'       left out, its gradient is rounding: {name}')
    small += [name for name in trained if reference.is_state(name)]
    begin = reference.load_tensors(folder)
    for ranks in (1, 2):
        found = train_here(witan, ranks, folder, work, windows)
        check_same_names(f'{ranks} ranks: trained tensors', found, trained)
        difference = {name: (found[name] - trained[name]).abs().max().item() for name in trained if name not in small}
        worst = max(difference, key=difference.get)
        moved = min((trained[name] - begin[name]).abs().max().item() for name in difference)
        check(f'{ranks} ranks: {STEPS} AdamW steps, the worst of {len(difference)} tensors is {worst}; share of lr',
              difference[worst] / LR, STEP_SHARE)
        check(f'{ranks} ranks: every one of them has moved, lr / least distance', LR / max(moved, 1e-30), 1.0)


def load(folder):
    extra = reference.sparse_options(transformers.AutoConfig.from_pretrained(folder))
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation='eager', **extra).eval()


def check_model(witan, name, config, seed):
    print(f'{name}: {json.dumps({k: v for k, v in config.to_diff_dict().items() if isinstance(v, (int, float))})}')
    with tempfile.TemporaryDirectory() as scratch:
        work = pathlib.Path(scratch)
        folder = work / 'model'
        model = reference.make_model(config, seed)
        reference.save_model(model, folder)
        tokens = reference.tokens_without_ties(model, sequences=5, length=17)
        for ranks in (1, 2):
            check_logits(witan, ranks, folder, work, model, tokens)
        check_steps(witan, folder, work, config)
        check('exported: logits', relative(reference.forward(open_strictly(exported(witan, folder, work, config)),
                                                              tokens)[0].detach(),
                                            reference.forward(model, tokens)[0].detach()), TOLERANCE)


TEXT = 'the cat sat on the mat. the dog sat on the log. a bird in the hand is worth two in the bush. '


def exported(witan, folder, work, config):
    """The folder that `witan convert` makes of a checkpoint: the same tensors, opened strictly."""
    back = work / 'back'
    run_witan(witan, 1, 'convert', work / 'converted', back, '--architecture', config.model_type)
    begin, found = reference.load_tensors(folder), reference.load_tensors(back)
    check_same_names('convert there and back', found, begin)
    check('convert there and back: bits that differ', sum((found[n] != begin[n]).sum().item() for n in begin), 0)
    return back


def check_mtp(witan, config, depth, seed):
    """Modules of multi-token prediction, in and out again."""
    print(f'DeepSeek-V3 with {depth} modules of multi-token prediction')
    with tempfile.TemporaryDirectory() as scratch:
        work = pathlib.Path(scratch)
        model = reference.MtpModel(config, depth, seed)
        model.save(work / 'model')
        tokens = reference.tokens_without_ties(model, sequences=5, length=17, margin_of=lambda m, t: m(t)[-1])
        run_witan(witan, 1, 'convert', work / 'model', work / 'checkpoint', '--mtp', 'keep')
        for ranks in (1, 2):
            check_logits(witan, ranks, work / 'checkpoint', work, model, tokens, reference.mtp_reference)
        run_witan(witan, 1, 'convert', work / 'checkpoint', work / 'back', '--mtp', 'keep')
        begin, found = reference.load_tensors(work / 'model'), reference.load_tensors(work / 'back')
        check_same_names('convert there and back', found, begin)
        check('convert there and back: bits that differ', sum((found[n] != begin[n]).sum().item() for n in begin), 0)
        run_witan(witan, 1, 'convert', work / 'checkpoint', work / 'without', '--mtp', 'skip')
        check('without the modules: logits', relative(reference.forward(open_strictly(work / 'without'), tokens)[0].detach(),
                                                      model(tokens)[0].detach()), TOLERANCE)


def open_strictly(folder):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation='eager', output_loading_info=True,
        **reference.sparse_options(transformers.AutoConfig.from_pretrained(folder)))
    check.equal('loads: no missing, unexpected or misshapen tensors',
                {key: sorted(map(str, info[key])) for key in ('missing_keys', 'unexpected_keys', 'mismatched_keys')},
                {'missing_keys': [], 'unexpected_keys': [], 'mismatched_keys': []})
    return model.eval()


def check_checkpoint(witan, name, config):
    """A model trained here at EP = 2 opens in transformers and writes the same."""
    print(f'a checkpoint of `witan train` at EP = 2: {name}')
    with tempfile.TemporaryDirectory() as scratch:
        work = pathlib.Path(scratch)
        write_dataset(work / 'text', [*(TEXT * 30).encode(), 256])
        reference.save_model(reference.make_model(config, seed=1), work / 'model')
        run = work / 'run.textproto'
        dense = config.model_type in ('llama', 'mistral')
        run.write_text(f'''name: "interop"
{model_text(witan, work / 'model', work)}
data {{ train {{ name: "text" path: "{work / 'text'}" }} validation_share: 0 seq_len: 32 }}
train {{ steps: 60 global_batch: 8 output: "{work / 'run'}" }}
optimizer {{ lr: 1e-2 schedule {{ kind: CONSTANT }} }}
parallel {{ expert: {1 if dense else 2} }}
''')
        run_witan(witan, 2, 'train', run)
        model = open_strictly(work / 'run/checkpoints/step-00000060')
        prompt = 'the dog '
        ids = torch.tensor([list(prompt.encode())])
        theirs = model.generate(ids, max_new_tokens=40, do_sample=False, eos_token_id=256, pad_token_id=256)
        theirs = theirs[0, ids.shape[1]:].tolist()
        if 256 in theirs:
            theirs = theirs[:theirs.index(256)]
        for ranks in (1, 2):
            run_witan(witan, ranks, 'generate', work / 'run', '--prompt', prompt, '--greedy', '--max-tokens', 40,
                      '--json', work / 'generated.json')
            ours = json.loads((work / 'generated.json').read_text())['samples'][0]['ids']
            check.equal(f'{ranks} ranks: greedy: {bytes(theirs)}', ours, theirs)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--witan', required=True)
    witan = str(pathlib.Path(parser.parse_args().witan).resolve())
    os.environ['OMP_NUM_THREADS'] = '1'
    torch.set_num_threads(1)
    print(f'transformers {transformers.__version__}, torch {torch.__version__}, safetensors {safetensors.__version__}, '
          f'numpy {numpy.__version__}, Python {sys.version.split()[0]}')
    print(subprocess.run([witan, '--version'], capture_output=True, text=True, check=True).stdout)

    check_model(witan, 'Mixtral, grouped-query, head not tied',
                reference.mixtral(vocab_size=97, hidden_size=36, intermediate_size=22, num_hidden_layers=3,
                                  num_attention_heads=6, num_key_value_heads=2, num_local_experts=6), seed=3)
    check_model(witan, 'Mixtral, top-3, head tied',
                reference.mixtral(hidden_size=20, intermediate_size=14, num_attention_heads=5, num_key_value_heads=5,
                                  num_experts_per_tok=3, rope_theta=1e4, tie_word_embeddings=True), seed=4)
    check_model(witan, 'Llama, grouped-query, head not tied',
                reference.llama(vocab_size=83, intermediate_size=41, tie_word_embeddings=False), seed=5)
    check_model(witan, 'Llama, attention biases, head tied', reference.llama(attention_bias=True), seed=6)
    check_model(witan, 'Mistral', reference.mistral(), seed=7)
    check_model(witan, 'Mistral, sliding window', reference.mistral(sliding_window=5), seed=17)
    check_model(witan, 'Mixtral, sliding window', reference.mixtral(sliding_window=6), seed=18)
    check_model(witan, 'Qwen2-MoE, the first layer dense', reference.qwen2_moe(), seed=8)
    check_model(witan, 'Qwen2-MoE, weights renormalised, head tied',
                reference.qwen2_moe(mlp_only_layers=[], norm_topk_prob=True, tie_word_embeddings=True, qkv_bias=False), seed=9)
    check_model(witan, 'OLMoE', reference.olmoe(), seed=10)
    # Every expert gets tokens: with renormalised weights the gradient of another's row of the router is rounding.
    check_model(witan, 'OLMoE, attention biases, weights renormalised',
                reference.olmoe(attention_bias=True, norm_topk_prob=True, num_key_value_heads=4, num_experts=4,
                                num_experts_per_tok=3), seed=11)
    check_model(witan, 'DeepSeek-V2, no latent of queries, greedy, YaRN', reference.deepseek_v2(), seed=12)
    check_model(witan, 'DeepSeek-V2, latent of queries, groups, plain rope',
                reference.deepseek_v2(q_lora_rank=9, topk_method='group_limited_greedy', n_group=4, topk_group=2,
                                      first_k_dense_replace=0, rope_parameters=dict(rope_type='default', rope_theta=1e4)),
                seed=13)
    check_model(witan, 'DeepSeek-V3, YaRN', reference.deepseek_v3(), seed=14)
    check_model(witan, 'DeepSeek-V3, rotation of halves, one group',
                reference.deepseek_v3(rope_interleave=False, n_group=1, topk_group=1, q_lora_rank=None, norm_topk_prob=False,
                                      rope_parameters=dict(rope_type='default', rope_theta=3e3)), seed=15)
    for depth in (1, 2):
        check_mtp(witan, reference.deepseek_v3(), depth, seed=20 + depth)
    check_model(witan, 'Llama, rope of Llama 3.1',
                reference.llama(rope_theta=None, rope_parameters=dict(
                    rope_type='llama3', rope_theta=1e4, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
                    original_max_position_embeddings=16)), seed=16)
    small = dict(vocab_size=257, hidden_size=40, num_hidden_layers=2)
    for name, config in (
            ('Mixtral', reference.mixtral(**small, intermediate_size=24, num_attention_heads=5, num_key_value_heads=1,
                                          num_local_experts=6)),
            ('Mistral', reference.mistral(**small)),
            ('Mistral, sliding window', reference.mistral(**small, sliding_window=7)),
            ('Qwen2-MoE', reference.qwen2_moe(**small)),
            ('OLMoE', reference.olmoe(**small)),
            ('DeepSeek-V2', reference.deepseek_v2(**{**small, 'hidden_size': 42})),
            ('DeepSeek-V3', reference.deepseek_v3(**small))):
        check_checkpoint(witan, name, config)

    print(f'{check.passed} passed, {check.failed} failed')
    return 1 if check.failed else 0


if __name__ == '__main__':
    sys.exit(main())
