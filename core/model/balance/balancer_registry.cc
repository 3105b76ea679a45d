#include <array>

#include "core/base/error.h"
#include "core/model/balance/balancer.h"

namespace witan {
namespace {

using configs::BalancerConfig;

constexpr std::array kBalancers = {
    BalancerEntry{BalancerConfig::kSwitchAux, "switch_aux", "switch_aux { coefficient: 0.5 }",
                  make_switch_aux},
    BalancerEntry{BalancerConfig::kZLoss, "z_loss", "z_loss { coefficient: 0.1 }", make_z_loss},
    BalancerEntry{BalancerConfig::kExpertBias, "expert_bias", "expert_bias { rate: 0.01 }",
                  make_expert_bias},
    BalancerEntry{BalancerConfig::kImportanceCv2, "importance_cv2",
                  "importance_cv2 { coefficient: 0.4 }", make_importance_cv2},
    BalancerEntry{BalancerConfig::kLoadCv2, "load_cv2", "load_cv2 { coefficient: 0.4 }",
                  make_load_cv2},
    BalancerEntry{BalancerConfig::kDeviceBalance, "device_balance",
                  "device_balance { coefficient: 0.5 groups: 3 }", make_device_balance},
    BalancerEntry{BalancerConfig::kEntropy, "entropy", "entropy { coefficient: 0.3 }",
                  make_entropy},
    BalancerEntry{BalancerConfig::kNone, "none", "none {}", make_no_balance},
};

}  // namespace

std::span<const BalancerEntry> registered_balancers() { return kBalancers; }

std::unique_ptr<Balancer> make_balancer(const BalancerConfig& config) {
  for (const BalancerEntry& entry : kBalancers) {
    if (entry.kind == config.kind_case()) return entry.make(config);
  }
  WITAN_CHECK(false, "no balancer is registered for kind ", config.kind_case());
  return nullptr;
}

}  // namespace witan
