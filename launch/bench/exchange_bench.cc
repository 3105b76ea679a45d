#include "launch/bench/exchange_bench.h"

#include <memory>
#include <numeric>

#include "core/ops/elementwise.h"
#include "core/tensor/tensor.h"
#include "launch/bench/forced_load.h"
#include "launch/bench/layer_run.h"

namespace witan {
namespace {

constexpr const char* kSection = "exchange";
constexpr const char* kOurs = "dispatch and combine";
constexpr const char* kPlan = "plan";
constexpr const char* kRaw = "MPI_Alltoallv there and back";

class ExchangeBench {
 public:
  ExchangeBench(const BenchSession& session, const LayerShape& shape)
      : session_(session),
        shape_(shape),
        mesh_(session.mpi, session.world.size(), 0.0),
        exchange_(exchange_of(shape.run, mesh_, Device{})),
        tokens_(local_tokens(shape, mesh_)),
        load_({shape.experts(), shape.top_k()}, tokens_,
              static_cast<std::uint64_t>(mesh_.world_rank())),
        arena_(session.runtime.ctx.device),
        rows_(session.runtime.ctx.device, "rows", exchange_->memory()),
        indices_({tokens_, shape.top_k()}, DType::kInt32),
        x_(rows_.allocate({tokens_, shape.model().d_model()}, DType::kFloat32)),
        y_(rows_.allocate({tokens_, shape.model().d_model()}, DType::kFloat32)) {
    ops::fill(session.runtime.ctx, x_, 0.0);
    ops::fill(session.runtime.ctx, y_, 0.0);
    load_.on_route(0, {}, indices_, shape.experts());
    count_choices();
  }

  std::vector<BenchResult> operator()() {
    Stopwatch stopwatch = session_.stopwatch();
    for (int turn = -1; turn < session_.repeat; ++turn) {
      if (turn == 0) stopwatch = session_.stopwatch();  // the first one warmed up
      arena_.reset();
      stopwatch.time(kPlan, [&] { make_plan(); });
      stopwatch.time(kOurs, [&] { there_and_back(); });
      stopwatch.time(kRaw, [&] { raw(); });
    }
    const Spread raw_seconds = stopwatch.seconds(kRaw);
    BenchResult plan{kSection, subject(), kPlan, stopwatch.seconds(kPlan)};
    BenchResult ours{kSection, subject(), kOurs, stopwatch.seconds(kOurs)};
    BenchResult raw{kSection, subject(), kRaw, raw_seconds};
    const double row = static_cast<double>(shape_.model().d_model() * 2) * sizeof(float);
    ours.bytes =
        sum_over_ranks(session_.world, row * static_cast<double>(to_others(plan_.rows_to)));
    raw.bytes = sum_over_ranks(session_.world, row * static_cast<double>(to_others(send_)));
    ours.ratios.push_back({"against raw", raw_seconds.median / ours.seconds.median, 1.3});
    return {plan, ours, raw};
  }

 private:
  static std::int64_t local_tokens(const LayerShape& shape, const Mesh& mesh) {
    return shape.tokens * (mesh.world_rank() + 1) / mesh.world_size() -
           shape.tokens * mesh.world_rank() / mesh.world_size();
  }

  // Rows to and from each rank with one row a choice, and buffers for them.
  void count_choices() {
    const int ranks = mesh_.world_size();
    send_.assign(static_cast<std::size_t>(ranks), 0);
    recv_.assign(static_cast<std::size_t>(ranks), 0);
    const std::int64_t local = shape_.experts() / ranks;
    for (std::size_t e = 0; e < load_.counts().size(); ++e) {
      send_[e / static_cast<std::size_t>(local)] += load_.counts()[e];
    }
    session_.world.all_to_all(view_of(send_.data(), {ranks}), view_of(recv_.data(), {ranks}))
        .wait();
    const std::int64_t d = shape_.model().d_model();
    const auto sum = [](const std::vector<std::int64_t>& rows) {
      return std::accumulate(rows.begin(), rows.end(), std::int64_t{0});
    };
    sent_ = Tensor::zeros({sum(send_), d}, DType::kFloat32);
    received_ = Tensor::zeros({sum(recv_), d}, DType::kFloat32);
  }

  void make_plan() {
    exchange_->plan(session_.runtime.ctx, indices_, shape_.experts(), {}, arena_, plan_);
  }

  void there_and_back() {
    const Context& ctx = session_.runtime.ctx;
    exchange_->dispatch(ctx, plan_, x_, arena_);
    const TensorView out = exchange_->combine_input(plan_, y_, arena_);
    exchange_->combine(ctx, plan_, out, y_);
  }

  void raw() {
    const std::int64_t d = shape_.model().d_model();
    const auto floats = [](const Tensor& tensor) {
      return std::span<float>{tensor.as<float>(), static_cast<std::size_t>(tensor.view().size())};
    };
    session_.raw_mpi.all_to_all_v(floats(sent_), send_, floats(received_), recv_, d);
    session_.raw_mpi.all_to_all_v(floats(received_), recv_, floats(sent_), send_, d);
  }

  std::int64_t to_others(const std::vector<std::int64_t>& rows) const {
    return std::accumulate(rows.begin(), rows.end(), std::int64_t{0}) -
           rows[static_cast<std::size_t>(mesh_.world_rank())];
  }

  std::string subject() const {
    return detail::concat(shape_.name(), ", float32, EP ", mesh_.expert_parallel());
  }

  const BenchSession& session_;
  const LayerShape& shape_;
  Mesh mesh_;
  std::unique_ptr<TokenExchange> exchange_;
  std::int64_t tokens_;  // of this rank
  ForcedLoad load_;
  Arena arena_;
  Arena rows_;  // where the exchange wants what is dispatched
  ExchangePlan plan_;
  Tensor indices_;                         // [tokens, top_k]
  TensorView x_, y_;                       // [tokens, d]
  std::vector<std::int64_t> send_, recv_;  // [ranks] rows, one a choice
  Tensor sent_, received_;                 // [rows, d]
};

}  // namespace

std::vector<BenchResult> bench_exchange(const BenchSession& session, const LayerShape& shape) {
  const int ranks = session.world.size();
  if (ranks == 1 || expert_parallel_of(shape, ranks) != ranks) return {};
  return ExchangeBench(session, shape)();
}

}  // namespace witan
