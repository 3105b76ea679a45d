// What stands in for the router's choice: forced balance, and the recording and replay of every
// choice.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/model/router.h"
#include "parallel/communicator.h"

namespace witan {

// Token t's j-th choice is expert (t top_k + j) mod E, t counted over the whole step: an even load
// whatever the router says.
class ForcedBalance final : public RoutingHook {
 public:
  void on_route(int layer, const Batch& batch, const TensorView& indices,
                std::int64_t experts) override;
};

// A file of every choice: a header line in JSON, padded to 4096 bytes, then int32 [step, MoE layer,
// token of the step, choice]. Every rank writes and reads its own tokens in place (a shared file
// system is needed across nodes), so that a file recorded at one rank count replays at any other.
class RoutingTrace final : public RoutingHook {
 public:
  enum class Mode { kRecord, kReplay };
  struct Shape {
    std::vector<bool> is_moe;
    std::int64_t tokens_per_step = 0;
    std::int64_t top_k = 0;
    std::int64_t experts = 0;
    std::string allowed_experts = {};  // moe.allowed_experts as text
  };
  // Collective. A file that does not fit the shape is a UserError that names what differs.
  RoutingTrace(Mode mode, const std::string& path, const Shape& shape, Communicator& world);
  ~RoutingTrace() override;
  RoutingTrace(const RoutingTrace&) = delete;
  RoutingTrace& operator=(const RoutingTrace&) = delete;

  // Collective at its first call, where a recording drops what the file holds from `step` on: a
  // resumed run goes on in the file of the run it continues.
  void begin_step(std::int64_t step);
  void on_route(int layer, const Batch& batch, const TensorView& indices,
                std::int64_t experts) override;

 private:
  std::string header() const;
  void create(Communicator& world);
  void check_own_file() const;
  void start_recording();
  std::int64_t step_offset(std::int64_t step) const;
  void open_for_replay();

  Mode mode_;
  std::string path_;
  Shape shape_;
  std::vector<std::int64_t> position_;  // of each layer among the MoE layers
  std::int64_t moe_layers_ = 0;
  std::int64_t step_ = 0;
  int file_ = -1;
  Communicator* world_ = nullptr;  // until a recording has started
};

}  // namespace witan
