#include "launch/bench/decode_bench.h"

#include <algorithm>
#include <optional>

#include "core/base/rng.h"
#include "core/ops/elementwise.h"
#include "core/ops/limits.h"
#include "launch/bench/device_product.h"
#include "launch/bench/phase_times.h"
#include "launch/data/batch_builder.h"
#include "launch/engine.h"

namespace witan {
namespace {

constexpr const char* kSection = "decode";
constexpr const char* kToken = "one token";
constexpr const char* kDenseActive = "one token, dense of equal active parameters";
constexpr const char* kDenseTotal = "one token, dense of equal parameters";
constexpr const char* kRead = "read as much memory as the weights";
constexpr const char* kCopy = "copy half as much memory as the weights";
constexpr std::int64_t kTokensPerTurn = 16;
constexpr double kOfReadBandwidth = 0.7;  // that a CPU should reach

// Moves so many bytes, the yardstick of decoding: reads them on the CPU; on a GPU copies half as
// many.
class MemoryProbe {
 public:
  MemoryProbe(const Context& ctx, std::int64_t floats) : ctx_(ctx) {
    if (ctx.device.is_cpu()) {
      memory_ = Tensor::zeros({floats}, DType::kFloat32);
      return;
    }
    memory_ =
        Tensor({std::max<std::int64_t>(floats / 2, 1) * 2}, DType::kFloat32, ctx.device, "copy");
    fill_with_noise(ctx, memory_);
  }
  const char* name() const { return ctx_.device.is_cpu() ? kRead : kCopy; }
  const char* limit() const {
    return ctx_.device.is_cpu() ? "of read bandwidth" : "of copy bandwidth";
  }
  double bytes() const { return static_cast<double>(memory_.view().bytes()); }
  void run() const {
    const TensorView& all = memory_;
    if (ctx_.device.is_cpu()) {
      ops::read_memory({all.as<float>(), static_cast<std::size_t>(all.size())}, 1);
    } else {
      ops::copy(ctx_, all.slice_rows(0, all.size() / 2),
                all.slice_rows(all.size() / 2, all.size() / 2));
    }
  }

 private:
  Context ctx_;
  Tensor memory_;
};

// Elements of the weights that one token needs: of the experts the chosen ones, of the embedding
// one row.
double active_weights(const configs::ModelConfig& model, const ParamTable& table) {
  const ModelDims dims(model);
  double active = 0.0;
  for (const ParamInfo& info : table.params()) {
    const auto size = static_cast<double>(info.shape.size());
    if (info.role == ParamRole::kExpert) {
      active += size * static_cast<double>(dims.top_k) / static_cast<double>(dims.experts);
    } else if (info.name == "embedding" && !model.tied_head()) {
      active += static_cast<double>(dims.d_model);
    } else {
      active += size;
    }
  }
  return active;
}

std::int64_t parameters_of(const configs::ModelConfig& model) {
  return ParamTable(model).total_parameters();
}

// The same model without experts, every layer so wide that it has about so many parameters.
configs::ModelConfig dense_of(const configs::ModelConfig& sparse, std::int64_t parameters) {
  configs::ModelConfig model = sparse;
  model.clear_moe();
  model.mutable_ffn()->set_d_ff(1);
  const std::int64_t narrow = parameters_of(model);
  const std::int64_t column = 3 * model.d_model() * model.layers();
  model.mutable_ffn()->set_d_ff(1 + std::max<std::int64_t>(0, (parameters - narrow) / column));
  return model;
}

class Decoding {
 public:
  Decoding(const configs::ModelConfig& config, const Runtime& runtime)
      : ctx_(runtime.ctx),
        mesh_(alone_on(ctx_)),
        engine_(config, mesh_, runtime, {}),
        capacity_(std::min<std::int64_t>(config.max_seq_len(), 256)),
        cache_(engine_.model().make_cache(1, capacity_)),
        logits_({1, config.vocab_size()}, runtime.dtype, ctx_.device),
        random_(1, "bench", "decode") {
    engine_.params().initialize(1);
    weights_ = bytes_of(ParamGroup::kDense) + bytes_of(ParamGroup::kExpert);
    active_ = active_weights(config, engine_.table()) *
              static_cast<double>(
                  size_of(engine_.params().rounded_bytes() > 0 ? DType::kBfloat16 : runtime.dtype));
  }

