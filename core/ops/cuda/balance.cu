// Balancing losses on CUDA. One warp takes a token where its work is over the experts; sums over
// tokens are those of column_sums.h; what is left, over the experts, is work of one block.
#include "core/ops/cuda/balance.h"

#include <cstdint>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/column_sums.h"
#include "core/ops/cuda/operand.h"
#include "core/ops/cuda/pieces.h"
#include "core/ops/cuda/product.h"
#include "core/ops/cuda/router_functions.h"
#include "core/ops/cuda/row_warps.h"
#include "core/tensor/cuda_scratch.h"

namespace witan::ops::cuda {
namespace {

constexpr int kOnlyBlockThreads = 1024;

// entropy [tokens]; ds += gradient_factor d entropy / ds. 12 bytes an element of float32, s again
// from the cache.
template <class T>
__global__ void entropy_kernel(double gradient_factor, const T* s, std::int64_t tokens,
                               std::int64_t experts, T* ds, double* entropy) {
  const std::int64_t token = row_of_warp();
  if (token >= tokens) return;
  s += token * experts;
  ds += token * experts;
  double sum = 0.0;
  for (std::int64_t e = threadIdx.x; e < experts; e += kWarpSize) sum += static_cast<double>(s[e]);
  sum = warp_sum(sum) + kTiny;
  double value = 0.0;
  for (std::int64_t e = threadIdx.x; e < experts; e += kWarpSize) {
    const double p = static_cast<double>(s[e]) / sum;
    if (p > 0.0) value -= p * log(p);
  }
  value = warp_sum(value);
  if (threadIdx.x == 0) entropy[token] = value;
  for (std::int64_t e = threadIdx.x; e < experts; e += kWarpSize) {
    const double p = static_cast<double>(s[e]) / sum;
    const double slope = p > 0.0 ? -(log(p) + value) / sum : 0.0;
    ds[e] += static_cast<T>(gradient_factor * slope);
  }
}

// loss [1] += factor times the sum of x [n]; one block, reads 8 n bytes
__global__ void add_sum_kernel(double factor, const double* x, std::int64_t n, double* loss) {
  WITAN_SHARED(double[kMaxWarps], warps);
  double sum = 0.0;
  for (std::int64_t i = threadIdx.x; i < n; i += blockDim.x) sum += x[i];
  sum = block_sum(sum, warps);
  if (threadIdx.x == 0) *loss += factor * sum;
}

// partial [row blocks, experts]: sums of the columns of x; reads 4 bytes an element of float32
template <class T>
__global__ void column_sums_kernel(const T* x, std::int64_t tokens, std::int64_t experts,
                                   double* partial) {
  store_column_partials(tokens, experts, partial, [&](std::int64_t token, std::int64_t e) {
    return static_cast<double>(x[token * experts + e]);
  });
}

// The same of what choices give to each expert: x, or 1 where x is null. Reads 8 bytes a choice of
// float32, through the cache once for every 32 experts.
template <class T>
__global__ void choice_sums_kernel(const T* x, const std::int32_t* indices, std::int64_t tokens,
                                   std::int64_t top_k, std::int64_t experts, double* partial) {
  store_column_partials(tokens, experts, partial, [&](std::int64_t token, std::int64_t e) {
    double sum = 0.0;
    for (std::int64_t j = token * top_k; j < (token + 1) * top_k; ++j) {
      if (indices[j] == e) sum += x == nullptr ? 1.0 : static_cast<double>(x[j]);
    }
    return sum;
  });
}

// dx += factor gradient of its column; one warp a token, 8 bytes an element of float32
template <class T>
__global__ void add_to_columns_kernel(double factor, const double* gradient, std::int64_t tokens,
                                      std::int64_t experts, T* dx) {
  const std::int64_t token = row_of_warp();
  if (token >= tokens) return;
  for (std::int64_t e = threadIdx.x; e < experts; e += kWarpSize) {
    dx[token * experts + e] += static_cast<T>(factor * gradient[e]);
  }
}

// dx += factor gradient of its expert; 12 bytes a choice of float32
template <class T>
__global__ void add_to_choices_kernel(double factor, const double* gradient,
                                      const std::int32_t* indices, std::int64_t n, T* dx) {
  for (std::int64_t i = first_index(); i < n; i += index_stride()) {
    if (indices[i] != kNoChoice) dx[i] += static_cast<T>(factor * gradient[indices[i]]);
  }
}

// sums [experts + 1], loss [1]: ops::cv2_loss; one block
__global__ void cv2_kernel(double factor, std::int64_t experts, double* sums, double* loss) {
  WITAN_SHARED(double[kMaxWarps], means);
  WITAN_SHARED(double[kMaxWarps], variances);
  const auto n = static_cast<double>(experts);
  double mean = 0.0;
  for (std::int64_t e = threadIdx.x; e < experts; e += blockDim.x) mean += sums[e] / n;
  mean = block_sum(mean, means);
  double variance = 0.0;
  for (std::int64_t e = threadIdx.x; e < experts; e += blockDim.x) {
    variance += (sums[e] - mean) * (sums[e] - mean) / n;
  }
  variance = block_sum(variance, variances);
  const bool zero = mean == 0.0;
  for (std::int64_t e = threadIdx.x; e < experts; e += blockDim.x) {
    const double slope = zero ? 0.0 : 2.0 * (sums[e] - mean - variance / mean) / (n * mean * mean);
    sums[e] = slope * sums[experts];
  }
  if (threadIdx.x == 0 && !zero) *loss += factor * (variance / (mean * mean));
}

// f, coefficient [experts]: ops::load_factors, from counts [experts]; one block
template <class T>
__global__ void load_factors_kernel(LoadFactors factors, double gradient_factor,
                                    const double* counts, std::int64_t experts, double* f,
                                    T* coefficient) {
  WITAN_SHARED(double[kMaxWarps], warps);
  double total = 0.0;  // of whole numbers
  for (std::int64_t e = threadIdx.x; e < experts; e += blockDim.x) total += counts[e];
  total = block_sum(total, warps);
  for (std::int64_t e = threadIdx.x; e < experts; e += blockDim.x) {
    const double share = total > 0.0 ? counts[e] / total : 0.0;
    const double value =
        (e < factors.computing_experts ? factors.computing : factors.others) * share;
    f[e] = value;
    coefficient[e] = static_cast<T>(value * gradient_factor);
  }
}

double* doubles(const Context& ctx, std::int64_t count) {
  return static_cast<double*>(
      witan::cuda::scratch(ctx, static_cast<std::size_t>(count) * sizeof(double)));
}

// sums [experts] of choices, as choice_sums_kernel; partial: room for its results.
template <class T>
void sum_choices(const Context& ctx, const T* x, const TensorView& indices, std::int64_t experts,
                 double* partial, double* sums) {
  const std::int64_t tokens = indices.rows();
  launch(choice_sums_kernel<T>, column_grid(tokens, experts), column_block(), 0, ctx.stream, x,
         indices.as<std::int32_t>(), tokens, indices.cols(), experts, partial);
  add_partials(ctx.stream, partial, tokens, experts, false, sums);
}

}  // namespace

void entropy_loss(const Context& ctx, double factor, double gradient_factor, const TensorView& s,
                  const TensorView& ds, const TensorView& loss) {
  if (s.rows() == 0) return;
  double* entropy = doubles(ctx, s.rows());
  dispatch_float(s.dtype, "entropy_loss", [&](auto zero) {
    using T = decltype(zero);
    launch(entropy_kernel<T>, warp_grid(s.rows()), warp_block(), 0, ctx.stream, gradient_factor,
           s.as<T>(), s.rows(), s.cols(), ds.as<T>(), entropy);
  });
  launch(add_sum_kernel, dim3(1), dim3(kOnlyBlockThreads), 0, ctx.stream, factor, entropy, s.rows(),
         loss.as<double>());
}

void importance(const Context& ctx, const TensorView& x, const TensorView& indices,
                const TensorView& sums) {
  const std::int64_t tokens = x.rows();
  const std::int64_t experts = sums.size();
  if (tokens == 0) return zero_bytes(ctx, sums.data, sums.bytes());
  double* partial = doubles(ctx, row_blocks_of(tokens) * experts);
  dispatch_float(x.dtype, "importance", [&](auto zero) {
    using T = decltype(zero);
    if (!indices.empty()) {
      return sum_choices(ctx, x.as<T>(), indices, experts, partial, sums.as<double>());
    }
    launch(column_sums_kernel<T>, column_grid(tokens, experts), column_block(), 0, ctx.stream,
           x.as<T>(), tokens, experts, partial);
    add_partials(ctx.stream, partial, tokens, experts, false, sums.as<double>());
  });
}

void importance_backward(const Context& ctx, double factor, const TensorView& gradient,
                         const TensorView& indices, const TensorView& dx) {
  if (dx.size() == 0) return;
  dispatch_float(dx.dtype, "importance_backward", [&](auto zero) {
    using T = decltype(zero);
    if (indices.empty()) {
      launch(add_to_columns_kernel<T>, warp_grid(dx.rows()), warp_block(), 0, ctx.stream, factor,
             gradient.as<double>(), dx.rows(), dx.cols(), dx.as<T>());
    } else {
      launch(add_to_choices_kernel<T>, flat_grid(dx.size()), dim3(kFlatThreads), 0, ctx.stream,
             factor, gradient.as<double>(), indices.as<std::int32_t>(), dx.size(), dx.as<T>());
    }
  });
}

void cv2_loss(const Context& ctx, double factor, const TensorView& sums, const TensorView& loss) {
  launch(cv2_kernel, dim3(1), dim3(kFlatThreads), 0, ctx.stream, factor, sums.size() - 1,
         sums.as<double>(), loss.as<double>());
}

void load_factors(const Context& ctx, const LoadFactors& factors, double gradient_factor,
                  const TensorView& indices, const TensorView& f, const TensorView& coefficient) {
  const std::int64_t experts = f.size();
  const std::int64_t partials = row_blocks_of(indices.rows()) * experts;
  double* partial = doubles(ctx, partials + experts);
  double* counts = partial + partials;
  if (indices.size() == 0) {
    zero_bytes(ctx, counts, static_cast<std::size_t>(experts) * sizeof(double));
  } else {
    sum_choices<float>(ctx, nullptr, indices, experts, partial, counts);
  }
  dispatch_float(coefficient.dtype, "load_factors", [&](auto zero) {
    using T = decltype(zero);
    launch(load_factors_kernel<T>, dim3(1), dim3(kFlatThreads), 0, ctx.stream, factors,
           gradient_factor, counts, experts, f.as<double>(), coefficient.as<T>());
  });
}

}  // namespace witan::ops::cuda
