"""Tiny random models of transformers, and what it makes of them: the other side of every comparison."""
import json
import pathlib
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (AutoModelForCausalLM, DeepseekV2Config, DeepseekV3Config, LlamaConfig, MistralConfig, MixtralConfig,
                          OlmoeConfig, Qwen2MoeConfig)

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

# Two logits of a router, or of two tokens in greedy decoding, must be further apart than this, so that rounding cannot decide.
TIE = 1e-4


def mixtral(sliding_window=None, **changes):
    """Odd sizes on purpose. float32, nothing fused that rounds otherwise."""
    sizes = dict(vocab_size=61, hidden_size=24, intermediate_size=11, num_hidden_layers=2, num_attention_heads=4,
                 num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2, max_position_embeddings=64,
                 rope_theta=5e4, rms_norm_eps=1e-5, tie_word_embeddings=False, initializer_range=0.2)
    return MixtralConfig(**{**sizes, **changes}, sliding_window=sliding_window, attention_dropout=0.0,
                         bos_token_id=None, eos_token_id=None, pad_token_id=None)


def llama(**changes):
    sizes = dict(vocab_size=53, hidden_size=24, intermediate_size=29, num_hidden_layers=2, num_attention_heads=3,
                 num_key_value_heads=1, head_dim=6, max_position_embeddings=64, rope_theta=1e4, rms_norm_eps=1e-6,
                 tie_word_embeddings=True, initializer_range=0.2)
    return LlamaConfig(**{**sizes, **changes}, attention_dropout=0.0, bos_token_id=None, eos_token_id=None,
                       pad_token_id=None)


NO_TOKENS = dict(attention_dropout=0.0, bos_token_id=None, eos_token_id=None, pad_token_id=None)


def mistral(sliding_window=None, **changes):
    sizes = dict(vocab_size=59, hidden_size=20, intermediate_size=27, num_hidden_layers=2, num_attention_heads=5,
                 num_key_value_heads=1, head_dim=6, max_position_embeddings=64, rope_theta=3e4, rms_norm_eps=1e-5,
                 tie_word_embeddings=False, initializer_range=0.2)
    return MistralConfig(**{**sizes, **changes}, sliding_window=sliding_window, **NO_TOKENS)


def qwen2_moe(**changes):
    """The first layer dense; biases; weights of the chosen as they are."""
    sizes = dict(vocab_size=61, hidden_size=24, intermediate_size=17, moe_intermediate_size=11,
                 shared_expert_intermediate_size=19, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
                 num_experts=6, num_experts_per_tok=3, mlp_only_layers=[0], max_position_embeddings=64,
                 rope_theta=2e4, rms_norm_eps=1e-6, tie_word_embeddings=False, initializer_range=0.2)
    return Qwen2MoeConfig(**{**sizes, **changes}, **NO_TOKENS)


def olmoe(**changes):
    sizes = dict(vocab_size=67, hidden_size=24, intermediate_size=13, num_hidden_layers=2, num_attention_heads=4,
                 num_key_value_heads=2, num_experts=6, num_experts_per_tok=2, max_position_embeddings=64, rope_theta=1e4,
                 rms_norm_eps=1e-5, tie_word_embeddings=False, initializer_range=0.2)
    return OlmoeConfig(**{**sizes, **changes}, **NO_TOKENS)


LATENT = dict(kv_lora_rank=10, qk_nope_head_dim=6, qk_rope_head_dim=4, v_head_dim=7, num_attention_heads=3,
              num_key_value_heads=3, max_position_embeddings=64, rms_norm_eps=1e-6, tie_word_embeddings=False,
              initializer_range=0.2)


def yarn(theta=1e4, **changes):
    return {**dict(rope_type='yarn', rope_theta=theta, factor=4.0, original_max_position_embeddings=16, beta_fast=8.0,
                   beta_slow=0.5, mscale=1.0, mscale_all_dim=0.707), **changes}


def deepseek_v2(**changes):
    sizes = dict(vocab_size=61, hidden_size=24, intermediate_size=17, moe_intermediate_size=9, num_hidden_layers=3,
                 n_routed_experts=8, n_shared_experts=2, num_experts_per_tok=3, first_k_dense_replace=1, q_lora_rank=None,
                 routed_scaling_factor=1.3, rope_parameters=yarn())
    return DeepseekV2Config(**{**LATENT, **sizes, **changes}, **NO_TOKENS)


