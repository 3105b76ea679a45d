#include "launch/bench/device_limits.h"

#include <array>
#include <cstdint>

#include "core/base/cuda/stream_cuda.h"
#include "core/ops/elementwise.h"
#include "core/tensor/tensor.h"
#include "launch/bench/device_product.h"

namespace witan {
namespace {

constexpr const char* kSection = "limits";
constexpr const char* kCopy = "copy memory";
constexpr std::int64_t kCachesCopied = 16;

struct Size {
  const char* name;
  std::int64_t bytes;  // from each rank to each other one
};
constexpr std::array kSizes = {Size{"64 KiB", 1 << 16}, Size{"1 MiB", 1 << 20},
                               Size{"16 MiB", 1 << 24}};

// Of work that is done once before, to warm up.
template <class Work>
Spread seconds_of(const BenchSession& session, const Work& work) {
  Stopwatch stopwatch = session.stopwatch();
  work();
  for (int turn = 0; turn < session.repeat; ++turn) stopwatch.time("work", work);
  return stopwatch.seconds("work");
}

void add_memory(const BenchSession& session, const std::string& subject,
                std::vector<BenchResult>& results) {
  const Context& ctx = session.runtime.ctx;
  const std::int64_t floats = kCachesCopied * cuda::device_properties(ctx.device).l2_bytes /
                              static_cast<std::int64_t>(sizeof(float));
  const Tensor from({floats}, DType::kFloat32, ctx.device, kCopy);
  const Tensor to({floats}, DType::kFloat32, ctx.device, kCopy);
  fill_with_noise(ctx, from);
  results.push_back(
      {kSection, subject, kCopy, seconds_of(session, [&] { ops::copy(ctx, from, to); })});
  results.back().bytes =
      sum_over_ranks(session.world, 2.0 * static_cast<double>(from.view().bytes()));
}

void add_product(const BenchSession& session, const std::string& subject, DType dtype,
                 Products products, std::vector<BenchResult>& results) {
  Context ctx = session.runtime.ctx;
  ctx.products = products;
  const DeviceProduct product(ctx, dtype);
  results.push_back(
      {kSection, subject, product.name(), seconds_of(session, [&] { product.run(); })});
  results.back().flop = sum_over_ranks(session.world, product.flop());
}

void add_all_to_all(const BenchSession& session, const std::string& subject,
                    std::vector<BenchResult>& results) {
  const std::int64_t ranks = session.world.size();
  if (ranks == 1) return;
  const Mesh mesh = session.mesh(1);
  const Context& ctx = session.runtime.ctx;
  for (const Size& size : kSizes) {
    const auto floats = size.bytes / static_cast<std::int64_t>(sizeof(float));
    const Tensor from({(ranks - 1) * floats}, DType::kFloat32, ctx.device, "all-to-all");
    const Tensor to({(ranks - 1) * floats}, DType::kFloat32, ctx.device, "all-to-all");
    fill_with_noise(ctx, from);
    // Nothing to itself: that would be a copy.
    std::vector<std::int64_t> counts(static_cast<std::size_t>(ranks), floats);
    counts[static_cast<std::size_t>(session.world.rank())] = 0;
    const std::string what =
        detail::concat("all-to-all by ", mesh.device_transport(), ", ", size.name);
    const Spread seconds =
        seconds_of(session, [&] { mesh.world().all_to_all_v(from, counts, to, counts).wait(); });
    results.push_back({kSection, subject, what, seconds});
    results.back().bytes =
        sum_over_ranks(session.world, static_cast<double>(size.bytes * (ranks - 1)));
  }
}

}  // namespace

std::vector<BenchResult> bench_device_limits(const BenchSession& session) {
  const std::string subject = detail::concat(
      session.world.size(), " ranks on ", cuda::device_properties(session.runtime.ctx.device).name);
  std::vector<BenchResult> results;
  add_memory(session, subject, results);
  add_product(session, subject, DType::kFloat32, Products::kFull, results);
  add_product(session, subject, DType::kFloat32, Products::kBfloat16, results);
  add_product(session, subject, DType::kFloat64, Products::kFull, results);
  add_all_to_all(session, subject, results);
  return results;
}

}  // namespace witan
