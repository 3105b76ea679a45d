// What the selections of a router have in common, by the names of their fields: a selection that is
// added need not be listed anywhere else.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "configs/schema/model.pb.h"

namespace witan {

// "top_k": the field of the selection; empty without one.
std::string selection_name(const configs::RouterConfig& router);

// Field `k` of the selection; nothing if it has none.
std::optional<std::int64_t> selection_k(const configs::RouterConfig& router);
// Sets it, where there is one.
void set_selection_k(configs::RouterConfig& router, std::int64_t k);

}  // namespace witan
