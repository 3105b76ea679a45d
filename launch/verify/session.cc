#include "launch/verify/session.h"

#include <algorithm>
#include <cmath>

#include "core/base/rng.h"
#include "core/tensor/host_twin.h"
#include "launch/data/run_tokenizer.h"

namespace witan {
namespace {

using configs::RunConfig;
using configs::RuntimeConfig;

std::int32_t end_of_document(const configs::DataConfig& data) {
  return end_of_document_of(data, tokenizer_of(data).get());
}

Runtime typed(const Runtime& runtime, RuntimeConfig::Precision precision) {
  Runtime result = runtime;
  result.dtype = precision == RuntimeConfig::FLOAT64 ? DType::kFloat64 : DType::kFloat32;
  result.ctx.products = precision == RuntimeConfig::BF16 ? Products::kBfloat16 : Products::kFull;
  return result;
}

Engine::Options options_of(const RunConfig& run, const SampleStream& stream) {
  return {true, static_cast<std::int64_t>(stream.tags().size()),
          static_cast<Recompute>(static_cast<int>(run.train().recompute())), exchange_options(run)};
}

// Mean and spread of a woken tensor.
struct Spread {
  double mean = 0.0, deviation = 0.0;
};

Spread spread_of(const ParamInfo& info) {
  constexpr double kVectors = 0.2;
  constexpr double kEmbedding = 0.4;
  constexpr double kExpertBias = 0.02;
  if (info.role == ParamRole::kState) return {0.0, kExpertBias};
  if (info.shape.rank() == 1) return {info.init == ParamInit::kOnes ? 1.0 : 0.0, kVectors};
  if (info.name == "embedding") return {0.0, kEmbedding};
  return {0.0, 1.0 / std::sqrt(static_cast<double>(info.shape[info.shape.rank() - 1]))};
}

bool uses_previous_counts(const RunConfig& run) {
  const auto& balance = run.model().moe().balance();
  return std::any_of(balance.begin(), balance.end(), [](const configs::BalancerConfig& b) {
    return b.has_switch_aux() && b.switch_aux().scope() == configs::SwitchAux::GLOBAL_BATCH &&
           b.switch_aux().counts() == configs::SwitchAux::PREVIOUS_STEP;
  });
}

}  // namespace

VerifySession::VerifySession(const RunConfig& run, const Mesh& mesh, const Runtime& runtime)
    : run_(run),
      stream_(run.data(), run.model().vocab_size(), run.train().seed(), tag_names(run.model())),
      engine_(run.model(), mesh, typed(runtime, run.runtime().precision()),
              options_of(run, stream_)),
      trainer_(run, engine_, stream_, end_of_document(run.data())) {
  engine_.params().initialize(run.train().seed());
}

void VerifySession::wake() {
  for (int id = 0; id < table().size(); ++id) {
    const ParamInfo& info = table()[id];
    const Spread spread = spread_of(info);
    const Random random(run_.train().seed(), "verify/weights", info.name);
    const HostTwin twin(params().context(), params().value(id));
    const TensorView& value = twin.view();
    const std::int64_t first =
        info.role == ParamRole::kExpert ? params().layout().first_expert * value.cols() : 0;
    dispatch_float(value.dtype, info.name.c_str(), [&](auto zero) {
      using T = decltype(zero);
      for (std::int64_t i = 0; i < value.size(); ++i) {
        const double x = random.normal(static_cast<std::uint64_t>(first + i));
        // The same weights in every precision.
        value.as<T>()[i] = static_cast<T>(static_cast<float>(spread.mean + spread.deviation * x));
      }
    });
    twin.write_back();
  }
}

StepMetrics compute_gradients(VerifySession& session) {
  if (uses_previous_counts(session.run())) session.trainer().step(false);
  return session.trainer().gradients(false);
}

RunConfig gradient_config(const RunConfig& run, RuntimeConfig::Precision precision) {
  RunConfig result = run;
  result.mutable_optimizer()->set_lr(0.0);
  result.mutable_optimizer()->set_zero1(false);
  result.mutable_parallel()->mutable_exchange()->set_network_type(
      configs::ExchangeConfig::AS_COMPUTED);
  result.mutable_runtime()->set_precision(precision);
  return result;
}

void record_routing(RunConfig& run, const std::string& file) {
  if (!run.model().has_moe()) return;
  run.mutable_train()->mutable_routing()->clear_replay();
  run.mutable_train()->mutable_routing()->set_record(file);
}

void replay_routing(RunConfig& run, const std::string& file) {
  if (!run.model().has_moe() || run.train().routing().force_balanced()) return;
  run.mutable_train()->mutable_routing()->clear_record();
  run.mutable_train()->mutable_routing()->set_replay(file);
}

}  // namespace witan
