// none: says that nothing balances the load.
#include "core/model/balance/balancer.h"

namespace witan {
namespace {

class NoBalance final : public Balancer {
 public:
  const char* name() const override { return "none"; }
};

}  // namespace

std::unique_ptr<Balancer> make_no_balance(const configs::BalancerConfig&) {
  return std::make_unique<NoBalance>();
}

}  // namespace witan
