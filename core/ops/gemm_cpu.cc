#include "core/ops/gemm_cpu.h"

#include <dnnl.h>

#include <algorithm>
#include <type_traits>

#include "core/ops/cpu/gemm_bf16_kernels.h"
#include "core/ops/parallel.h"
#include "core/ops/rounded_weights.h"
#include "core/tensor/allocator.h"

namespace witan::ops {
namespace {

// A thread's packing buffer. It grows to what the largest request needed and stays.
class Workspace {
 public:
  Workspace() = default;
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  ~Workspace() { device_free(Device{}, data_, bytes_); }

  void* at_least(std::size_t bytes) {
    if (bytes > bytes_) {
      device_free(Device{}, data_, bytes_);
      data_ = nullptr;
      bytes_ = 0;
      data_ = device_allocate(Device{}, bytes);
      bytes_ = bytes;
    }
    return data_;
  }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

thread_local Workspace workspace;

template <class T>
T* own_workspace() {
  const auto values = static_cast<std::size_t>(own_gemm_tiling<T>().workspace_values);
  return static_cast<T*>(workspace.at_least(values * sizeof(T)));
}

template <class A, class B>
void run_bf16(GemmKernel kernel, const cpu::GemmTask<float, A, B>& task) {
  float* buffer = own_workspace<float>();
  switch (kernel) {
    case GemmKernel::kBf16Amx: return cpu::amx::gemm_bf16(task, buffer);
    case GemmKernel::kBf16Dot: return cpu::avx512_bf16::gemm_bf16(task, buffer);
    default: WITAN_CALL_ISA(gemm_bf16, task, buffer);
  }
}

void run_onednn(const cpu::GemmTask<float>& task) {
  // oneDNN takes leading dimensions of at least 1 and does nothing for k = 0.
  const dnnl_status_t status = dnnl_sgemm(
      task.a_transposed ? 'T' : 'N', task.b_transposed ? 'T' : 'N', task.m, task.n, task.k, 1.0F,
      task.a, task.lda, task.b, task.ldb, task.accumulate ? 1.0F : 0.0F, task.c, task.ldc);
  WITAN_CHECK(status == dnnl_success, "dnnl_sgemm failed with status ", static_cast<int>(status),
              " for m ", task.m, ", n ", task.n, ", k ", task.k);
}

// How many threads share the rows of C and how many the columns: rows * columns == threads.
struct Grid {
  std::int64_t rows = 1;
  std::int64_t columns = 1;
};

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Each thread packs its own rows of A and columns of B, so a square part costs least; an uneven
// split makes the others wait.
Grid choose_grid(std::int64_t threads, std::int64_t m, std::int64_t n,
                 const cpu::GemmTiling& tiling) {
  constexpr double kPackingCost = 16;  // multiply-adds in the time of packing one element
  Grid best;
  double best_cost = -1.0;
  for (std::int64_t rows = 1; rows <= threads; ++rows) {
    if (threads % rows != 0) continue;
    const std::int64_t columns = threads / rows;
    const auto part_m = static_cast<double>(ceil_div(m, rows));
    const auto part_n =
        static_cast<double>(ceil_div(ceil_div(n, tiling.columns), columns) * tiling.columns);
    const double cost = part_m * part_n + kPackingCost * (part_m + part_n);
    if (best_cost < 0.0 || cost < best_cost) {
      best_cost = cost;
      best = {rows, columns};
    }
  }
  return best;
}

}  // namespace

TensorView as_read(const Context& ctx, const TensorView& x) {
  if (ctx.products != Products::kBfloat16) return x;
  const std::uint16_t* copy = find_rounded(x);
  if (copy == nullptr) return x;
  return {const_cast<std::uint16_t*>(copy), x.shape, DType::kBfloat16, x.device};
}

template <class T>
cpu::GemmTiling own_gemm_tiling() {
  cpu::GemmTiling tiling{};
  WITAN_CALL_ISA(gemm_tiling<T>, &tiling);
  return tiling;
}

template <class T, class A, class B>
void run_gemm(GemmKernel kernel, const cpu::GemmTask<T, A, B>& task) {
  if (task.m == 0 || task.n == 0) return;
  if constexpr (std::is_same_v<T, float>) {
    if (kernel >= GemmKernel::kBf16Emulated) return run_bf16(kernel, task);
  }
  if constexpr (std::is_same_v<A, T> && std::is_same_v<B, T>) {
    if constexpr (std::is_same_v<T, float>) {
      if (kernel == GemmKernel::kOneDnn && task.k > 0) return run_onednn(task);
    }
    WITAN_CALL_ISA(gemm<T>, task, own_workspace<T>());
  } else {
    WITAN_CHECK(false, "a product of operands in bfloat16 by the kernel ", name_of(kernel));
  }
}

template <class T, class A, class B>
void run_gemm_parallel(GemmKernel kernel, const cpu::GemmTask<T, A, B>& task) {
  // Fewer multiply-adds than this are done before a second thread has woken up.
  constexpr std::int64_t kWorthAThread = 100'000;
  const std::int64_t work = task.m * task.n * std::max<std::int64_t>(1, task.k);
  const std::int64_t threads =
      std::min<std::int64_t>(available_threads(), std::max<std::int64_t>(1, work / kWorthAThread));
  if (threads == 1 || kernel == GemmKernel::kOneDnn) return run_gemm(kernel, task);
  const cpu::GemmTiling tiling = own_gemm_tiling<T>();
  const Grid grid = choose_grid(threads, task.m, task.n, tiling);
  const std::int64_t tiles_n = ceil_div(task.n, tiling.columns);
  parallel_for(grid.rows * grid.columns, [&](std::int64_t index) {
    const std::int64_t r = index / grid.columns;
    const std::int64_t c = index % grid.columns;
    const std::int64_t row = task.m * r / grid.rows;
    const std::int64_t row_end = task.m * (r + 1) / grid.rows;
    const std::int64_t column = std::min(task.n, tiles_n * c / grid.columns * tiling.columns);
    const std::int64_t column_end =
        std::min(task.n, tiles_n * (c + 1) / grid.columns * tiling.columns);
    run_gemm(kernel, gemm_part(task, row, row_end - row, column, column_end - column));
  });
}

template cpu::GemmTiling own_gemm_tiling<float>();
template cpu::GemmTiling own_gemm_tiling<double>();

#define WITAN_INSTANTIATE(T, A, B)                                   \
  template void run_gemm(GemmKernel, const cpu::GemmTask<T, A, B>&); \
  template void run_gemm_parallel(GemmKernel, const cpu::GemmTask<T, A, B>&);
WITAN_INSTANTIATE(double, double, double)
WITAN_INSTANTIATE(float, float, float)
WITAN_INSTANTIATE(float, float, Bfloat16)
WITAN_INSTANTIATE(float, Bfloat16, float)
WITAN_INSTANTIATE(float, Bfloat16, Bfloat16)

}  // namespace witan::ops
