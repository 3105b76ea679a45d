// Small tables that the host makes for a kernel (offsets, addresses, coefficients): they travel as
// arguments of a kernel that writes them, so that no host memory has to outlive the call and
// nothing waits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/base/context.h"

namespace witan::ops::cuda {

// Enqueues to[i] = words[i]: device memory, 8 bytes each.
void upload_words(const Context& ctx, std::span<const std::int64_t> words, std::int64_t* to);

// The same for `bytes`, a multiple of 4, as `to` is.
void upload_bytes(const Context& ctx, const std::byte* from, std::size_t bytes, void* to);

}  // namespace witan::ops::cuda
