// A machine description (configs/schema/machine.proto) from a Protobuf text file.
#pragma once

#include <cstdint>
#include <string>

#include "configs/config_error.h"
#include "configs/schema/machine.pb.h"

namespace witan::configs {

struct LoadedMachine {
  MachineConfig machine;
  ConfigErrors errors;  // sorted by position; empty = good
};

// Unknown fields, types, required fields, ranges, and links that are missing. Never throws for a
// user's mistake. `ranks` above 0 take the place of the file's.
LoadedMachine load_machine(const std::string& text, const std::string& file, std::int64_t ranks);
LoadedMachine load_machine_file(const std::string& path, std::int64_t ranks);

}  // namespace witan::configs
