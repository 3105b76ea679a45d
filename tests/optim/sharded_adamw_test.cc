// The sharded optimizer at 1 to 4 ranks against plain AdamW on whole tensors: every split of the
// world into expert parallelism and replicas, ZeRO-1 on and off, float and double. The gradients
// that the ranks contribute are small multiples of 1/64, so that their sums are exact in any order
// and results can be compared bit by bit.
#include "optim/sharded_adamw.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/base/rng.h"
#include "core/ops/elementwise.h"
#include "parallel/mpi_environment.h"
#include "tests/support/tolerance.h"

namespace witan {
namespace {

constexpr double kWatchdogSeconds = 60.0;
constexpr std::int64_t kExperts = 12;  // divides over 1 to 4 ranks
constexpr double kDivisor = 7.0;
constexpr double kLr = 0.01;

const MpiEnvironment& mpi() {
  static const MpiEnvironment environment(nullptr, nullptr);
  return environment;
}

const ParamTable& table() {
  static const ParamTable params = [] {
    configs::ModelConfig model;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
        "vocab_size: 19 d_model: 6 layers: 2 attention { heads: 2 head_dim: 4 } ffn { d_ff: 5 }"
        "moe { experts: 12 d_ff: 3 router { top_k { k: 2 } } pattern { list: 1 } }",
        &model));
    return ParamTable(model);
  }();
  return params;
}

configs::OptimizerConfig optimizer_config(bool zero1) {
  configs::OptimizerConfig config;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "clip_norm: 8 rule { pattern: 'layers.*.moe.router.*' factor: 0 }"
      "rule { pattern: 'layers.1.moe.experts.*' experts: '0-1,4,10' factor: 0 }"
      "rule { pattern: 'layers.*.experts.down' experts: '4-5' factor: 3 }"
      "rule { pattern: 'layers.1.*' factor: 0.25 }",
      &config));
  config.set_zero1(zero1);
  return config;
}

// What one of the holders of a tensor adds to the gradient of its element `index`.
double contribution(const std::string& name, std::int64_t index, int holder, int step) {
  const Random random(static_cast<std::uint64_t>(holder), "gradient", name,
                      static_cast<std::uint64_t>(step));
  const double magnitude = step == 1 ? 16.0 : 1.0;  // the norm is clipped in one step only
  return magnitude *
         (static_cast<double>(random.below(static_cast<std::uint64_t>(index), 33)) - 16) / 64.0;
}

// A mesh and the parameters of this rank in it.
template <class T>
struct World {
  explicit World(int expert_parallel)
      : mesh(mpi(), expert_parallel, kWatchdogSeconds),
        params(table(), layout(mesh), dtype_of<T>::value, Device{}, true) {
    params.initialize(3);
  }
  static ParamStore::Layout layout(const Mesh& mesh) {
    ParamStore::Layout layout;
    layout.local_experts = kExperts / mesh.expert_parallel();
    layout.first_expert = layout.local_experts * mesh.expert().rank();
    layout.dense_ranks = mesh.world_size();
    layout.expert_ranks = mesh.replicas();
    return layout;
  }

  // Global index of the first element of this rank's part of a tensor.
  std::int64_t first_element(const ParamInfo& info) const {
    if (info.role != ParamRole::kExpert) return 0;
    return info.shape.size() / kExperts * params.layout().first_expert;
  }
  int holder(const ParamInfo& info) const {
    return info.role == ParamRole::kExpert ? mesh.replica().rank() : mesh.world_rank();
  }
  void fill_gradients(int step) {
    for (int id = 0; id < table().size(); ++id) {
      const ParamInfo& info = table()[id];
      if (!info.trained()) continue;
      const TensorView grad = params.grad(id);
      for (std::int64_t i = 0; i < grad.size(); ++i) {
        grad.as<T>()[i] +=
            static_cast<T>(contribution(info.name, first_element(info) + i, holder(info), step));
      }
    }
  }

  Mesh mesh;
  ParamStore params;
};

