#include "tests/cuda/intrinsic_kernels.h"

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/attention_mma_tiles.h"

namespace witan::test {
namespace {

constexpr int kSize = 32;

__global__ void multiply_by_mma_kernel(const std::uint16_t* a, const std::uint16_t* b,
                                       float* scores, float* sums) {
  using namespace ops::cuda;
  std::uint16_t* a_tile = dynamic_shared<std::uint16_t>();
  std::uint16_t* b_tile = a_tile + kTileElements<16, kSize>;
  copy_tile<16, kSize>(a, kSize, 16, kSize, a_tile);
  copy_tile<kSize, kSize>(b, kSize, kSize, kSize, b_tile);
  commit_copies();
  wait_for_copies<0>();
  __syncthreads();
  if (threadIdx.x >= kWarpSize) return;
  MmaSums<kSize> products[1];
  multiply_rows<1, kSize, kSize>(a_tile, 0, b_tile, products);
  MmaSums<kSize> weighted[1] = {};
  add_weighted_rows<1, kSize, kSize, kSize>(products, b_tile, 0, weighted);
  store_sums<kSize>(products[0], {1.0f, 1.0f}, 0, 0, 16, kSize, kSize, scores);
  store_sums<kSize>(weighted[0], {1.0f, 1.0f}, 0, 0, 16, kSize, kSize, sums);
}

}  // namespace

void multiply_by_mma(const Context& ctx, const std::uint16_t* a, const std::uint16_t* b,
                     float* scores, float* sums) {
  using namespace ops::cuda;
  constexpr std::size_t kBytes =
      (kTileElements<16, kSize> + kTileElements<kSize, kSize>)*sizeof(std::uint16_t);
  launch(multiply_by_mma_kernel, dim3(1), dim3(kMmaThreads), kBytes, ctx.stream, a, b, scores,
         sums);
}

}  // namespace witan::test
