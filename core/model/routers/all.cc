// all: every expert that the token may use: the dense mixture, and with uniform weights the
// ensemble.
#include <algorithm>

#include "core/model/router.h"
#include "core/ops/topk.h"

namespace witan {
namespace {

class AllRouter final : public Router {
 public:
  AllRouter(const configs::RouterConfig& config, const RouterPlace& place)
      : Router(config, place), experts_(place.experts) {}

  bool decides_on_device() const override { return true; }
  std::int64_t top_k() const override { return experts_; }

 protected:
  void select(const Context& ctx, const SelectionInput& in,
              const TensorView& indices) const override {
    const ExpertMask& mask = place().mask;
    if (mask.empty()) return ops::table_choices(ctx, {}, {}, experts_, indices);
    auto* index = indices.as<std::int32_t>();
    const auto* tag = in.batch.tags.as<std::int32_t>();
    for (std::int64_t t = 0; t < indices.rows(); ++t, index += experts_) {
      const auto end = std::ranges::copy(mask.experts(tag[t]), index).out;
      std::fill(end, index + experts_, ops::kNoChoice);
    }
  }

 private:
  std::int64_t experts_;
};

}  // namespace

std::unique_ptr<Router> make_all_router(const configs::RouterConfig& config,
                                        const RouterPlace& place) {
  return std::make_unique<AllRouter>(config, place);
}

}  // namespace witan
