// Upcycling keeps the function of the dense model; what it refuses.
#include "launch/grow/upcycle.h"

#include <tuple>

#include "tests/checkpoint/scratch_folder.h"
#include "tests/checkpoint/thrown.h"
#include "tests/grow/grow_case.h"

namespace witan::test {
namespace {

using configs::RouterConfig;

configs::RunConfig dense_run() {
  return run_config(
      "name: 'dense' model { vocab_size: 61 d_model: 16 layers: 3 init_std: 0.3 tied_head: true"
      "  attention { heads: 2 qkv_bias: true } ffn { d_ff: 24 } }"
      "data { train { name: 'text' path: 'text' } tokenizer: 'none' }");
}

UpcycleOptions options_of(std::int64_t experts, std::int64_t top_k, std::int64_t granularity) {
  UpcycleOptions options;
  options.experts = experts;
  options.top_k = top_k;
  options.granularity = granularity;
  return options;
}

class Upcycle : public testing::Test {
 protected:
  // Of the model that `options` make out of the dense one, to the dense one's.
  double distance_after(const UpcycleOptions& options, DType dtype) {
    const std::string dense = scratch_ / ("dense" + std::to_string(folders_));
    const std::string sparse = scratch_ / ("sparse" + std::to_string(folders_++));
    save_model(dense_run(), dtype, dense);
    upcycle(dense, sparse, options);
    return distance(logits_of(sparse, dtype), logits_of(dense, dtype));
  }

  ScratchFolder scratch_;
  int folders_ = 0;
};

TEST_F(Upcycle, KeepsTheFunction) {
  using Case = std::tuple<std::int64_t, RouterConfig::Score, RouterConfig::Weights>;
  for (const auto& [granularity, score, weights] :
       {Case{1, RouterConfig::SOFTMAX, RouterConfig::RENORMALIZED},
        Case{2, RouterConfig::SOFTMAX, RouterConfig::SOFTMAX_OF_SCORES},
        Case{3, RouterConfig::SIGMOID, RouterConfig::RENORMALIZED},
        Case{4, RouterConfig::SIGMOID, RouterConfig::SOFTMAX_OF_SCORES},
        Case{8, RouterConfig::SQRT_SOFTPLUS, RouterConfig::RENORMALIZED}}) {
    UpcycleOptions options = options_of(4, 2, granularity);
    options.score = score;
    options.weights = weights;
    EXPECT_LT(distance_after(options, DType::kFloat64), 1e-13) << granularity;
    EXPECT_LT(distance_after(options, DType::kFloat32), 1e-5) << granularity;
  }
}

TEST_F(Upcycle, EveryOtherLayer) {
  UpcycleOptions options = options_of(3, 1, 2);
  options.pattern.set_every(2);
  options.pattern.set_first(1);
  EXPECT_LT(distance_after(options, DType::kFloat64), 1e-13);
  const configs::ModelConfig model = read_model_config(scratch_ / "sparse0");
  EXPECT_EQ(ModelDims(model).moe_layers(), 1);
  EXPECT_EQ(model.ffn().d_ff(), 24);
  EXPECT_EQ(model.moe().d_ff(), 12);
  EXPECT_EQ(model.moe().experts(), 6);
  EXPECT_EQ(model.moe().router().top_k().k(), 2);
}

// The experts that noise sets apart; the seed says how.
TEST_F(Upcycle, NoiseMovesTheFunctionByItsSize) {
  UpcycleOptions options = options_of(4, 2, 2);
  options.noise = 0.01;
  const double small = distance_after(options, DType::kFloat32);
  EXPECT_GT(small, 1e-4);
  EXPECT_LT(small, 0.1);
  options.noise = 0.1;
  EXPECT_GT(distance_after(options, DType::kFloat32), 3 * small);
  const std::vector<double> first = logits_of(scratch_ / "sparse1", DType::kFloat32);
  options.seed = 2;
  distance_after(options, DType::kFloat32);
  EXPECT_GT(distance(first, logits_of(scratch_ / "sparse2", DType::kFloat32)), 1e-3);
}

TEST_F(Upcycle, ReportsAndKeepsTheData) {
  save_model(dense_run(), DType::kFloat32, scratch_ / "dense");
  const GrowReport report = upcycle(scratch_ / "dense", scratch_ / "grown/", options_of(4, 2, 2));
  EXPECT_EQ(report.experts, 8);
  EXPECT_EQ(report.top_k, 4);
  EXPECT_EQ(report.moe_layers, 3);
  // Three more copies of gate, up and down, and the router's rows.
  EXPECT_EQ(report.parameters - report.parameters_before, 3 * (3 * 3 * 24 * 16 + 8 * 16));
  const CheckpointInfo info = read_manifest(scratch_ / "grown");
  EXPECT_EQ(info.run.name(), "grown");
  EXPECT_EQ(info.run.data().train(0).name(), "text");
  EXPECT_FALSE(info.run.model().has_ffn());
  EXPECT_EQ(info.state.notes.at("grown_from"), scratch_ / "dense");
}

TEST_F(Upcycle, Refusals) {
  const std::string dense = scratch_ / "dense";
  const std::string to = scratch_ / "to";
  save_model(dense_run(), DType::kFloat32, dense);
  EXPECT_USER_ERROR(upcycle(dense, dense, options_of(4, 2, 1)), "exists already");
  EXPECT_USER_ERROR(upcycle(scratch_ / "none", to, options_of(4, 2, 1)), "no such folder");
  EXPECT_USER_ERROR(upcycle(dense, to, options_of(4, 2, 5)),
                    "granularity: found 5; it must divide the width of the dense feed-forward "
                    "part, ffn.d_ff = 24");
  EXPECT_USER_ERROR(upcycle(dense, to, options_of(4, 5, 1)),
                    "model.moe.router.top_k.k: found 5; at most moe.experts = 4");
  EXPECT_USER_ERROR(upcycle(dense, to, options_of(65536, 2, 2)), "model.moe.granularity");
  UpcycleOptions as_is = options_of(4, 2, 1);
  as_is.weights = RouterConfig::AS_IS;
  EXPECT_USER_ERROR(upcycle(dense, to, as_is), "AS_IS do not sum to 1");
  upcycle(dense, scratch_ / "sparse", options_of(4, 2, 1));
  EXPECT_USER_ERROR(upcycle(scratch_ / "sparse", to, options_of(4, 2, 1)),
                    "is not dense: 3 of its 3 layers are MoE layers");
  EXPECT_FALSE(std::filesystem::exists(to));
  EXPECT_FALSE(std::filesystem::exists(to + ".tmp"));
}

}  // namespace
}  // namespace witan::test
