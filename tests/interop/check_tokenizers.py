#!/usr/bin/env python3
"""Compares the token ids of `witan prepare` with those of the `tokenizers` package, id for id.

For each kind of tokenizer.json that is in use it trains a small vocabulary, and encodes prose, code, lists of odd characters
and random strings over all of Unicode: each string as a document of its own, and long texts that witan cuts into blocks.
usage: check_tokenizers.py [--witan PROGRAM] [--shared FOLDER]
       check_tokenizers.py --fixtures tests/fixtures/tokenizers    writes what the default tests compare with instead
"""

import argparse
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

import sentencepiece
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

ROOT = pathlib.Path(__file__).resolve().parents[2]
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r'|\s+(?!\S)|\s+')
QWEN2 = LLAMA3.replace('{1,3}', '')
DEEPSEEK = ('[!"#$%&\'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+'
            '| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+')
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r'|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+')


def split(pattern, behavior='isolated', invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def byte_level(use_regex=False, add_prefix_space=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=use_regex)


# name: pre-tokenizer, normalizer, added tokens, ignore_merges
KINDS = {
    'gpt2': (byte_level(True), None, [], False),
    'prefix_space': (byte_level(True, True), None, [], False),
    'llama3': (pre_tokenizers.Sequence([split(LLAMA3), byte_level()]), None, [], True),
    'qwen2': (pre_tokenizers.Sequence([split(QWEN2), byte_level()]), normalizers.NFC(), [], False),
    'olmoe': (byte_level(True), normalizers.NFC(),
              [AddedToken(' ' * n, normalized=True, special=False) for n in range(2, 9)], False),
    'deepseek': (pre_tokenizers.Sequence([split(r'\p{N}{1,3}'), split('[一-龥\u3040-\u309f\u30a0-\u30ff]+'), split(DEEPSEEK),
                                          byte_level()]), None, ['<｜User｜>', '<｜end▁of▁sentence｜>'], False),
    'starcoder': (pre_tokenizers.Sequence([pre_tokenizers.Digits(True), byte_level(True)]), None, ['<fim_prefix>'], False),
    'o200k': (pre_tokenizers.Sequence([split(O200K, 'removed', True), byte_level()]), None, ['<|a b|>'], False),
    'literal': (pre_tokenizers.Sequence([pre_tokenizers.Split('.-', 'isolated'), byte_level(True)]), None, [], False),
}


FIXTURES = ['gpt2', 'llama3', 'olmoe', 'deepseek', 'prefix_space', 'o200k']


def train(kind, texts, vocab_size=3000):
    pre_tokenizer, normalizer, added, whole_words = KINDS[kind]
    tokenizer = Tokenizer(models.BPE(ignore_merges=whole_words))
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=['<|endoftext|>'], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts, trainer)
    for token in added:
        if isinstance(token, str):
            tokenizer.add_special_tokens([token])
        else:
            tokenizer.add_tokens([token])
    return tokenizer


def random_strings(count):
    generator = random.Random(7)
    pools = [range(32, 127), [9, 10, 13, 32, 0xA0, 0x3000, 0x85, 0x2028, 0x180E, 0x200B, 0x1F, 0x0B], range(0xA1, 0x250),
             range(0x300, 0x370), range(0x370, 0x530), range(0x590, 0x700), range(0x900, 0xE80), range(0x1100, 0x1200),
             range(0x2000, 0x2C00), range(0x3040, 0x3100), range(0x4E00, 0x4F00), range(0xAC00, 0xAD00),
             range(0x1F300, 0x1F700), range(0xF900, 0xFB00), [ord(c) for c in "'sStTrevmldLE "]]
    for _ in range(count):
        used = generator.sample(pools, generator.randint(1, 4))
        yield ''.join(chr(generator.choice(generator.choice(used))) for _ in range(generator.randint(1, 60)))


def short_texts(random_ones):
    fixed = ['', ' ', '  ', '\n', '\n\n', ' \n ', 'a', ' a', "don't DON'T I'LL we'd ''s 's", 'x\r\ny\r\n\r\nz', '\t\ttab', '0',
             '1234567890', 'a1b22c333', '３１２', '!?!?…', 'e\u0301 \u0301', 'ſ\u017f\'ſ', '가각\u1100\u1161', 'a' * 300, '-' * 300,
             '<|endoftext|>', 'a<|endoftext|> b', '<|endoftext|><|endoftext|>', '<|endofte', '<｜User｜>hi', 'x  <fim_prefix>',
             '   three', '        nine       ', 'a <|a b|> c', '...-.-', '👩‍👩‍👧', '\U0001F1EB\U0001F1F7', '𝒳 𝟙𝟚', 'Ⅷ ⅷ ½', '\u200b',
             'x = {"a": [1, 2.5, -3e7]};  // why?\n\n\tfor (;;) {}\n', 'é' * 40, 'Ǆ ǅ ǆ ß ẞ İ ı']
    return fixed + [text for text in random_strings(random_ones) if text]


