#include "launch/routing_trace.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/base/error.h"

namespace witan {
namespace {
constexpr std::int64_t kHeaderBytes = 4096;
}  // namespace

void ForcedBalance::on_route(int layer, const Batch& batch, const TensorView& indices,
                             std::int64_t experts) {
  (void)layer;
  auto* index = indices.as<std::int32_t>();
  const std::int64_t first = batch.first_token * indices.cols();
  for (std::int64_t i = 0; i < indices.size(); ++i) {
    index[i] = static_cast<std::int32_t>((first + i) % experts);
  }
}

RoutingTrace::RoutingTrace(Mode mode, const std::string& path, const Shape& shape,
                           Communicator& world)
    : mode_(mode), path_(path), shape_(shape) {
  for (const bool moe : shape.is_moe) {
    position_.push_back(moe_layers_);
    moe_layers_ += moe ? 1 : 0;
  }
  if (mode_ == Mode::kRecord) {
    create(world);
  } else {
    open_for_replay();
  }
}

RoutingTrace::~RoutingTrace() {
  if (file_ >= 0) close(file_);
}

std::string RoutingTrace::header() const {
  nlohmann::json json = {{"format", "witan routing trace 1"},
                         {"moe_layers", moe_layers_},
                         {"tokens_per_step", shape_.tokens_per_step},
                         {"top_k", shape_.top_k},
                         {"experts", shape_.experts}};
  if (!shape_.allowed_experts.empty()) json["allowed_experts"] = shape_.allowed_experts;
  std::string text = json.dump() + "\n";
  if (static_cast<std::int64_t>(text.size()) > kHeaderBytes) {
    throw_user_error("train.routing: model.moe.allowed_experts has ", shape_.allowed_experts.size(),
                     " characters, too many for the header of a routing trace");
  }
  text.resize(kHeaderBytes, ' ');
  return text;
}

// Opens the file without touching what it holds: a resumed run goes on in it.
void RoutingTrace::create(Communicator& world) {
  world_ = &world;
  if (world.rank() == 0) {
    file_ = open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (file_ < 0) {
      throw_user_error("train.routing.record: cannot write ", path_, ": ", std::strerror(errno));
    }
    check_own_file();
  }
  world.barrier();
  if (world.rank() != 0) {
    file_ = open(path_.c_str(), O_RDWR | O_CLOEXEC);
    if (file_ < 0) {
      throw_user_error("train.routing.record: cannot open ", path_, ": ", std::strerror(errno));
    }
  }
}

// A file that is not empty must be a trace, or it is somebody's data.
void RoutingTrace::check_own_file() const {
  std::string found(kHeaderBytes, '\0');
  const ssize_t bytes = pread(file_, found.data(), found.size(), 0);
  if (bytes == 0) return;
  if (bytes != kHeaderBytes || found.find("witan routing trace") == std::string::npos) {
    throw_user_error("train.routing.record: ", path_,
                     " holds something else; remove it or name another file");
  }
}

// Keeps the steps before the first one of this process, if the file has their shape, and drops the
// rest.
void RoutingTrace::start_recording() {
  if (world_->rank() == 0) {
    const std::string text = header();
    std::string found(kHeaderBytes, '\0');
    const bool same = pread(file_, found.data(), found.size(), 0) == kHeaderBytes && found == text;
    if (step_ > 0 && !same) {
      throw_user_error("train.routing.record: ", path_, " does not hold the ", step_,
                       " steps before this one, or has another shape; name another file");
    }
    if (ftruncate(file_, step_ > 0 ? step_offset(step_) : 0) != 0 ||
        pwrite(file_, text.data(), text.size(), 0) != kHeaderBytes) {
      throw_user_error("train.routing.record: cannot write ", path_, ": ", std::strerror(errno));
    }
  }
  world_->barrier();
  world_ = nullptr;
}

void RoutingTrace::begin_step(std::int64_t step) {
  step_ = step;
  if (world_ != nullptr) start_recording();
}

std::int64_t RoutingTrace::step_offset(std::int64_t step) const {
  return kHeaderBytes + step * moe_layers_ * shape_.tokens_per_step * shape_.top_k * 4;
}

void RoutingTrace::open_for_replay() {
  file_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (file_ < 0) {
    throw_user_error("train.routing.replay: cannot open ", path_, ": ", std::strerror(errno));
  }
  std::string found(kHeaderBytes, '\0');
  const ssize_t bytes = pread(file_, found.data(), found.size(), 0);
  if (bytes != kHeaderBytes || found != header()) {
    found.resize(std::min<std::size_t>(found.find('\n'), 300));
    const std::string expected = header();
    throw_user_error("train.routing.replay: ", path_, " was recorded as ", found,
                     "; this run needs ", expected.substr(0, expected.find('\n')));
  }
}

void RoutingTrace::on_route(int layer, const Batch& batch, const TensorView& indices,
                            std::int64_t experts) {
  (void)experts;
  if (indices.size() == 0) return;
  const std::int64_t token =
      position_[static_cast<std::size_t>(layer)] * shape_.tokens_per_step + batch.first_token;
  const std::int64_t offset = step_offset(step_) + token * shape_.top_k * 4;
  const auto bytes = static_cast<ssize_t>(indices.bytes());
  const ssize_t done = mode_ == Mode::kRecord ? pwrite(file_, indices.data, indices.bytes(), offset)
                                              : pread(file_, indices.data, indices.bytes(), offset);
  if (done != bytes) {
    throw_user_error(mode_ == Mode::kRecord ? "train.routing.record: " : "train.routing.replay: ",
                     path_, ": step ", step_ + 1, ", layer ", layer, ": expected ", bytes,
                     " bytes, got ", done, done < 0 ? std::strerror(errno) : "");
  }
}

}  // namespace witan
