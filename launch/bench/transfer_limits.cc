#include "launch/bench/transfer_limits.h"

#include <array>
#include <cstdint>

#include "core/ops/elementwise.h"
#include "core/tensor/tensor.h"

namespace witan {
namespace {

constexpr const char* kSection = "limits";

struct Size {
  const char* name;
  std::int64_t bytes;  // from each rank to each other one
  int times;           // in one turn
};
constexpr std::array kSizes = {Size{"64 KiB", 1 << 16, 64}, Size{"1 MiB", 1 << 20, 8},
                               Size{"16 MiB", 1 << 24, 1}};

}  // namespace

std::vector<BenchResult> bench_transfers(const BenchSession& session) {
  std::vector<BenchResult> results;
  const std::int64_t ranks = session.world.size();
  if (ranks == 1) return results;
  const std::string subject = detail::concat(ranks, " ranks, between each two of them");
  RawMpi windows(session.mpi);
  for (const Size& size : kSizes) {
    const auto floats = static_cast<std::int64_t>(size.bytes / sizeof(float));
    const Tensor from = Tensor::zeros({ranks * floats}, DType::kFloat32);
    const Tensor to = Tensor::zeros({ranks * floats}, DType::kFloat32);
    const auto count = static_cast<std::size_t>(ranks * floats);
    const std::span<const float> sent{from.as<float>(), count};
    const std::span<float> received{to.as<float>(), count};
    // Nothing to itself: that would be a copy.
    std::vector<std::int64_t> rows(static_cast<std::size_t>(ranks), floats);
    rows[static_cast<std::size_t>(session.world.rank())] = 0;
    windows.open_windows(floats);

    Stopwatch stopwatch = session.stopwatch();
    for (int turn = -1; turn < session.repeat; ++turn) {
      if (turn == 0) stopwatch = session.stopwatch();  // the first one warmed up
      stopwatch.time("mpi", [&] {
        for (int i = 0; i < size.times; ++i) {
          session.raw_mpi.all_to_all_v(sent, rows, received, rows, 1);
        }
      });
      stopwatch.time("windows", [&] {
        for (int i = 0; i < size.times; ++i) {
          windows.write_windows(sent);
          session.world.barrier();
        }
      });
    }
    const auto add = [&](const std::string& what, const Spread& seconds, std::int64_t peers) {
      results.push_back({kSection, subject, what + ", " + size.name, seconds});
      results.back().bytes =
          sum_over_ranks(session.world, static_cast<double>(size.bytes * peers) * size.times);
    };
    add("MPI_Alltoallv", stopwatch.seconds("mpi"), ranks - 1);
    add("shared windows", stopwatch.seconds("windows"), session.mpi.local_size() - 1);
  }
  return results;
}

}  // namespace witan
