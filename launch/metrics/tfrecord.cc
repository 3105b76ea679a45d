#include "launch/metrics/tfrecord.h"

#include <array>
#include <bit>

namespace witan {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little endian");

constexpr std::array<std::uint32_t, 256> make_table() {
  constexpr std::uint32_t kPolynomial = 0x82F63B78;  // 0x1EDC6F41 with its bits reversed
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1U) != 0 ? kPolynomial : 0U);
    table[byte] = crc;
  }
  return table;
}

constexpr std::array<std::uint32_t, 256> kTable = make_table();

template <class T>
std::string bytes_of(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

}  // namespace

std::uint32_t masked_crc32c(std::string_view data) {
  constexpr std::uint32_t kMask = 0xA282EAD8;
  std::uint32_t crc = 0xFFFFFFFF;
  for (const char c : data) crc = (crc >> 8) ^ kTable[(crc ^ static_cast<unsigned char>(c)) & 255U];
  return std::rotr(~crc, 15) + kMask;
}

std::string tfrecord(std::string_view data) {
  const std::string length = bytes_of(std::uint64_t{data.size()});
  std::string record = length + bytes_of(masked_crc32c(length));
  record.append(data);
  return record + bytes_of(masked_crc32c(data));
}

}  // namespace witan
