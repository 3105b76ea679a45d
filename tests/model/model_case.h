// Small models for the tests of core/model: a config from text, parameters of order one, batches,
// and central differences over views.
#pragma once

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/base/rng.h"
#include "core/model/batch.h"
#include "core/model/local_token_exchange.h"
#include "core/model/model_context.h"
#include "core/model/param_store.h"
#include "tests/support/gradient_check.h"
#include "tests/support/threads.h"

namespace witan::test {

inline configs::ModelConfig model_config(const std::string& text) {
  configs::ModelConfig config;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &config)) << text;
  return config;
}

inline std::vector<double> normal_values(std::int64_t count, std::uint64_t seed,
                                         double scale = 1.0) {
  const Random random(seed, "model_case");
  std::vector<double> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = scale * random.normal(i);
  return values;
}

inline TensorView view(std::vector<double>& values, const Shape& shape) {
  EXPECT_EQ(static_cast<std::int64_t>(values.size()), shape.size());
  return view_of(values.data(), shape);
}

inline std::vector<double> copy_of(const TensorView& tensor) {
  const double* data = tensor.as<double>();
  return {data, data + tensor.size()};
}

// Parameters in float64 (with gradients) and what a layer needs around them, on one rank.
struct Model {
  explicit Model(const configs::ModelConfig& model, Recompute recompute = Recompute::kNone)
      : config(model), table(config), params(table, layout(config), DType::kFloat64, {}, true) {
    context = {{}, &exchange, &arenas, nullptr, recompute};
    randomize();
  }

  static ParamStore::Layout layout(const configs::ModelConfig& model) {
    ParamStore::Layout layout;
    layout.local_experts = model.has_moe() ? model.moe().experts() : 0;
    return layout;
  }

  // Every parameter random, also biases and norm weights, which start at constants otherwise.
  void randomize() {
    for (int id = 0; id < table.size(); ++id) {
      const ParamInfo& info = table[id];
      const TensorView value = params.value(id);
      const double scale = info.shape.rank() == 1 ? 0.2 : 0.5;
      const std::vector<double> noise =
          normal_values(value.size(), static_cast<std::uint64_t>(id) + 100, scale);
      const double center = info.init == ParamInit::kOnes ? 1.0 : 0.0;
      for (std::size_t i = 0; i < noise.size(); ++i) value.as<double>()[i] = center + noise[i];
    }
  }

  void zero_gradients() {
    for (const ParamGroup group : {ParamGroup::kDense, ParamGroup::kExpert}) {
      const TensorView flat = params.flat_grads(group);
      std::fill_n(flat.as<double>(), flat.size(), 0.0);
    }
  }

  // Gradients by id; empty for tensors without.
  std::vector<std::vector<double>> gradients() const {
    std::vector<std::vector<double>> all(static_cast<std::size_t>(table.size()));
    for (int id = 0; id < table.size(); ++id) {
      if (table[id].trained()) all[static_cast<std::size_t>(id)] = copy_of(params.grad(id));
    }
    return all;
  }

  ScopedThreads one_thread{1};  // thousands of tiny forwards
  configs::ModelConfig config;
  ParamTable table;
  ParamStore params;
  LocalTokenExchange exchange;
  ModelArenas arenas{Device{}};
  ModelContext context;
};

// Random tokens; the last target of each sequence does not count. With `document_end` > 0 a new
// document begins at that position of every sequence but the first.
struct TokenBatch {
  TokenBatch(std::int64_t sequences, std::int64_t seq_len, std::int64_t vocab,
             std::int64_t document_begin = 0, std::uint64_t seed = 5) {
    const Random random(seed, "tokens");
    for (std::int64_t i = 0; i < sequences * seq_len; ++i) {
      const auto at = static_cast<std::uint64_t>(i);
      const auto bound = static_cast<std::uint64_t>(vocab);
      const std::int64_t position = i % seq_len;
      const bool second = i >= seq_len && document_begin > 0 && position >= document_begin;
      const auto first = static_cast<std::int32_t>(second ? document_begin : 0);
      tokens.push_back(static_cast<std::int32_t>(random.below(2 * at, bound)));
      targets.push_back(position + 1 == seq_len
                            ? -1
                            : static_cast<std::int32_t>(random.below(2 * at + 1, bound)));
      positions.push_back(static_cast<std::int32_t>(position) - first);
      first_key.push_back(first);
      tags.push_back(static_cast<std::int32_t>(i / seq_len % 2));
      batch.loss_tokens += targets.back() >= 0 ? 1 : 0;
    }
    batch.sequences = sequences;
    batch.seq_len = seq_len;
    const Shape rows{sequences * seq_len};
    batch.tokens = view_of(tokens.data(), rows);
    batch.targets = view_of(targets.data(), rows);
    batch.positions = view_of(positions.data(), rows);
    batch.first_key = view_of(first_key.data(), rows);
    batch.tags = view_of(tags.data(), rows);
  }
  TokenBatch(const TokenBatch&) = delete;
  TokenBatch& operator=(const TokenBatch&) = delete;

  std::vector<std::int32_t> tokens, targets, positions, first_key, tags;
  Batch batch;
};

// expect_gradient (tests/support/gradient_check.h) for a tensor in place: every `stride`-th
// element.
inline void expect_gradient_of(const std::string& name, const TensorView& x,
                               const std::vector<double>& gradient,
                               const std::function<double()>& loss, std::size_t stride = 1) {
  constexpr double kStep = 1e-5;
  ASSERT_EQ(static_cast<std::size_t>(x.size()), gradient.size()) << name;
  double largest = 1e-3;  // a gradient that is 0 everywhere is compared absolutely
  for (const double g : gradient) largest = std::max(largest, std::abs(g));
  double* data = x.as<double>();
  for (std::size_t i = 0; i < gradient.size(); i += stride) {
    const double value = data[i];
    data[i] = value + kStep;
    const double above = loss();
    data[i] = value - kStep;
    const double below = loss();
    data[i] = value;
    const double numeric = (above - below) / (2.0 * kStep);
    ASSERT_LE(std::abs(numeric - gradient[i]), kGradientTolerance * largest)
        << name << "[" << i << "]: numeric " << numeric << ", by hand " << gradient[i];
  }
}

// Every trained tensor of the model; `used` says which the loss reads.
inline void expect_parameter_gradients(const Model& model,
                                       const std::vector<std::vector<double>>& gradients,
                                       const std::function<bool(const std::string&)>& used,
                                       const std::function<double()>& loss,
                                       std::size_t stride = 1) {
  for (int id = 0; id < model.table.size(); ++id) {
    const ParamInfo& info = model.table[id];
    if (!info.trained() || !used(info.name)) continue;
    const std::vector<double>& gradient = gradients[static_cast<std::size_t>(id)];
    const bool all_zero =
        std::all_of(gradient.begin(), gradient.end(), [](double g) { return g == 0.0; });
    EXPECT_FALSE(all_zero) << info.name << " has no gradient at all";
    ASSERT_NO_FATAL_FAILURE(
        expect_gradient_of(info.name, model.params.value(id), gradient, loss, stride));
  }
}

}  // namespace witan::test