// What the rules above say of an element of the whole tensor.
double factor_of(const ParamInfo& info, std::size_t index) {
  if (info.role == ParamRole::kRouter) return 0.0;
  if (info.layer != 1) return 1.0;
  if (info.role != ParamRole::kExpert) return 0.25;
  const auto expert = static_cast<std::int64_t>(index) / (info.shape.size() / kExperts);
  if (expert <= 1 || expert == 4 || expert == 10) return 0.0;
  return expert == 5 && info.name == "layers.1.moe.experts.down" ? 3.0 : 0.25;
}

// Plain AdamW with clipping on whole tensors in float64.
class Reference {
 public:
  template <class T>
  Reference(const World<T>& world, const configs::OptimizerConfig& config)
      : config_(config), world_size_(world.mesh.world_size()), replicas_(world.mesh.replicas()) {
    const ParamStore::Layout whole{0, kExperts, 1, 1};
    ParamStore params(table(), whole, dtype_of<T>::value, Device{}, false);
    params.initialize(3);
    for (int id = 0; id < table().size(); ++id) {
      if (!table()[id].trained()) continue;
      const TensorView value = params.value(id);
      Tensor64& tensor = tensors_[id];
      for (std::int64_t i = 0; i < value.size(); ++i) tensor.w.push_back(value.as<T>()[i]);
      tensor.m.assign(tensor.w.size(), 0.0);
      tensor.v.assign(tensor.w.size(), 0.0);
    }
  }

  double norm(int step) const {
    double squares = 0.0;
    for (const auto& [id, tensor] : tensors_) {
      for (std::size_t i = 0; i < tensor.w.size(); ++i) {
        if (factor_of(table()[id], i) != 0.0) squares += std::pow(gradient(id, i, step), 2);
      }
    }
    return std::sqrt(squares) / kDivisor;
  }

  void update(int step) {
    const double scale = std::min(1.0, config_.clip_norm() / norm(step)) / kDivisor;
    const double b1 = config_.beta1();
    const double b2 = config_.beta2();
    for (auto& [id, tensor] : tensors_) {
      const ParamInfo& info = table()[id];
      const double decay = info.decay ? config_.weight_decay() : 0.0;
      for (std::size_t i = 0; i < tensor.w.size(); ++i) {
        const double lr = kLr * factor_of(info, i);
        if (lr == 0.0) continue;
        const double g = scale * gradient(id, i, step);
        double& m = tensor.m[i];
        double& v = tensor.v[i];
        m = b1 * m + (1 - b1) * g;
        v = b2 * v + (1 - b2) * g * g;
        const double mean = m / (1 - std::pow(b1, step + 1));
        const double square = v / (1 - std::pow(b2, step + 1));
        tensor.w[i] -= lr * decay * tensor.w[i];
        tensor.w[i] -= lr * mean / (std::sqrt(square) + config_.eps());
      }
    }
  }

  template <class T>
  void expect_equal(const World<T>& world) const {
    for (const auto& [id, tensor] : tensors_) {
      const ParamInfo& info = table()[id];
      const TensorView value = world.params.value(id);
      for (std::int64_t i = 0; i < value.size(); ++i) {
        const double expected = tensor.w[static_cast<std::size_t>(world.first_element(info) + i)];
        ASSERT_NEAR(value.as<T>()[i], expected, 100 * test::kEpsilon<T> * (1 + std::abs(expected)))
            << info.name << " element " << i;
      }
    }
  }

 private:
  struct Tensor64 {
    std::vector<double> w, m, v;
  };
  double gradient(int id, std::size_t index, int step) const {
    const ParamInfo& info = table()[id];
    const int holders = info.role == ParamRole::kExpert ? replicas_ : world_size_;
    double sum = 0.0;
    for (int holder = 0; holder < holders; ++holder) {
      sum += contribution(info.name, static_cast<std::int64_t>(index), holder, step);
    }
    return sum;
  }

  configs::OptimizerConfig config_;
  int world_size_, replicas_;
  std::map<int, Tensor64> tensors_;
};

std::vector<int> expert_parallel_sizes() {
  std::vector<int> sizes;
  for (int size = 1; size <= mpi().size(); ++size) {
    if (mpi().size() % size == 0) sizes.push_back(size);
  }
  return sizes;
}

