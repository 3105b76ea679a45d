#include <array>

#include "core/base/error.h"
#include "core/model/router.h"

namespace witan {
namespace {

using configs::RouterConfig;

constexpr std::array kRouters = {
    RouterEntry{RouterConfig::kTopK, "top_k", "top_k { k: 2 }", make_top_k_router},
};

}  // namespace

std::span<const RouterEntry> registered_routers() { return kRouters; }

std::unique_ptr<Router> make_router(const RouterConfig& config) {
  for (const RouterEntry& entry : kRouters) {
    if (entry.selection == config.selection_case()) return entry.make(config);
  }
  WITAN_CHECK(false, "no router is registered for selection ", config.selection_case());
  return nullptr;
}

}  // namespace witan
