#include "core/model/check_model.h"

#include <set>
#include <span>
#include <string>
#include <vector>

#include "configs/selection_k.h"
#include "core/base/error.h"
#include "core/model/expert_mask.h"
#include "core/model/param_table.h"

namespace witan {
namespace {

using detail::concat;

void check_rope_scaling(const configs::AttentionConfig& attention, const configs::Fail& fail) {
  const configs::RopeScaling& scaling = attention.rope_scaling();
  const std::string path = "model.attention.rope_scaling.";
  if (scaling.has_yarn() && scaling.yarn().beta_fast() < scaling.yarn().beta_slow()) {
    fail(path + "yarn.beta_fast", concat("found ", scaling.yarn().beta_fast(),
                                         "; at least beta_slow = ", scaling.yarn().beta_slow()));
  }
  if (scaling.has_yarn() && attention.rope_theta() <= 1.0) {
    fail("model.attention.rope_theta", "YaRN needs a base above 1");
  }
  const configs::Llama3RopeScaling& llama3 = scaling.llama3();
  if (scaling.has_llama3() && llama3.high_freq_factor() <= llama3.low_freq_factor()) {
    fail(path + "llama3.high_freq_factor",
         concat("found ", llama3.high_freq_factor(),
                "; above low_freq_factor = ", llama3.low_freq_factor()));
  }
}

// Fields of plain heads that latent attention does not have.
void check_latent(const configs::AttentionConfig& attention, const configs::Fail& fail) {
  const std::string path = "model.attention.";
  const std::string why = "does not apply to latent attention; remove it";
  if (attention.has_kv_heads()) fail(path + "kv_heads", why);
  if (attention.has_head_dim()) {
    fail(path + "head_dim", why + ": latent has nope_head_dim, rope_head_dim and v_head_dim");
  }
  if (attention.qkv_bias()) fail(path + "qkv_bias", why);
  if (attention.out_bias()) fail(path + "out_bias", why);
  if (attention.qk_norm()) fail(path + "qk_norm", why + ": the latents have norms of their own");
  const std::int64_t rope_dim = attention.latent().rope_head_dim();
  if (rope_dim % 2 != 0) {
    fail(path + "latent.rope_head_dim",
         concat("found ", rope_dim, "; the rotation of RoPE needs an even number"));
  }
}

void check_attention(const configs::ModelConfig& model, const configs::Fail& fail) {
  const configs::AttentionConfig& attention = model.attention();
  if (!attention.has_heads() || attention.heads() <= 0) return;
  check_rope_scaling(attention, fail);
  if (attention.qk_norm_scope() != configs::AttentionConfig::HEAD && !attention.qk_norm()) {
    fail("model.attention.qk_norm_scope", "has no effect without qk_norm: true");
  }
  if (attention.has_latent()) return check_latent(attention, fail);
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

void check_switch_aux(const configs::MoeConfig& moe, const configs::SwitchAux& loss,
                      const std::string& path, const configs::Fail& fail) {
  using configs::SwitchAux;
  const bool global = loss.scope() == SwitchAux::GLOBAL_BATCH;
  if (loss.load() != SwitchAux::ROUTED && global) {
    fail(path + ".switch_aux.load",
         concat(SwitchAux::Load_Name(loss.load()),
                " applies to the scopes MICRO_BATCH and SEQUENCE; the counts of the whole step "
                "are those that were routed"));
  }
  const configs::RouterConfig& router = moe.router();
  if (loss.load() == SwitchAux::FIRST_CHOICE &&
      (router.has_expert_choice() || router.has_all() || router.has_hash())) {
    fail(path + ".switch_aux.load",
         "FIRST_CHOICE needs choices in an order; this selection has none: use ROUTED");
  }
  if (!loss.pool_layers()) return;
  if (loss.scope() == SwitchAux::SEQUENCE || loss.counts() == SwitchAux::RUNNING ||
      loss.load() != SwitchAux::ROUTED) {
    fail(path + ".switch_aux.pool_layers",
         "pools the routed counts of a micro-batch or of the whole step; it does not go with scope "
         "SEQUENCE, counts RUNNING, or another load than ROUTED");
  }
  if (loss.mean_over_layers()) {
    fail(path + ".switch_aux.mean_over_layers",
         "has no effect: pool_layers takes the mean over the layers; remove it");
  }
}

void check_balancer(const configs::MoeConfig& moe, const configs::BalancerConfig& balancer,
                    const std::string& path, const configs::Fail& fail) {
  if (balancer.has_none() && moe.balance_size() > 1) {
    fail(path + ".none", "stands beside other balancing; remove one of the two");
  }
  if (balancer.has_load_cv2() && !moe.router().has_noisy_top_k()) {
    fail(path + ".load_cv2", "needs the noise of the selection noisy_top_k");
  }
  const std::int64_t groups = balancer.device_balance().groups();
  if (balancer.has_device_balance() && groups > 0 && moe.experts() % groups != 0) {
    fail(path + ".device_balance.groups",
         concat("found ", groups, "; it must divide moe.experts = ", moe.experts()));
  }
  if (balancer.switch_aux().zero_computation_weight() != 1.0 && !moe.has_zero_computation()) {
    fail(path + ".switch_aux.zero_computation_weight", "there are no zero-computation experts");
  }
  if (balancer.has_switch_aux()) check_switch_aux(moe, balancer.switch_aux(), path, fail);
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
    check_balancer(moe, balancer, path, fail);
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

using configs::RouterConfig;

// What a router chooses among.
std::int64_t choosable(const configs::MoeConfig& moe) {
  const configs::ZeroComputationExperts& zero = moe.zero_computation();
  return moe.experts() + zero.zero() + zero.copy() + zero.constant();
}

bool drops_causally(const configs::MoeConfig& moe) {
  return moe.capacity().policy() == configs::CapacityConfig::TOKEN_MAJOR;
}

void check_most(const std::string& field, std::int64_t found, std::int64_t most, const char* what,
                const configs::Fail& fail) {
  if (found <= most) return;
  fail("model.moe.router." + field, concat("found ", found, "; at most ", what, " = ", most));
}

// Groups of neighbouring experts, of the selections that have some.
struct Groups {
  explicit Groups(const RouterConfig& router) {
    if (router.has_hierarchical()) {
      count = router.hierarchical().n_group();
      chosen = router.hierarchical().topk_group();
    } else if (router.has_group_limited()) {
      count = router.group_limited().n_group();
      chosen = router.group_limited().topk_group();
    }
  }
  std::int64_t count = 0, chosen = 0;  // 0: no groups, or a mistake that was told already
};

void check_groups(const configs::MoeConfig& moe, const configs::Fail& fail) {
  const RouterConfig& router = moe.router();
  const Groups groups(router);
  if (groups.count < 1 || groups.chosen < 1) return;
  const std::string name = router.has_hierarchical() ? "hierarchical" : "group_limited";
  if (moe.experts() % groups.count != 0) {
    fail("model.moe.router." + name + ".n_group",
         concat("found ", groups.count, "; it must divide moe.experts = ", moe.experts()));
    return;
  }
  if (moe.has_zero_computation()) {
    fail("model.moe.zero_computation",
         name +
             " chooses groups of neighbouring experts, and experts that compute nothing belong "
             "to none; choose another selection");
  }
  const std::int64_t size = moe.experts() / groups.count;
  check_most(name + ".topk_group", groups.chosen, groups.count, "n_group", fail);
  if (router.has_hierarchical()) {
    return check_most(name + ".k", router.hierarchical().k(), size, "experts in a group", fail);
  }
  check_most(name + ".group_top", router.group_limited().group_top(), size, "experts in a group",
             fail);
  check_most(name + ".k", router.group_limited().k(), groups.chosen * size,
             "experts in topk_group groups", fail);
}

void check_selection(const configs::MoeConfig& moe, const configs::Fail& fail) {
  const RouterConfig& router = moe.router();
  const std::int64_t experts = choosable(moe);
  const char* what =
      experts > moe.experts() ? "moe.experts and those of zero_computation" : "moe.experts";
  if (!drops_causally(moe) && !router.allow_non_causal()) {
    fail("model.moe.capacity.policy",
         concat(configs::CapacityConfig::Policy_Name(moe.capacity().policy()),
                " lets later tokens take a token's place; use TOKEN_MAJOR, or set "
                "router.allow_non_causal: true"));
  }
  if (!selects_causally(router) && !router.allow_non_causal()) {
    fail(concat("model.moe.router.", router.has_sinkhorn() ? "sinkhorn" : "expert_choice"),
         "lets a token's experts depend on later tokens, which a decoder does not have when it "
         "generates; set allow_non_causal: true to train with it all the same");
  }
  switch (router.selection_case()) {
    case RouterConfig::kTopP:
      return check_most("top_p.k_max", router.top_p().k_max(), experts, what, fail);
    case RouterConfig::kGroupLimited:
    case RouterConfig::kHierarchical: return check_groups(moe, fail);
    default:
      return check_most(concat(selection_name(router), ".k"), selection_k(router).value_or(0),
                        experts, what, fail);
  }
}

// Experts that one token needs: every token must be allowed as many.
std::int64_t experts_needed(const configs::MoeConfig& moe) {
  switch (moe.router().selection_case()) {
    case RouterConfig::kTopK: return moe.router().top_k().k();
    case RouterConfig::kNoisyTopK: return moe.router().noisy_top_k().k();
    case RouterConfig::kTopP: return moe.router().top_p().k_max();
    case RouterConfig::kHash: return moe.router().hash().k();
    case RouterConfig::kSinkhorn: return moe.router().sinkhorn().k();
    case RouterConfig::kGroupLimited: return moe.router().group_limited().k();
    case RouterConfig::kExpertChoice:  // as many as choose the token
    case RouterConfig::kAll:
    case RouterConfig::kHierarchical:  // a matter of its groups
    case RouterConfig::SELECTION_NOT_SET: return 1;
  }
  return 1;
}

// A group is all there for a token or not at all, so that its best experts decide as they do
// without tags.
void check_allowed_groups(const configs::MoeConfig& moe, std::span<const std::int32_t> experts,
                          const std::string& path, const configs::Fail& fail) {
  const Groups groups(moe.router());
  if (groups.count < 1 || moe.experts() % groups.count != 0) return;  // none, or said already
  const std::int64_t size = moe.experts() / groups.count;
  std::vector<std::int64_t> members(static_cast<std::size_t>(groups.count), 0);
  for (const std::int32_t e : experts) {
    if (e < moe.experts()) ++members[static_cast<std::size_t>(e / size)];
  }
  std::int64_t whole = 0;
  for (std::size_t group = 0; group < members.size(); ++group) {
    if (members[group] == size) ++whole;
    if (members[group] == 0 || members[group] == size) continue;
    return fail(path,
                concat("allows ", members[group], " of the ", size, " experts of group ", group,
                       "; where a selection has groups, a tag has a whole one or "
                       "nothing of it"));
  }
  if (whole < groups.chosen) {
    fail(path, concat("allows ", whole,
                      " groups; the selection takes the best topk_group = ", groups.chosen));
  }
}

void check_allowed_experts(const configs::MoeConfig& moe, const configs::Fail& fail) {
  if (!moe.has_allowed_experts() || moe.experts() < 1) return;
  const std::string path = "model.moe.allowed_experts";
  const configs::AllowedExperts& table = moe.allowed_experts();
  if (table.tag_size() == 0) fail(path + ".tag", "is empty; name at least one tag");
  bool readable = true;
  const auto read = [&](const std::string& field, const std::string& text) {
    try {
      parse_experts(text, moe.experts());
    } catch (const UserError& error) {
      readable = false;
      fail(path + field, error.what());
    }
  };
  std::set<std::string> names;
  read(".open_to_all", table.open_to_all());
  for (int i = 0; i < table.tag_size(); ++i) {
    const configs::TagExperts& tag = table.tag(i);
    read(concat(".tag[", i, "].experts"), tag.experts());
    if (!names.insert(tag.name()).second) {
      fail(concat(path, ".tag[", i, "].name"), concat("\"", tag.name(), "\" is there twice"));
    }
  }
  if (!readable) return;
  const ExpertMask mask(moe);
  for (int i = 0; i < table.tag_size(); ++i) {
    const std::string field = concat(path, ".tag[", i, "].experts");
    const std::span<const std::int32_t> experts = mask.experts(i);
    if (static_cast<std::int64_t>(experts.size()) < experts_needed(moe)) {
      fail(field, concat("tokens of tag \"", table.tag(i).name(), "\" may use ", experts.size(),
                         " experts; the selection needs ", experts_needed(moe)));
    } else {
      check_allowed_groups(moe, experts, field, fail);
    }
  }
}

// Combinations that would do something else than they seem to.
void check_weights(const configs::MoeConfig& moe, const configs::Fail& fail) {
  const RouterConfig& router = moe.router();
  if (router.weights() == RouterConfig::UNIFORM && !router.has_hash() && !router.has_all()) {
    fail("model.moe.router.weights",
         "UNIFORM leaves the router without a gradient, so it would never learn whom to choose; "
         "it goes with the selections hash and all");
  }
  if (router.has_hierarchical() &&
      (router.score() != RouterConfig::SOFTMAX || router.weights() != RouterConfig::RENORMALIZED)) {
    fail("model.moe.router.hierarchical",
         "weighs by the softmax of each gate over what it chose: needs score: SOFTMAX and weights: "
         "RENORMALIZED");
  }
  if (router.has_expert_choice() &&
      (router.score() != RouterConfig::SOFTMAX || router.weights() != RouterConfig::AS_IS)) {
    fail("model.moe.router.expert_choice",
         "weighs a token by its softmax score: needs score: SOFTMAX and weights: AS_IS");
  }
  const bool biased = router.has_top_k() || router.has_group_limited() || router.has_top_p() ||
                      router.has_noisy_top_k();
  for (int i = 0; i < moe.balance_size(); ++i) {
    if (!moe.balance(i).has_expert_bias() || biased) continue;
    fail(concat("model.moe.balance[", i, "].expert_bias"),
         "has no effect: this selection does not look at it; remove it, or select by top_k, "
         "group_limited, top_p or noisy_top_k");
  }
}

void check_moe(const configs::ModelConfig& model, const configs::Fail& fail) {
  const configs::MoeConfig& moe = model.moe();
  check_pattern(model, fail);
  check_balance(moe, fail);
  if (moe.shared_gate() && moe.shared_d_ff() == 0) {
    fail("model.moe.shared_gate", "there is no shared expert to gate; set shared_d_ff");
  }
  if (moe.has_zero_computation() && choosable(moe) == moe.experts()) {
    fail("model.moe.zero_computation", "names no expert; give it zero, copy or constant ones");
  }
  if (moe.has_swiglu() && moe.expert_kind() != configs::MoeConfig::SWIGLU) {
    fail("model.moe.swiglu", "applies to expert_kind: SWIGLU only");
  }
  check_selection(moe, fail);
  check_allowed_experts(moe, fail);
  check_weights(moe, fail);
}

// Modules work on fewer tokens than the layers of the main model.
void check_mtp(const configs::ModelConfig& model, const configs::Fail& fail) {
  if (!model.has_mtp()) return;
  for (int i = 0; i < model.moe().balance_size(); ++i) {
    if (!model.moe().balance(i).switch_aux().pool_layers()) continue;
    fail(concat("model.moe.balance[", i, "].switch_aux.pool_layers"),
         "pools layers that see the same tokens; the modules of model.mtp see fewer: remove one of "
         "the two");
  }
}

}  // namespace

bool selects_causally(const configs::RouterConfig& router) {
  return !router.has_expert_choice() && !router.has_sinkhorn();
}

void check_model(const configs::ModelConfig& model, const configs::Fail& fail) {
  if (!model.has_layers() || model.layers() <= 0 || model.layers() > 4096) return;  // said already
  check_attention(model, fail);
  if (model.has_moe()) check_moe(model, fail);
  check_mtp(model, fail);
  const ModelDims dims(model);
  if (dims.moe_layers() < dims.layers && !model.has_ffn()) {
    fail("model.ffn", concat("is missing, but ", dims.layers - dims.moe_layers(),
                             " layers are dense; add ffn { d_ff: ... }"));
  }
}

}  // namespace witan