void reduce(ShardedAdamW& optimizer) {
  optimizer.reduce_begin(ParamGroup::kExpert);  // both in flight
  optimizer.reduce_begin(ParamGroup::kDense);
  optimizer.reduce_end(ParamGroup::kExpert);
  optimizer.reduce_end(ParamGroup::kDense);
}

template <class T>
double train_step(World<T>& world, ShardedAdamW& optimizer, int step) {
  optimizer.zero_gradients();
  world.fill_gradients(step);
  reduce(optimizer);
  const ShardedAdamW::Norm norm = optimizer.gradient_norm(kDivisor);
  EXPECT_EQ(norm.nonfinite, "");
  optimizer.step(step, kLr, norm.value, kDivisor);
  return norm.value;
}

template <class T>
void expect_same_bits(const World<T>& a, const World<T>& b) {
  for (const ParamGroup group : {ParamGroup::kDense, ParamGroup::kExpert}) {
    const TensorView x = a.params.flat_values(group);
    const TensorView y = b.params.flat_values(group);
    ASSERT_EQ(x.size(), y.size());
    for (std::int64_t i = 0; i < x.size(); ++i) ASSERT_EQ(x.as<T>()[i], y.as<T>()[i]) << i;
  }
}

template <class T>
class ShardedAdamWTest : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(ShardedAdamWTest, Types);

TYPED_TEST(ShardedAdamWTest, AgreesWithPlainAdamWOnEveryMesh) {
  for (const int expert_parallel : expert_parallel_sizes()) {
    SCOPED_TRACE("expert parallelism " + std::to_string(expert_parallel));
    World<TypeParam> sharded(expert_parallel);
    World<TypeParam> whole(expert_parallel);
    ShardedAdamW zero1(optimizer_config(true), sharded.params, sharded.mesh, {});
    ShardedAdamW replicated(optimizer_config(false), whole.params, whole.mesh, {});
    Reference reference(sharded, optimizer_config(true));
    int clipped = 0;
    for (int step = 0; step < 3; ++step) {
      const double norm = train_step(sharded, zero1, step);
      EXPECT_NEAR(norm, reference.norm(step), 1e-12 * norm);
      EXPECT_EQ(norm, train_step(whole, replicated, step));
      clipped += norm > optimizer_config(true).clip_norm() ? 1 : 0;
      reference.update(step);
      reference.expect_equal(sharded);
      expect_same_bits(sharded, whole);
    }
    EXPECT_GT(clipped, 0);
    EXPECT_LT(clipped, 3);
  }
}

// Bit for bit, moments and decay included; also where only some experts of a tensor are frozen.
TYPED_TEST(ShardedAdamWTest, WhatIsFrozenStaysAsItIs) {
  for (const int expert_parallel : expert_parallel_sizes()) {
    World<TypeParam> trained(expert_parallel);
    const World<TypeParam> untouched(expert_parallel);
    ShardedAdamW optimizer(optimizer_config(true), trained.params, trained.mesh, {});
    for (const int step : {0, 1}) train_step(trained, optimizer, step);
    for (int id = 0; id < table().size(); ++id) {
      const ParamInfo& info = table()[id];
      const TensorView value = trained.params.value(id);
      const TensorView before = untouched.params.value(id);
      std::map<double, bool> changed;  // by factor
      for (std::int64_t i = 0; i < value.size(); ++i) {
        const auto index = static_cast<std::size_t>(trained.first_element(info) + i);
        changed[factor_of(info, index)] |=
            value.template as<TypeParam>()[i] != before.template as<TypeParam>()[i];
      }
      for (const auto& [factor, any] : changed) {
        EXPECT_EQ(any, factor != 0.0) << info.name << " where the factor is " << factor;
      }
    }
  }
}

TYPED_TEST(ShardedAdamWTest, StateIsSharedOut) {
  World<TypeParam> world(1);
  const ShardedAdamW zero1(optimizer_config(true), world.params, world.mesh, {});
  const ShardedAdamW replicated(optimizer_config(false), world.params, world.mesh, {});
  EXPECT_EQ(zero1.state_bytes() * static_cast<std::size_t>(mpi().size()), replicated.state_bytes());
}

