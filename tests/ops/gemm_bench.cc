// Speed of the GEMM kernels on this machine, the source of the table in core/ops/gemm_kernel.cc.
// Not a test: gemm_bench [seconds per measurement]. Prints, per layout and shape, GFLOP/s of both
// kernels (measured in alternation, best of the rounds) beside the FMA peak.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "core/base/cpu_isa.h"
#include "core/ops/gemm.h"
#include "core/ops/gemm_kernel.h"
#include "core/ops/grouped_gemm.h"
#include "core/ops/parallel.h"
#include "core/tensor/tensor.h"

namespace witan {
namespace {

using Clock = std::chrono::steady_clock;
using ops::GemmChoice;
using ops::GemmLayout;

double seconds_per_measurement = 0.02;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Runs per second of `f`, over at least seconds_per_measurement.
template <class F>
double rate(const F& f) {
  std::int64_t runs = 0;
  const auto start = Clock::now();
  do {
    f();
    ++runs;
  } while (seconds_since(start) < seconds_per_measurement);
  return static_cast<double>(runs) / seconds_since(start);
}

struct Rates {
  double own = 0.0;
  double onednn = 0.0;
};

// Alternates the kernels, so that what else the machine does hits both.
template <class F>
Rates compare(double flop, const F& f) {
  Rates best;
  for (int round = 0; round < 5; ++round) {
    ops::force_gemm_kernel(GemmChoice::kOwn);
    if (round == 0) f();
    best.own = std::max(best.own, rate(f));
    ops::force_gemm_kernel(GemmChoice::kOneDnn);
    if (round == 0) f();
    best.onednn = std::max(best.onednn, rate(f));
  }
  ops::force_gemm_kernel(GemmChoice::kAuto);
  return {best.own * flop / 1e9, best.onednn * flop / 1e9};
}

void print(const char* name, std::int64_t m, std::int64_t n, std::int64_t k, const Rates& rates) {
  std::printf("%-12s %6lld %6lld %6lld   own %7.1f   onednn %7.1f   ratio %.2f\n", name,
              static_cast<long long>(m), static_cast<long long>(n), static_cast<long long>(k),
              rates.own, rates.onednn, rates.own / rates.onednn);
  std::fflush(stdout);
}

// Independent multiply-adds on registers alone, on every thread; 2 flop each.
template <class Vector, int kBytes>
__attribute__((always_inline)) inline double fma_chain(std::int64_t count) {
  constexpr int kChains = 12;
  Vector sums[kChains] = {};
  Vector a = Vector{} + 0.999F;
  Vector b = Vector{} + 1e-3F;
  // Chains that the compiler must not find equal, or constant.
  for (Vector& sum : sums) __asm__ volatile("" : "+v"(sum));
  __asm__ volatile("" : "+v"(a), "+v"(b));
  for (std::int64_t i = 0; i < count; ++i) {
    for (int c = 0; c < kChains; ++c) sums[c] = sums[c] * a + b;
  }
  for (int c = 1; c < kChains; ++c) sums[0] += sums[c];
  __asm__ volatile("" : : "v"(sums[0]));
  return 2.0 * kChains * (kBytes / 4) * static_cast<double>(count);
}
typedef float Vector16 __attribute__((vector_size(16)));
typedef float Vector32 __attribute__((vector_size(32)));
typedef float Vector64 __attribute__((vector_size(64)));
double fma_baseline(std::int64_t n) { return fma_chain<Vector16, 16>(n); }
__attribute__((target("arch=x86-64-v3"))) double fma_avx2(std::int64_t n) {
  return fma_chain<Vector32, 32>(n);
}
__attribute__((target("arch=x86-64-v4"))) double fma_avx512(std::int64_t n) {
  return fma_chain<Vector64, 64>(n);
}

// GFLOP/s.
double fma_peak() {
  double best = 0.0;
  for (int round = 0; round < 20; ++round) {
    constexpr std::int64_t kCount = 200'000;
    const int threads = ops::available_threads();
    std::vector<double> flop(static_cast<std::size_t>(threads));
    const auto start = Clock::now();
    ops::parallel_for(threads, [&](std::int64_t thread) {
      flop[static_cast<std::size_t>(thread)] = cpu_isa() == CpuIsa::kAvx512 ? fma_avx512(kCount)
                                               : cpu_isa() == CpuIsa::kAvx2 ? fma_avx2(kCount)
                                                                            : fma_baseline(kCount);
    });
    const double seconds = seconds_since(start);
    double total = 0.0;
    for (double f : flop) total += f;
    best = std::max(best, total / seconds / 1e9);
  }
  return best;
}

void dense(GemmLayout layout, std::int64_t m, std::int64_t n, std::int64_t k) {
  const Tensor a = Tensor::zeros({m * k}, DType::kFloat32);
  const Tensor b = Tensor::zeros({k * n}, DType::kFloat32);
  const Tensor c = Tensor::zeros({m, n}, DType::kFloat32);
  const auto run = [&] {
    switch (layout) {
      case GemmLayout::kNN:
        ops::gemm_nn({}, a.view().reshape({m, k}), b.view().reshape({k, n}), c);
        break;
      case GemmLayout::kNT:
        ops::gemm_nt({}, a.view().reshape({m, k}), b.view().reshape({n, k}), c);
        break;
      case GemmLayout::kTN:
        ops::gemm_tn({}, a.view().reshape({k, m}), b.view().reshape({k, n}), c);
        break;
    }
  };
  constexpr const char* kNames[] = {"NN", "NT", "TN"};
  print(kNames[static_cast<int>(layout)], m, n, k,
        compare(2.0 * static_cast<double>(m * n * k), run));
}

// `groups` experts with `rows` rows in all, their shares falling linearly from 1.5 to 0.5 of the
// mean.
void grouped(GemmLayout layout, std::int64_t groups, std::int64_t rows, std::int64_t n,
             std::int64_t k) {
  std::vector<std::int64_t> offsets{0};
  for (std::int64_t g = 1; g <= groups; ++g) {
    const double part = static_cast<double>(g) / static_cast<double>(groups);
    offsets.push_back(
        static_cast<std::int64_t>(static_cast<double>(rows) * part * (1.5 - part / 2)));
  }
  offsets.back() = rows;
  const Tensor x = Tensor::zeros({rows, k}, DType::kFloat32);
  const Tensor y = Tensor::zeros({rows, n}, DType::kFloat32);
  const Tensor w = Tensor::zeros({groups, n, k}, DType::kFloat32);
  const auto run = [&] {
    switch (layout) {
      case GemmLayout::kNN: ops::grouped_gemm_nn({}, y, offsets, w, x); break;
      case GemmLayout::kNT: ops::grouped_gemm_nt({}, x, offsets, w, y); break;
      case GemmLayout::kTN: ops::grouped_gemm_tn({}, y, offsets, x, w); break;
    }
  };
  constexpr const char* kNames[] = {"grouped NN", "grouped NT", "grouped TN"};
  std::printf("%3lld x ", static_cast<long long>(groups));
  print(kNames[static_cast<int>(layout)], rows, n, k,
        compare(2.0 * static_cast<double>(rows * n * k), run));
}

void all_shapes() {
  constexpr GemmLayout kLayouts[] = {GemmLayout::kNT, GemmLayout::kNN, GemmLayout::kTN};
  constexpr std::int64_t kWeights[][2] = {{256, 256},  {256, 512},  {512, 256},  {512, 1024},
                                          {1024, 512}, {2048, 768}, {2048, 2816}};
  for (GemmLayout layout : kLayouts) {
    for (const auto& [n, k] : kWeights) {
      for (std::int64_t tokens : {1, 8, 32, 128, 512, 2048}) {
        if (layout == GemmLayout::kTN) {
          dense(layout, n, k, tokens);
        } else {
          dense(layout, tokens, n, k);
        }
      }
    }
    dense(layout, 2048, 8, 512);  // a router
  }
  for (GemmLayout layout : kLayouts) {
    grouped(layout, 8, 8192, 2048, 512);
    grouped(layout, 64, 32768, 512, 512);
    grouped(layout, 64, 2048, 1024, 256);
    grouped(layout, 16, 64, 1024, 256);
  }
}

}  // namespace
}  // namespace witan

int main(int argc, char** argv) {
  if (argc > 1) witan::seconds_per_measurement = std::atof(argv[1]);
  if (argc > 2) {
    for (auto isa : {witan::CpuIsa::kBaseline, witan::CpuIsa::kAvx2, witan::CpuIsa::kAvx512}) {
      if (std::string_view(argv[2]) == name_of(isa)) witan::force_cpu_isa(isa);
    }
  }
  std::printf("%s, %d threads, FMA peak %.1f GFLOP/s\n", witan::ops::describe_kernels().c_str(),
              witan::ops::available_threads(), witan::fma_peak());
  if (argc > 5) {
    for (auto layout :
         {witan::ops::GemmLayout::kNT, witan::ops::GemmLayout::kNN, witan::ops::GemmLayout::kTN}) {
      witan::dense(layout, std::atoi(argv[3]), std::atoi(argv[4]), std::atoi(argv[5]));
    }
    return 0;
  }
  witan::all_shapes();
}