  // One token after the other behind a context that starts anew when it is full.
  void tokens(std::int64_t count) {
    Transformer& model = engine_.model();
    for (std::int64_t i = 0; i < count; ++i) {
      if (cache_.lengths.front() == capacity_) cache_.lengths.front() = 0;
      buffers_.tokens = {static_cast<std::int32_t>(
          random_.below(drawn_++, static_cast<std::uint64_t>(logits_.view().cols())))};
      buffers_.positions = {cache_.lengths.front()};
      Batch& batch = buffers_.batch = {};
      batch.sequences = 1;
      batch.seq_len = 1;
      batch.tokens = view_of(buffers_.tokens.data(), {1});
      batch.positions = view_of(buffers_.positions.data(), {1});
      batch.tags = view_of(&tag_, {1});
      place_batch(ctx_, buffers_);
      model.forward_cached(batch, cache_);
      model.logits(0, 1, logits_);
    }
  }

  double weight_bytes() const { return weights_; }
  double active_bytes() const { return active_; }

 private:
  double bytes_of(ParamGroup group) {
    return static_cast<double>(engine_.params().flat_values(group).bytes());
  }

  Context ctx_;
  Mesh mesh_;
  Engine engine_;
  std::int64_t capacity_;
  KvCache cache_;
  Tensor logits_;  // [1, vocab]
  Random random_;
  std::uint64_t drawn_ = 0;
  BatchBuffers buffers_;
  std::int32_t tag_ = 0;
  double weights_ = 0.0, active_ = 0.0;
};

Spread of_one_token(Spread seconds) {
  for (double* value : {&seconds.median, &seconds.low, &seconds.high}) *value /= kTokensPerTurn;
  return seconds;
}

}  // namespace

std::vector<BenchResult> bench_decode(const BenchSession& session, const StepShape& shape) {
  const configs::ModelConfig& model = shape.run.model();
  Decoding decoding(model, session.runtime);
  std::optional<Decoding> active, total;
  if (model.has_moe()) {
    const ParamTable table(model);
    active.emplace(dense_of(model, table.active_parameters()), session.runtime);
    total.emplace(dense_of(model, table.total_parameters()), session.runtime);
  }
  const MemoryProbe memory(session.runtime.ctx,
                           static_cast<std::int64_t>(decoding.weight_bytes() / sizeof(float)));
  memory.run();
  decoding.tokens(kTokensPerTurn);
  PhaseTimes phases;
  Stopwatch stopwatch = session.stopwatch();
  for (int turn = 0; turn < session.repeat; ++turn) {
    stopwatch.time(memory.name(), [&] { memory.run(); });
    stopwatch.time(kToken, [&] { decoding.tokens(kTokensPerTurn); });
    // Of what a GPU does they would show the enqueuing.
    if (!session.on_cuda()) phases.record([&] { decoding.tokens(kTokensPerTurn); });
    if (!active) continue;
    stopwatch.time(kDenseActive, [&] { active->tokens(kTokensPerTurn); });
    stopwatch.time(kDenseTotal, [&] { total->tokens(kTokensPerTurn); });
  }

  const std::string subject =
      detail::concat(shape.name, ", ", session.precision(), ", each rank by itself");
  const auto result_of = [&](const char* what, const Decoding& of) {
    BenchResult token{kSection, subject, what, of_one_token(stopwatch.seconds(what))};
    token.bytes = sum_over_ranks(session.world, of.active_bytes());
    token.tokens = session.world.size();
    return token;
  };
  BenchResult limit{kSection, subject, memory.name(), stopwatch.seconds(memory.name())};
  limit.bytes = sum_over_ranks(session.world, memory.bytes());
  BenchResult token = result_of(kToken, decoding);
  token.ratios.push_back(
      {memory.limit(), token.gigabytes_per_second() / limit.gigabytes_per_second()});
  if (!session.on_cuda()) token.ratios.back().bar = kOfReadBandwidth;
  std::vector<BenchResult> results{limit, token};
  for (const PhaseTimes::Phase& phase : phases.phases()) {
    results.push_back({kSection, subject, "phase: " + phase.name, of_one_token(phase.seconds)});
    results.back().ratios.push_back({"of the phases", phase.share});
  }
  if (!active) return results;
  const BenchResult dense_active = result_of(kDenseActive, *active);
  const BenchResult dense_total = result_of(kDenseTotal, *total);
  std::vector<Ratio>& ratios = results[1].ratios;
  ratios.push_back({"of the speed of the dense model of equal active parameters",
                    dense_active.seconds.median / token.seconds.median});
  ratios.push_back({"of the speed of the dense model of equal parameters",
                    dense_total.seconds.median / token.seconds.median});
  results.insert(results.end(), {dense_active, dense_total});
  return results;
}

}  // namespace witan
