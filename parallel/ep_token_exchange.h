// The token exchange over an expert-parallel group: rows travel to the ranks that hold their
// experts and back, through shared memory between the ranks of a node and by all-to-all between
// nodes.
#pragma once

#include <memory>

#include "core/model/token_exchange.h"
#include "parallel/communicator.h"
#include "parallel/exchange_options.h"

namespace witan {

// LocalTokenExchange for a group of one rank. Collective; so is its end, with windows. The group
// must outlive the exchange. `device`: where the rows are. On a GPU they travel through the group's
// collectives, and options.transport and format mean nothing.
std::unique_ptr<TokenExchange> make_token_exchange(Communicator& expert_group,
                                                   const ExchangeOptions& options = {},
                                                   Device device = {});

}  // namespace witan
