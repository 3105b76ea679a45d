// The arithmetic peak of all ranks and threads in float32: the faster of multiply-adds on registers
// and the best matrix product; on GPUs, in the session's precision, a dense product. Sampled in
// turns with whatever is measured against it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/tensor/tensor.h"
#include "launch/bench/device_product.h"
#include "launch/bench/result.h"
#include "launch/bench/session.h"
#include "launch/bench/stopwatch.h"

namespace witan {

class PeakProbe {
 public:
  explicit PeakProbe(const BenchSession& session);

  // One turn. Collective.
  void sample(Stopwatch& stopwatch);
  // What was sampled, one result a probe; and the fastest one, whose rate is the peak. Collective.
  std::vector<BenchResult> results(const Stopwatch& stopwatch, const std::string& section,
                                   const std::string& subject) const;
  BenchResult peak(const Stopwatch& stopwatch, const std::string& section,
                   const std::string& subject) const;

 private:
  Communicator& world_;
  std::vector<std::int64_t> offsets_;       // one product a thread
  Tensor x_, w_, y_;                        // [threads rows, k], [threads, n, k], [threads rows, n]
  std::optional<DeviceProduct> on_device_;  // instead of all of these
  double fma_flop_ = 0.0, gemm_flop_ = 0.0;  // of all ranks, one turn
};

}  // namespace witan
