#include "core/model/param_table.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "configs/selection_k.h"
#include "core/base/error.h"

namespace witan {

namespace {

std::int64_t experts_per_token(const configs::MoeConfig& moe) {
  const configs::RouterConfig& router = moe.router();
  switch (router.selection_case()) {
    case configs::RouterConfig::kTopP: return router.top_p().k_max();
    case configs::RouterConfig::kAll: return moe.experts();
    case configs::RouterConfig::kHierarchical:
      return router.hierarchical().topk_group() * router.hierarchical().k();
    case configs::RouterConfig::SELECTION_NOT_SET: return 0;
    default: return selection_k(router).value_or(0);
  }
}

}  // namespace

ModelDims::ModelDims(const configs::ModelConfig& model)
    : vocab(model.vocab_size()),
      d_model(model.d_model()),
      layers(model.layers()),
      heads(model.attention().heads()),
      kv_heads(model.attention().has_kv_heads() ? model.attention().kv_heads() : heads),
      head_dim(model.attention().has_head_dim() ? model.attention().head_dim()
                                                : d_model / std::max<std::int64_t>(1, heads)),
      v_dim(head_dim),
      dense_ff(model.ffn().d_ff()),
      is_moe(static_cast<std::size_t>(layers), false) {
  if (model.attention().has_latent()) {
    const configs::LatentAttention& latent = model.attention().latent();
    kv_heads = heads;
    q_rank = latent.q_lora_rank();
    kv_rank = latent.kv_lora_rank();
    nope_dim = latent.nope_head_dim();
    rope_dim = latent.rope_head_dim();
    head_dim = nope_dim + rope_dim;
    v_dim = latent.v_head_dim();
  }
  if (model.has_mtp()) mtp = model.mtp().depth();
  window = model.attention().sliding_window();
  if (!model.has_moe()) return;
  const configs::MoeConfig& moe = model.moe();
  WITAN_CHECK(moe.granularity() == 1, "granularity is carried out where a config is loaded");
  experts = moe.experts();
  const configs::ZeroComputationExperts& zero = moe.zero_computation();
  entries = experts + zero.zero() + zero.copy() + zero.constant();
  const bool any = moe.router().has_expert_choice() || moe.router().has_all();
  choices = any ? entries : experts_per_token(moe);
  top_k = std::min(experts_per_token(moe), experts);
  moe_ff = moe.d_ff();
  shared_ff = moe.shared_d_ff();
  if (moe.pattern().list_size() > 0) {
    for (const std::int64_t layer : moe.pattern().list()) {
      if (layer < layers) is_moe[static_cast<std::size_t>(layer)] = true;
    }
  } else {
    for (std::int64_t layer = moe.pattern().first(); layer < layers;
         layer += std::max<std::int64_t>(1, moe.pattern().every())) {
      is_moe[static_cast<std::size_t>(layer)] = true;
    }
  }
}

double ModelDims::mean_keys(std::int64_t seq_len) const {
  const auto length = static_cast<double>(seq_len);
  if (window == 0 || window >= seq_len) return length / 2.0;
  const auto keys = static_cast<double>(window);
  return keys - keys * keys / (2.0 * length);
}

int ModelDims::moe_layers() const {
  int count = 0;
  for (const bool moe : is_moe) count += moe ? 1 : 0;
  return count;
}

namespace {

// What Hugging Face calls the tensors of a sparse layer.
struct MoeNames {
  std::string router, experts, gate, up, down, shared;
  std::string expert_bias;  // empty: no such tensor there
};

MoeNames moe_names(const configs::ModelConfig& model) {
  const bool deepseek = model.attention().has_latent();
  const bool olmoe = model.attention().qk_norm() &&
                     model.attention().qk_norm_scope() == configs::AttentionConfig::PROJECTION;
  if (!deepseek && !olmoe && !model.moe().shared_gate()) {
    const std::string block = "block_sparse_moe";
    return {block + ".gate",
            block + ".experts.{expert}",
            "w1",
            "w3",
            "w2",
            block + ".shared_expert",
            ""};
  }
  return {"mlp.gate",
          "mlp.experts.{expert}",
          "gate_proj",
          "up_proj",
          "down_proj",
          deepseek ? "mlp.shared_experts" : "mlp.shared_expert",
          deepseek ? "mlp.gate.e_score_correction_bias" : ""};
}

// Makes the entries of one model; keeps what they share (widths, initial standard deviations).
class TableBuilder {
 public:
  TableBuilder(const configs::ModelConfig& model, std::vector<ParamInfo>& out)
      : model_(model),
        dims_(model),
        out_(out),
        std_(model.init_std()),
        residual_std_(model.scale_residual_init()
                          ? model.init_std() / std::sqrt(2.0 * static_cast<double>(model.layers()))
                          : model.init_std()) {}

