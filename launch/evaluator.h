// Evaluation: the mean loss of every position of the validation data, in non-overlapping windows.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "configs/schema/run.pb.h"
#include "launch/data/sample_stream.h"
#include "launch/data/tokenizer.h"
#include "launch/engine.h"
#include "launch/metrics/step_metrics.h"
#include "launch/routing_probe.h"

namespace witan {

struct EvalResult {
  std::string name;                // of the dataset
  std::int64_t tokens = 0;         // predicted positions
  std::int64_t bytes = 0;          // of text they stand for; 0 if the tokenizer is not known
  double loss = 0.0;               // nats per token
  double nats_per_byte = 0.0;      // 0 if `bytes` is
  std::vector<double> mtp_losses;  // of multi-token prediction, nats per token at each depth
  double seconds = 0.0;
  std::vector<LayerMetrics> layers;  // load over the whole set
  std::vector<double> churn;         // per layer of the model; empty without a probe
};

// `max_windows` per dataset; 0: all. `tokenizer` may be null. With a `probe`, the first micro-batch
// of each rank in the first dataset is the probe set. The windows are dealt to all ranks;
// collective. The result is the same on every rank.
std::vector<EvalResult> evaluate(Engine& engine, const SampleStream& stream,
                                 const configs::DataConfig& data, std::int64_t micro_batch,
                                 std::int64_t max_windows, const Tokenizer* tokenizer,
                                 std::int32_t end_of_document, RoutingProbe* probe = nullptr);

}  // namespace witan
