// How often the host waits for the routing of a layer that decides on the device: only the stand-in
// counts that.
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "core/model/balance/balancer.h"
#include "core/model/model_context.h"
#include "core/model/moe_figures.h"
#include "core/model/router.h"
#include "core/ops/elementwise.h"
#include "core/tensor/cuda_scratch.h"
#include "launch/data/batch_builder.h"
#include "tests/cuda/trainer_cuda_case.h"
#include "tests/support/cuda_on_cpu/control.h"

namespace witan::test {
namespace {

constexpr Device kGpu{DeviceType::kCuda, 0};
constexpr std::int64_t kTokens = 10;
constexpr std::int64_t kExperts = 6;
constexpr std::int64_t kWidth = 8;
constexpr std::int64_t kGroups = 3;   // of a first gate
constexpr std::int64_t kAllowed = 4;  // experts of the tokens' tag

class RouterWaits : public OnGpus {
 protected:
  RouterWaits() : stream_(kGpu) {}
  ~RouterWaits() override { cuda::release_scratch(stream_.context()); }

  Tensor random(const char* name, const Shape& shape) const {
    Tensor host(shape, DType::kFloat64);
    const Random numbers(1, "test", name);
    for (std::int64_t i = 0; i < shape.size(); ++i) {
      host.as<double>()[i] = numbers.normal(static_cast<std::uint64_t>(i));
    }
    return transferred(stream_.context(), host, kGpu);
  }

  DeviceStream stream_;
};

// Of two tags the first has two experts, the second the others.
ExpertMask two_tags() {
  configs::MoeConfig moe;
  moe.set_experts(kExperts);
  for (const char* experts : {"0-1", "2-5"}) {
    moe.mutable_allowed_experts()->add_tag()->set_experts(experts);
  }
  return ExpertMask(moe);
}

// With and without a table of allowed experts.
std::vector<std::pair<RouterEntry, bool>> every_router() {
  std::vector<std::pair<RouterEntry, bool>> all;
  for (const RouterEntry& entry : registered_routers()) {
    for (const bool masked : {false, true}) all.emplace_back(entry, masked);
  }
  return all;
}

// Forward and backward of every router and balancer that the device decides for: nothing is waited
// for but the choice, once, where the host counts it, and the figures when they are asked for.
TEST_F(RouterWaits, OnceForTheChoiceAndOnceForTheFigures) {
  const Context& ctx = stream_.context();
  const Tensor x = random("x", {kTokens, kWidth});
  const Tensor weight = random("weight", {kExperts, kWidth});
  const Tensor noise = random("noise", {kExperts, kWidth});
  const Tensor gradients = random("gradients", {2 * kExperts + kTokens, kWidth});
  std::vector<double> bias(static_cast<std::size_t>(kExperts), 0.5);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(kTokens), 1);
  const Tensor tokens = transferred(ctx, view_of(ids.data(), {kTokens}), kGpu);
  const Tensor group_weight = random("group weight", {kGroups, kWidth});
  const Tensor group_gradient = random("group gradient", {kGroups, kWidth});
  RouterParams params;
  params.weight = weight;
  params.dweight = gradients.view().slice_rows(0, kExperts);
  params.noise = noise;
  params.dnoise = gradients.view().slice_rows(kExperts, kExperts);
  const TensorView dx = gradients.view().slice_rows(2 * kExperts, kTokens);
  params.expert_bias = view_of(bias.data(), {kExperts});
  params.group_weight = group_weight;
  params.dgroup_weight = group_gradient;
  Batch batch;
  batch.sequences = 2;
  batch.seq_len = kTokens / 2;
  batch.training = true;
  batch.tokens = batch.tags = tokens;
  batch.host_tags = view_of(ids.data(), {kTokens});
  const Capacity no_limit(configs::MoeConfig{}, 1);
  const std::vector<double> fractions(static_cast<std::size_t>(kExperts), 1.0 / kExperts);

