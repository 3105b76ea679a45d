#include "launch/bench/layer_run.h"

#include "core/base/rng.h"
#include "core/tensor/host_twin.h"
#include "core/tensor/transfer.h"
#include "parallel/ep_token_exchange.h"

namespace witan {
namespace {

ParamStore::Layout layout_of(const LayerShape& shape, const Mesh& mesh) {
  ParamStore::Layout layout;
  layout.local_experts = shape.experts() / mesh.expert_parallel();
  layout.first_expert = layout.local_experts * mesh.expert().rank();
  layout.dense_ranks = mesh.world_size();
  layout.expert_ranks = mesh.replicas();
  return layout;
}

// Tags of the tokens, in turn; what their experts are is forced all the same.
std::vector<std::int32_t> tags_of(const LayerShape& shape, std::int64_t tokens) {
  const auto tags = static_cast<std::int64_t>(tag_names(shape.model()).size());
  std::vector<std::int32_t> result;
  for (std::int64_t t = 0; tags > 0 && t < tokens; ++t) {
    result.push_back(static_cast<std::int32_t>(t % tags));
  }
  return result;
}

Batch batch_of(const LayerShape& shape, const Mesh& mesh, bool trains) {
  Batch batch;
  batch.sequences = 1;
  const std::int64_t begin = shape.tokens * mesh.world_rank() / mesh.world_size();
  batch.seq_len = shape.tokens * (mesh.world_rank() + 1) / mesh.world_size() - begin;
  batch.first_token = begin;
  batch.training = trains;
  return batch;
}

void fill_random(const Context& ctx, const TensorView& to, const char* name, int rank) {
  const HostTwin twin(ctx, to);
  const TensorView& x = twin.view();
  const Random random(1, "bench", name, static_cast<std::uint64_t>(rank));
  dispatch_float(x.dtype, name, [&](auto zero) {
    auto* data = x.as<decltype(zero)>();
    for (std::int64_t i = 0; i < x.size(); ++i) {
      data[i] = static_cast<decltype(zero)>(random.normal(static_cast<std::uint64_t>(i)));
    }
  });
  twin.write_back();
}

}  // namespace

std::unique_ptr<TokenExchange> exchange_of(const configs::RunConfig& run, const Mesh& mesh,
                                           Device device) {
  ExchangeOptions options = exchange_options(run);
  options.node = mesh.node();
  return make_token_exchange(mesh.expert(), options, device);
}

LayerRun::LayerRun(const LayerShape& shape, const Mesh& mesh, const Runtime& runtime,
                   const ForcedLoad::Load& load, bool trains)
    : shape_(shape),
      table_(shape_.model()),
      params_(table_, layout_of(shape_, mesh), runtime.dtype, runtime.ctx.device, trains),
      exchange_(exchange_of(shape_.run, mesh, runtime.ctx.device)),
      layer_(shape_.model(), params_, shape_.layer, 1),
      arenas_(runtime.ctx.device, exchange_->memory()),
      batch_(batch_of(shape_, mesh, trains)),
      asked_(load),
      context_{runtime.ctx,
               exchange_.get(),
               &arenas_,
               nullptr,
               static_cast<Recompute>(shape.run.train().recompute()),
               exchange_options(shape_.run).chunks},
      rows_(runtime.ctx.device, "rows", exchange_->memory()) {
  tags_ = tags_of(shape_, batch_.rows());
  if (!tags_.empty()) batch_.tags = view_of(tags_.data(), {batch_.rows()});
  // As in the first micro-batch of a step: experts' gradients need not be zeroed.
  context_.expert_gradients = ops::Accumulate::kNo;
  params_.initialize(1);
  params_.keep_rounded(runtime.ctx);
  if (load.experts > 0) {
    load_.emplace(load, batch_.rows(), static_cast<std::uint64_t>(mesh.world_rank()));
    context_.hook = &*load_;
  }
  const Random random(1, "bench", "tokens", static_cast<std::uint64_t>(mesh.world_rank()));
  for (std::int64_t i = 0; i < batch_.rows(); ++i) {
    tokens_.push_back(static_cast<std::int32_t>(random.below(
        static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(shape_.model().vocab_size()))));
  }
  batch_.host_tokens = view_of(tokens_.data(), {batch_.rows()});
  placed_tokens_ = transferred(runtime.ctx, batch_.host_tokens, runtime.ctx.device);
  batch_.tokens = placed_tokens_;
  const Shape rows = {batch_.rows(), shape_.model().d_model()};
  for (TensorView* view : {&x_, &y_, &dx_, &dy_}) *view = rows_.allocate(rows, runtime.dtype);
  fill_random(runtime.ctx, x_, "x", mesh.world_rank());
  fill_random(runtime.ctx, dy_, "dy", mesh.world_rank());
}

void LayerRun::forward() {
  arenas_.reset();
  params_.refresh_rounded(context_.ctx);
  saved_.has_choice = false;
  layer_.forward(context_, batch_, x_, y_, saved_);
}

void LayerRun::backward() { layer_.backward(context_, batch_, dy_, x_, saved_, dx_, 1.0); }

double LayerRun::forward_flop() const {
  const configs::MoeConfig& moe = shape_.model().moe();
  const double matrices = moe.expert_kind() == configs::MoeConfig::SWIGLU ? 3.0 : 2.0;
  const double routed = static_cast<double>(shape_.top_k() * moe.d_ff());
  const double shared = 3.0 / matrices * static_cast<double>(moe.shared_d_ff());
  return 2.0 * matrices * static_cast<double>(batch_.rows() * shape_.model().d_model()) *
         (routed + shared);
}

double LayerRun::expert_weights() const {
  return static_cast<double>(params_.flat_values(ParamGroup::kExpert).size()) /
         static_cast<double>(ModelDims(shape_.model()).moe_layers());
}

double LayerRun::read_weight_bytes() const {
  const DType read = params_.rounded_bytes() > 0 ? DType::kBfloat16 : x_.dtype;
  return expert_weights() * static_cast<double>(size_of(read));
}

double LayerRun::kept_bytes() const {
  return static_cast<double>(arenas_.saved.bytes_high_water());
}

double LayerRun::forward_bytes() const {
  const double in_and_out = 2.0 * static_cast<double>(x_.bytes());
  return read_weight_bytes() + in_and_out + kept_bytes();
}

double LayerRun::backward_bytes() const {
  const double in_and_out = 3.0 * static_cast<double>(x_.bytes());  // x, dy, dx
  const double gradients = expert_weights() * static_cast<double>(size_of(x_.dtype));
  return read_weight_bytes() + gradients + in_and_out + kept_bytes();
}

}  // namespace witan