  void build() {
    matrix("embedding", {dims_.vocab, dims_.d_model}, std_, {{"model.embed_tokens.weight"}});
    for (layer_ = 0; layer_ < static_cast<int>(dims_.layers); ++layer_) {
      decoder_layer(dims_.is_moe[static_cast<std::size_t>(layer_)]);
    }
    for (; layer_ < static_cast<int>(dims_.all_layers()); ++layer_) mtp_module();
    layer_ = -1;
    norm("final_norm", "model.norm");
    if (!model_.tied_head()) {
      matrix("head", {dims_.vocab, dims_.d_model}, std_, {{"lm_head.weight"}});
    }
  }

 private:
  void decoder_layer(bool is_moe) {
    norm("attention_norm", "input_layernorm");
    attention();
    norm("ffn_norm", "post_attention_layernorm");
    if (is_moe) {
      moe();
    } else {
      dense_ffn("ffn", "mlp", dims_.dense_ff);
    }
  }

  // The names of DeepSeek-V3.
  void mtp_module() {
    norm("mtp.token_norm", "enorm");
    norm("mtp.hidden_norm", "hnorm");
    matrix("mtp.projection", {dims_.d_model, 2 * dims_.d_model}, std_, {{"eh_proj.weight"}});
    decoder_layer(dims_.mtp_moe());
    norm("mtp.norm", "shared_head.norm");
  }

  std::string ours(const std::string& name) const {
    return layer_ < 0 ? name : "layers." + std::to_string(layer_) + "." + name;
  }
  std::string theirs(const std::string& name) const {
    return layer_ < 0 ? name : "model.layers." + std::to_string(layer_) + "." + name;
  }

  ParamInfo& add(const std::string& name, const Shape& shape, ParamRole role) {
    ParamInfo info;
    info.name = ours(name);
    info.shape = shape;
    info.role = role;
    info.layer = layer_;
    out_.push_back(std::move(info));
    return out_.back();
  }

  // `parts` without row counts stand for the whole tensor.
  ParamInfo& matrix(const std::string& name, const Shape& shape, double init_std,
                    std::vector<HfPart> parts, ParamRole role = ParamRole::kDense) {
    ParamInfo& info = add(name, shape, role);
    info.decay = true;
    info.init = ParamInit::kNormal;
    info.init_std = init_std;
    set_parts(info, std::move(parts));
    return info;
  }

  ParamInfo& vector(const std::string& name, std::int64_t size, ParamInit init,
                    std::vector<HfPart> parts, ParamRole role = ParamRole::kDense) {
    ParamInfo& info = add(name, {size}, role);
    info.init = init;
    set_parts(info, std::move(parts));
    return info;
  }

  void set_parts(ParamInfo& info, std::vector<HfPart> parts) const {
    const std::int64_t rows = info.role == ParamRole::kExpert ? info.shape[1] : info.shape[0];
    std::int64_t begin = 0;
    for (HfPart& part : parts) {
      part.name = theirs(part.name);
      part.row_begin = begin;
      if (part.rows == 0) part.rows = rows;
      begin += part.rows;
    }
    WITAN_CHECK(parts.empty() || begin == rows, info.name, ": its parts cover ", begin, " of ",
                rows, " rows");
    info.hf = std::move(parts);
  }

  void norm(const std::string& name, const std::string& hf) {
    vector(name + ".weight", dims_.d_model, ParamInit::kOnes, {{hf + ".weight"}});
    if (model_.norm().kind() == configs::NormConfig::LAYERNORM) {
      vector(name + ".bias", dims_.d_model, ParamInit::kZeros, {{hf + ".bias"}});
    }
  }

  void attention() {
    if (dims_.kv_rank > 0) {
      latent_attention();
    } else {
      plain_attention();
    }
  }

