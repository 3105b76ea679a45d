#include "launch/checkpoint/strict_json.h"

#include <set>
#include <vector>

#include "core/base/error.h"

namespace witan {

using nlohmann::json;

json parse_strict_json(std::string_view text, const std::string& path) {
  constexpr int kMaxDepth = 64;
  std::vector<std::set<std::string>> keys;  // of the objects that are open, outermost first
  const auto check = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth > kMaxDepth) throw_user_error(path, ": JSON nested deeper than ", kMaxDepth);
    if (event == json::parse_event_t::object_start) {
      keys.emplace_back();
    } else if (event == json::parse_event_t::object_end) {
      keys.pop_back();
    } else if (event == json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!keys.back().insert(key).second) {
        throw_user_error(path, ": the key \"", key, "\" appears twice");
      }
    }
    return true;
  };
  try {
    json value = json::parse(text.begin(), text.end(), check);
    if (!value.is_object()) throw_user_error(path, ": expected a JSON object");
    return value;
  } catch (const json::exception& error) {  // malformed, or a number too large for a double
    throw_user_error(path, ": not JSON: ", error.what());
  }
}

}  // namespace witan
