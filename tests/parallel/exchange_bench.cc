// Dispatch and combine against a raw MPI_Alltoallv of the same rows, one thread a rank:
//   mpirun -n 2 parallel_exchange_bench [repeats]
// All sides take turns inside one loop; medians, and the best of each beside them. "raw" moves rows
// that are packed already and adds nothing up; "packed" gathers the rows, moves them and, for the
// combine, sums them: what an exchange made of MPI has to do.
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/rng.h"
#include "core/ops/permute.h"
#include "parallel/ep_token_exchange.h"
#include "parallel/mesh.h"

namespace witan {
namespace {

struct Load {
  const char* name;
  std::int64_t tokens, d, experts, top_k;  // tokens of each rank
  double skew;  // 0: balanced; 1: the experts of the first rank get nearly everything
};
constexpr Load kLoads[] = {
    {"1024 tokens, d 512, 8 experts top-2", 1024, 512, 8, 2, 0.0},
    {"2048 tokens, d 512, 8 experts top-2", 2048, 512, 8, 2, 0.0},
    {"2048 tokens, d 512, 8 experts top-2, skewed", 2048, 512, 8, 2, 0.8},
    {"2048 tokens, d 512, 64 experts top-8", 2048, 512, 64, 8, 0.0},
    {"512 tokens, d 256, 64 experts top-2", 512, 256, 64, 2, 0.0},
    {"512 tokens, d 256, 64 experts top-2, skewed", 512, 256, 64, 2, 0.8},
    {"16384 tokens, d 1024, 8 experts top-2", 16384, 1024, 8, 2, 0.0},
};

std::vector<std::int32_t> choose(const Load& load, int rank) {
  const Random random(3, "bench routing");
  std::vector<std::int32_t> indices;
  const auto experts = static_cast<std::uint64_t>(load.experts);
  for (std::int64_t t = 0; t < load.tokens; ++t) {
    const auto at = static_cast<std::uint64_t>((rank * load.tokens + t) * 4);
    std::uint64_t first = random.below(at, experts);
    if (random.uniform(at + 1) < load.skew) first = random.below(at + 2, experts / 4);
    const std::uint64_t step = 2 * random.below(at + 3, experts / 2) + 1;
    for (std::int64_t j = 0; j < load.top_k; ++j)
      indices.push_back(
          static_cast<std::int32_t>((first + static_cast<std::uint64_t>(j) * step) % experts));
  }
  return indices;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// What takes turns; seconds of the slowest rank.
class Contest {
 public:
  void add(const char* name, std::function<void()> run) {
    sides_.push_back({name, std::move(run), {}});
  }
  void run(int repeats) {
    for (int i = -2; i < repeats; ++i) {  // the first two grow buffers
      for (Side& side : sides_) {
        MPI_Barrier(MPI_COMM_WORLD);
        const auto start = std::chrono::steady_clock::now();
        side.run();
        double seconds =
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        MPI_Allreduce(MPI_IN_PLACE, &seconds, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
        if (i >= 0) side.seconds.push_back(seconds);
      }
    }
  }
  // Each side's rate relative to the first one's.
  void print(double bytes) const {
    const double first = median(sides_.front().seconds);
    for (const Side& side : sides_) {
      const double seconds = median(side.seconds);
      std::printf("  %-34s %9.0f us %7.2f GB/s   x %.2f (best x %.2f)\n", side.name, seconds * 1e6,
                  bytes / seconds * 1e-9, first / seconds, best(sides_.front()) / best(side));
    }
  }

 private:
  struct Side {
    const char* name;
    std::function<void()> run;
    std::vector<double> seconds;
  };
  static double best(const Side& side) {
    return *std::min_element(side.seconds.begin(), side.seconds.end());
  }
  std::vector<Side> sides_;
};

// An exchange and the plan of one load.
struct Exchange {
  Exchange(const Mesh& mesh, const ExchangeOptions& options, const Load& load,
           const std::vector<std::int32_t>& indices)
      : exchange(make_token_exchange(mesh.expert(), options)),
        rows_arena(Device{}, "rows", exchange->memory()) {
    exchange->plan({}, view_of(indices.data(), {load.tokens, load.top_k}), load.experts, {},
                   plan_arena, plan);
  }
  void dispatch(const TensorView& x) {
    arena.reset();
    exchange->dispatch({}, plan, x, arena);
  }
  // From where the other ranks see it.
  TensorView shown(const TensorView& x) {
    const TensorView copy = rows_arena.allocate(x.shape, x.dtype);
    std::memcpy(copy.data, x.data, x.bytes());
    return copy;
  }
  void combine(const TensorView& y) {
    arena.reset();
    const TensorView rows = exchange->combine_input(plan, y, arena);
    exchange->combine({}, plan, rows, y);
  }
  std::unique_ptr<TokenExchange> exchange;
  ExchangePlan plan;
  Arena plan_arena, arena, rows_arena;
};

// MPI alone.
class Raw {
 public:
  Raw(const ExchangePlan& plan, std::int64_t d) : plan_(plan), d_(d) {
    set(plan.rows_to, to_, to_begin_, sent_);
    set(plan.rows_from, from_, from_begin_, received_);
  }
  void dispatch() { move(sent_, to_, to_begin_, received_, from_, from_begin_); }
  void combine() { move(received_, from_, from_begin_, sent_, to_, to_begin_); }
  void packed_dispatch(const TensorView& x) {
    ops::permute({}, x, plan_.token_of_sent_row, view(sent_));
    dispatch();
  }
  void combine_and_sum(const TensorView& y) {
    combine();
    ops::unpermute_sum({}, view(sent_), plan_.sent_rows_of_token_begin, plan_.sent_rows_of_token,
                       y);
  }
  double bytes() const { return static_cast<double>(received_.size() * sizeof(float)); }

 private:
  TensorView view(std::vector<float>& rows) const {
    return view_of(rows.data(), {static_cast<std::int64_t>(rows.size()) / d_, d_});
  }
  void set(const std::vector<std::int64_t>& rows, std::vector<int>& counts,
           std::vector<int>& begins, std::vector<float>& buffer) const {
    int begin = 0;
    for (const std::int64_t count : rows) {
      begins.push_back(begin);
      counts.push_back(static_cast<int>(count * d_));
      begin += counts.back();
    }
    buffer.assign(static_cast<std::size_t>(begin), 1.0F);
  }
  static void move(const std::vector<float>& send, const std::vector<int>& counts,
                   const std::vector<int>& begins, std::vector<float>& recv,
                   const std::vector<int>& recv_counts, const std::vector<int>& recv_begins) {
    MPI_Alltoallv(send.data(), counts.data(), begins.data(), MPI_FLOAT, recv.data(),
                  recv_counts.data(), recv_begins.data(), MPI_FLOAT, MPI_COMM_WORLD);
  }
  const ExchangePlan& plan_;
  std::int64_t d_;
  std::vector<int> to_, to_begin_, from_, from_begin_;
  std::vector<float> sent_, received_;
};

void bench(const Mesh& mesh, const Load& load, int repeats) {
  const std::vector<std::int32_t> indices = choose(load, mesh.world_rank());
  const std::vector<float> x(static_cast<std::size_t>(load.tokens * load.d), 1.0F);
  std::vector<float> y(x.size());
  const TensorView xs = view_of(x.data(), {load.tokens, load.d});
  const TensorView ys = view_of(y.data(), {load.tokens, load.d});
  ExchangeOptions options{.node = mesh.node()};
  options.transport = ExchangeTransport::kSharedWindows;
  Exchange windows(mesh, options, load, indices);
  options.transport = ExchangeTransport::kAllToAll;
  Exchange all_to_all(mesh, options, load, indices);
  options.format = ops::WireFormat::kBfloat16;
  Exchange narrow(mesh, options, load, indices);
  options = {.rows_per = RowsPer::kChoice, .node = mesh.node()};
  Exchange choices(mesh, options, load, indices);
  Raw raw(windows.plan, load.d);

  Contest dispatch;
  dispatch.add("raw MPI_Alltoallv", [&] { raw.dispatch(); });
  dispatch.add("packed MPI_Alltoallv", [&] { raw.packed_dispatch(xs); });
  dispatch.add("dispatch, shared windows",
               [&, shown = windows.shown(xs)] { windows.dispatch(shown); });
  dispatch.add("dispatch, windows, rows elsewhere", [&] { windows.dispatch(xs); });
  dispatch.add("dispatch, all-to-all", [&] { all_to_all.dispatch(xs); });
  dispatch.add("dispatch, all-to-all, bfloat16", [&] { narrow.dispatch(xs); });
  dispatch.add("dispatch, windows, row per choice",
               [&, shown = choices.shown(xs)] { choices.dispatch(shown); });
  dispatch.run(repeats);
  Contest combine;
  combine.add("raw MPI_Alltoallv", [&] { raw.combine(); });
  combine.add("MPI_Alltoallv and sum", [&] { raw.combine_and_sum(ys); });
  combine.add("combine, shared windows", [&] { windows.combine(ys); });
  combine.add("combine, all-to-all", [&] { all_to_all.combine(ys); });
  combine.add("combine, all-to-all, bfloat16", [&] { narrow.combine(ys); });
  combine.add("combine, windows, row per choice", [&] { choices.combine(ys); });
  combine.run(repeats);
  if (mesh.world_rank() != 0) return;
  std::printf("%s, %d ranks: rank 0 gets %lld rows for %lld slots\n", load.name, mesh.world_size(),
              static_cast<long long>(windows.plan.rows),
              static_cast<long long>(windows.plan.slots));
  dispatch.print(raw.bytes());
  combine.print(raw.bytes());
  std::fflush(stdout);
}

}  // namespace
}  // namespace witan

int main(int argc, char** argv) {
  const witan::MpiEnvironment mpi(&argc, &argv);
  const witan::Mesh mesh(mpi, mpi.size(), 60.0);
  const int repeats = argc > 1 ? std::atoi(argv[1]) : 41;
  for (const witan::Load& load : witan::kLoads) witan::bench(mesh, load, repeats);
}