  void latent_attention() {
    const std::int64_t q = dims_.heads * dims_.head_dim;
    const std::int64_t first = dims_.q_rank > 0 ? dims_.q_rank : q;
    const std::int64_t kv = dims_.kv_rank + dims_.rope_dim;
    const char* name = dims_.q_rank > 0 ? "self_attn.q_a_proj.weight" : "self_attn.q_proj.weight";
    matrix("attention.in", {first + kv, dims_.d_model}, std_,
           {{name, 0, first}, {"self_attn.kv_a_proj_with_mqa.weight", 0, kv}});
    if (dims_.q_rank > 0) {
      vector("attention.q_latent_norm.weight", dims_.q_rank, ParamInit::kOnes,
             {{"self_attn.q_a_layernorm.weight"}});
      matrix("attention.q_up", {q, dims_.q_rank}, std_, {{"self_attn.q_b_proj.weight"}});
    }
    vector("attention.kv_latent_norm.weight", dims_.kv_rank, ParamInit::kOnes,
           {{"self_attn.kv_a_layernorm.weight"}});
    matrix("attention.kv_up", {dims_.heads * (dims_.nope_dim + dims_.v_dim), dims_.kv_rank}, std_,
           {{"self_attn.kv_b_proj.weight"}});
    matrix("attention.out", {dims_.d_model, dims_.heads * dims_.v_dim}, residual_std_,
           {{"self_attn.o_proj.weight"}});
  }

  void plain_attention() {
    const configs::AttentionConfig& config = model_.attention();
    const std::int64_t q = dims_.heads * dims_.head_dim;
    const std::int64_t kv = dims_.kv_heads * dims_.head_dim;
    matrix("attention.qkv", {dims_.qkv_rows(), dims_.d_model}, std_,
           {{"self_attn.q_proj.weight", 0, q},
            {"self_attn.k_proj.weight", 0, kv},
            {"self_attn.v_proj.weight", 0, kv}});
    if (config.qkv_bias()) {
      vector("attention.qkv_bias", dims_.qkv_rows(), ParamInit::kZeros,
             {{"self_attn.q_proj.bias", 0, q},
              {"self_attn.k_proj.bias", 0, kv},
              {"self_attn.v_proj.bias", 0, kv}});
    }
    if (config.qk_norm()) {
      const bool whole = config.qk_norm_scope() == configs::AttentionConfig::PROJECTION;
      vector("attention.q_norm", whole ? q : dims_.head_dim, ParamInit::kOnes,
             {{"self_attn.q_norm.weight"}});
      vector("attention.k_norm", whole ? kv : dims_.head_dim, ParamInit::kOnes,
             {{"self_attn.k_norm.weight"}});
    }
    matrix("attention.out", {dims_.d_model, q}, residual_std_, {{"self_attn.o_proj.weight"}});
    if (config.out_bias()) {
      vector("attention.out_bias", dims_.d_model, ParamInit::kZeros, {{"self_attn.o_proj.bias"}});
    }
  }

  void dense_ffn(const std::string& name, const std::string& hf, std::int64_t ff) {
    matrix(name + ".gate_up", {2 * ff, dims_.d_model}, std_,
           {{hf + ".gate_proj.weight", 0, ff}, {hf + ".up_proj.weight", 0, ff}});
    matrix(name + ".down", {dims_.d_model, ff}, residual_std_, {{hf + ".down_proj.weight"}});
  }

  void moe() {
    const MoeNames hf = moe_names(model_);
    router(hf);
    experts(hf);
    if (dims_.shared_ff == 0) return;
    dense_ffn("moe.shared", hf.shared, dims_.shared_ff);
    if (model_.moe().shared_gate()) {
      matrix("moe.shared_gate", {1, dims_.d_model}, std_, {{hf.shared + "_gate.weight"}});
    }
  }

