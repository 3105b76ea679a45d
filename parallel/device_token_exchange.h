// The token exchange of models on a GPU: rows and routing weights travel in device memory through
// the collectives of the group; the plan is made where the indices are, by the host or on the
// device.
#pragma once

#include <memory>

#include "core/model/exchange_plan.h"
#include "core/model/token_exchange.h"
#include "core/ops/wire_rows.h"
#include "parallel/communicator.h"

namespace witan {

// `host` makes plans of indices in host memory, with `rows_per`; `group` moves rows on `device`,
// those of and for other ranks in `format`; both of the same ranks, more than one. The group must
// outlive the exchange.
std::unique_ptr<TokenExchange> make_device_token_exchange(std::unique_ptr<TokenExchange> host,
                                                          Communicator& group, RowsPer rows_per,
                                                          ops::WireFormat format, Device device);

}  // namespace witan
