// TensorFlow records read back, their checksums checked.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "launch/metrics/tensorboard.pb.h"
#include "launch/metrics/tfrecord.h"

namespace witan::test {

inline std::vector<tensorboard::Event> events_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  std::vector<tensorboard::Event> events;
  std::size_t at = 0;
  const auto next = [&](std::size_t size) {
    const std::string part = bytes.substr(at, size);
    EXPECT_EQ(part.size(), size) << path << " ends within a record";
    at += size;
    return part;
  };
  const auto checksum = [&] {
    std::uint32_t value = 0;
    std::memcpy(&value, next(sizeof value).data(), sizeof value);
    return value;
  };
  while (at < bytes.size()) {
    const std::string length_bytes = next(8);
    std::uint64_t length = 0;
    std::memcpy(&length, length_bytes.data(), sizeof length);
    EXPECT_EQ(checksum(), masked_crc32c(length_bytes));
    const std::string data = next(length);
    EXPECT_EQ(checksum(), masked_crc32c(data));
    EXPECT_TRUE(events.emplace_back().ParseFromString(data));
    if (::testing::Test::HasFailure()) break;
  }
  return events;
}

}  // namespace witan::test
