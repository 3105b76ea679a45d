// The token exchange over an expert-parallel group: rows travel to the ranks that hold their
// experts and back, through shared memory between the ranks of a node and by all-to-all between
// nodes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/model/exchange_plan.h"
#include "core/model/token_exchange.h"
#include "core/ops/wire_rows.h"
#include "parallel/communicator.h"

namespace witan {

enum class ExchangeTransport {
  kAuto,           // shared windows where the ranks of a node can see each other's memory
  kSharedWindows,  // an error where they cannot
  kAllToAll,
};

// The same on every rank of the group, but for `node`.
struct ExchangeOptions {
  RowsPer rows_per = RowsPer::kRank;
  ExchangeTransport transport = ExchangeTransport::kAuto;
  // Of rows between nodes. Inside a node they are read where they lie: rounding would save nothing.
  ops::WireFormat format = ops::WireFormat::kAsIs;
  std::int64_t node = 0;  // ranks with the same number share memory
};

// LocalTokenExchange for a group of one rank. Collective; so is its end, with windows. The group
// must outlive the exchange.
std::unique_ptr<TokenExchange> make_token_exchange(Communicator& expert_group,
                                                   const ExchangeOptions& options = {});

}  // namespace witan
