"""Tiny random models of transformers, and what it makes of them: the other side of every comparison."""
import json
import pathlib
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, MixtralConfig

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

# Two logits of a router, or of two tokens in greedy decoding, must be further apart than this, so that rounding cannot decide.
TIE = 1e-4


def mixtral(**changes):
    """Odd sizes on purpose. float32, nothing fused that rounds otherwise."""
    sizes = dict(vocab_size=61, hidden_size=24, intermediate_size=11, num_hidden_layers=2, num_attention_heads=4,
                 num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2, max_position_embeddings=64,
                 rope_theta=5e4, rms_norm_eps=1e-5, tie_word_embeddings=False, initializer_range=0.2)
    return MixtralConfig(**{**sizes, **changes}, sliding_window=None, attention_dropout=0.0,
                         bos_token_id=None, eos_token_id=None, pad_token_id=None)


def llama(**changes):
    sizes = dict(vocab_size=53, hidden_size=24, intermediate_size=29, num_hidden_layers=2, num_attention_heads=3,
                 num_key_value_heads=1, head_dim=6, max_position_embeddings=64, rope_theta=1e4, rms_norm_eps=1e-6,
                 tie_word_embeddings=True, initializer_range=0.2)
    return LlamaConfig(**{**sizes, **changes}, attention_dropout=0.0, bos_token_id=None, eos_token_id=None,
                       pad_token_id=None)


def make_model(config, seed):
    torch.manual_seed(seed)
    extra = {'experts_implementation': 'eager'} if config.model_type == 'mixtral' else {}
    model = AutoModelForCausalLM.from_config(config, attn_implementation='eager', dtype=torch.float32, **extra)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # norms, which begin as ones, and biases, which begin as zeros
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def make_tokens(config, seed, sequences, length):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, config.vocab_size, (sequences, length), generator=generator)


def save_model(model, folder):
    model.save_pretrained(folder)


def load_tensors(folder):
    """All tensors of a folder, sharded or not."""
    folder = pathlib.Path(folder)
    index = folder / 'model.safetensors.index.json'
    if not index.exists():
        return load_file(folder / 'model.safetensors')
    shards = set(json.loads(index.read_text())['weight_map'].values())
    return {name: tensor for shard in sorted(shards) for name, tensor in load_file(folder / shard).items()}


def under_saved_names(model, tensors):
    """`tensors`, named like the model's parameters, as save_pretrained() would name and split them."""
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        kept = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[name])
        save_model(model, folder)
        for name, parameter in model.named_parameters():
            parameter.copy_(kept[name])
        return load_tensors(folder)


def forward(model, tokens):
    """Logits [B, S, V], and the smallest distance of a routing choice from a tie."""
    if model.config.model_type != 'mixtral':
        return model(input_ids=tokens).logits, float('inf')
    out = model(input_ids=tokens, output_router_logits=True)
    margin = float('inf')
    for logits in out.router_logits:
        ranked = logits.detach().sort(dim=-1, descending=True).values
        k = model.config.num_experts_per_tok
        if k < ranked.shape[-1]:
            margin = min(margin, (ranked[:, k - 1] - ranked[:, k]).min().item())
    return out.logits, margin


def next_token_loss(logits, targets):
    return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))


def gradients(model):
    return {name: parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
            for name, parameter in model.named_parameters()}


def reference(model, tokens):
    """logits, loss (over B (S - 1) next tokens, no auxiliary term), gradients under their saved names, routing margin."""
    model.zero_grad()
    logits, margin = forward(model, tokens)
    loss = next_token_loss(logits[:, :-1], tokens[:, 1:])
    loss.backward()
    return logits.detach(), loss.detach(), under_saved_names(model, gradients(model)), margin


def tokens_without_ties(model, sequences, length):
    """The first seed's tokens for which no routing choice is near a tie."""
    for seed in range(1000):
        tokens = make_tokens(model.config, seed, sequences, length)
        with torch.no_grad():
            if forward(model, tokens)[1] > TIE:
                return tokens
    raise RuntimeError('no tokens without a near tie')


def save_tokens(tokens, path, dtype=torch.int64):
    save_file({'input_ids': tokens.to(dtype).contiguous()}, path)
