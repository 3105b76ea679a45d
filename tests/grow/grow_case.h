// A model in a folder, and what a model in a folder computes.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "configs/load.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/data/batch_builder.h"
#include "launch/engine.h"

namespace witan::test {

// A run from text, as a config file would be read.
inline configs::RunConfig run_config(const std::string& text) {
  const configs::LoadedConfig loaded = configs::load(text, "test.textproto", {});
  for (const configs::ConfigError& error : loaded.errors) ADD_FAILURE() << error.to_string();
  return loaded.run;
}

// A model without MPI.
struct ModelInMemory {
  ModelInMemory(const configs::ModelConfig& model, DType dtype, std::int64_t tags = 1)
      : engine(model, mesh, runtime_of(dtype), options_of(tags)) {}

  static Runtime runtime_of(DType dtype) {
    Runtime runtime;
    runtime.dtype = dtype;
    return runtime;
  }
  static Engine::Options options_of(std::int64_t tags) {
    Engine::Options options;
    options.tags = tags;
    return options;
  }

  Mesh mesh = Mesh::self();
  Engine engine;
};

// Initial weights, and expert biases that matter.
inline void save_model(const configs::RunConfig& run, DType dtype, const std::string& folder) {
  ModelInMemory model(run.model(), dtype);
  ParamStore& params = model.engine.params();
  params.initialize(7);
  for (int id = 0; id < params.table().size(); ++id) {
    if (params.table()[id].trained()) continue;
    const TensorView state = params.value(id);
    dispatch_float(dtype, "expert bias", [&](auto zero) {
      auto* bias = state.as<decltype(zero)>();
      for (std::int64_t e = 0; e < state.size(); ++e) {
        bias[e] = static_cast<decltype(zero)>(0.01 * std::sin(static_cast<double>(3 * e + id)));
      }
    });
  }
  save_checkpoint(folder, run, params, nullptr, {}, model.mesh, 1000);
}

// Logits [sequences, seq_len, vocab] of fixed tokens, all of them of tag `tag`, of the model in
// `folder`.
inline std::vector<double> logits_of(const std::string& folder, DType dtype, int tag = 0,
                                     std::int64_t tags = 1) {
  constexpr std::int64_t kSequences = 3;
  constexpr std::int64_t kSeqLen = 9;
  const configs::ModelConfig config = read_model_config(folder);
  ModelInMemory model(config, dtype, tags);
  load_weights(folder, model.engine.params(), model.mesh);
  BatchBuffers buffers;
  build_batch(
      configs::DataConfig(), kSeqLen, -1, kSequences, 0,
      [&](std::int64_t i, std::span<std::int32_t> window) {
        for (std::size_t t = 0; t < window.size(); ++t) {
          const auto draw = static_cast<std::int64_t>(t) * 11 + i * 5;
          window[t] = static_cast<std::int32_t>(draw % config.vocab_size());
        }
        return tag;
      },
      buffers);
  Transformer& transformer = model.engine.model();
  transformer.forward(buffers.batch);
  const Tensor logits({buffers.batch.rows(), config.vocab_size()}, dtype);
  transformer.logits(0, buffers.batch.rows(), logits);
  std::vector<double> values;
  dispatch_float(dtype, "logits", [&](auto zero) {
    const auto* z = logits.view().template as<decltype(zero)>();
    values.assign(z, z + logits.view().size());
  });
  return values;
}

// The largest difference, relative to the largest value.
inline double distance(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size() || a.empty()) return std::numeric_limits<double>::infinity();
  double difference = 0.0;
  double largest = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference = std::max(difference, std::abs(a[i] - b[i]));
    largest = std::max(largest, std::abs(a[i]));
  }
  return difference / largest;
}

}  // namespace witan::test
