#include <array>

#include "launch/checkpoint/safetensors.h"

namespace witan {
namespace {

struct Entry {
  StDType dtype;
  const char* name;
  std::size_t size;
};
constexpr std::array<Entry, 11> kEntries = {{{StDType::kF64, "F64", 8},
                                             {StDType::kF32, "F32", 4},
                                             {StDType::kF16, "F16", 2},
                                             {StDType::kBF16, "BF16", 2},
                                             {StDType::kI64, "I64", 8},
                                             {StDType::kI32, "I32", 4},
                                             {StDType::kI16, "I16", 2},
                                             {StDType::kI8, "I8", 1},
                                             {StDType::kU8, "U8", 1},
                                             {StDType::kBool, "BOOL", 1},
                                             {StDType::kF8E4M3, "F8_E4M3", 1}}};

}  // namespace

std::size_t size_of(StDType dtype) { return kEntries[static_cast<std::size_t>(dtype)].size; }
const char* name_of(StDType dtype) { return kEntries[static_cast<std::size_t>(dtype)].name; }

std::optional<StDType> st_dtype_of(std::string_view name) {
  for (const Entry& entry : kEntries) {
    if (name == entry.name) return entry.dtype;
  }
  return std::nullopt;
}

}  // namespace witan