def deepseek_v3(**changes):
    sizes = dict(vocab_size=61, hidden_size=22, intermediate_size=17, moe_intermediate_size=9, num_hidden_layers=3,
                 n_routed_experts=12, n_shared_experts=1, num_experts_per_tok=4, n_group=4, topk_group=2,
                 first_k_dense_replace=1, q_lora_rank=8, routed_scaling_factor=2.5, rope_parameters=yarn(mscale=0.9))
    return DeepseekV3Config(**{**LATENT, **sizes, **changes}, **NO_TOKENS)


def sparse_options(config):
    """Experts one by one, not fused: fewer roundings differ."""
    return {'experts_implementation': 'eager'} if config.model_type not in ('llama', 'mistral') else {}


def is_state(name):
    """Saved with the weights, moved by a rule instead of a gradient."""
    return name.endswith('e_score_correction_bias')


def make_model(config, seed):
    torch.manual_seed(seed)
    extra = sparse_options(config)
    model = AutoModelForCausalLM.from_config(config, attn_implementation='eager', dtype=torch.float32, **extra)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # norms, which begin as ones, and biases, which begin as zeros
                parameter.add_(0.2 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if is_state(name):
                buffer.add_(0.1 * torch.randn_like(buffer))
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
        return {name: tensor for name, tensor in load_tensors(folder).items() if not is_state(name)}


def distance_from_tie(values, k):
    """Of the k largest of each row from the others."""
    if k >= values.shape[-1]:
        return float('inf')
    ranked = values.sort(dim=-1, descending=True).values
    return (ranked[:, k - 1] - ranked[:, k]).min().item()


def routing_margin(router, logits):
    """The smallest distance of a choice from a tie: among the logits, or among groups and then the scores of their experts."""
    name = type(router).__name__
    if name == 'DeepseekV3TopkRouter':
        scores, group_top = logits.sigmoid() + router.e_score_correction_bias, 2
    elif name == 'DeepseekV2TopkRouter' and router.topk_method == 'group_limited_greedy':
        scores, group_top = logits.softmax(dim=-1), 1
    else:
        return distance_from_tie(logits, router.top_k)
    groups = scores.view(len(scores), router.num_group, -1)
    best = groups.topk(group_top, dim=-1).values.sum(dim=-1)
    chosen = torch.zeros_like(best).scatter_(1, best.topk(router.topk_group, dim=-1).indices, 1).bool()
    allowed = groups.masked_fill(~chosen[..., None], -1e9).flatten(1)
    return min(distance_from_tie(best, router.topk_group), distance_from_tie(allowed, router.top_k))


def forward(model, tokens):
    """Logits [B, S, V], and the smallest distance of a routing choice from a tie."""
    margins = [float('inf')]
    routers = [module for module in model.modules() if type(module).__name__.lower().endswith('topkrouter')]
    hooks = [router.register_forward_hook(lambda module, _, out: margins.append(routing_margin(module, out[0].detach())))
             for router in routers]
    logits = model(input_ids=tokens).logits
    for hook in hooks:
        hook.remove()
    assert bool(routers) == bool(sparse_options(model.config))
    return logits, min(margins)


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


def tokens_without_ties(model, sequences, length, margin_of=lambda model, tokens: forward(model, tokens)[1]):
    """The first seed's tokens for which no routing choice is near a tie."""
    for seed in range(1000):
        tokens = make_tokens(model.config, seed, sequences, length)
        with torch.no_grad():
            if margin_of(model, tokens) > TIE:
                return tokens
    raise RuntimeError('no tokens without a near tie')


class MtpModel(torch.nn.Module):
    """DeepSeek-V3 with modules of multi-token prediction (arXiv 2412.19437, section 2.2), which transformers does not have: made of
    its layers, the last `depth` of a model of so many more."""

    LOSS_WEIGHT = 0.3

    def __init__(self, config, depth, seed):
        super().__init__()
        self.config, self.depth = config, depth
        longer = DeepseekV3Config(**{**config.to_dict(), 'num_hidden_layers': config.num_hidden_layers + depth})
        self.main = make_model(longer, seed)
        width, norm = config.hidden_size, type(self.main.model.norm)
        self.joins = torch.nn.ModuleList()
        for _ in range(depth):
            join = torch.nn.ModuleDict({'enorm': norm(width, config.rms_norm_eps), 'hnorm': norm(width, config.rms_norm_eps),
                                        'eh_proj': torch.nn.Linear(2 * width, width, bias=False),
                                        'shared_head/norm': norm(width, config.rms_norm_eps)})
            with torch.no_grad():
                for parameter in join.parameters():
                    parameter.add_(0.2 * torch.randn_like(parameter))
            self.joins.append(join)

    def own_tensors(self, of=lambda parameter: parameter.detach()):
        """Of the modules besides their layers."""
        return {f'model.layers.{self.config.num_hidden_layers + k}.{name.replace("/", ".")}': of(parameter)
                for k, join in enumerate(self.joins) for name, parameter in join.named_parameters()}

    def save(self, folder):
        """As DeepSeek-V3 is published: with a copy of the embedding and of the head in every module."""
        save_model(self.main, folder)
        folder = pathlib.Path(folder)
        tensors = {**load_tensors(folder), **self.own_tensors()}
        for k in range(self.depth):
            prefix = f'model.layers.{self.config.num_hidden_layers + k}.'
            tensors[prefix + 'embed_tokens.weight'] = tensors['model.embed_tokens.weight'].clone()
            tensors[prefix + 'shared_head.head.weight'] = tensors['lm_head.weight'].clone()
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / 'model.safetensors', {'format': 'pt'})
        config = json.loads((folder / 'config.json').read_text())
        config.update(num_hidden_layers=self.config.num_hidden_layers, num_nextn_predict_layers=self.depth)
        (folder / 'config.json').write_text(json.dumps(config, indent=2, sort_keys=True) + '\n')

    def forward(self, tokens):
        """Logits of the main model, the loss that is trained, that of the main model, and the routing margin."""
        model, margins = self.main.model, [float('inf')]
        routers = [module for module in self.modules() if type(module).__name__ == 'DeepseekV3TopkRouter']
        hooks = [router.register_forward_hook(lambda module, _, out: margins.append(routing_margin(module, out[0].detach())))
                 for router in routers]
        model.config.num_hidden_layers = self.config.num_hidden_layers
        hidden = model(input_ids=tokens, use_cache=False).last_hidden_state
        model.config.num_hidden_layers = self.config.num_hidden_layers + self.depth
        logits = self.main.lm_head(hidden)
        loss = total = next_token_loss(logits[:, :-1], tokens[:, 1:])
        targets = tokens[:, 1:].numel()
        for k, join in enumerate(self.joins, start=1):
            kept = tokens.shape[1] - k
            x = join['eh_proj'](torch.cat([join['enorm'](model.embed_tokens(tokens[:, k:])), join['hnorm'](hidden[:, :kept])], dim=-1))
            positions = torch.arange(kept)[None]
            mask = torch.full((kept, kept), torch.finfo(x.dtype).min).triu(1)[None, None]
            x = model.layers[self.config.num_hidden_layers + k - 1](
                x, attention_mask=mask, position_ids=positions, position_embeddings=model.rotary_emb(x, positions))
            hidden = join['shared_head/norm'](x[0] if isinstance(x, tuple) else x)
            ahead = next_token_loss(self.main.lm_head(hidden[:, :-1]), tokens[:, k + 1:])
            total = total + self.LOSS_WEIGHT / self.depth * ahead * tokens[:, k + 1:].numel() / targets
        for hook in hooks:
            hook.remove()
        return logits, total, loss, min(margins)


def mtp_reference(model, tokens):
    """As reference(), the gradients being of the loss that is trained."""
    model.zero_grad()
    logits, total, loss, margin = model(tokens)
    total.backward()
    grads = {**under_saved_names(model.main, gradients(model.main)), **model.own_tensors(lambda parameter: parameter.grad)}
    return logits.detach(), loss.detach(), grads, margin


def save_tokens(tokens, path, dtype=torch.int64):
    save_file({'input_ids': tokens.to(dtype).contiguous()}, path)
