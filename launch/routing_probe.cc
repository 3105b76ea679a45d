#include "launch/routing_probe.h"

namespace witan {

RoutingProbe::RoutingProbe(std::int64_t layers)
    : now_(static_cast<std::size_t>(layers)), before_(static_cast<std::size_t>(layers)) {}

void RoutingProbe::on_route(int layer, const Batch& batch, const TensorView& indices,
                            std::int64_t experts) {
  (void)batch, (void)experts;
  const auto* index = indices.as<std::int32_t>();
  for (std::int64_t t = 0; t < indices.rows(); ++t) {
    now_[static_cast<std::size_t>(layer)].push_back(index[t * indices.cols()]);
  }
}

std::vector<double> RoutingProbe::finish(Communicator& world) {
  const std::size_t layers = now_.size();
  std::vector<std::int64_t> sums(2 * layers, 0);  // changed, compared
  for (std::size_t l = 0; l < layers; ++l) {
    if (now_[l].size() == before_[l].size()) {
      for (std::size_t t = 0; t < now_[l].size(); ++t) {
        sums[2 * l] += now_[l][t] != before_[l][t] ? 1 : 0;
        ++sums[2 * l + 1];
      }
    }
    before_[l].swap(now_[l]);
    now_[l].clear();
  }
  world.all_reduce(view_of(sums.data(), {static_cast<std::int64_t>(sums.size())}), ReduceOp::kSum)
      .wait();
  std::vector<double> churn(layers, -1.0);
  for (std::size_t l = 0; l < layers; ++l) {
    if (sums[2 * l + 1] > 0) {
      churn[l] = static_cast<double>(sums[2 * l]) / static_cast<double>(sums[2 * l + 1]);
    }
  }
  return churn;
}

}  // namespace witan
