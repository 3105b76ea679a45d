// Cross-entropy on CUDA: one block a row. The largest logit and the sum of exponentials are found
// together in one pass, each thread's sum following its own largest logit (online softmax, Milakov
// and Gimelshein 2018), then joined in a fixed order in double.
#include "core/ops/cuda/cross_entropy.h"

#include <algorithm>
#include <cstdint>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/block_sum.h"
#include "core/ops/cuda/grid.h"
#include "core/ops/cuda/pack.h"

namespace witan::ops::cuda {
namespace {

constexpr int kThreads = 512;

// The largest value over a one-dimensional block of whole warps, on every thread; as block_sum().
__device__ inline double block_max(double value, double* partial) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int warps = static_cast<int>(blockDim.x) / kWarpSize;
  WITAN_UNROLL
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    value = fmax(value, __shfl_xor_sync(kFullWarp, value, offset));
  }
  if (lane == 0) partial[warp] = value;
  __syncthreads();
  value = partial[lane < warps ? lane : 0];
  WITAN_UNROLL
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    value = fmax(value, __shfl_xor_sync(kFullWarp, value, offset));
  }
  return value;
}

// Sum of exp(x - shift) over what was seen; shift is the largest of it, at first minus infinity.
template <class T>
struct RunningSum {
  T shift;
  T sum;

  template <int N>
  __device__ void absorb(const Pack<T, N>& x) {
    T largest = x.value[0];
    WITAN_UNROLL
    for (int i = 1; i < N; ++i) largest = x.value[i] > largest ? x.value[i] : largest;
    if (largest > shift) {
      sum *= exp(shift - largest);
      shift = largest;
    }
    WITAN_UNROLL
    for (int i = 0; i < N; ++i) sum += exp(x.value[i] - shift);
  }
};

// Moves a row of logits in once, and with dlogits (which may be the logits) once more in (from the
// cache, if the row fits there) and once out.
template <class T, int N>
__global__ void cross_entropy_kernel(const T* logits, const std::int32_t* targets,
                                     std::int64_t vocab, T* loss, T* dlogits) {
  WITAN_SHARED(double[kMaxWarps], largest_of_warp);
  WITAN_SHARED(double[kMaxWarps], sum_of_warp);
  using Values = Pack<T, N>;
  const std::int64_t row = blockIdx.x;
  const std::int64_t packs = vocab / N;
  const Values* z = reinterpret_cast<const Values*>(logits + row * vocab);
  Values* dz = dlogits == nullptr ? nullptr : reinterpret_cast<Values*>(dlogits + row * vocab);
  const std::int32_t target = targets[row];
  if (target < 0) {
    if (threadIdx.x == 0) loss[row] = 0;
    for (std::int64_t i = threadIdx.x; dz != nullptr && i < packs; i += blockDim.x) dz[i] = {};
    return;
  }
  const T lowest = -static_cast<T>(INFINITY);
  RunningSum<T> running = {lowest, 0};
  for (std::int64_t i = threadIdx.x; i < packs; i += blockDim.x) running.absorb(z[i]);
  // Read by all before the barriers below, behind which it may be overwritten.
  const double hit = static_cast<double>(logits[row * vocab + target]);
  const double largest = block_max(static_cast<double>(running.shift), largest_of_warp);
  const double mine = running.sum > 0 ? static_cast<double>(running.sum) *
                                            exp(static_cast<double>(running.shift) - largest)
                                      : 0.0;
  const double sum = block_sum(mine, sum_of_warp);
  if (threadIdx.x == 0) loss[row] = static_cast<T>(log(sum) + (largest - hit));
  if (dz == nullptr) return;
  const T shift = static_cast<T>(largest);
  const T inverse = static_cast<T>(1.0 / sum);
  for (std::int64_t i = threadIdx.x; i < packs; i += blockDim.x) {
    Values value = z[i];
    WITAN_UNROLL
    for (int j = 0; j < N; ++j) {
      value.value[j] = exp(value.value[j] - shift) * inverse;
      if (i * N + j == target) value.value[j] -= 1;
    }
    dz[i] = value;
  }
}

template <class T, int N>
void launch_rows(const Context& ctx, const TensorView& logits, const TensorView& targets,
                 const TensorView& loss, const TensorView& dlogits) {
  const std::int64_t vocab = logits.cols();
  const std::int64_t warps =
      std::min<std::int64_t>(kThreads / kWarpSize, blocks_of(vocab, std::int64_t{kWarpSize} * N));
  launch(cross_entropy_kernel<T, N>, dim3(grid_extent(logits.rows(), kMaxGridX)),
         dim3(static_cast<unsigned>(warps * kWarpSize)), 0, ctx.stream, logits.as<T>(),
         targets.as<std::int32_t>(), vocab, loss.as<T>(),
         dlogits.empty() ? nullptr : dlogits.as<T>());
}

}  // namespace

void cross_entropy(const Context& ctx, const TensorView& logits, const TensorView& targets,
                   const TensorView& loss, const TensorView& dlogits) {
  if (logits.size() == 0) return;
  dispatch_float(logits.dtype, "cross_entropy", [&](auto zero) {
    using T = decltype(zero);
    const bool wide =
        logits.cols() % kWidest<T> == 0 && is_aligned(logits.data) && is_aligned(dlogits.data);
    dispatch_width<T>(wide, [&](auto width) {
      launch_rows<T, decltype(width)::value>(ctx, logits, targets, loss, dlogits);
    });
  });
}

}  // namespace witan::ops::cuda
