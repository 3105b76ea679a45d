#include "launch/checkpoint/shard_names.h"

#include <cinttypes>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace witan {

std::string shard_name(const std::string& stem, std::int64_t part, std::int64_t parts) {
  char numbers[64];
  std::snprintf(numbers, sizeof numbers, "-%05" PRId64 "-of-%05" PRId64, part + 1, parts);
  return stem + numbers + ".safetensors";
}

std::string index_json(const std::map<std::string, std::string>& file_of,
                       std::uint64_t total_size) {
  nlohmann::json index;
  index["metadata"]["total_size"] = total_size;
  index["weight_map"] = file_of;
  return index.dump(1) + "\n";
}

std::string moment_name(const std::string& tensor, int moment) {
  return tensor + (moment == 0 ? ".exp_avg" : ".exp_avg_sq");
}

}  // namespace witan
