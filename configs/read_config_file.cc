#include "configs/read_config_file.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace witan::configs {

std::optional<std::string> read_config_file(const std::string& path, ConfigErrors& errors) {
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  const int reason = errno;
  std::ostringstream text;
  if (in) text << in.rdbuf();
  const bool folder = std::filesystem::is_directory(path);
  if (in && !folder) return std::move(text).str();
  ConfigError error;
  error.source = path;
  error.message =
      std::string("cannot read the config: ") + (folder ? "it is a folder" : std::strerror(reason));
  errors.push_back(error);
  return std::nullopt;
}

}  // namespace witan::configs