TYPED_TEST(ShardedAdamWTest, NonFiniteGradientIsNamedOnEveryRank) {
  for (const int expert_parallel : expert_parallel_sizes()) {
    World<TypeParam> world(expert_parallel);
    ShardedAdamW optimizer(optimizer_config(true), world.params, world.mesh, {});
    const int last = mpi().size() - 1;
    for (const TypeParam bad : {std::numeric_limits<TypeParam>::quiet_NaN(),
                                -std::numeric_limits<TypeParam>::infinity()}) {
      optimizer.zero_gradients();
      const TensorView grad = world.params.grad("layers.1.moe.experts.down");
      if (mpi().rank() == last) grad.as<TypeParam>()[grad.size() - 1] = bad;
      reduce(optimizer);
      const ShardedAdamW::Norm norm = optimizer.gradient_norm(kDivisor);
      EXPECT_EQ(norm.nonfinite, "layers.1.moe.experts.down");
      EXPECT_FALSE(std::isfinite(norm.value));
    }
    optimizer.zero_gradients();  // of two the first in the table, wherever they are
    if (mpi().rank() == last) {
      world.params.grad("embedding").template as<TypeParam>()[5] =
          std::numeric_limits<TypeParam>::infinity();
    }
    if (mpi().rank() == 0) {
      world.params.grad("final_norm.weight").template as<TypeParam>()[0] =
          std::numeric_limits<TypeParam>::quiet_NaN();
    }
    reduce(optimizer);
    EXPECT_EQ(optimizer.gradient_norm(kDivisor).nonfinite, "embedding");
    optimizer.zero_gradients();
    reduce(optimizer);
    EXPECT_EQ(optimizer.gradient_norm(kDivisor).value, 0.0);
    optimizer.step(0, kLr, 0.0, kDivisor);  // a norm of zero is not divided by
    EXPECT_TRUE(std::isfinite(world.params.value("embedding").template as<TypeParam>()[5]));
  }
}

// Moments written by an optimizer of one kind continue in one of the other kind.
TYPED_TEST(ShardedAdamWTest, MomentsRoundTrip) {
  for (const int expert_parallel : expert_parallel_sizes()) {
    for (const bool zero1 : {true, false}) {
      World<TypeParam> first(expert_parallel);
      World<TypeParam> second(expert_parallel);
      ShardedAdamW from(optimizer_config(zero1), first.params, first.mesh, {});
      ShardedAdamW to(optimizer_config(!zero1), second.params, second.mesh, {});
      train_step(first, from, 0);
      for (const ParamGroup group : {ParamGroup::kDense, ParamGroup::kExpert}) {
        const TensorView values = first.params.flat_values(group);
        std::copy_n(values.as<TypeParam>(), values.size(),
                    second.params.flat_values(group).template as<TypeParam>());
        for (const int moment : {0, 1}) {
          const Tensor flat = Tensor::zeros(values.shape, values.dtype);
          from.gather_moment(moment, group, flat);
          to.set_moment(moment, group, flat);
          const Tensor back = Tensor::zeros(values.shape, values.dtype);
          to.gather_moment(moment, group, back);
          bool any = false;
          for (std::int64_t i = 0; i < flat.view().size(); ++i) {
            ASSERT_EQ(flat.as<TypeParam>()[i], back.as<TypeParam>()[i]);
            any = any || flat.as<TypeParam>()[i] != 0;
          }
          EXPECT_TRUE(any);
        }
      }
      train_step(first, from, 1);
      train_step(second, to, 1);
      expect_same_bits(first, second);
    }
  }
}

TEST(ShardedAdamW, RuleThatMatchesNothingIsRefused) {
  World<float> world(1);
  configs::OptimizerConfig config;
  config.add_rule()->set_pattern("layers.*.mlp.*");
  config.mutable_rule(0)->set_factor(0.5);
  try {
    const ShardedAdamW optimizer(config, world.params, world.mesh, {});
    FAIL() << "accepted";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("optimizer.rule[0].pattern: \"layers.*.mlp.*\""),
              std::string::npos)
        << error.what();
  }
}

