// The instructions that CUDA C++ has no word for: each in PTX for nvcc, and as a plain twin over
// the stand-in's warp exchange (tests/support/cuda_on_cpu), in the register layout that the PTX
// manual documents. A warp's lane is 4 g + t, g in 0 .. 7 and t in 0 .. 3. bfloat16 elements are
// their 16 bits; a 32-bit register holds two, the first in its lower half. All 32 lanes call what
// speaks of a warp.
//
//   pack_bfloat16(a, b)
//     both rounded to nearest even
//   load_matrices(row, m)
//     ldmatrix.x4: four 8 x 8 matrices of 16-bit elements. Lane 8 i + r hands in the address of row
//     r of matrix i (16 bytes, aligned), and receives in m[i] its elements (g, 2 t), (g, 2 t + 1)
//   load_matrices_transposed(row, m)
//     the same with the elements (2 t, g) and (2 t + 1, g)
//   multiply_add(c, a, b0, b1)
//     mma.m16n8k16: c += a b with a [16, 16] and b [16, 8] in bfloat16, c [16, 8] in float32.
//     a[0 .. 3]: (g, 2 t), (g + 8, 2 t), (g, 2 t + 8), (g + 8, 2 t + 8) and their right neighbours;
//     b0, b1: (2 t, g), (2 t + 8, g) and those below; c[0 .. 3]: (g, 2 t), (g, 2 t + 1),
//     (g + 8, 2 t), (g + 8, 2 t + 1)
//   copy_async<bytes>(shared, global, valid)
//     cp.async: 4 or 16 bytes (both addresses multiples of that) from global to shared memory, or
//     zeros if not `valid`
//   commit_copies()
//     this thread's copies since the last commit become a group
//   wait_for_copies<n>()
//     until all of this thread's groups but the last n are in shared memory; other threads see them
//     after a barrier
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/base/cuda/dialect.h"

#if defined(__CUDACC__)

namespace witan {

__device__ inline std::uint32_t pack_bfloat16(float first, float second) {
  std::uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(second), "f"(first));
  return packed;
}

__device__ inline unsigned shared_address(const void* data) {
  return static_cast<unsigned>(__cvta_generic_to_shared(data));
}

__device__ inline void load_matrices(const std::uint16_t* row, std::uint32_t (&m)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(shared_address(row)));
}

__device__ inline void load_matrices_transposed(const std::uint16_t* row, std::uint32_t (&m)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(shared_address(row)));
}

__device__ inline void multiply_add(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                    std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <int bytes>
__device__ void copy_async(void* shared, const void* global, bool valid) {
  static_assert(bytes == 4 || bytes == 16);
  const int read = valid ? bytes : 0;
  if constexpr (bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
                 "l"(__cvta_generic_to_global(global)), "r"(read)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(shared)),
                 "l"(__cvta_generic_to_global(global)), "r"(read)
                 : "memory");
  }
}

__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int n>
__device__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory");
}

}  // namespace witan

#else

namespace witan {

inline std::uint16_t bfloat16_of(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  if (value != value) return 0x7fff;
  return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

inline std::uint32_t pack_bfloat16(float first, float second) {
  return static_cast<std::uint32_t>(bfloat16_of(second)) << 16 | bfloat16_of(first);
}

// Half `half` of a register, widened.
inline float bfloat16_at(std::uint32_t packed, int half) {
  const std::uint32_t bits = half == 0 ? packed << 16 : packed & 0xffff0000u;
  float value = 0;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

struct MatrixRow {
  std::uint16_t element[8];
};

inline const MatrixRow* gather_rows(const std::uint16_t* row, const cuda_on_cpu::Site& site) {
  MatrixRow own;
  std::memcpy(&own, row, sizeof(own));
  return reinterpret_cast<const MatrixRow*>(cuda_on_cpu::warp_gather(&own, sizeof(own), site));
}

inline void load_matrices(const std::uint16_t* row, std::uint32_t (&m)[4],
                          const cuda_on_cpu::Site& site = cuda_on_cpu::Site::current()) {
  const MatrixRow* rows = gather_rows(row, site);
  const int g = cuda_on_cpu::current_lane() / 4;
  const int t = cuda_on_cpu::current_lane() % 4;
  for (int i = 0; i < 4; ++i) std::memcpy(&m[i], &rows[8 * i + g].element[2 * t], sizeof(m[i]));
}

inline void load_matrices_transposed(const std::uint16_t* row, std::uint32_t (&m)[4],
                                     const cuda_on_cpu::Site& site = cuda_on_cpu::Site::current()) {
  const MatrixRow* rows = gather_rows(row, site);
  const int g = cuda_on_cpu::current_lane() / 4;
  const int t = cuda_on_cpu::current_lane() % 4;
  for (int i = 0; i < 4; ++i) {
    m[i] = static_cast<std::uint32_t>(rows[8 * i + 2 * t + 1].element[g]) << 16 |
           rows[8 * i + 2 * t].element[g];
  }
}

inline void multiply_add(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                         std::uint32_t b1,
                         const cuda_on_cpu::Site& site = cuda_on_cpu::Site::current()) {
  struct Operands {
    std::uint32_t a[4];
    std::uint32_t b[2];
  };
  const Operands own = {{a[0], a[1], a[2], a[3]}, {b0, b1}};
  const auto* lanes =
      reinterpret_cast<const Operands*>(cuda_on_cpu::warp_gather(&own, sizeof(own), site));
  const int g = cuda_on_cpu::current_lane() / 4;
  const int t = cuda_on_cpu::current_lane() % 4;
  for (int k = 0; k < 16; ++k) {
    const int of_k = k % 8 / 2;
    const Operands& row = lanes[4 * g + of_k];
    for (int j = 0; j < 2; ++j) {
      const float b = bfloat16_at(lanes[4 * (2 * t + j) + of_k].b[k / 8], k % 2);
      c[j] += bfloat16_at(row.a[k / 8 * 2], k % 2) * b;
      c[2 + j] += bfloat16_at(row.a[k / 8 * 2 + 1], k % 2) * b;
    }
  }
}

template <int bytes>
void copy_async(void* shared, const void* global, bool valid,
                const cuda_on_cpu::Site& site = cuda_on_cpu::Site::current()) {
  static_assert(bytes == 4 || bytes == 16);
  cuda_on_cpu::copy_later(shared, global, bytes, valid, site);
}

inline void commit_copies() { cuda_on_cpu::commit_copies(); }

template <int n>
void wait_for_copies() {
  cuda_on_cpu::wait_for_copies(n);
}

}  // namespace witan

#endif
