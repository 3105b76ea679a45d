#include "launch/evaluator.h"

#include <algorithm>
#include <chrono>

#include "core/tensor/tensor.h"
#include "launch/data/batch_builder.h"

namespace witan {
namespace {

// Of a batch in host memory.
std::int64_t bytes_of(const Tokenizer& tokenizer, const Batch& batch) {
  const auto* target = batch.targets.as<std::int32_t>();
  std::int64_t bytes = 0;
  for (std::int64_t i = 0; i < batch.rows(); ++i) {
    if (target[i] >= 0) bytes += tokenizer.bytes(target[i]);
  }
  return bytes;
}

}  // namespace

std::vector<EvalResult> evaluate(Engine& engine, const SampleStream& stream,
                                 const configs::DataConfig& data, std::int64_t micro_batch,
                                 std::int64_t max_windows, const Tokenizer* tokenizer,
                                 std::int32_t end_of_document, RoutingProbe* probe) {
  Transformer& model = engine.model();
  Communicator& world = engine.mesh().world();
  MetricsReducer reducer(model.moe_layers(), model.mtp_stats(), world);
  const Context& ctx = engine.runtime().ctx;
  const Tensor loss({micro_batch * stream.seq_len()}, model.dtype(), ctx.device);
  BatchBuffers buffers;
  std::vector<EvalResult> results;
  for (int set = 0; set < stream.validation_sets(); ++set) {
    const auto start = std::chrono::steady_clock::now();
    for (MoeLayer* layer : model.moe_layers()) layer->stats().clear();
    std::int64_t windows = stream.validation_windows(set);
    if (max_windows > 0) windows = std::min(windows, max_windows);

    double loss_sum = 0.0;
    std::int64_t sums[3] = {0, 0, 0};  // predicted tokens, bytes, rows
    const std::int64_t round = micro_batch * world.size();
    for (std::int64_t base = 0; base < windows; base += round) {
      const std::int64_t begin = std::min(windows, base + world.rank() * micro_batch);
      const std::int64_t count = std::min(windows - begin, micro_batch);
      build_batch(
          data, stream.seq_len(), end_of_document, count, begin - base,
          [&](std::int64_t i, std::span<std::int32_t> window) {
            return stream.validation_sample(set, begin + i, window);
          },
          buffers);
      sums[1] += tokenizer == nullptr ? 0 : bytes_of(*tokenizer, buffers.batch);
      place_batch(ctx, buffers);
      model.set_hook(set == 0 && base == 0 ? probe : nullptr);
      model.forward(buffers.batch, Transformer::Mtp::kYes);
      model.set_hook(nullptr);
      loss_sum += model.losses(buffers.batch, loss.view().slice_rows(0, buffers.batch.rows()));
      model.count_mtp_losses();
      sums[0] += buffers.batch.loss_tokens;
      sums[2] += buffers.batch.rows();
    }
    world.all_reduce(view_of(sums, {3}), ReduceOp::kSum).wait();
    StepMetrics metrics;
    const auto tokens = static_cast<double>(std::max<std::int64_t>(sums[0], 1));
    reducer.reduce(loss_sum, false, tokens, static_cast<double>(std::max<std::int64_t>(sums[2], 1)),
                   {}, metrics);

    EvalResult& result = results.emplace_back();
    result.name = stream.validation_name(set);
    result.tokens = sums[0];
    result.bytes = sums[1];
    result.loss = metrics.loss;
    result.nats_per_byte = sums[1] > 0 ? metrics.loss * tokens / static_cast<double>(sums[1]) : 0.0;
    result.mtp_losses = std::move(metrics.mtp_losses);
    result.layers = std::move(metrics.layers);
    if (set == 0 && probe != nullptr) result.churn = probe->finish(world);
    result.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  return results;
}

}  // namespace witan
