// Measures an MoE layer while it runs: MoeStats, and the choices of the micro-batch in flight. Of a
// layer that decides on a device, everything is enqueued (one copy of the choice to the host for
// each micro-batch, sums that add up in the device's memory) and waited for when somebody asks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/base/context.h"
#include "core/model/batch.h"
#include "core/model/moe_stats.h"
#include "core/model/router.h"
#include "core/tensor/host_copy.h"
#include "core/tensor/tensor.h"

namespace witan {

class MoeFigures {
 public:
  MoeFigures(std::int64_t experts, std::int64_t tags, std::size_t losses);

  // Counts what a router decided for a micro-batch. On a device: begins the copies of its choice,
  // which saved.indices_copy and kept_copy then are.
  void count(const Context& ctx, const Batch& batch, RouterSaved& saved);
  void count_rounds(std::int64_t rounds);
  void add_loss(std::size_t balancer, double value) { stats_.losses[balancer] += value; }
  // [1] float64 on the device that count() ran on: what is added to it counts as well.
  TensorView device_loss(std::size_t balancer);

  // [experts] choices in the last micro-batch; waits for its copy.
  std::span<const std::int64_t> batch_counts();
  // MoeStats.counts [tags, experts] alone; the same wait.
  std::span<const std::int64_t> counts();
  // Waits for the copy of the sums too. With begin_reading() of many layers before, the first wait
  // is that of all.
  MoeStats& stats();
  void begin_reading();

 private:
  void count_choice(const TensorView& indices, const TensorView& kept,
                    std::span<const std::int32_t> tags);
  void settle_choice();
  void finish_reading();

  MoeStats stats_;
  std::vector<std::int64_t> batch_counts_;
  // On a device.
  Context ctx_;
  HostCopy choice_, kept_, read_sums_;
  bool choice_open_ = false;        // not in stats_ yet
  bool drops_ = false;              // kept_ is of the same micro-batch
  std::vector<std::int32_t> tags_;  // of that choice [tokens], or empty
  Tensor sums_;                     // [4 + balancers]: add_router_figures', then the losses
  bool sums_open_ = false;          // it holds something
  bool reading_ = false;            // read_sums_ does
};

}  // namespace witan
