#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "core/ops/gemm_cpu.h"
#include "tests/support/cuda_on_cpu/cublas_v2.h"
#include "tests/support/cuda_on_cpu/fault.h"
#include "tests/support/cuda_on_cpu/memory.h"
#include "tests/support/cuda_on_cpu/streams.h"

struct cublasContext {
  cudaStream_t stream = nullptr;
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
};

namespace {

using namespace witan;
using namespace witan::cuda_on_cpu;

struct Types {
  cudaDataType_t a, b, c;
  cublasComputeType_t compute;
};

// One product, column-major: C [m, n] = op(A) op(B) (+ C).
struct Product {
  cublasOperation_t transa, transb;
  int m, n, k, lda, ldb, ldc;
  bool accumulate;
};

std::size_t size_of(cudaDataType_t type) {
  return type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2;
}

bool is_plain(const Types& t) {
  if (t.compute == CUBLAS_COMPUTE_64F) {
    return t.a == CUDA_R_64F && t.b == CUDA_R_64F && t.c == CUDA_R_64F;
  }
  return t.a == CUDA_R_32F && t.b == CUDA_R_32F && t.c == CUDA_R_32F;
}

bool is_mixed(const Types& t) {
  return t.compute == CUBLAS_COMPUTE_32F && t.a == CUDA_R_16BF && t.b == CUDA_R_16BF &&
         t.c == CUDA_R_32F;
}

double scalar(const void* values, int i, cublasComputeType_t compute) {
  return compute == CUBLAS_COMPUTE_64F ? static_cast<const double*>(values)[i]
                                       : static_cast<double>(static_cast<const float*>(values)[i]);
}

bool extents_fit(const Product& p) {
  const int a_rows = p.transa == CUBLAS_OP_N ? p.m : p.k;
  const int b_rows = p.transb == CUBLAS_OP_N ? p.k : p.n;
  return p.m > 0 && p.n > 0 && p.k > 0 && p.lda >= a_rows && p.ldb >= b_rows && p.ldc >= p.m;
}

// Whether a column-major matrix lies inside one device allocation; a fault if not.
bool matrix_fits(const char* name, const void* data, int rows, int columns, int ld,
                 cudaDataType_t type) {
  const std::size_t bytes = (static_cast<std::size_t>(columns - 1) * static_cast<std::size_t>(ld) +
                             static_cast<std::size_t>(rows)) *
                            size_of(type);
  if (is_allocated(data, bytes)) return true;
  report_fault(cudaErrorIllegalAddress, std::string("cuBLAS: matrix ") + name +
                                            " does not lie inside one device allocation");
  return false;
}

bool matrices_fit(const Product& p, const Types& t, const void* a, const void* b, const void* c) {
  const bool a_plain = p.transa == CUBLAS_OP_N;
  const bool b_plain = p.transb == CUBLAS_OP_N;
  return matrix_fits("A", a, a_plain ? p.m : p.k, a_plain ? p.k : p.m, p.lda, t.a) &&
         matrix_fits("B", b, b_plain ? p.k : p.n, b_plain ? p.n : p.k, p.ldb, t.b) &&
         matrix_fits("C", c, p.m, p.n, p.ldc, t.c);
}

// The same memory row by row: C^T [n, m] = op(B)^T op(A)^T.
template <class T>
void multiply(const Product& p, const T* a, const T* b, T* c) {
  const cpu::GemmTask<T> task{
      p.n, p.m,   p.k,         b, p.ldb, p.transb == CUBLAS_OP_T, a, p.lda, p.transa == CUBLAS_OP_T,
      c,   p.ldc, p.accumulate};
  ops::run_gemm_parallel(ops::GemmKernel::kOwn, task);
}

// bfloat16 elements as float, up to the end of the last column.
std::vector<float> widened(const void* data, int rows, int columns, int ld) {
  const auto* narrow = static_cast<const std::uint16_t*>(data);
  std::vector<float> wide(static_cast<std::size_t>(columns - 1) * static_cast<std::size_t>(ld) +
                          static_cast<std::size_t>(rows));
  for (std::size_t i = 0; i < wide.size(); ++i) {
    const std::uint32_t bits = static_cast<std::uint32_t>(narrow[i]) << 16;
    std::memcpy(&wide[i], &bits, sizeof(bits));
  }
  return wide;
}

void run_product(const Product& p, const Types& t, const void* a, const void* b, void* c) {
  if (t.compute == CUBLAS_COMPUTE_64F) {
    return multiply(p, static_cast<const double*>(a), static_cast<const double*>(b),
                    static_cast<double*>(c));
  }
  if (t.a == CUDA_R_32F) {
    return multiply(p, static_cast<const float*>(a), static_cast<const float*>(b),
                    static_cast<float*>(c));
  }
  const bool a_plain = p.transa == CUBLAS_OP_N;
  const bool b_plain = p.transb == CUBLAS_OP_N;
  const std::vector<float> wide_a = widened(a, a_plain ? p.m : p.k, a_plain ? p.k : p.m, p.lda);
  const std::vector<float> wide_b = widened(b, b_plain ? p.k : p.n, b_plain ? p.n : p.k, p.ldb);
  multiply(p, wide_a.data(), wide_b.data(), static_cast<float*>(c));
}

// What cuBLAS may do with its workspace: leave anything behind in it.
void scribble(const cublasContext& context) {
  constexpr std::size_t kEdge = 4096;
  const std::size_t edge = context.workspace_bytes < kEdge ? context.workspace_bytes : kEdge;
  auto* bytes = static_cast<unsigned char*>(context.workspace);
  std::memset(bytes, 0xff, edge);
  std::memset(bytes + context.workspace_bytes - edge, 0xff, edge);
}

bool workspace_fits(const cublasContext& context) {
  if (is_allocated(context.workspace, context.workspace_bytes)) return true;
  report_fault(cudaErrorIllegalAddress, "cuBLAS: its workspace has been freed");
  return false;
}

cublasStatus_t status_of(cudaError_t status) {
  return status == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

// Refuses what the stand-in, or cuBLAS, does not do: other scalars than 1 and 0 or 1.
cublasStatus_t check_scalars(double alpha, double beta) {
  const bool known = alpha == 1.0 && (beta == 0.0 || beta == 1.0);
  return known ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

}  // namespace

const char* cublasGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
  }
  return "?";
}

