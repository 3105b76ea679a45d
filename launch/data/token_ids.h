// Token ids of any integer type, checked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "core/base/error.h"

namespace witan {

// Tokens [begin, begin + out.size()) of an array of T at `data`, which need not be aligned.
// UserError: an id that is not below `vocab`; `file` is what it names.
template <class T>
void read_token_ids(const std::byte* data, std::int64_t begin, std::span<std::int32_t> out,
                    std::int64_t vocab, const std::string& file) {
  const std::byte* source = data + static_cast<std::size_t>(begin) * sizeof(T);
  const auto id_at = [&](std::size_t i) {
    T raw;
    std::memcpy(&raw, source + i * sizeof(T), sizeof(T));
    return static_cast<std::int64_t>(raw);
  };
  bool good = true;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::int64_t id = id_at(i);
    good &= id >= 0 && id < vocab;
    out[i] = static_cast<std::int32_t>(id);
  }
  if (good) return;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::int64_t id = id_at(i);
    if (id < 0 || id >= vocab)
      throw_user_error(file, ": token ", begin + static_cast<std::int64_t>(i), " has the id ", id,
                       ", expected 0 to ", vocab - 1, " (the model's vocabulary has ", vocab,
                       " entries)");
  }
}

}  // namespace witan
