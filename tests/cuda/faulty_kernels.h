// Kernels with and without one mistake each: what the stand-in must find, and must not.
#pragma once

#include <cstdint>

#include "core/base/context.h"

namespace witan::test {

enum class Barrier { kPresent, kMissing };

// out[b] = sum of in[b threads .. (b + 1) threads)
void block_sums(const Context& ctx, Barrier barrier, const float* in, int blocks, int threads,
                float* out);
// The same through dynamic shared memory.
void block_sums_dynamic(const Context& ctx, const float* in, int blocks, int threads, float* out);

// out[i] = in[i + shift], i < size: reads past the end if shift > 0.
void copy_shifted(const Context& ctx, const float* in, std::int64_t size, std::int64_t shift,
                  float* out);
// out[i + shift] = in[i], i < size: writes past the end if shift > 0, before the beginning if < 0.
void write_shifted(const Context& ctx, const float* in, std::int64_t size, std::int64_t shift,
                   float* out);

void read_fresh_shared(const Context& ctx, float* out);  // out[0] = a shared variable never written
void write_past_shared(const Context& ctx, float* out);
void take_too_much_shared(const Context& ctx, float* out);

enum class Wait { kPresent, kMissing };

// out [32] = in[i + shift] by asynchronous copies of 16 bytes through shared memory.
void copy_through_shared(const Context& ctx, Wait wait, int shift, const float* in, float* out);

// Threads of the upper half leave before the barrier / wait at another barrier.
void barrier_after_exit(const Context& ctx, float* out);
void two_barriers(const Context& ctx, float* out);

// A shuffle with a full mask that only even lanes reach / that lane 0 leaves before.
void shuffle_of_even_lanes(const Context& ctx, float* out);
void shuffle_after_exit(const Context& ctx, float* out);

// out [64, 3]: value of lane 5, of the neighbour (xor 1), of the lane 7 further down (its own
// beyond the warp); the value of a thread is its index.
void all_shuffles(const Context& ctx, float* out);

// out [grid.x grid.y grid.z block.x block.y block.z]: every thread adds 1 at its own linear index.
void count_threads(const Context& ctx, int grid, int block, float* out);

void launch_with(const Context& ctx, int blocks, int threads, std::size_t shared_bytes, float* out);

}  // namespace witan::test
