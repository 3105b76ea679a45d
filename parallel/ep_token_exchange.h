// The token exchange over an expert-parallel group: rows travel by all-to-all, each to the rank
// that holds its expert, and back.
#pragma once

#include <memory>

#include "core/model/exchange_plan.h"
#include "core/model/token_exchange.h"
#include "parallel/communicator.h"

namespace witan {

struct ExchangeOptions {
  RowsPer rows_per = RowsPer::kRank;
};

// LocalTokenExchange for a group of one rank. The group must outlive the exchange.
std::unique_ptr<TokenExchange> make_token_exchange(Communicator& expert_group,
                                                   const ExchangeOptions& options = {});

}  // namespace witan
