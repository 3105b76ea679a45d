#include "core/model/param_store.h"

#include <cstring>

#include "core/base/error.h"
#include "core/base/rng.h"
#include "core/model/param_placement.h"
#include "core/ops/elementwise.h"
#include "core/tensor/host_twin.h"

namespace witan {
namespace {

int index_of(ParamGroup group) { return group == ParamGroup::kDense ? 0 : 1; }

TensorView window(const Tensor& flat, std::int64_t begin, const Shape& shape) {
  TensorView view = flat.view().slice_rows(begin, shape.size());
  return view.reshape(shape);
}

template <class T>
void fill_initial(const ParamInfo& info, std::uint64_t seed, std::int64_t first_element,
                  const TensorView& value) {
  T* data = value.as<T>();
  const std::int64_t n = value.size();
  if (info.init != ParamInit::kNormal) {
    const T constant = info.init == ParamInit::kOnes ? T{1} : T{0};
    for (std::int64_t i = 0; i < n; ++i) data[i] = constant;
    return;
  }
  const Random random(seed, "init", info.name);
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < n; ++i) {
    // Through float in every precision: a float64 run starts from the same weights as a float32
    // run.
    data[i] = static_cast<T>(static_cast<float>(
        info.init_std * random.normal(static_cast<std::uint64_t>(first_element + i))));
  }
}

}  // namespace

ParamStore::ParamStore(const ParamTable& table, const Layout& layout, DType dtype, Device device,
                       bool with_gradients, Stream stream)
    : table_(table),
      layout_(layout),
      dtype_(dtype),
      ctx_{device, stream},
      with_gradients_(with_gradients),
      where_(static_cast<std::size_t>(table.size())),
      states_(static_cast<std::size_t>(table.size())) {
  const ParamPlacement placement(table, layout);
  for (int id = 0; id < table.size(); ++id) {
    if (table[id].trained()) continue;
    states_[static_cast<std::size_t>(id)] = Tensor::zeros(table[id].shape, dtype);
  }
  for (int group = 0; group < 2; ++group) {
    spans_[group] = placement.spans[group];
    for (const ParamSpan& span : spans_[group]) {
      where_[static_cast<std::size_t>(span.id)] = span;
    }
    const Shape shape{placement.elements[group]};
    const char* part = group == index_of(ParamGroup::kExpert) ? " of the experts" : "";
    values_[group] = Tensor(shape, dtype, device, detail::concat("weights", part));
    ops::fill(ctx_, values_[group], 0.0);
    if (!with_gradients) continue;
    grads_[group] = Tensor(shape, dtype, device, detail::concat("gradients", part));
    ops::fill(ctx_, grads_[group], 0.0);
  }
}

void ParamStore::initialize(std::uint64_t seed) {
  for (int id = 0; id < table_.size(); ++id) {
    const ParamInfo& info = table_[id];
    if (!info.trained()) {
      const TensorView state = value(id);
      std::memset(state.data, 0, state.bytes());
      continue;
    }
    const std::int64_t first_element =
        info.role == ParamRole::kExpert ? info.shape.size() / info.shape[0] * layout_.first_expert
                                        : 0;
    const HostTwin twin(ctx_, value(id));
    dispatch_float(dtype_, info.name.c_str(), [&](auto zero) {
      fill_initial<decltype(zero)>(info, seed, first_element, twin.view());
    });
    twin.write_back();
  }
}

TensorView ParamStore::value(int id) const {
  if (id < 0) return {};
  const ParamInfo& info = table_[id];
  if (!info.trained()) return states_[static_cast<std::size_t>(id)].view();
  const bool expert = info.role == ParamRole::kExpert;
  values_may_change(expert ? 1 : 0);
  return window(values_[expert ? 1 : 0], where_[static_cast<std::size_t>(id)].begin,
                expert ? info.shape.with_rows(layout_.local_experts) : info.shape);
}

TensorView ParamStore::grad(int id) const {
  if (id < 0) return {};
  const ParamInfo& info = table_[id];
  WITAN_CHECK(with_gradients_ && info.trained(), info.name, " has no gradient");
  const bool expert = info.role == ParamRole::kExpert;
  return window(grads_[expert ? 1 : 0], where_[static_cast<std::size_t>(id)].begin,
                expert ? info.shape.with_rows(layout_.local_experts) : info.shape);
}

TensorView ParamStore::flat_values(ParamGroup group) const {
  values_may_change(index_of(group));
  return values_[index_of(group)].view();
}
TensorView ParamStore::flat_grads(ParamGroup group) const { return grads_[index_of(group)].view(); }
const std::vector<ParamSpan>& ParamStore::spans(ParamGroup group) const {
  return spans_[index_of(group)];
}

void ParamStore::values_may_change(int group) const {
  if (rounded_[group]) rounded_[group]->invalidate();
}

void ParamStore::keep_rounded(const Context& ctx) {
  if (ctx.products != Products::kBfloat16) return;
  // On a CPU a training step would write and read more bytes than it saves, until a matrix is read
  // by several micro-batches.
  if (ctx.device.is_cpu() && with_gradients_) return;
  if (dtype_ != DType::kFloat32) return;
  for (int group = 0; group < 2; ++group) {
    std::vector<ops::RoundedWeights::Span> matrices;
    for (const ParamSpan& span : spans_[group]) {
      if (!read_in_bfloat16(table_, table_[span.id])) continue;
      matrices.push_back({span.begin, span.size});
    }
    if (matrices.empty() || rounded_[group]) continue;
    rounded_[group] = std::make_unique<ops::RoundedWeights>(values_[group], matrices);
  }
}

void ParamStore::refresh_rounded(const Context& ctx) {
  for (const auto& rounded : rounded_) {
    if (rounded) rounded->refresh(ctx);
  }
}

std::size_t ParamStore::value_bytes() const {
  return values_[0].view().bytes() + values_[1].view().bytes();
}

std::size_t ParamStore::rounded_bytes() const {
  std::size_t bytes = 0;
  for (const auto& rounded : rounded_) bytes += rounded ? rounded->bytes() : 0;
  return bytes;
}

}  // namespace witan
