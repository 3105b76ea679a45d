// Checks of a ModelConfig that combine fields (single fields: configs/load.h).
#pragma once

#include "configs/load.h"

namespace witan {

void check_model(const configs::ModelConfig& model, const configs::Fail& fail);

// Whether a token's experts depend on nothing but itself and earlier tokens.
bool selects_causally(const configs::RouterConfig& router);

}  // namespace witan
