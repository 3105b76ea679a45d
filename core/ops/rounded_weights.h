// Weights as products in bfloat16 read them: copies in the memory of their device, rounded once
// after the weights have changed, not at every product.
//
// A copy is read only while it is fresh: whoever is given the weights to write to says so by
// invalidate(), and until the next refresh() products round the weights themselves. So a forgotten
// refresh() costs time, never a wrong result.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/base/context.h"
#include "core/tensor/tensor.h"

namespace witan::ops {

class RoundedWeights {
 public:
  // Elements of a flat buffer; begins at a multiple of 16.
  struct Span {
    std::int64_t begin = 0;
    std::int64_t size = 0;
  };
  // Copies of `spans` (ascending, apart) of `values` [n], float32, which outlive this; stale.
  // Products find them while this lives. One host thread makes, refreshes and reads them.
  RoundedWeights(const TensorView& values, const std::vector<Span>& spans);
  ~RoundedWeights();
  RoundedWeights(const RoundedWeights&) = delete;
  RoundedWeights& operator=(const RoundedWeights&) = delete;

  void invalidate() { fresh_ = false; }
  // Rounds, on ctx.stream, what invalidate() was said of; 6 bytes moved an element. Other streams
  // that read the copies begin behind an event of this one.
  void refresh(const Context& ctx);

  std::size_t bytes() const { return copies_.view().bytes(); }
  // The copy of elements [data, data + size), which lie in one span; null if there is none or it is
  // stale.
  const std::uint16_t* find(const float* data, std::int64_t size) const;

 private:
  // A run of the values and where its copy begins.
  struct Run {
    std::int64_t begin, size, copy;
  };
  TensorView values_;
  std::vector<Run> runs_;
  Tensor copies_;
  bool fresh_ = false;
};

// The fresh copy of x in any RoundedWeights; null: there is none.
const std::uint16_t* find_rounded(const TensorView& x);

}  // namespace witan::ops
