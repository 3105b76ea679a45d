#include <array>

#include "core/base/error.h"
#include "core/model/router.h"

namespace witan {
namespace {

using configs::RouterConfig;

constexpr std::array kRouters = {
    RouterEntry{RouterConfig::kTopK, "top_k", "top_k { k: 2 }", make_top_k_router},
    RouterEntry{RouterConfig::kGroupLimited, "group_limited",
                "group_limited { k: 2 n_group: 3 topk_group: 2 }", make_group_limited_router},
    RouterEntry{RouterConfig::kTopP, "top_p", "top_p { p: 0.6 k_max: 4 }", make_top_p_router},
    RouterEntry{RouterConfig::kExpertChoice, "expert_choice", "expert_choice { k: 2 }",
                make_expert_choice_router},
    RouterEntry{RouterConfig::kNoisyTopK, "noisy_top_k", "noisy_top_k { k: 2 }",
                make_noisy_top_k_router},
    RouterEntry{RouterConfig::kHash, "hash", "hash { k: 2 }", make_hash_router},
    RouterEntry{RouterConfig::kAll, "all", "all {}", make_all_router},
    RouterEntry{RouterConfig::kSinkhorn, "sinkhorn", "sinkhorn { k: 2 }", make_sinkhorn_router},
    RouterEntry{RouterConfig::kHierarchical, "hierarchical",
                "hierarchical { k: 2 n_group: 3 topk_group: 2 }", make_hierarchical_router},
};

}  // namespace

std::span<const RouterEntry> registered_routers() { return kRouters; }

std::unique_ptr<Router> make_router(const RouterConfig& config, const RouterPlace& place) {
  for (const RouterEntry& entry : kRouters) {
    if (entry.selection == config.selection_case()) return entry.make(config, place);
  }
  WITAN_CHECK(false, "no router is registered for selection ", config.selection_case());
  return nullptr;
}

}  // namespace witan
