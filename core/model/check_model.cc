#include "core/model/check_model.h"

#include "core/base/error.h"
#include "core/model/param_table.h"

namespace witan {
namespace {

using detail::concat;

void check_attention(const configs::ModelConfig& model, const configs::Fail& fail) {
  const configs::AttentionConfig& attention = model.attention();
  if (!attention.has_heads() || attention.heads() <= 0) return;
  if (attention.has_kv_heads() && attention.kv_heads() > 0 &&
      attention.heads() % attention.kv_heads() != 0) {
    fail("model.attention.kv_heads",
         concat("found ", attention.kv_heads(),
                "; it must divide attention.heads = ", attention.heads()));
  }
  if (attention.has_head_dim()) {
    if (attention.head_dim() % 2 != 0) {
      fail("model.attention.head_dim",
           concat("found ", attention.head_dim(), "; the rotation of RoPE needs an even number"));
    }
  } else if (model.d_model() % attention.heads() != 0) {
    fail("model.attention.heads",
         concat("found ", attention.heads(),
                "; without head_dim it must divide d_model = ", model.d_model()));
  } else if ((model.d_model() / attention.heads()) % 2 != 0) {
    fail("model.attention.heads",
         concat("found ", attention.heads(), ", so d_model / heads = ",
                model.d_model() / attention.heads(), "; RoPE needs an even number"));
  }
}

void check_pattern(const configs::ModelConfig& model, const configs::Fail& fail) {
  const configs::LayerPattern& pattern = model.moe().pattern();
  if (pattern.list_size() > 0 && (pattern.has_every() || pattern.has_first())) {
    fail("model.moe.pattern.list", "excludes `every` and `first`; keep one of the two forms");
  }
  for (const std::int64_t layer : pattern.list()) {
    if (layer >= model.layers()) {
      fail("model.moe.pattern.list",
           concat("names layer ", layer, "; the last layer is ", model.layers() - 1));
    }
  }
  if (pattern.list_size() == 0 && pattern.first() >= model.layers()) {
    fail("model.moe.pattern.first", concat("found ", pattern.first(), "; the last layer is ",
                                           model.layers() - 1, ", so there would be no MoE layer"));
  }
}

void check_balance(const configs::MoeConfig& moe, const configs::Fail& fail) {
  int expert_biases = 0;
  int global_losses = 0;  // they would read the same f: of this step, or of the one before
  for (int i = 0; i < moe.balance_size(); ++i) {
    const configs::BalancerConfig& balancer = moe.balance(i);
    const std::string path = concat("model.moe.balance[", i, "]");
    if (balancer.has_expert_bias() && ++expert_biases > 1) {
      fail(path + ".expert_bias", "is there twice; a layer has one expert bias");
    }
    if (!balancer.has_switch_aux()) continue;
    const bool global = balancer.switch_aux().scope() == configs::SwitchAux::GLOBAL_BATCH;
    if (global && ++global_losses > 1) {
      fail(path + ".switch_aux",
           "is the second with scope GLOBAL_BATCH; add up their coefficients in one");
    }
    if (balancer.switch_aux().has_counts() && !global) {
      fail(path + ".switch_aux.counts",
           "applies to scope GLOBAL_BATCH only; remove it or change the scope");
    }
  }
}

void check_moe(const configs::ModelConfig& model, const configs::Fail& fail) {
  const configs::MoeConfig& moe = model.moe();
  check_pattern(model, fail);
  check_balance(moe, fail);
  if (moe.router().has_top_k() && moe.router().top_k().k() > moe.experts()) {
    fail("model.moe.router.top_k.k",
         concat("found ", moe.router().top_k().k(), "; at most moe.experts = ", moe.experts()));
  }
}

}  // namespace

void check_model(const configs::ModelConfig& model, const configs::Fail& fail) {
  if (!model.has_layers() || model.layers() <= 0 || model.layers() > 4096) return;  // said already
  check_attention(model, fail);
  if (model.has_moe()) check_moe(model, fail);
  const ModelDims dims(model);
  if (dims.moe_layers() < dims.layers && !model.has_ffn()) {
    fail("model.ffn", concat("is missing, but ", dims.layers - dims.moe_layers(),
                             " layers are dense; add ffn { d_ff: ... }"));
  }
}

}  // namespace witan