  void router(const MoeNames& hf) {
    const configs::MoeConfig& config = model_.moe();
    const double router_std =
        config.router().has_init_std() ? config.router().init_std() : model_.init_std();
    matrix("moe.router.weight", {dims_.entries, dims_.d_model}, router_std,
           {{hf.router + ".weight"}}, ParamRole::kRouter);
    if (config.router().bias()) {
      vector("moe.router.bias", dims_.entries, ParamInit::kZeros, {{hf.router + ".bias"}},
             ParamRole::kRouter);
    }
    const configs::NoisyTopKSelection& noisy = config.router().noisy_top_k();
    if (config.router().has_noisy_top_k() &&
        noisy.noise() == configs::NoisyTopKSelection::LEARNED) {
      matrix("moe.router.noise", {dims_.entries, dims_.d_model}, router_std,
             {{hf.router + "_noise.weight"}}, ParamRole::kRouter);
    }
    for (const configs::BalancerConfig& balancer : config.balance()) {
      if (!balancer.has_expert_bias()) continue;
      ParamInfo& bias = add("moe.router.expert_bias", {dims_.entries}, ParamRole::kState);
      if (!hf.expert_bias.empty()) set_parts(bias, {{hf.expert_bias}});
    }
    if (config.router().has_hierarchical()) {
      matrix("moe.router.group_weight", {config.router().hierarchical().n_group(), dims_.d_model},
             router_std, {{hf.router + "_group.weight"}}, ParamRole::kRouter);
    }
    if (const std::int64_t constant = config.zero_computation().constant(); constant > 0) {
      matrix("moe.constant.mix", {2 * constant, dims_.d_model}, std_,
             {{hf.router + "_constant_experts.mix.weight"}});
      matrix("moe.constant.vector", {constant, dims_.d_model}, std_,
             {{hf.router + "_constant_experts.vector"}});
    }
  }

  void experts(const MoeNames& hf) {
    const std::int64_t ff = dims_.moe_ff;
    const std::string expert = hf.experts + ".";
    if (model_.moe().expert_kind() == configs::MoeConfig::SWIGLU) {
      matrix("moe.experts.gate_up", {dims_.experts, 2 * ff, dims_.d_model}, std_,
             {{expert + hf.gate + ".weight", 0, ff}, {expert + hf.up + ".weight", 0, ff}},
             ParamRole::kExpert);
    } else {
      matrix("moe.experts.up", {dims_.experts, ff, dims_.d_model}, std_,
             {{expert + hf.gate + ".weight"}}, ParamRole::kExpert);
    }
    matrix("moe.experts.down", {dims_.experts, dims_.d_model, ff}, residual_std_,
           {{expert + hf.down + ".weight"}}, ParamRole::kExpert);
    if (model_.moe().expert_bias_terms()) expert_biases(hf);
  }

  void expert_biases(const MoeNames& hf) {
    const std::int64_t ff = dims_.moe_ff;
    const std::string expert = hf.experts + ".";
    const auto biases = [&](const std::string& name, std::int64_t width,
                            std::vector<HfPart> parts) {
      set_parts(add(name, {dims_.experts, width}, ParamRole::kExpert), std::move(parts));
    };
    if (model_.moe().expert_kind() == configs::MoeConfig::SWIGLU) {
      biases("moe.experts.gate_up_bias", 2 * ff,
             {{expert + hf.gate + ".bias", 0, ff}, {expert + hf.up + ".bias", 0, ff}});
    } else {
      biases("moe.experts.up_bias", ff, {{expert + hf.gate + ".bias"}});
    }
    biases("moe.experts.down_bias", dims_.d_model, {{expert + hf.down + ".bias"}});
  }

  const configs::ModelConfig& model_;
  ModelDims dims_;
  std::vector<ParamInfo>& out_;
  double std_;
  double residual_std_;
  int layer_ = -1;
};

}  // namespace

ParamTable::ParamTable(const configs::ModelConfig& model) : top_k_(ModelDims(model).top_k) {
  TableBuilder(model, params_).build();
}

int ParamTable::find(const std::string& name) const {
  for (int id = 0; id < size(); ++id) {
    if ((*this)[id].name == name) return id;
  }
  return -1;
}

std::int64_t ParamTable::total_parameters() const {
  std::int64_t total = 0;
  for (const ParamInfo& info : params_) {
    if (info.trained()) total += info.shape.size();
  }
  return total;
}

std::int64_t ParamTable::active_parameters() const {
  std::int64_t active = 0;
  for (const ParamInfo& info : params_) {
    if (!info.trained()) continue;
    active += info.role == ParamRole::kExpert ? info.shape.size() / info.shape[0] * top_k_
                                              : info.shape.size();
  }
  return active;
}

}  // namespace witan
