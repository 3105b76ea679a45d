#include "tests/checkpoint/checkpoint_case.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <cstring>

#include "core/base/rng.h"

namespace witan {
namespace {

constexpr ParamGroup kGroups[] = {ParamGroup::kDense, ParamGroup::kExpert};

configs::RunConfig parse(const std::string& text) {
  configs::RunConfig run;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &run));
  return run;
}

ParamStore::Layout layout_of(const configs::ModelConfig& model, const Mesh& mesh) {
  ParamStore::Layout layout;
  layout.local_experts = ModelDims(model).experts / mesh.expert_parallel();
  layout.first_expert = layout.local_experts * mesh.expert().rank();
  layout.dense_ranks = mesh.world_size();
  layout.expert_ranks = mesh.replicas();
  return layout;
}

// The pattern of tensor `id` from its element `first` on.
void fill_pattern(const ParamInfo& info, const char* purpose, std::uint64_t seed,
                  std::int64_t first, const TensorView& view) {
  const Random random(seed, purpose, info.name);
  dispatch_float(view.dtype, "test", [&](auto zero) {
    using T = decltype(zero);
    T* data = view.as<T>();
    for (std::int64_t i = 0; i < view.size(); ++i) {
      data[i] = static_cast<T>(random.normal(static_cast<std::uint64_t>(first + i)));
    }
  });
}

std::int64_t first_element(const ParamStore& params, const ParamInfo& info) {
  return info.role == ParamRole::kExpert
             ? info.shape.size() / info.shape[0] * params.layout().first_expert
             : 0;
}

void fill_group(const ParamStore& params, ParamGroup group, const char* purpose, std::uint64_t seed,
                const TensorView& flat) {
  for (const ParamSpan& span : params.spans(group)) {
    const ParamInfo& info = params.table()[span.id];
    fill_pattern(info, purpose, seed, first_element(params, info),
                 flat.slice_rows(span.begin, span.size));
  }
}

void expect_group(const ParamStore& params, ParamGroup group, const char* purpose,
                  std::uint64_t seed, const TensorView& flat) {
  const Tensor expected = Tensor::zeros(flat.shape, flat.dtype);
  fill_group(params, group, purpose, seed, expected);
  for (const ParamSpan& span : params.spans(group)) {
    const TensorView found = flat.slice_rows(span.begin, span.size);
    const TensorView right = expected.view().slice_rows(span.begin, span.size);
    EXPECT_EQ(std::memcmp(found.data, right.data, found.bytes()), 0)
        << purpose << " of " << params.table()[span.id].name;
  }
}

const char* moment_purpose(int moment) { return moment == 0 ? "moment 0" : "moment 1"; }

}  // namespace

configs::RunConfig mixtral_run() {
  return parse(R"(
    name: "mixtral"
    model {
      vocab_size: 31 d_model: 16 layers: 2 max_seq_len: 64
      attention { heads: 4 kv_heads: 2 rope_theta: 50000 }
      moe { experts: 12 d_ff: 10 router { top_k { k: 2 } } }
    })");
}

configs::RunConfig llama_run() {
  return parse(R"(
    name: "llama"
    model {
      vocab_size: 31 d_model: 16 layers: 2 tied_head: true
      norm { eps: 1e-6 }
      attention { heads: 2 head_dim: 6 qkv_bias: true out_bias: true }
      ffn { d_ff: 20 }
    })");
}

configs::RunConfig mixed_run() {
  return parse(R"(
    name: "mixed"
    model {
      vocab_size: 31 d_model: 16 layers: 3
      norm { kind: LAYERNORM }
      attention { heads: 4 qk_norm: true }
      ffn { d_ff: 20 }
      moe {
        experts: 12 d_ff: 6 shared_d_ff: 8 expert_kind: RELU
        router { score: SIGMOID bias: true top_k { k: 3 } }
        pattern { first: 1 }
        balance { expert_bias { rate: 0.01 } }
      }
    }
    optimizer { zero1: true })");
}

RankState::RankState(const configs::RunConfig& run, const Mesh& mesh, DType dtype)
    : table_(run.model()) {
  params_ = std::make_unique<ParamStore>(table_, layout_of(run.model(), mesh), dtype, Device{},
                                         /*with_gradients=*/true);
  optimizer_ = std::make_unique<ShardedAdamW>(run.optimizer(), *params_, mesh, Context{});
}

void RankState::fill(std::uint64_t seed) {
  for (const ParamGroup group : kGroups) {
    fill_group(*params_, group, "weights", seed, params_->flat_values(group));
    const TensorView values = params_->flat_values(group);
    const Tensor flat = Tensor::zeros(values.shape, values.dtype);
    for (int moment = 0; moment < 2; ++moment) {
      fill_group(*params_, group, moment_purpose(moment), seed, flat);
      optimizer_->set_moment(moment, group, flat);
    }
  }
  for (int id = 0; id < table_.size(); ++id) {
    if (!table_[id].trained()) {
      fill_pattern(table_[id], "buffers", seed, 0, params_->value(id));
    }
  }
}

void RankState::expect_weights(std::uint64_t seed) const {
  for (const ParamGroup group : kGroups) {
    expect_group(*params_, group, "weights", seed, params_->flat_values(group));
  }
}

void RankState::expect_buffers(std::uint64_t seed) const {
  for (int id = 0; id < table_.size(); ++id) {
    if (table_[id].trained()) continue;
    const TensorView found = params_->value(id);
    const Tensor right = Tensor::zeros(found.shape, found.dtype);
    fill_pattern(table_[id], "buffers", seed, 0, right);
    EXPECT_EQ(std::memcmp(found.data, right.view().data, found.bytes()), 0) << table_[id].name;
  }
}

void RankState::expect_moments(std::uint64_t seed) {
  for (const ParamGroup group : kGroups) {
    const TensorView values = params_->flat_values(group);
    const Tensor flat = Tensor::zeros(values.shape, values.dtype);
    for (int moment = 0; moment < 2; ++moment) {
      optimizer_->gather_moment(moment, group, flat);
      expect_group(*params_, group, moment_purpose(moment), seed, flat);
    }
  }
}

TrainState some_state(std::int64_t step) {
  TrainState state;
  state.step = step;
  state.samples = step * 16 + 3;
  state.counts["layers.1.expert_bias"] = {1, 0, std::int64_t{1} << 60};
  state.notes["kernels"] = "avx2, \"own\"\nsecond line";
  return state;
}

void expect_equal(const TrainState& found, const TrainState& expected) {
  EXPECT_EQ(found.step, expected.step);
  EXPECT_EQ(found.samples, expected.samples);
  EXPECT_EQ(found.counts, expected.counts);
  EXPECT_EQ(found.notes, expected.notes);
}

}  // namespace witan
