// The error list of config checks. configs/ depends on Protobuf and std only; checks that combine
// fields live with their component and append to the same list.
#pragma once

#include <string>
#include <vector>

namespace witan::configs {

struct ConfigError {
  std::string field;    // dotted path, "model.moe.router.top_k.k"; empty for a syntax error
  std::string message;  // what was found and what would be right
  // Filled by load(): where the value was written ("file.textproto", 1-based), or "--set".
  std::string source;
  int line = 0;
  int column = 0;

  // "file.textproto:12:5: model.attention.heads: ..."
  std::string to_string() const;
};

using ConfigErrors = std::vector<ConfigError>;

}  // namespace witan::configs
