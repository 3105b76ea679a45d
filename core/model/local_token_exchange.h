// The token exchange of one rank that holds every expert: rows are sorted by expert and back, in
// memory.
#pragma once

#include <vector>

#include "core/model/token_exchange.h"

namespace witan {

class LocalTokenExchange final : public TokenExchange {
 public:
  int ranks() const override { return 1; }
  int rank() const override { return 0; }

  void plan(const Context& ctx, const TensorView& indices, std::int64_t experts, Arena& arena,
            ExchangePlan& plan) override;

  // The whole work is done by begin.
  void dispatch_begin(const Context& ctx, const ExchangePlan& plan, const TensorView& x,
                      const TensorView& rows) override;
  void dispatch_end(const Context&) override {}
  void combine_begin(const Context& ctx, const ExchangePlan& plan, const TensorView& rows,
                     const TensorView& y) override;
  void combine_end(const Context&) override {}

  void dispatch_weights(const Context& ctx, const ExchangePlan& plan, const TensorView& weights,
                        const TensorView& row_weights) override;
  void return_weights(const Context& ctx, const ExchangePlan& plan, const TensorView& drow_weights,
                      const TensorView& dweights) override;

 private:
  std::vector<std::int64_t> counts_;  // [experts]
};

}  // namespace witan
