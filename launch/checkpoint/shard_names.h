// The names of a checkpoint's files and tensors, told in one place.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace witan {

// "model-00002-of-00004.safetensors" for part 1 of 4.
std::string shard_name(const std::string& stem, std::int64_t part, std::int64_t parts);

// {"metadata": {"total_size": N}, "weight_map": {tensor: file}}
std::string index_json(const std::map<std::string, std::string>& file_of, std::uint64_t total_size);

// Moment 0 or 1 of a tensor: ".exp_avg", ".exp_avg_sq".
std::string moment_name(const std::string& tensor, int moment);

}  // namespace witan
