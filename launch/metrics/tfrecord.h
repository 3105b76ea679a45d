// TensorFlow's records: each is its length (uint64), the checksum of that, the data, the checksum
// of these; little endian.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace witan {

// CRC-32C (Castagnoli's polynomial, RFC 3720), rotated and shifted as TFRecord stores it, so that
// the checksum of data with checksums in it is as good as any.
std::uint32_t masked_crc32c(std::string_view data);

// `data` with its frame.
std::string tfrecord(std::string_view data);

}  // namespace witan
