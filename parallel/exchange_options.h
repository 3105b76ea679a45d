// How a token exchange sends its rows, and what of a config decides it.
#pragma once

#include <cstdint>

#include "configs/schema/run.pb.h"
#include "core/model/exchange_plan.h"
#include "core/ops/wire_rows.h"

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
  std::int64_t node = 0;      // ranks with the same number share memory
  int chunks = 1;             // of a micro-batch: ModelContext::exchange_chunks
  std::int64_t max_rows = 0;  // ModelContext::max_rows
};

// What parallel.exchange and runtime.precision say; on node 0.
ExchangeOptions exchange_options(const configs::RunConfig& run);

}  // namespace witan
