// Expert choice on CUDA. Scores become whole numbers in their order, an expert's beside each other;
// one block an expert then finds the least of those it takes by radix selection, eight bits at a
// time, and among equal ones the last token; and every token lists the experts that took it.
#include "core/ops/cuda/expert_choice.h"

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/grid.h"
#include "core/ops/cuda/row_warps.h"
#include "core/ops/topk.h"
#include "core/tensor/cuda_scratch.h"

namespace witan::ops::cuda {
namespace {

constexpr int kTileExtent = 32;  // of a tile that is transposed
constexpr int kTileRows = 8;     // threads of it along its rows
constexpr int kDigitBits = 8;
constexpr int kDigits = 1 << kDigitBits;  // one a thread of a block
constexpr int kSpans = 16;                // of neighbouring digits, whose counts are summed
constexpr int kSpan = kDigits / kSpans;

template <class T>
using KeyOf = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;

__device__ std::uint32_t bits_of(float x) { return __float_as_uint(x); }
__device__ std::uint64_t bits_of(double x) {
  return static_cast<std::uint64_t>(__double_as_longlong(x));
}

// Whole numbers in the order of the scores, as on the CPU.
template <class T>
__device__ KeyOf<T> key_of(T x) {
  const KeyOf<T> bits = bits_of(x == T{0} ? T{0} : x);  // -0 becomes 0
  const KeyOf<T> sign = KeyOf<T>{1} << (8 * sizeof(T) - 1);
  return (bits & sign) != 0 ? ~bits : bits | sign;
}

// keys [experts, tokens] of s [tokens, experts], through a tile in shared memory so that both sides
// are whole lines: 8 bytes an element of float32
template <class T>
__global__ void expert_keys_kernel(const T* s, std::int64_t tokens, std::int64_t experts,
                                   KeyOf<T>* keys) {
  WITAN_SHARED(KeyOf<T>[kTileExtent][kTileExtent + 1], tile);
  const int column = static_cast<int>(threadIdx.x);
  const std::int64_t token = static_cast<std::int64_t>(blockIdx.x) * kTileExtent;
  const std::int64_t expert = static_cast<std::int64_t>(blockIdx.y) * kTileExtent;
  for (int row = static_cast<int>(threadIdx.y); row < kTileExtent; row += kTileRows) {
    if (token + row >= tokens || expert + column >= experts) continue;
    tile[row][column] = key_of(s[(token + row) * experts + expert + column]);
  }
  __syncthreads();
  for (int row = static_cast<int>(threadIdx.y); row < kTileExtent; row += kTileRows) {
    if (expert + row >= experts || token + column >= tokens) continue;
    keys[(expert + row) * tokens + token + column] = tile[column][row];
  }
}

// A value among others: the rank-th largest of those that are equal to it, which are `equal`.
template <class Value>
struct Ranked {
  Value value;
  unsigned rank, equal;
};

// The rank-th largest, counted from 1, of the values that member(i, &value) says are there, for i
// below n; by a block of kDigits threads. From the highest digit on, those that agree so far are
// counted by their next one: integers, whose order does not matter.
template <class Value, class Member>
__device__ Ranked<Value> nth_largest(std::int64_t n, unsigned rank, const Member& member) {
  WITAN_SHARED(unsigned[kDigits], counts);
  WITAN_SHARED(unsigned[kSpans], spans);
  WITAN_SHARED(unsigned[3], found);
  const unsigned self = threadIdx.x;
  Ranked<Value> result{0, rank, 0};
  for (int shift = 8 * sizeof(Value) - kDigitBits; shift >= 0; shift -= kDigitBits) {
    counts[self] = 0;
    __syncthreads();
    for (std::int64_t i = self; i < n; i += kDigits) {
      Value value = 0;
      if (!member(i, value) || (value >> shift >> kDigitBits) != result.value) continue;
      atomicAdd(counts + ((value >> shift) & (kDigits - 1)), 1u);
    }
    __syncthreads();
    if (self < kSpans) {
      unsigned sum = 0;
      for (unsigned i = 0; i < kSpan; ++i) sum += counts[self * kSpan + i];
      spans[self] = sum;
    }
    __syncthreads();
    const unsigned equal = counts[self];
    unsigned ahead = 0;
    for (unsigned i = self + 1; i % kSpan != 0; ++i) ahead += counts[i];
    for (unsigned i = self / kSpan + 1; i < kSpans; ++i) ahead += spans[i];
    if (ahead < result.rank && result.rank <= ahead + equal) {  // one thread
      found[0] = self;
      found[1] = result.rank - ahead;
      found[2] = equal;
    }
    __syncthreads();
    result = {static_cast<Value>(result.value << kDigitBits | found[0]), found[1], found[2]};
  }
  return result;
}

// least [experts]: the smallest key that an expert takes; last [experts]: the last token that it
// takes with that key. One block an expert, whose keys stay in caches from one pass to the next:
// one for each byte of a key, and four more where not all of the equal ones are taken.
template <class Key>
__global__ void expert_threshold_kernel(const Key* keys, std::int64_t tokens, unsigned each,
                                        Key* least, std::int64_t* last) {
  const std::int64_t expert = blockIdx.x;
  keys += expert * tokens;
  if (each == 0) {  // no key is as large, and no token as early
    least[expert] = ~Key{0};
    last[expert] = -1;
    return;
  }
  const Ranked<Key> key = nth_largest<Key>(tokens, each, [&](std::int64_t t, Key& value) {
    value = keys[t];
    return true;
  });
  std::int64_t end = tokens - 1;
  if (key.rank < key.equal) {
    const auto earliest = [&](std::int64_t t, std::uint32_t& value) {
      value = ~static_cast<std::uint32_t>(t);
      return keys[t] == key.value;
    };
    end = ~nth_largest<std::uint32_t>(tokens, key.rank, earliest).value;
  }
  if (threadIdx.x == 0) {
    least[expert] = key.value;
    last[expert] = end;
  }
}

// The sum over this lane and those before it; all lanes of the warp call it.
__device__ int warp_prefix_sum(int value) {
  const int lane = static_cast<int>(threadIdx.x);
  WITAN_UNROLL
  for (int offset = 1; offset < kWarpSize; offset *= 2) {
    const int earlier = __shfl_sync(kFullWarp, value, lane >= offset ? lane - offset : 0);
    value += lane >= offset ? earlier : 0;
  }
  return value;
}

// indices [own, experts]; s begins at the first of the own tokens. One warp a token: 8 bytes an
// element of float32.
template <class T>
__global__ void expert_choice_kernel(const T* s, const KeyOf<T>* least, const std::int64_t* last,
                                     std::int64_t first, std::int64_t own, std::int64_t experts,
                                     std::int32_t* indices) {
  const std::int64_t token = row_of_warp();
  if (token >= own) return;
  s += token * experts;
  indices += token * experts;
  const KeyOf<T> barred = key_of(-static_cast<T>(INFINITY));
  std::int64_t count = 0;
  for (std::int64_t begin = 0; begin < experts; begin += kWarpSize) {
    const std::int64_t e = begin + threadIdx.x;
    bool taken = false;
    if (e < experts) {
      const KeyOf<T> key = key_of(s[e]);
      taken = key > barred && (key > least[e] || (key == least[e] && first + token <= last[e]));
    }
    const int upto = warp_prefix_sum(taken ? 1 : 0);
    if (taken) indices[count + upto - 1] = static_cast<std::int32_t>(e);
    count += __shfl_sync(kFullWarp, upto, kWarpSize - 1);
  }
  for (std::int64_t j = count + threadIdx.x; j < experts; j += kWarpSize) indices[j] = kNoChoice;
}

}  // namespace

void expert_choice(const Context& ctx, const TensorView& s, std::int64_t each, std::int64_t first,
                   const TensorView& indices) {
  const std::int64_t tokens = s.rows();
  const std::int64_t experts = s.cols();
  const std::int64_t own = indices.rows();
  if (indices.size() == 0) return;
  WITAN_CHECK(tokens <= 0xffffffff, "expert_choice: at most 2^32 - 1 tokens, found ", tokens);
  dispatch_float(s.dtype, "expert_choice", [&](auto zero) {
    using T = decltype(zero);
    using Key = KeyOf<T>;
    const auto words = static_cast<std::size_t>(experts);
    const std::size_t bytes =
        words * (sizeof(std::int64_t) + sizeof(Key) * static_cast<std::size_t>(tokens + 1));
    auto* const last = static_cast<std::int64_t*>(witan::cuda::scratch(ctx, bytes));
    auto* const least = reinterpret_cast<Key*>(last + experts);
    Key* const keys = least + experts;
    const dim3 tiles(grid_extent(blocks_of(tokens, kTileExtent), kMaxGridX),
                     grid_extent(blocks_of(experts, kTileExtent), kMaxGridY));
    launch(expert_keys_kernel<T>, tiles, dim3(kTileExtent, kTileRows), 0, ctx.stream, s.as<T>(),
           tokens, experts, keys);
    launch(expert_threshold_kernel<Key>, dim3(grid_extent(experts, kMaxGridX)), dim3(kDigits), 0,
           ctx.stream, keys, tokens, static_cast<unsigned>(each), least, last);
    launch(expert_choice_kernel<T>, warp_grid(own), warp_block(), 0, ctx.stream,
           s.as<T>() + first * experts, least, last, first, own, experts,
           indices.as<std::int32_t>());
  });
}

}  // namespace witan::ops::cuda