TEST(ShardedAdamW, RuleForExpertsThatThereAreNotIsRefused) {
  World<float> world(1);
  const auto error_of = [&](const std::string& pattern, const std::string& experts) {
    configs::OptimizerConfig config;
    config.add_rule()->set_pattern(pattern);
    config.mutable_rule(0)->set_factor(0);
    config.mutable_rule(0)->set_experts(experts);
    try {
      const ShardedAdamW optimizer(config, world.params, world.mesh, {});
    } catch (const UserError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_EQ(error_of("layers.*.moe.*", "0-11"), "accepted");
  EXPECT_EQ(error_of("layers.*.moe.*", "0-12"),
            "optimizer.rule[0].experts: found \"0-12\"; the last expert is 11");
  EXPECT_EQ(error_of("layers.*.moe.*", ""),
            "optimizer.rule[0].experts: is empty; expected numbers and ranges like \"0-3,8\"");
  EXPECT_EQ(error_of("layers.0.ffn.*", "0-3"),
            "optimizer.rule[0].pattern: \"layers.0.ffn.*\" matches no trained tensor of experts or "
            "routers; `witan inspect` lists their names");
}

// Its gate over groups has rows of groups: a rule for experts is not for it.
TEST(ShardedAdamW, RuleForExpertsOfAHierarchicalRouter) {
  configs::ModelConfig model;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "vocab_size: 5 d_model: 4 layers: 1 attention { heads: 1 }"
      "moe { experts: 12 d_ff: 3 router { hierarchical { k: 1 n_group: 3 topk_group: 2 } } }",
      &model));
  const ParamTable hierarchical(model);
  const Mesh mesh(mpi(), 1, kWatchdogSeconds);
  ParamStore params(hierarchical, {0, 12, mpi().size(), mpi().size()}, DType::kFloat32, Device{},
                    true);
  params.initialize(1);
  configs::OptimizerConfig config;
  config.add_rule()->set_pattern("layers.*.moe.*");
  config.mutable_rule(0)->set_factor(0);
  config.mutable_rule(0)->set_experts("2,8-11");
  ShardedAdamW optimizer(config, params, mesh, {});
  const TensorView group = params.value("layers.0.moe.router.group_weight");
  const TensorView router = params.value("layers.0.moe.router.weight");
  const float group_before = group.as<float>()[2 * 4];
  const float row_before = router.as<float>()[2 * 4];
  ops::fill({}, params.flat_grads(ParamGroup::kDense), 1.0);
  reduce(optimizer);
  optimizer.step(0, 1e-3, optimizer.gradient_norm(1.0).value, 1.0);
  EXPECT_NE(group.as<float>()[2 * 4], group_before);
  EXPECT_EQ(router.as<float>()[2 * 4], row_before);
}

TEST(ShardedAdamW, ModelWithoutExperts) {
  configs::ModelConfig model;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "vocab_size: 5 d_model: 4 layers: 1 attention { heads: 1 } ffn { d_ff: 3 }", &model));
  const ParamTable dense(model);
  const Mesh mesh(mpi(), 1, kWatchdogSeconds);
  ParamStore params(dense, {0, 0, mpi().size(), mpi().size()}, DType::kFloat32, Device{}, true);
  params.initialize(1);
  const TensorView embedding = params.value("embedding");
  const float before = embedding.as<float>()[0];
  ShardedAdamW optimizer(configs::OptimizerConfig{}, params, mesh, {});
  params.grad("embedding").as<float>()[0] = 1.0F;
  reduce(optimizer);
  const ShardedAdamW::Norm norm = optimizer.gradient_norm(1.0);
  EXPECT_EQ(norm.value, static_cast<double>(mpi().size()));
  optimizer.step(0, 1e-3, norm.value, 1.0);
  EXPECT_LT(embedding.as<float>()[0], before);
}

}  // namespace
}  // namespace witan
