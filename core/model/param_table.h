// The one table of tensors: initialisation, optimizer, gradient reduction, ZeRO, checkpoints,
// conversion, the parameter count and the memory report all read it; no second list of tensors
// exists anywhere.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "configs/schema/model.pb.h"
#include "core/tensor/tensor_view.h"

namespace witan {

// kDense: replicated over all ranks. kRouter: like kDense, named apart for rules and reports.
// kExpert: axis 0 is the expert, sharded over the expert-parallel group. kState: saved with a
// checkpoint, without gradient (expert bias; replicated).
enum class ParamRole { kDense, kRouter, kExpert, kState };

enum class ParamInit { kNormal, kOnes, kZeros };

// One tensor of a Hugging Face folder that makes up (a part of) a tensor of ours: rows [row_begin,
// row_begin + rows) of it, or for an expert tensor of each expert's slice; "{expert}" in the name
// stands for the global id.
struct HfPart {
  std::string name;
  std::int64_t row_begin = 0;
  std::int64_t rows = 0;
};

struct ParamInfo {
  std::string name;  // "layers.3.moe.experts.gate_up"
  Shape shape;       // global: [experts, rows, cols] for kExpert
  ParamRole role = ParamRole::kDense;
  bool decay = false;  // weight decay applies
  ParamInit init = ParamInit::kZeros;
  double init_std = 0.0;
  int layer = -1;  // -1: embedding, final norm, head
  std::vector<HfPart> hf;

  bool trained() const { return role != ParamRole::kState; }
};

// Our tensors, their rows, and what Hugging Face calls their parts:
//   embedding [vocab, d]                         model.embed_tokens.weight
//   layers.L.attention_norm.weight / .bias [d]   model.layers.L.input_layernorm
//   layers.L.attention.qkv [(heads + 2 kv_heads) head_dim, d], qkv_bias
//                                                ...self_attn.{q,k,v}_proj
//   layers.L.attention.q_norm, k_norm [head_dim], or of all heads
//   layers.L.attention.out [d, heads v_dim], out_bias [d]    ...self_attn.o_proj
//   Latent attention instead of qkv:
//   layers.L.attention.in [(q_rank or heads head_dim) + kv_rank + rope_dim, d]
//                                                ...{q_a or q}_proj, kv_a_proj_with_mqa
//   layers.L.attention.q_latent_norm.weight [q_rank], q_up [heads head_dim, q_rank]
//                                                ...q_a_layernorm, q_b_proj
//   layers.L.attention.kv_latent_norm.weight [kv_rank], kv_up [heads (nope_dim + v_dim), kv_rank]
//                                                ...kv_a_layernorm, kv_b_proj
//   layers.L.ffn_norm.weight / .bias [d]         ...post_attention_layernorm
//   layers.L.ffn.gate_up [2 ff, d], ffn.down [d, ff]         ...mlp.{gate,up,down}_proj
//   layers.L.moe.router.weight [experts, d], router.bias, router.noise
//   layers.L.moe.router.expert_bias [experts]    kState
//   layers.L.moe.experts.gate_up [experts, 2 ff, d] (SwiGLU) or experts.up [experts, ff, d]
//   layers.L.moe.experts.down [experts, d, ff]
//   layers.L.moe.shared.gate_up [2 ff, d], shared.down [d, ff], shared_gate [1, d]
//   Of a module of multi-token prediction, whose layer L stands behind the last one, also:
//   layers.L.mtp.token_norm.weight / .bias [d], hidden_norm, norm
//                                                ...enorm, hnorm, shared_head.norm
//   layers.L.mtp.projection [d, 2 d]             ...eh_proj.weight
//   final_norm.weight / .bias [d]                model.norm
//   head [vocab, d] (absent if tied)             lm_head.weight
// The names of the moe tensors are those of the architecture that has the same tensors: DeepSeek
// with latent attention, Qwen2-MoE with a gated shared expert, OLMoE with qk-norm over the whole
// projection, else Mixtral, whose pattern also names what `transformers` has no architecture for.
// layers.L.moe.router.weight and its like have a row for each zero-computation expert behind those
// of the experts, layers.L.moe.router.group_weight [groups, d] is the first gate of `hierarchical`,
// layers.L.moe.constant.mix [2 constant, d] and .vector [constant, d] are of constant experts.
class ParamTable {
 public:
  explicit ParamTable(const configs::ModelConfig& model);

  const std::vector<ParamInfo>& params() const { return params_; }
  const ParamInfo& operator[](int id) const { return params_[static_cast<std::size_t>(id)]; }
  int size() const { return static_cast<int>(params_.size()); }
  // -1 if there is none.
  int find(const std::string& name) const;

  // Trained parameters over all ranks (moe_math section 5), and those one token uses: top_k of the
  // experts.
  std::int64_t total_parameters() const;
  std::int64_t active_parameters() const;

 private:
  std::vector<ParamInfo> params_;
  std::int64_t top_k_ = 0;
};

// Derived from the config; the one place that knows its defaults.
struct ModelDims {
  explicit ModelDims(const configs::ModelConfig& model);
  std::int64_t vocab, d_model, layers, heads, kv_heads;
  std::int64_t head_dim, v_dim;  // elements of a query and key head, and of a value head
  // Latent attention; kv_rank 0: there is none.
  std::int64_t q_rank = 0, kv_rank = 0, nope_dim = 0, rope_dim = 0;
  std::int64_t entries = 0;  // what a router chooses among: experts and zero-computation experts
  std::int64_t experts = 0, moe_ff = 0, shared_ff = 0, dense_ff = 0;
  std::int64_t top_k = 0;    // experts that one token uses: at most (top_p) or on average
                             // (expert_choice) where it varies
  std::int64_t choices = 0;  // columns of its choice: most experts per token
  std::int64_t qkv_rows() const { return (heads + kv_heads) * head_dim + kv_heads * v_dim; }
  // Of a token in the cache of a layer.
  std::int64_t cached_key_width() const {
    return kv_rank > 0 ? kv_rank + rope_dim : kv_heads * head_dim;
  }
  std::int64_t cached_value_width() const { return kv_rank > 0 ? 0 : kv_heads * v_dim; }
  std::vector<bool> is_moe;  // per layer
  int moe_layers() const;
  std::int64_t mtp = 0;  // modules of multi-token prediction, whose layers stand behind these
  // Their layers are MoE layers, like the last one.
  bool mtp_moe() const { return !is_moe.empty() && is_moe.back(); }
  // Keys that a token sees in the middle of a causal sequence, by the convention of FLOP counts:
  // half the length, less with a window.
  double mean_keys(std::int64_t seq_len) const;
  std::int64_t window = 0;  // attention.sliding_window; 0: none
  std::int64_t all_layers() const { return layers + mtp; }
  std::int64_t all_moe_layers() const { return moe_layers() + (mtp_moe() ? mtp : 0); }
};

}  // namespace witan
