#include "parallel/device_watch.h"

#include <cstdio>
#include <exception>
#include <functional>
#include <future>
#include <memory>

#include "core/base/cuda/stream_cuda.h"
#include "parallel/mpi_environment.h"

namespace witan {
namespace {

constexpr std::chrono::milliseconds kInterval{100};  // between two looks
constexpr std::chrono::seconds kAnswerLimit{5};      // for the device, and for the library

// Whether `ask` answers yes, in a thread of its own: where the driver is stuck, so is the question.
bool answers(Device device, std::function<bool()> ask) {
  const auto answer = std::make_shared<std::promise<bool>>();
  std::future<bool> yes = answer->get_future();
  std::thread([answer, device, ask = std::move(ask)] {
    try {
      cuda::use_device(device);
      answer->set_value(ask());
    } catch (const std::exception&) {
      answer->set_value(false);  // the host meets the error itself
    }
  }).detach();
  return yes.wait_for(kAnswerLimit) == std::future_status::ready && yes.get();
}

}  // namespace

void DeviceWatch::stop() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void DeviceWatch::add(const Operation& operation) {
  const std::lock_guard lock(mutex_);
  if (open_.size() == known_done_) progress_ = Clock::now();
  const bool asleep = open_.empty();
  open_.push_back(&operation);
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  if (asleep) changed_.notify_all();  // else it looks from time to time
}

bool DeviceWatch::take_oldest_done() {
  const std::lock_guard lock(mutex_);
  if (open_.empty()) return false;
  if (known_done_ > 0) {
    --known_done_;
  } else {
    if (!open_.front()->done()) return false;
    progress_ = Clock::now();
  }
  open_.pop_front();
  return true;
}

bool DeviceWatch::empty() {
  const std::lock_guard lock(mutex_);
  return open_.empty();
}

void DeviceWatch::run() {
  std::unique_lock lock(mutex_);
  while (!ending_) {
    if (open_.empty()) {
      changed_.wait(lock);
      continue;
    }
    changed_.wait_for(lock, kInterval, [&] { return ending_; });
    if (!ending_ && known_done_ < open_.size()) look();
  }
}

void DeviceWatch::look() {
  const Operation& oldest = *open_[known_done_];
  if (const std::string trouble = oldest.trouble(); !trouble.empty()) {
    std::fprintf(stderr, "witan: %s in %s; ending the run.\n", trouble.c_str(),
                 describe(oldest.call()).c_str());
    std::fflush(stderr);
    end_run(oldest, 1);
  }
  const double waited = std::chrono::duration<double>(Clock::now() - progress_).count();
  if (!watchdog_.expired(waited)) return;
  if (answers(device_, [&] { return oldest.done(); })) {  // the host had no occasion to take it
    ++known_done_;
    progress_ = Clock::now();
    return;
  }
  watchdog_.report(oldest.call(), waited);
  end_run(oldest, kWatchdogExitCode);
}

void DeviceWatch::end_run(const Operation& operation, int code) const {
  (void)answers(device_, [&] {
    operation.abort_all();
    return true;
  });
  MpiEnvironment::abort(code);
}

}  // namespace witan
