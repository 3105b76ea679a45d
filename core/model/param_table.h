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

// Our tensors:                                              rows                      Hugging Face
//   embedding                [vocab, d] model.embed_tokens.weight layers.L.attention_norm.weight /
//   .bias  [d]                                       model.layers.L.input_layernorm
//   layers.L.attention.qkv   [(heads + 2 kv_heads) head_dim, d]  q, k, v
//   ...self_attn.{q,k,v}_proj.weight layers.L.attention.qkv_bias [(heads + 2 kv_heads) head_dim]
//   layers.L.attention.q_norm, k_norm [head_dim]
//   layers.L.attention.out   [d, heads head_dim], out_bias [d] ...self_attn.o_proj
//   layers.L.ffn_norm.weight / .bias [d] ...post_attention_layernorm layers.L.ffn.gate_up     [2
//   ff, d]                       gate, up                 ...mlp.{gate,up}_proj.weight
//   layers.L.ffn.down        [d, ff] ...mlp.down_proj.weight layers.L.moe.router.weight [experts,
//   d], router.bias [experts]                    ...block_sparse_moe.gate.weight
//   layers.L.moe.router.expert_bias [experts]  kState
//   layers.L.moe.experts.gate_up [experts, 2 ff, d] (SwiGLU) or experts.up [experts, ff, d]
//   ...experts.E.w1, w3 layers.L.moe.experts.down [experts, d, ff] ...experts.E.w2
//   layers.L.moe.shared.gate_up [2 ff, d], shared.down [d, ff]
//   final_norm.weight / .bias [d] model.norm.weight head [vocab, d] (absent if tied) lm_head.weight
// Where `transformers` has no architecture of the same shape, the Hugging Face names follow the
// same pattern.
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
  std::int64_t vocab, d_model, layers, heads, kv_heads, head_dim;
  std::int64_t experts = 0, moe_ff = 0, shared_ff = 0, dense_ff = 0;
  std::int64_t top_k = 0;    // experts that one token uses: at most (top_p) or on average
                             // (expert_choice) where it varies
  std::int64_t choices = 0;  // columns of its choice: most experts per token
  std::int64_t qkv_rows() const { return (heads + 2 * kv_heads) * head_dim; }
  std::vector<bool> is_moe;  // per layer
  int moe_layers() const;
};

}  // namespace witan