const char* cublasGetStatusString(cublasStatus_t) { return "of the stand-in"; }

cublasStatus_t cublasCreate(cublasHandle_t* handle) {
  *handle = new cublasContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
  *handle = {stream, nullptr, 0};  // as documented, this resets the workspace
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void* workspace, std::size_t bytes) {
  if (!is_allocated(workspace, bytes)) return CUBLAS_STATUS_INVALID_VALUE;
  handle->workspace = workspace;
  handle->workspace_bytes = bytes;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transa,
                            cublasOperation_t transb, int m, int n, int k, const void* alpha,
                            const void* a, cudaDataType_t a_type, int lda, const void* b,
                            cudaDataType_t b_type, int ldb, const void* beta, void* c,
                            cudaDataType_t c_type, int ldc, cublasComputeType_t compute,
                            cublasGemmAlgo_t) {
  const Types types{a_type, b_type, c_type, compute};
  if (!is_plain(types) && !is_mixed(types)) return CUBLAS_STATUS_NOT_SUPPORTED;
  const double add = scalar(beta, 0, compute);
  const cublasStatus_t scalars = check_scalars(scalar(alpha, 0, compute), add);
  if (scalars != CUBLAS_STATUS_SUCCESS) return scalars;
  const Product product{transa, transb, m, n, k, lda, ldb, ldc, add == 1.0};
  if (!extents_fit(product)) return CUBLAS_STATUS_INVALID_VALUE;
  const auto good = [=, context = *handle] {
    return matrices_fit(product, types, a, b, c) && workspace_fits(context);
  };
  if (!good()) return CUBLAS_STATUS_INVALID_VALUE;
  return status_of(enqueue_library_work(
      handle->stream, "cublasGemmEx",
      [=, context = *handle] {
        scribble(context);
        run_product(product, types, a, b, c);
      },
      good));
}

cublasStatus_t cublasGemmGroupedBatchedEx(
    cublasHandle_t handle, const cublasOperation_t transa[], const cublasOperation_t transb[],
    const int m[], const int n[], const int k[], const void* alpha, const void* const a[],
    cudaDataType_t a_type, const int lda[], const void* const b[], cudaDataType_t b_type,
    const int ldb[], const void* beta, void* const c[], cudaDataType_t c_type, const int ldc[],
    int group_count, const int group_size[], cublasComputeType_t compute) {
  const Types types{a_type, b_type, c_type, compute};
  if (!is_plain(types) || compute != CUBLAS_COMPUTE_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  std::vector<Product> products;  // one for every matrix
  for (int g = 0; g < group_count; ++g) {
    const double add = scalar(beta, g, compute);
    const cublasStatus_t scalars = check_scalars(scalar(alpha, g, compute), add);
    if (scalars != CUBLAS_STATUS_SUCCESS) return scalars;
    const Product product{transa[g], transb[g], m[g],   n[g],      k[g],
                          lda[g],    ldb[g],    ldc[g], add == 1.0};
    if (!extents_fit(product)) return CUBLAS_STATUS_INVALID_VALUE;
    for (int i = 0; i < group_size[g]; ++i) products.push_back(product);
  }
  const std::size_t bytes = products.size() * sizeof(void*);
  if (!is_allocated(a, bytes) || !is_allocated(b, bytes) || !is_allocated(c, bytes)) {
    report_fault(cudaErrorIllegalAddress, "cuBLAS: pointer arrays must be device memory");
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  return status_of(
      enqueue_library_work(handle->stream, "cublasGemmGroupedBatchedEx", [=, context = *handle] {
        scribble(context);
        for (std::size_t i = 0; i < products.size(); ++i) {
          if (!matrices_fit(products[i], types, a[i], b[i], c[i])) return;
          run_product(products[i], types, a[i], b[i], c[i]);
        }
      }));
}
