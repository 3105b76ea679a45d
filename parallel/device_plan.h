// Exchange plans of several ranks made on their devices: the same as those of the host, lists and
// order, from expert indices in device memory. The host learns how many rows and slots go where,
// and nothing else; where every rank has as many of each, nothing at all.
#pragma once

#include <vector>

#include "core/base/recycled_queue.h"
#include "core/model/exchange_plan.h"
#include "core/model/token_exchange.h"
#include "core/tensor/host_copy.h"
#include "parallel/communicator.h"

namespace witan {

class DevicePlanner {
 public:
  DevicePlanner(Communicator& group, RowsPer rows_per) : group_(group), rows_per_(rows_per) {}

  // As TokenExchange; several plans may be open. Collective.
  void begin(const Context& ctx, const TensorView& indices, std::int64_t experts,
             const TokenExchange::Padding& padding, Arena& arena, ExchangePlan& plan);
  void end(const Context& ctx, ExchangePlan& plan);

 private:
  struct Open {
    const ExchangePlan* plan = nullptr;
    Arena* arena = nullptr;
    bool padded = false;
    TensorView codes;    // [sent slots] used
    bool waits = false;  // for the sizes, in
    // [2, ranks, 1 + local experts] int32: what each rank is told by this one, and tells it.
    HostCopy counts;
  };
  // Rows and slots for every rank, and from it: as the ranks say, or `places` for every expert,
  // each with a row of its own.
  static void read_sizes(const TensorView& counts, ExchangePlan& plan);
  static void set_sizes(std::int64_t places, std::int64_t ranks, std::int64_t local_experts,
                        ExchangePlan& plan);

  Communicator& group_;
  RowsPer rows_per_;
  RecycledQueue<Open> open_;
};

}  // namespace witan
