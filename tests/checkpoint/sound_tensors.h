// What a safetensors reader may hand out, whatever the file held.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "launch/checkpoint/safetensors.h"

namespace witan {

// Empty if every tensor lies inside a file of so many bytes, none on top of another, and all their
// bytes can be read; else what is wrong.
inline std::string what_is_unsound(const SafetensorsReader& reader, std::size_t file_bytes) {
  std::vector<std::pair<std::size_t, std::size_t>> ranges;
  unsigned sum = 0;
  for (const auto& [name, tensor] : reader.tensors()) {
    std::size_t bytes = size_of(tensor.dtype);
    for (const std::int64_t extent : tensor.shape) bytes *= static_cast<std::size_t>(extent);
    if (bytes != tensor.bytes) return name + ": its shape has another size";
    if (tensor.begin + tensor.bytes > file_bytes) return name + ": ends behind the file";
    for (std::size_t i = 0; i < tensor.bytes; ++i) {
      sum += static_cast<unsigned>(reader.data(tensor)[i]);
    }
    if (tensor.bytes > 0) ranges.emplace_back(tensor.begin, tensor.begin + tensor.bytes);
  }
  volatile unsigned read = sum;  // so that the bytes are read
  (void)read;
  std::sort(ranges.begin(), ranges.end());
  for (std::size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i - 1].second > ranges[i].first) return "two tensors overlap";
  }
  return "";
}

}  // namespace witan