  std::vector<std::string> examples = {
      "switch_aux { coefficient: 0.5 load: UNBIASED scope: MICRO_BATCH }",
      "switch_aux { coefficient: 0.5 load: UNBIASED scope: SEQUENCE }",
      "importance_cv2 { coefficient: 0.4 importance: WEIGHTS scope: GLOBAL_MICRO_BATCH }",
      "load_cv2 { coefficient: 0.4 scope: GLOBAL_MICRO_BATCH }"};
  for (const BalancerEntry& entry : registered_balancers()) examples.emplace_back(entry.example);
  std::vector<std::unique_ptr<Balancer>> balancers;
  for (const std::string& example : examples) {
    configs::BalancerConfig config;
    ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(example, &config));
    balancers.push_back(make_balancer(config));
  }

  int routers = 0;
  for (const auto& [entry, masked] : every_router()) {
    SCOPED_TRACE(testing::Message() << entry.name << (masked ? ", some experts barred" : ""));
    configs::RouterConfig config;
    ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(
        std::string(entry.example) + " input_jitter: 0.1", &config));
    const std::unique_ptr<Router> router =
        make_router(config, {0, kExperts, 16, masked ? two_tags() : ExpertMask()});
    if (!router->decides_on_device()) continue;
    ++routers;
    ModelArenas arenas(kGpu);
    MoeFigures figures(kExperts, masked ? 2 : 1, balancers.size());
    RouterSaved saved;
    for (int micro_batch = 0; micro_batch < 2; ++micro_batch) {
      const std::uint64_t before = cuda_on_cpu::host_waits();
      arenas.reset();
      router->forward(
          ctx, params, no_limit, x,
          {arenas.saved, arenas.decision_saved(true), arenas.decision_choice(true), arenas.scratch},
          false, nullptr, RankGroup::alone(), batch, saved);
      figures.count(ctx, batch, saved);
      if (micro_batch > 0) {  // the first one fills tables and scratch
        EXPECT_EQ(cuda_on_cpu::host_waits(), before) << "forward";
      }
      const std::uint64_t deciding = cuda_on_cpu::host_waits();
      const std::span<const std::int64_t> counts = figures.batch_counts();
      EXPECT_EQ(cuda_on_cpu::host_waits(), deciding + 1) << "the choice";
      EXPECT_TRUE(saved.indices.device.is_cuda());
      EXPECT_TRUE(saved.indices_on_host().device.is_cpu());
      RouterGradient gradient;
      BalanceInput input{saved, router->score(), batch.sequences, batch.seq_len, kExperts, 1,
                         0.0,   counts,          fractions};
      for (std::size_t i = 0; i < balancers.size(); ++i) {
        input.device_loss = figures.device_loss(i);
        balancers[i]->backward(ctx, input, gradient, arenas.scratch);
      }
      const TensorView dweights =
          arenas.scratch.allocate(saved.weights.shape, DType::kFloat64, "test");
      ops::fill(ctx, dweights, 0.25);
      router->backward(ctx, params, no_limit, batch, saved, dweights, gradient, dx, arenas.scratch,
                       arenas.decision_scratch(true));
      EXPECT_EQ(cuda_on_cpu::host_waits(), deciding + 1) << "backward";
    }
    const std::uint64_t before = cuda_on_cpu::host_waits();
    figures.begin_reading();
    const MoeStats& stats = figures.stats();
    EXPECT_EQ(cuda_on_cpu::host_waits(), before + 1) << "the figures";
    EXPECT_EQ(stats.tokens, 2 * kTokens);
    EXPECT_GT(stats.logit_square, 0.0);
    EXPECT_EQ(stats.logits, 2 * kTokens * (masked ? kAllowed : kExperts));
    EXPECT_GT(stats.losses.front(), 0.0);
    synchronize(ctx);
  }
  EXPECT_GE(routers, 2 * 9);
}

