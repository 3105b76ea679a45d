// A config file whole, or why not. Internal to configs/.
#pragma once

#include <optional>
#include <string>

#include "configs/config_error.h"

namespace witan::configs {

std::optional<std::string> read_config_file(const std::string& path, ConfigErrors& errors);

}  // namespace witan::configs