def documents(prefix):
    index = prefix.with_suffix('.idx').read_bytes()
    width = {8: 2, 4: 4}[index[17]]
    sequences, marks = struct.unpack_from('<QQ', index, 18)
    lengths = struct.unpack_from(f'<{sequences}i', index, 34)
    tokens = memoryview(prefix.with_suffix('.bin').read_bytes()).cast('H' if width == 2 else 'i')
    assert marks == sequences + 1
    at = 0
    for length in lengths:
        yield list(tokens[at:at + length])
        at += length


def encode(witan, tokenizer_file, inputs, work):
    subprocess.run([witan, 'prepare', *map(str, inputs), '-o', str(work / 'ids'), '--overwrite', '--tokenizer',
                    str(tokenizer_file)], check=True, stdout=subprocess.DEVNULL)
    return documents(work / 'ids')


def check(kind, tokenizer, tokenizer_file, texts, files, witan, work):
    """Number of differences, of texts compared and of their ids."""
    end = tokenizer.token_to_id('<|endoftext|>')
    (work / 'texts.jsonl').write_text(''.join(json.dumps({'text': text}) + '\n' for text in texts))
    names = [work / 'texts.jsonl', *files]
    expected = [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    expected += [tokenizer.encode(f.read_bytes().decode(), add_special_tokens=False).ids for f in files]
    wanted = [ids for ids in expected if ids]  # empty documents are left out
    sources = [text for text, ids in zip(texts + [str(f) for f in files], expected) if ids]
    found = list(encode(witan, tokenizer_file, names, work))
    differences = 0 if len(found) == len(wanted) else 1
    for ours, theirs, source in zip(found, wanted, sources):
        if ours != theirs + [end]:
            differences += 1
            if differences <= 5:
                print(f'{kind}: {source[:80]!r}:\n  tokenizers {theirs[:30]}\n  witan      {ours[:30]}')
    return differences, len(wanted), sum(map(len, wanted))


def write_fixtures(folder, training):
    texts = short_texts(200)
    for kind in FIXTURES:
        tokenizer = train(kind, training, 420)
        (folder / kind).mkdir(parents=True, exist_ok=True)
        tokenizer.save(str(folder / kind / 'tokenizer.json'), pretty=False)
        ids = [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
        lines = [json.dumps({'text': text, 'ids': of_text}) for text, of_text in zip(texts, ids)]
        (folder / kind / 'expected.jsonl').write_text('\n'.join(lines) + '\n')
    train('gpt2', training, 420).model.save(str(folder / 'gpt2'))
    write_sentencepiece_fixture(folder / 'sentencepiece', training)
    print(f'written with tokenizers {tokenizers.__version__}, sentencepiece {sentencepiece.__version__}')


def write_sentencepiece_fixture(folder, training):
    folder.mkdir(exist_ok=True)
    lines = [line for text in training for line in text.split('\n') if line]
    with open(folder / 'tokenizer.model', 'wb') as model:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=model, vocab_size=400, model_type='bpe', byte_fallback=True,
            normalization_rule_name='identity', character_coverage=1.0, minloglevel=2)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / 'tokenizer.model'))
    texts = ['', 'What a token is.', '  two  spaces ', 'é 漢字 🙂', 'x\ty', "don't", '12345', *lines[:20]]
    (folder / 'expected.jsonl').write_text(
        ''.join(json.dumps({'text': text, 'ids': processor.encode(text)}) + '\n' for text in texts))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--witan', default=str(ROOT / 'build/release/bin/witan'))
    parser.add_argument('--fixtures', type=pathlib.Path)
    parser.add_argument('--shared', type=pathlib.Path, default=ROOT.parent / 'shared')
    arguments = parser.parse_args()
    prose = sorted((ROOT / 'docs').glob('*.md')) + sorted((ROOT / 'launch').glob('**/*.cc'))
    training = [path.read_bytes().decode() for path in prose]
    if arguments.fixtures:
        write_fixtures(arguments.fixtures, training)
        return 0
    texts = short_texts(3000)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        long_text = work / 'long.txt'  # several blocks of a mebibyte
        long_text.write_text('\n'.join(training * 4) + '\n\n'.join(training), newline='')
        files = [long_text]
        text = arguments.shared / 'data/text'
        files += [text / name for name in ('tinyshakespeare.txt', 'fr_novels.txt', 'ko_nsmc_reviews.txt', 'wikitext2.test.txt')
                  if (text / name).exists()]
        for kind in KINDS:
            tokenizer = train(kind, training)
            tokenizer_file = work / kind / 'tokenizer.json'
            tokenizer_file.parent.mkdir()
            tokenizer.save(str(tokenizer_file))
            differences, compared, ids = check(kind, tokenizer, tokenizer_file, texts, files, arguments.witan, work)
            print(f'{kind}: {differences} of {compared} texts differ ({ids} ids)', flush=True)
            failed += differences > 0
        real = arguments.shared / 'data/tokenizers/gpt2/tokenizer.json'
        if real.exists():
            tokenizer = Tokenizer.from_file(str(real))
            differences, compared, ids = check('GPT-2 itself', tokenizer, real, texts, files, arguments.witan, work)
            print(f'GPT-2 itself: {differences} of {compared} texts differ ({ids} ids)')
            failed += differences > 0
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
