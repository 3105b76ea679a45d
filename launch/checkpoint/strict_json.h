// JSON of files that somebody else may have written.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace witan {

// Parses `text`, which must be one JSON object; `path` names the file in messages. A syntax error,
// a key that appears twice in one object, or nesting beyond 64 levels is a UserError.
nlohmann::json parse_strict_json(std::string_view text, const std::string& path);

}  // namespace witan
