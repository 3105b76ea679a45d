#include "tests/cuda/faulty_kernels.h"

#include "core/base/cuda/device_intrinsics.h"
#include "core/base/cuda/launch.h"

namespace witan::test {
namespace {

constexpr unsigned kFullMask = 0xffffffffu;

template <Barrier barrier>
__global__ void block_sums_kernel(const float* in, float* out) {
  WITAN_SHARED(float[256], values);
  values[threadIdx.x] = in[blockIdx.x * blockDim.x + threadIdx.x];
  if constexpr (barrier == Barrier::kPresent) __syncthreads();
  if (threadIdx.x != 0) return;
  float sum = 0;
  for (unsigned i = 0; i < blockDim.x; ++i) sum += values[i];
  out[blockIdx.x] = sum;
}

__global__ void block_sums_dynamic_kernel(const float* in, float* out) {
  float* values = dynamic_shared<float>();
  values[threadIdx.x] = in[blockIdx.x * blockDim.x + threadIdx.x];
  __syncthreads();
  if (threadIdx.x != 0) return;
  float sum = 0;
  for (unsigned i = 0; i < blockDim.x; ++i) sum += values[i];
  out[blockIdx.x] = sum;
}

__global__ void copy_shifted_kernel(const float* in, std::int64_t size, std::int64_t shift,
                                    float* out) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < size) out[i] = in[i + shift];
}

__global__ void write_shifted_kernel(const float* in, std::int64_t size, std::int64_t shift,
                                     float* out) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < size) out[i + shift] = in[i];
}

__global__ void read_fresh_shared_kernel(float* out) {
  WITAN_SHARED(float, never_written);
  out[0] = never_written;
}

__global__ void write_past_shared_kernel(float* out) {
  WITAN_SHARED(float[4], values);
  float* first = values;  // a pointer: UBSan would find the index of an array
  first[threadIdx.x] = 1;
  __syncthreads();
  out[0] = values[0];
}

template <Wait wait>
__global__ void copy_through_shared_kernel(int shift, const float* in, float* out) {
  float* values = dynamic_shared<float>();
  const int i = static_cast<int>(threadIdx.x);
  if (i < 8) copy_async<16>(values + 4 * i, in + 4 * i + shift, true);
  commit_copies();
  if constexpr (wait == Wait::kPresent) wait_for_copies<0>();
  __syncthreads();
  out[i] = values[i];
}

__global__ void take_too_much_shared_kernel(float* out) {
  WITAN_SHARED(float[8192], half);
  WITAN_SHARED(float[8192], other_half);
  half[0] = other_half[0] = 1;
  out[0] = half[0];
}

__global__ void barrier_after_exit_kernel(float* out) {
  if (threadIdx.x >= blockDim.x / 2) return;
  __syncthreads();
  out[0] = 1;
}

__global__ void two_barriers_kernel(float* out) {
  if (threadIdx.x >= blockDim.x / 2) {
    __syncthreads();
  } else {
    out[0] = 1;
    __syncthreads();
  }
}

__global__ void shuffle_of_even_lanes_kernel(float* out) {
  if (threadIdx.x % 2 == 0) out[threadIdx.x] = __shfl_xor_sync(kFullMask, out[threadIdx.x], 2);
  __syncthreads();
}

__global__ void shuffle_after_exit_kernel(float* out) {
  if (threadIdx.x == 0) return;
  out[threadIdx.x] = __shfl_xor_sync(kFullMask, 1.0f, 1);
}

__global__ void all_shuffles_kernel(float* out) {
  const float mine = static_cast<float>(threadIdx.x);
  float* row = out + threadIdx.x * 3;
  row[0] = __shfl_sync(kFullMask, mine, 5);
  __syncwarp();
  row[1] = __shfl_xor_sync(kFullMask, mine, 1);
  row[2] = __shfl_down_sync(kFullMask, mine, 7);
}

__global__ void count_threads_kernel(float* out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] += 1;
}

__global__ void write_one_kernel(float* out) { out[0] = 1; }

unsigned extent(std::int64_t value) { return static_cast<unsigned>(value); }

}  // namespace

void block_sums(const Context& ctx, Barrier barrier, const float* in, int blocks, int threads,
                float* out) {
  const auto kernel = barrier == Barrier::kPresent ? block_sums_kernel<Barrier::kPresent>
                                                   : block_sums_kernel<Barrier::kMissing>;
  launch(kernel, dim3(extent(blocks)), dim3(extent(threads)), 0, ctx.stream, in, out);
}
void block_sums_dynamic(const Context& ctx, const float* in, int blocks, int threads, float* out) {
  launch(block_sums_dynamic_kernel, dim3(extent(blocks)), dim3(extent(threads)),
         static_cast<std::size_t>(threads) * sizeof(float), ctx.stream, in, out);
}
void copy_shifted(const Context& ctx, const float* in, std::int64_t size, std::int64_t shift,
                  float* out) {
  launch(copy_shifted_kernel, dim3(extent((size + 31) / 32)), dim3(32), 0, ctx.stream, in, size,
         shift, out);
}
void write_shifted(const Context& ctx, const float* in, std::int64_t size, std::int64_t shift,
                   float* out) {
  launch(write_shifted_kernel, dim3(extent((size + 31) / 32)), dim3(32), 0, ctx.stream, in, size,
         shift, out);
}
void read_fresh_shared(const Context& ctx, float* out) {
  launch(read_fresh_shared_kernel, dim3(1), dim3(1), 0, ctx.stream, out);
}
void write_past_shared(const Context& ctx, float* out) {
  launch(write_past_shared_kernel, dim3(1), dim3(5), 0, ctx.stream, out);
}
void take_too_much_shared(const Context& ctx, float* out) {
  launch(take_too_much_shared_kernel, dim3(1), dim3(1), 0, ctx.stream, out);
}
void barrier_after_exit(const Context& ctx, float* out) {
  launch(barrier_after_exit_kernel, dim3(2), dim3(64), 0, ctx.stream, out);
}
void two_barriers(const Context& ctx, float* out) {
  launch(two_barriers_kernel, dim3(2), dim3(64), 0, ctx.stream, out);
}
void shuffle_of_even_lanes(const Context& ctx, float* out) {
  launch(shuffle_of_even_lanes_kernel, dim3(1), dim3(32), 0, ctx.stream, out);
}
void shuffle_after_exit(const Context& ctx, float* out) {
  launch(shuffle_after_exit_kernel, dim3(1), dim3(32), 0, ctx.stream, out);
}
void all_shuffles(const Context& ctx, float* out) {
  launch(all_shuffles_kernel, dim3(1), dim3(64), 0, ctx.stream, out);
}
void count_threads(const Context& ctx, int grid, int block, float* out) {
  const unsigned g = extent(grid);
  const unsigned b = extent(block);
  launch(count_threads_kernel, dim3(g, g + 1, g + 2), dim3(b, b + 1, b + 2), 0, ctx.stream, out);
}
void launch_with(const Context& ctx, int blocks, int threads, std::size_t shared_bytes,
                 float* out) {
  launch(write_one_kernel, dim3(extent(blocks)), dim3(extent(threads)), shared_bytes, ctx.stream,
         out);
}

void copy_through_shared(const Context& ctx, Wait wait, int shift, const float* in, float* out) {
  const auto kernel = wait == Wait::kPresent ? copy_through_shared_kernel<Wait::kPresent>
                                             : copy_through_shared_kernel<Wait::kMissing>;
  launch(kernel, dim3(1), dim3(32), 32 * sizeof(float), ctx.stream, shift, in, out);
}

}  // namespace witan::test
