// --set PATH=VALUE. Internal to configs/.
#pragma once

#include <string>

#include "configs/findings.h"
#include "configs/schema/run.pb.h"

namespace witan::configs {

// Applies one override (see load.h for the form of the path). A value is what the text format
// would have; strings need no quotes, a block { ... } or a list [ ... ] replaces what was there.
void apply_override(const std::string& assignment, RunConfig& run, Findings& findings);

}  // namespace witan::configs
