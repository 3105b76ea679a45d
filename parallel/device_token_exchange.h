// The token exchange of models on a GPU: the host makes the plan and exchanges the routing weights,
// rows travel in device memory through the collectives of the group.
#pragma once

#include <memory>

#include "core/model/token_exchange.h"
#include "parallel/communicator.h"

namespace witan {

// `host` makes the plans, `group` moves rows on `device`; both of the same ranks, more than one.
// The group must outlive the exchange.
std::unique_ptr<TokenExchange> make_device_token_exchange(std::unique_ptr<TokenExchange> host,
                                                          Communicator& group, Device device);

}  // namespace witan