// What the host waits for in the forward and in the backward of a micro-batch, the second that a
// session sees: by then scratch has grown.
struct PassWaits {
  std::uint64_t forward = 0, backward = 0;
};

PassWaits waits_of(const Corpus& corpus, const std::string& change) {
  const configs::RunConfig run = run_config(corpus, "", change);
  CudaSession session(run, world().size(), DeviceTransport::kAuto);
  Transformer& model = session->engine().model();
  BatchBuffers buffers;
  const auto sample = [&](std::int64_t i, std::span<std::int32_t> window) {
    return session->stream().train_sample(2 * world().rank() + i, window);
  };
  PassWaits waits;
  for (int micro_batch = 0; micro_batch < 2; ++micro_batch) {
    build_batch(run.data(), run.data().seq_len(), kEndOfDocument, 2, 0, sample, buffers);
    place_batch(session->engine().runtime().ctx, buffers);
    buffers.batch.training = buffers.batch.even = true;
    const std::uint64_t begin = cuda_on_cpu::host_waits();
    model.forward_train(buffers.batch);
    const std::uint64_t middle = cuda_on_cpu::host_waits();
    model.backward(buffers.batch, 1.0);
    waits = {middle - begin, cuda_on_cpu::host_waits() - middle};
    for (MoeLayer* layer : model.moe_layers()) {
      EXPECT_EQ(layer->stats().tokens, (micro_batch + 1) * 2 * run.data().seq_len());
    }
  }
  return waits;
}

// Without a capacity sizes are waited for, once in each of the two MoE layers; padded experts have
// theirs from the start, whatever decides who keeps a place.
TEST_F(RouterWaits, PaddedExpertsAreDispatchedWithoutAny) {
  const Corpus corpus;
  const std::string rows = "parallel { exchange { rows: PER_CHOICE } } ";
  const PassWaits free = waits_of(corpus, rows);
  EXPECT_EQ(free.forward, 2u);
  for (const char* policy : {"TOKEN_MAJOR", "PROBABILITY", "BATCH_PRIORITY"}) {
    SCOPED_TRACE(policy);
    const std::string capacity =
        "model { moe { capacity { factor: 1.25 policy: " + std::string(policy) +
        " renormalize_after_drop: true ";
    const PassWaits padded = waits_of(
        corpus, rows + capacity + "pad_to_capacity: true } router { allow_non_causal: true } } }");
    EXPECT_EQ(padded.forward, 0u);
    EXPECT_EQ(padded.backward, free.backward);
    EXPECT_EQ(waits_of(corpus, rows + capacity + "} router { allow_non_causal: true } } }").forward,
              2u);
  }
}

// V-MoE's and Shazeer's layers, with sums over the ranks: the host waits as for a loss that has
// none of that.
TEST_F(RouterWaits, NoiseAndSumsOverRanksAddNone) {
  const Corpus corpus;
  const auto layers = [](const std::string& router, const std::string& balance) {
    return "model { moe { router { noisy_top_k { k: 2 " + router + " } score: SOFTMAX } " +
           balance + " } } parallel { exchange { rows: PER_CHOICE } } ";
  };
  const PassWaits plain =
      waits_of(corpus, layers("", "balance { device_balance { coefficient: 0.5 groups: 2 } }"));
  const std::string scope = "coefficient: 0.5 scope: GLOBAL_MICRO_BATCH";
  for (const char* router : {"noise: FIXED", "noise: LEARNED"}) {
    SCOPED_TRACE(router);
    const PassWaits noisy =
        waits_of(corpus, layers(router, "balance { importance_cv2 { " + scope +
                                            " } } balance { load_cv2 { " + scope + " } }"));
    EXPECT_EQ(noisy.forward, plain.forward);
    EXPECT_EQ(noisy.backward, plain.backward);
  }
}

}  // namespace
}  // namespace witan::test
