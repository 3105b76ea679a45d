// The token exchange of one rank that holds every expert: rows are tokens, nothing moves.
#pragma once

#include "core/base/recycled_queue.h"
#include "core/model/exchange_plan.h"
#include "core/model/token_exchange.h"
#include "core/tensor/host_copy.h"

namespace witan {

class LocalTokenExchange final : public TokenExchange {
 public:
  explicit LocalTokenExchange(Device device = {}) : buffer_(device, "routing weight buffers") {}

  int ranks() const override { return 1; }
  int rank() const override { return 0; }
  std::size_t buffer_bytes() const override { return buffer_.bytes_reserved(); }

  void plan_begin(const Context& ctx, const TensorView& indices, std::int64_t experts,
                  const Padding& padding, const PlanArenas& arenas, ExchangePlan& plan) override;
  void plan_end(const Context& ctx, ExchangePlan& plan) override;

  void dispatch_begin(const Context&, const ExchangePlan&, const TensorView& x, Arena&) override {
    rows_ = x;
  }
  DispatchedRows dispatch_end(const Context&) override { return {rows_, {}}; }
  TensorView combine_input(const ExchangePlan&, const TensorView& y, Arena&) override { return y; }
  // The whole work, if there is any, is done by begin.
  void combine_begin(const Context& ctx, const ExchangePlan& plan, const TensorView& rows,
                     const TensorView& y) override;
  void combine_end(const Context&) override {}

  void dispatch_weights(const Context& ctx, const ExchangePlan& plan, const TensorView& weights,
                        const TensorView& slot_weights) override;
  void return_weights(const Context& ctx, const ExchangePlan& plan, const TensorView& dslot_weights,
                      const TensorView& dweights) override;

 private:
  void plan_on_device(const Context& ctx, const TensorView& indices, std::int64_t experts,
                      std::int64_t places, Arena& arena, ExchangePlan& plan);

  // Of a plan made on the device whose sizes are on their way.
  struct Sizes {
    const ExchangePlan* plan = nullptr;
    HostCopy counts;  // [experts + 1] int32: choices of each expert, and of all
  };
  RecycledQueue<Sizes> sizes_;
  Arena buffer_;
  TensorView rows_;  // of the dispatch in flight
};

}  // namespace witan
