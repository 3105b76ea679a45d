#include "core/ops/rounded_weights.h"

#include <functional>
#include <mutex>

#include "core/base/error.h"
#include "core/ops/cpu/wire_kernels.h"
#include "core/ops/cuda/narrow.h"
#include "core/ops/parallel.h"

namespace witan::ops {
namespace {

constexpr std::int64_t kAlign = 16;  // elements: 32 bytes, so that cuBLAS takes any copy

// All that live. A handful: one for each group of parameters.
std::mutex mutex;
std::vector<const RoundedWeights*> registered;

std::int64_t aligned(std::int64_t elements) { return (elements + kAlign - 1) / kAlign * kAlign; }

void narrow_on_cpu(const float* from, std::int64_t count, std::uint16_t* to) {
  constexpr std::int64_t kGrain = 65536;  // elements per thread below which threads do not pay
  parallel_ranges(
      count, kGrain,
      [&](std::int64_t begin, std::int64_t end) {
        WITAN_CALL_ISA(narrow_rows, from + begin, nullptr, to + begin, 1, end - begin, end - begin);
      },
      kAlign);
}

}  // namespace

RoundedWeights::RoundedWeights(const TensorView& values, const std::vector<Span>& spans)
    : values_(values) {
  WITAN_CHECK(values.dtype == DType::kFloat32, "copies in bfloat16 are of float32 weights");
  std::int64_t copied = 0;
  for (const Span& span : spans) {
    WITAN_CHECK(span.begin % kAlign == 0 && span.begin + span.size <= values.size(), "weights [",
                span.begin, ", ", span.begin + span.size, ") of ", values.size());
    // Neighbours become one run: one kernel rounds it, the padding between them included.
    if (!runs_.empty() && runs_.back().begin + aligned(runs_.back().size) == span.begin) {
      runs_.back().size = span.begin + span.size - runs_.back().begin;
    } else {
      runs_.push_back({span.begin, span.size, copied});
    }
    copied = runs_.back().copy + aligned(runs_.back().size);
  }
  copies_ = Tensor({copied}, DType::kBfloat16, values.device, "weights in bfloat16");
  const std::lock_guard lock(mutex);
  registered.push_back(this);
}

RoundedWeights::~RoundedWeights() {
  const std::lock_guard lock(mutex);
  std::erase(registered, this);
}

void RoundedWeights::refresh(const Context& ctx) {
  if (fresh_) return;
  auto* to = static_cast<std::uint16_t*>(copies_.view().data);
  for (const Run& run : runs_) {
    const float* from = values_.as<float>() + run.begin;
    if (ctx.device.is_cuda()) {
      cuda::narrow_operand(ctx, from, run.size, to + run.copy);
    } else {
      narrow_on_cpu(from, run.size, to + run.copy);
    }
  }
  fresh_ = true;
}

const std::uint16_t* RoundedWeights::find(const float* data, std::int64_t size) const {
  const auto* first = values_.as<float>();
  const std::less<> before;
  if (!fresh_ || before(data, first) || !before(data, first + values_.size())) return nullptr;
  const std::int64_t begin = data - first;
  for (const Run& run : runs_) {
    if (begin < run.begin || begin + size > run.begin + run.size) continue;
    return static_cast<const std::uint16_t*>(copies_.view().data) + run.copy + (begin - run.begin);
  }
  return nullptr;
}

const std::uint16_t* find_rounded(const TensorView& x) {
  if (x.dtype != DType::kFloat32) return nullptr;
  const std::lock_guard lock(mutex);
  for (const RoundedWeights* weights : registered) {
    if (const std::uint16_t* copy = weights->find(x.as<float>(), x.size())) return copy;
  }
  return nullptr;
}

}  // namespace witan::ops
